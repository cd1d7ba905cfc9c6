"""The gate: the executor keeps off images while the worker is busy, and is woken when the worker rests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peers import Peer
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from lisard_ros.node.channel import CameraChannel, QueuedImage
from lisard_ros.node.fetch_gate import FetchGate
from lisard_ros.node.latest_frames import LatestFrameBuffer


def test_the_gate_follows_the_worker(peer: Peer, channel: Callable[[str], CameraChannel], monkeypatch: Any) -> None:
    frames, image = LatestFrameBuffer(), QueuedImage(channel("gate"), Image(), 1, 0.0, None)
    gate = FetchGate(frames)
    subscription: Any = peer.node.create_subscription(
        Image, "/gate", lambda m: None, QoSProfile(depth=1), callback_group=gate
    )
    monkeypatch.setattr(FetchGate, "LOOK_IN_S", 1e9)
    assert gate.can_execute(subscription)
    frames.put(image)
    assert not gate.can_execute(subscription), "an image waits for the worker"
    frames.take()
    assert not gate.can_execute(subscription), "the worker is at it"
    assert gate.reopen(), "somebody was turned away: wake the executor"
    assert not gate.reopen()
    assert frames.rest()
    assert gate.can_execute(subscription)
    frames.put(image)
    monkeypatch.setattr(FetchGate, "LOOK_IN_S", -1.0)
    assert gate.can_execute(subscription), "however busy, it looks in now and then"
    assert gate.beginning_execution(subscription)
    assert not gate.can_execute(subscription), "the worker is fetching"
    gate.ending_execution(subscription)
    peer.node.destroy_subscription(subscription)
