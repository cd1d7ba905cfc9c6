"""The decision which reliability to subscribe with, and the sentence about a silent topic."""

from __future__ import annotations

import pytest

from lisard_ros.node import qos

CAMERA = qos.Offer("/cam", "sensor_msgs/msg/Image", "best_effort", "volatile", "keep_last", 5)
IMAGE = "sensor_msgs/msg/Image"


@pytest.mark.parametrize(
    ("policy", "offered", "decision"),
    [
        ("auto", [], "reliable"),
        ("auto", ["reliable"], "reliable"),
        ("auto", ["reliable", "best_effort"], "best_effort"),
        ("auto", ["best_effort"], "best_effort"),
        ("auto", ["unknown"], "best_effort"),
        ("reliable", ["best_effort"], "reliable"),
        ("best_effort", ["reliable"], "best_effort"),
    ],
)
def test_decision(policy: str, offered: list[str], decision: str) -> None:
    assert qos.decide(policy, offered) == decision


def test_silence_names_every_publisher_with_its_qos() -> None:
    text = qos.describe("/cam/image", 7.2, [CAMERA], qos.mismatch("reliable", IMAGE, [CAMERA]), ())
    assert text.startswith("no image on /cam/image for 7 s: 1 publisher: /cam (sensor_msgs/msg/Image, best_effort, ")
    assert "keep_last 5" in text and "set reliability to auto" in text


def test_silence_without_publishers_names_the_topics_that_exist() -> None:
    assert "0 publishers; image topics that exist: /b/image" in qos.describe("/a", 5.0, [], "", ["/b/image"])
    assert "no image topic exists" in qos.describe("/a", 5.0, [], "", [])


def test_a_wrong_type_is_said() -> None:
    wrong = qos.Offer("/cam", "sensor_msgs/msg/CompressedImage", "reliable", "volatile")
    assert "wrong type: sensor_msgs/msg/CompressedImage" in qos.mismatch("reliable", IMAGE, [wrong])
    assert qos.mismatch("best_effort", IMAGE, [CAMERA]) == ""


def test_overrides_of_one_subscription() -> None:
    values = {
        "qos_overrides./a.subscription.reliability": "best_effort",
        "qos_overrides./a.subscription.depth": 7,
        "qos_overrides./b.subscription.durability": "transient_local",
    }
    assert qos.overrides_of(values, "/a") == qos.Overrides("best_effort", 7, None, ("reliability", "depth"))
    assert qos.overrides_of(values, "/b") == qos.Overrides(None, None, "transient_local", ("durability",))
    assert qos.overrides_of(values, "/c") == qos.Overrides()


def test_an_override_that_keeps_images_out_is_named() -> None:
    pinned = qos.Overrides(reliability="reliable")
    assert "remove the QoS override" in qos.mismatch("reliable", IMAGE, [CAMERA], pinned)
    latched = qos.Overrides(durability="transient_local")
    assert "the publisher offers volatile" in qos.mismatch("best_effort", IMAGE, [CAMERA], latched)
