"""The gate: the executor keeps off images, which the worker fetches, and looks in for events."""

from __future__ import annotations

from typing import Any

from peers import Peer
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from lisard_ros.node.fetch_gate import FetchGate


class Event:
    """Stands for an event of the subscription, which the gate only compares."""


def test_the_executor_looks_in_now_and_then_and_when_it_is_told_to(peer: Peer, monkeypatch: Any) -> None:
    gate, event = FetchGate(), Event()
    gate.add_entity(event)  # type: ignore[arg-type]  # Jazzy's group insists on knowing whom it is asked about
    subscription: Any = peer.node.create_subscription(
        Image, "/gate", lambda m: None, QoSProfile(depth=1), callback_group=gate
    )
    monkeypatch.setattr(FetchGate, "LOOK_IN_S", 1e9)
    assert not gate.can_execute(subscription)
    gate.open()
    assert gate.can_execute(subscription) and gate.can_execute(event), "once, with its events"
    assert not gate.can_execute(subscription) and not gate.can_execute(event)
    monkeypatch.setattr(FetchGate, "LOOK_IN_S", -1.0)
    assert gate.can_execute(subscription), "it is time again"
    assert gate.beginning_execution(subscription)
    assert not gate.can_execute(subscription), "the worker is fetching"
    gate.ending_execution(subscription)
    peer.node.destroy_subscription(subscription)
