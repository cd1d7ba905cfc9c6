"""What the evaluations of all tasks share; what depends on the task is in the folder `evaluation` of its task.

models: who takes part. conditions: suites and --only. runner: who meets whom. cache, versions: results that are kept.
deployed, int8: the bundle's ONNX files. results, report: what was found. page, tables, charts: how it is shown.
"""
