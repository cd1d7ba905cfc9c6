"""The robustness evidence for a classifier.

conditions, suites: what is measured. models, dataset: on whom and on what. methods, crafting, measuring: the attacks
and the answers to them. validity, masking: whether the numbers mean anything. report, markdown, page: what is handed
over.
"""
