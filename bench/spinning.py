"""A node of a bench that spins in a thread of its own."""

from __future__ import annotations

import threading
from typing import Any

from processes import until
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node


class Spinning:
    """Owns a node; subclasses subscribe before they call `start`."""

    def __init__(self, name: str) -> None:
        """Make the node, deaf to the arguments of the process."""
        self.node = Node(name, use_global_arguments=False)
        self._executor = SingleThreadedExecutor()
        self._thread = threading.Thread(target=self._spin, daemon=True)

    def start(self) -> None:
        """Begin to spin."""
        self._executor.add_node(self.node)
        self._thread.start()

    def call(self, client: Any, request: Any, budget_s: float = 20.0) -> Any:
        """Call a service of the node that is measured; SystemExit when no answer comes."""
        until(client.service_is_ready, f"the service {client.srv_name}", budget_s)
        future = client.call_async(request)
        until(future.done, f"an answer of {client.srv_name}", budget_s)
        return future.result()

    def close(self) -> None:
        """Stop spinning."""
        self._executor.shutdown()
        self._thread.join(5)
        self.node.destroy_node()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return
