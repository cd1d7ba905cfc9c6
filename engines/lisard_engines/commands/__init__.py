"""The subcommands of `lisard` that live in this package."""
