"""Makes sure that the nodes at the other end of a topic have found this end of it; used by benches and test/node.

Until then a publisher sends to nobody, though both ends are seen here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeAlias

from rcl_interfaces.srv import GetParameters
from rclpy.node import Node

Wait: TypeAlias = Callable[[Callable[[], Any], str], Any]

ASK_AGAIN_S = 0.2  # a node that has not found the client when it answers gives the answer to nobody


def make_known(node: Node, topic: str, wait: Wait) -> None:
    """Wait until every node at the other end of `topic` has found this end.

    Args:
        node: The node of this end; somebody spins it.
        topic: The whole name of the topic.
        wait: Returns the first true value of its condition, and raises with its words when that takes too long.
    """
    for name in wait(lambda: _names_of_others(node, topic), f"another node on {topic}, by its name"):
        wait_for_answer(node, name, wait)


def wait_for_answer(node: Node, name: str, wait: Wait) -> None:
    """Wait until the node called `name` answers a new client. It has then found all that `node` made before.

    The middleware announces publishers and readers in the order in which they were made.
    """
    client: Any = node.create_client(GetParameters, f"{name}/get_parameters")
    begin_s, calls = time.monotonic(), []

    def answered() -> bool:
        if time.monotonic() - begin_s >= ASK_AGAIN_S * len(calls):
            calls.append(client.call_async(GetParameters.Request()))
        return any(call.done() for call in calls)

    try:
        wait(client.service_is_ready, f"the service {client.srv_name}")
        wait(answered, f"an answer of {client.srv_name}")
    finally:
        node.destroy_client(client)


def _names_of_others(node: Node, topic: str) -> set[str]:
    """Full names of the other nodes; empty while one is not known, as names come by another way than topics."""
    ends = [*node.get_publishers_info_by_topic(topic), *node.get_subscriptions_info_by_topic(topic)]
    names = {f"{end.node_namespace.rstrip('/')}/{end.node_name}" for end in ends}
    return set() if any("_UNKNOWN_" in name for name in names) else names - {node.get_fully_qualified_name()}
