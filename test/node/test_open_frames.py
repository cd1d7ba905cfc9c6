"""Each image gets one outcome, whoever comes first."""

from __future__ import annotations

from collections.abc import Callable

from peers import image

from lisard_ros.node.channel import CameraChannel, QueuedImage
from lisard_ros.node.open_frames import OpenFrames


def test_an_image_is_settled_once(channel: Callable[[str], CameraChannel]) -> None:
    camera = channel("open")
    first, second = (QueuedImage(camera, image((1, 2, 3), 5), 5, 0.0, None) for _ in range(2))
    frames = OpenFrames()
    assert not frames.is_open(first) and not frames.settle(first)
    frames.add((first, second))
    assert frames.settle(second) and not frames.settle(second)
    assert frames.is_open(first) and not frames.is_open(second)
    assert frames.remaining() == (first,)
