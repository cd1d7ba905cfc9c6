"""The robustness evidence for a detector.

suites: what is measured. models: on whom. crafting, patches, measuring: the attacks and the answers to them. metrics:
what they amount to. report, page, samples: what is handed over.
"""
