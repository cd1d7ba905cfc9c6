"""What newer rclpy has and Humble lacks: the node works without it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from lisard_ros.node import compat


class FakeNode:
    """Keeps what a subscription was made with; refuses some events like a middleware that lacks them."""

    def __init__(self, refuses_loss: bool = False) -> None:
        self.refuses_loss = refuses_loss
        self.callback: Any = None
        self.events: Any = None

    def create_subscription(self, kind: type, topic: str, callback: Any, profile: QoSProfile, **options: Any) -> str:
        if self.refuses_loss and options["event_callbacks"].message_lost is not None:
            raise compat.UnsupportedEventTypeError("message lost")
        self.callback, self.events = callback, options["event_callbacks"]
        return "subscription"


def subscribe(node: Any, got: list[Any]) -> Any:
    def receive(message: Any, info: Any) -> None:
        got.append((message, info))

    return compat.subscribe(node, Image, "/a", receive, QoSProfile(depth=1), got.append, lambda: got.append("review"))


def test_humble_callbacks_get_the_message_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "Subscription", object)
    node = FakeNode()
    got: list[Any] = []
    subscribe(node, got)
    node.callback("message")
    assert got == [("message", {})]


def test_newer_callbacks_get_the_info_and_events_reach_us() -> None:
    node = FakeNode()
    got: list[Any] = []
    subscribe(node, got)
    node.callback("message", {"publication_sequence_number": 3})
    node.events.message_lost(type("Lost", (), {"total_count_change": 2}))
    node.events.incompatible_qos(None)
    assert got == [("message", {"publication_sequence_number": 3}), 2, "review"]


def test_a_transition_that_the_state_does_not_allow_is_refused_and_raises_nothing() -> None:
    """Regression: on Jazzy (and Humble) the exception of rclpy ended the process."""

    def raising(request: Any, response: Any) -> Any:
        raise compat.rclpy_implementation.RCLError("Transition is not registered")

    node: Any = SimpleNamespace(_service_change_state=SimpleNamespace(callback=raising))
    compat.guard_transitions(node)
    response = node._service_change_state.callback(None, SimpleNamespace(success=True))
    assert response.success is False


def test_a_middleware_without_loss_events_still_subscribes() -> None:
    node = FakeNode(refuses_loss=True)
    got: list[Any] = []
    assert subscribe(node, got) == "subscription"
    assert node.events.message_lost is None
