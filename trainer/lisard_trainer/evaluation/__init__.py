"""The robustness evidence for a bundle: what is measured, measuring it resumably, and judging and showing the result.

columns, plan: what is measured. subjects: the models. methods: the attacks. cache, run: measuring, part by part.
validity, masking: whether the numbers mean anything. report, markdown, page: what is handed over.
"""
