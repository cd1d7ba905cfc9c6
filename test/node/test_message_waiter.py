"""Waiting for messages outside the executor: woken by a message, by another thread, or by time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from peers import Peer, image, wait_until
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from lisard_ros.node import compat
from lisard_ros.node.fetch_gate import FetchGate
from lisard_ros.node.message_waiter import MessageWaiter


@pytest.fixture
def waiter(peer: Peer) -> Iterator[MessageWaiter]:
    """A waiter in the peer's context."""
    made = MessageWaiter(peer.node)
    yield made
    made.close()


@pytest.fixture
def subscription(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A subscription that the executor keeps off."""
    monkeypatch.setattr(FetchGate, "LOOK_IN_S", 1e9)
    made = peer.node.create_subscription(
        Image, "/waiter/image", lambda m: None, QoSProfile(depth=1), callback_group=FetchGate()
    )
    yield made
    peer.node.destroy_subscription(made)


def test_time_ends_a_wait(waiter: MessageWaiter, subscription: Any) -> None:
    assert waiter.wait([subscription], 0.01)
    assert waiter.wait([], 0.0)


def test_another_thread_ends_a_wait_also_one_that_has_not_begun(waiter: MessageWaiter, subscription: Any) -> None:
    waiter.wake()
    assert waiter.wait([subscription], 60.0)
    threading.Timer(0.05, waiter.wake).start()
    assert waiter.wait([subscription], 60.0)


def test_a_message_ends_a_wait_and_is_there(peer: Peer, waiter: MessageWaiter, subscription: Any) -> None:
    publisher = peer.node.create_publisher(Image, "/waiter/image", QoSProfile(depth=1))
    wait_until(lambda: publisher.get_subscription_count() > 0, "the subscription")
    message = image((1, 2, 3), 77)
    publisher.publish(message)

    def fetched() -> Any:
        waiter.wait([subscription], 1.0)
        return compat.take(subscription)

    taken, _ = wait_until(fetched, "the message")
    assert taken == message


def test_a_subscription_that_is_gone_is_not_waited_for(peer: Peer, waiter: MessageWaiter) -> None:
    gone = peer.node.create_subscription(Image, "/waiter/gone", lambda m: None, QoSProfile(depth=1))
    peer.node.destroy_subscription(gone)
    assert waiter.wait([gone], 0.01)
