"""The newest image of each camera: replacement, turns of cameras, closing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import pytest
from sensor_msgs.msg import Image

from lisard_ros.node.channel import CameraChannel, QueuedImage
from lisard_ros.node.latest_frames import LatestFrameBuffer


class Cameras:
    """Two cameras whose images are put into a buffer."""

    def __init__(self, channel: Callable[[str], CameraChannel]) -> None:
        self._channels = {name: channel(name) for name in ("a", "b")}

    def put(self, frames: LatestFrameBuffer, camera: str, stamp_ns: int) -> None:
        frames.put(QueuedImage(self._channels[camera], Image(), stamp_ns, 0.0, None))

    def replaced(self, camera: str = "a") -> int:
        return self._channels[camera].counters.counts().replaced


@pytest.fixture
def cameras(channel: Callable[[str], CameraChannel]) -> Cameras:
    """The cameras `a` and `b`."""
    return Cameras(channel)


def stamps(images: Iterable[QueuedImage] | None) -> list[int] | None:
    return None if images is None else [image.stamp_ns for image in images]


def test_the_newest_replaces_and_is_counted(cameras: Cameras) -> None:
    frames = LatestFrameBuffer()
    cameras.put(frames, "a", 1)
    assert cameras.replaced() == 0
    cameras.put(frames, "a", 2)
    cameras.put(frames, "b", 9)
    assert (cameras.replaced("a"), cameras.replaced("b")) == (1, 0)
    assert stamps(frames.take(2)) == [2, 9]


def test_the_camera_that_waits_longest_is_next_however_fast_the_others_are(cameras: Cameras) -> None:
    frames = LatestFrameBuffer()
    cameras.put(frames, "a", 1)
    cameras.put(frames, "b", 2)
    cameras.put(frames, "a", 3)
    assert stamps(frames.take()) == [3], "the newest of the camera that waits longest"
    cameras.put(frames, "a", 4)
    assert stamps(frames.take()) == [2], "not a's again"
    assert stamps(frames.take()) == [4]


def test_closing_gives_back_what_is_left_and_counts_what_comes_too_late(cameras: Cameras) -> None:
    frames = LatestFrameBuffer()
    cameras.put(frames, "a", 1)
    assert frames.waiting == 1 and not frames.closed
    assert stamps(frames.close()) == [1]
    assert frames.closed and frames.take() == () and frames.close() == ()
    cameras.put(frames, "a", 3)
    assert cameras.replaced() == 1 and frames.waiting == 0


def test_nothing_is_lost_between_threads(cameras: Cameras) -> None:
    frames = LatestFrameBuffer()
    taken: list[int] = []

    def take() -> None:
        while not frames.closed:
            taken.extend(stamps(frames.take()) or ())

    taker = threading.Thread(target=take)
    taker.start()
    for number in range(5000):
        cameras.put(frames, "a", number)
    left = stamps(frames.close()) or []
    taker.join(60)
    assert len(taken) + len(left) + cameras.replaced() == 5000
    assert sorted(set(taken + left)) == taken + left, "in order, each once"
