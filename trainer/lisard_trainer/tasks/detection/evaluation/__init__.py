"""Evidence for a detection bundle and its baselines: plan, measuring, report, page; results are kept as they come."""
