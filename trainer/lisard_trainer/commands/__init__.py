"""Subcommands of `lisard` that need torch: train, evaluate, export and attack make.

Each module has HELP, configure(parser) and run(args) -> exit status.
"""
