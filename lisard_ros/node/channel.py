"""One camera of the node, and one image of it on its way from the subscription to the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sensor_msgs.msg import CompressedImage, Image

from lisard_ros.frames import Region
from lisard_ros.naming import CameraTopic
from lisard_ros.node.camera_publisher import CameraPublisher
from lisard_ros.node.frame_counters import FrameCounters
from lisard_ros.node.stale_frame_filter import StaleFrameFilter
from lisard_ros.tracking.interface import Tracker

CameraMessage: TypeAlias = Image | CompressedImage


@dataclass(frozen=True, slots=True)
class CameraChannel:
    """What belongs to one camera from configuring to cleaning up.

    tracker: used while answers are published, one batch at a time.
    """

    topic: CameraTopic
    counters: FrameCounters
    stale_frames: StaleFrameFilter
    publisher: CameraPublisher
    tracker: Tracker | None = None

    @property
    def name(self) -> str:
        """The camera's name in the output topics."""
        return self.topic.camera


@dataclass(frozen=True, slots=True)
class QueuedImage:
    """A message as the subscription delivered it, and its camera.

    stamp_ns: the camera's time in nanoseconds (ROS time of the header). arrived_s: seconds of a steady clock.
    regions: where to look; None stands for the whole frame.
    """

    channel: CameraChannel
    message: CameraMessage
    stamp_ns: int
    arrived_s: float
    regions: tuple[Region, ...] | None
