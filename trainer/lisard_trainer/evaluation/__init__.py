"""What the evaluations of all tasks share; what depends on the task is in the folder `evaluation` of its task.

models: who takes part. selection: suites and --only. cache, versions: results that are kept. charts: curves of a page.
"""
