"""Processes beside the node: they play recordings, record answers and call its services."""
