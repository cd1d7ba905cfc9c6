"""The subcommands of `lisard` that need neither ROS nor torch; each module has HELP, configure and run."""
