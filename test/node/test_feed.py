"""The gate: the executor keeps off images while the worker is busy, and is woken when the worker rests."""

from __future__ import annotations

from typing import Any

from peers import Peer
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from lisard_ros.node.feed import Gate


def test_the_gate_follows_the_worker(peer: Peer, monkeypatch: Any) -> None:
    busy = [False]
    gate = Gate(lambda: busy[0])
    subscription: Any = peer.node.create_subscription(
        Image, "/gate", lambda m: None, QoSProfile(depth=1), callback_group=gate
    )
    monkeypatch.setattr(Gate, "LOOK_IN_S", 1e9)
    assert gate.can_execute(subscription)
    busy[0] = True
    assert not gate.can_execute(subscription)
    assert gate.reopen(), "somebody was turned away: wake the executor"
    assert not gate.reopen()
    busy[0] = False
    assert gate.can_execute(subscription)
    busy[0] = True
    monkeypatch.setattr(Gate, "LOOK_IN_S", -1.0)
    assert gate.can_execute(subscription), "however busy, it looks in now and then"
    assert gate.beginning_execution(subscription)
    assert not gate.can_execute(subscription), "the worker is fetching"
    gate.ending_execution(subscription)
    peer.node.destroy_subscription(subscription)
