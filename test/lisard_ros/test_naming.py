"""The CAMERA rules: suffixes, empty names, digits, clashes and overrides."""

from __future__ import annotations

import pytest

from lisard_ros.errors import UsageError
from lisard_ros.naming import camera_name, camera_topics, is_compressed


@pytest.mark.parametrize(
    ("topic", "camera"),
    [
        ("/front/image_raw", "front"),
        ("/front/image", "front"),
        ("/front/image_raw/compressed", "front"),
        ("/front/compressed", "front"),
        ("/rig/front/image_raw", "rig/front"),
        ("/front/image_rect", "front/image_rect"),
        ("/image_raw", "camera"),
        ("image_raw", "camera"),
        ("~/image", "camera"),
        ("/image_raw/compressed", "camera"),
        ("/rig/0/image_raw", "rig/cam_0"),
        ("/0/image_raw", "cam_0"),
        ("front", "front"),
    ],
)
def test_names(topic: str, camera: str) -> None:
    assert camera_name(topic) == camera


@pytest.mark.parametrize("topic", ["", "/", "/a//b", "/a/", "/a b/image", "/a-b/image", "~", "a/~/b"])
def test_what_is_no_topic_is_refused(topic: str) -> None:
    with pytest.raises(UsageError, match="expected a ROS topic name") as refused:
        camera_name(topic)
    assert "image_topics" not in str(refused.value)  # `lisard attack run --topic` says this too


def test_a_clash_names_both_topics() -> None:
    with pytest.raises(UsageError, match="'/front/image_raw' and '/front/image_raw/compressed'.*set camera_names"):
        camera_topics(["/front/image_raw", "/front/image_raw/compressed"])
    with pytest.raises(UsageError, match="/attacked"):
        camera_topics(["/a/image", "/a/attacked/image"])


def test_names_can_be_given() -> None:
    cameras = camera_topics(["/front/image_raw", "/front/image_raw/compressed"], ["", "small"])
    assert [(c.camera, c.compressed) for c in cameras] == [("front", False), ("small", True)]
    with pytest.raises(UsageError, match="one for each of image_topics"):
        camera_topics(["/a/image"], ["a", "b"])
    with pytest.raises(UsageError, match="camera_names"):
        camera_topics(["/a/image"], ["0a"])
    with pytest.raises(UsageError, match="at least one"):
        camera_topics([])


def test_the_name_decides_the_type() -> None:
    assert is_compressed("/a/image_raw/compressed") and not is_compressed("/compressed_cam/image_raw")
