"""Injection in a process of its own, at the lowest priority, so that it takes nothing from perception.

`supervisor` is the parent's side: it starts the process, hands over the newest frame through shared memory, and takes
the answers from a pipe. `child` is the process. Neither uses ROS.
"""
