"""From image topics to camera names: the CAMERA part of the output topics.

Two topics that would share a name, and names that ROS would refuse, are errors that name the topics.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lisard_ros.errors import UsageError

_SUFFIXES = ("image_raw", "image", "compressed")
_TOPIC = re.compile(r"(~/|/)?[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*")
_CAMERA = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
_ATTACKED = "attacked"


@dataclass(frozen=True, slots=True)
class CameraTopic:
    """One camera: the topic as the user wrote it, the name in our outputs, and whether it carries CompressedImage."""

    topic: str
    camera: str
    compressed: bool


def camera_topics(topics: Sequence[str], names: Sequence[str] = ()) -> tuple[CameraTopic, ...]:
    """Return the cameras for `topics`; `names` (as long as `topics`, or empty) override the derived names."""
    if not topics:
        raise UsageError(
            "parameter 'image_topics'", found="no topic", expected="at least one", cure="set image_topics to a list"
        )
    if names and len(names) != len(topics):
        raise UsageError(
            "parameter 'camera_names'",
            found=f"{len(names)} names",
            expected=f"{len(topics)}, one for each of image_topics",
            cure="give an empty name ('') where the derived one is right",
        )
    given = names or [""] * len(topics)
    cameras = tuple(
        CameraTopic(topic, _checked_name(name) if name else camera_name(topic), is_compressed(topic))
        for topic, name in zip(topics, given, strict=True)
    )
    _refuse_clashes(cameras)
    return cameras


def camera_name(topic: str) -> str:
    """Return CAMERA for `topic`: its tokens without a trailing image_raw, image, compressed; else `camera`."""
    if not _TOPIC.fullmatch(topic):
        raise UsageError(
            "the name of an image topic is not valid",
            found=repr(topic),
            expected="a ROS topic name such as /front/image_raw",
            cure="use letters, digits, _ and single /; no trailing /",
        )
    tokens = [token for token in topic.split("/") if token not in ("", "~")]
    while tokens and tokens[-1] in _SUFFIXES:
        tokens.pop()
    return "/".join("cam_" + token if token[0].isdigit() else token for token in tokens) or "camera"


def is_compressed(topic: str) -> bool:
    """Tell whether `topic` carries sensor_msgs/CompressedImage, which its name decides."""
    return topic.split("/")[-1] == "compressed"


def _checked_name(name: str) -> str:
    if not _CAMERA.fullmatch(name):
        raise UsageError(
            "parameter 'camera_names'",
            found=repr(name),
            expected="letters, digits and _, tokens separated by / that do not start with a digit",
        )
    return name


def _refuse_clashes(cameras: Sequence[CameraTopic]) -> None:
    """Refuse two cameras whose output topics would be the same, naming both input topics."""
    owner: dict[str, CameraTopic] = {}
    for camera in cameras:
        for name in (camera.camera, f"{camera.camera}/{_ATTACKED}"):
            if name in owner:
                raise UsageError(
                    f"two image topics would publish under '~/{name}'",
                    found=f"'{owner[name].topic}' and '{camera.topic}'",
                    expected="a name of its own for each camera",
                    cure="set camera_names",
                )
            owner[name] = camera
