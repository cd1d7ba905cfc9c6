"""The robustness evidence for a classifier.

suites: what is measured. models: on whom. crafting, measuring: the attacks and the answers to them. results, validity,
masking: what they amount to, and whether that means anything. report, tables, page, samples: what is handed over.
"""
