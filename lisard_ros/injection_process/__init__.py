"""Injection in a process of its own, at the lowest priority, so that it takes nothing from perception.

`supervisor` is the parent's side of injection: it starts the process, hands over the newest frame through shared
memory, and takes the answers from a pipe. `self_test_run` is that of a self test. `child` is the process. Neither uses
ROS.
"""
