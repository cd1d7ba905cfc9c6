"""The arguments of the launch files without any launch: values from text, and slips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lisard_ros.errors import UsageError
from lisard_ros.node import arguments

DEFAULTS = {argument.name: argument.default or "" for argument in (*arguments.PERCEPTION, *arguments.REPLAY)}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("detectr", "detector"),
        ("bundel", "bundle"),
        ("image_topic", "image_topics"),
        ("min-score", "min_score"),
        ("injection.enabled", "injection_enabled"),
        ("player_reliabilty", "player_reliability"),
    ],
)
def test_a_slip_is_named_with_the_right_name(given: str, meant: str) -> None:
    assert f"'{given}': did you mean '{meant}'?" in arguments.misspelt({**DEFAULTS, given: "x"})


@pytest.mark.parametrize("given", ["ros_namespace", "launch-prefix", "robot", "map", "camera_driver"])
def test_what_belongs_to_others_is_no_slip(given: str) -> None:
    assert arguments.misspelt({**DEFAULTS, given: "x"}) == ""


def test_a_like_name_whose_value_was_handed_on_is_no_slip() -> None:
    assert arguments.misspelt({**DEFAULTS, "image_topic": "/a/image", "image_topics": "/a/image"}) == ""


def test_numbers_are_checked() -> None:
    assert arguments.seconds("start_delay_s", "0") == 0
    for text in ("-1", "nan", "inf", "soon"):
        with pytest.raises(UsageError, match=f"launch argument 'start_delay_s': found '{text}', expected a number"):
            arguments.seconds("start_delay_s", text)
    with pytest.raises(UsageError, match="expected a number above 0"):
        arguments.seconds("rate", "0", positive=True)


@pytest.mark.parametrize("text", ["", "[]", "rosbag2_bagfile_information: {}", "a: b: c", "\udc80"])
def test_a_recording_without_readable_metadata_is_left_to_the_player(text: str, tmp_path: Path) -> None:
    (tmp_path / "metadata.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    assert arguments.image_topics_of(tmp_path) is None
    arguments.check_recording(tmp_path, ("/a/image_raw",), named_elsewhere=False)


def test_the_recording_of_the_repository_names_its_images() -> None:
    bag = Path(__file__).parents[2] / "data" / "road_signs"
    assert arguments.image_topics_of(bag) == ("/camera/image_raw/compressed",)


def test_values_become_json_that_is_yaml() -> None:
    given = arguments.parameters_given({"image_topics": "/a,/b", "autostart": "False", "name": "n", "top_k": ""})
    assert json.loads(json.dumps(given)) == {"image_topics": ["/a", "/b"], "autostart": False}
