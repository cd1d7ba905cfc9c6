"""Evidence for a detection bundle and its controls: plan, measuring, report, page; results are kept as they come."""
