"""MCAP files of replays: read again by mcap and by rosbags, with every answer and the report inside."""

from __future__ import annotations

import json
import resource
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lisard_ros.bags import mcap_output
from lisard_ros.errors import UsageError

pytest.importorskip("mcap", reason="requirements/replay.txt is not installed")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def written(tiny: Any, tmp_path: Path) -> Path:
    """The output of a replay of the first images of data/road_signs, with a detector of two boxes."""
    from lisard_ros import cli

    rows = np.array([[0, 0, 8, 16, 1, 0.9, 0, 0], [8, 0, 16, 16, 1, 0, 0, 0.8]], np.float32)
    bundle = tiny.detector(rows, labels=("stop", "speedlimit", "crosswalk"))
    words = ["replay", str(ROOT / "data/road_signs"), "--bundle", str(bundle.path), "--limit", "6"]
    words += [
        "--label-map",
        "trafficlight=",
        "--injections",
        "noise,corruption/fog/2",
        "--json",
        str(tmp_path / "r.json"),
    ]
    assert cli.main([*words, "--mcap", str(tmp_path / "out.mcap")]) == 0
    return tmp_path / "out.mcap"


def test_mcap_reads_every_message_and_the_report(written: Path) -> None:
    from mcap.reader import make_reader

    with written.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        topics = Counter(channel.topic for _, channel, _ in reader.iter_messages())
        schemas = {schema.name for schema in reader.get_summary().schemas.values()}
        (attachment,) = reader.iter_attachments()
    base = "/perception/camera"
    assert topics == dict.fromkeys(
        [
            "/camera/image/compressed",
            *(
                f"{where}/{what}"
                for where in (base, f"{base}/attacked/noise", f"{base}/attacked/corruption/fog/2")
                for what in ("detections", "annotations")
            ),
        ],
        6,
    )
    assert schemas == {
        "sensor_msgs/msg/CompressedImage",
        "vision_msgs/msg/Detection2DArray",
        "foxglove_msgs/msg/ImageAnnotations",
    }
    report = json.loads(attachment.data)
    assert (attachment.name, attachment.media_type) == ("replay.json", "application/json")
    assert report["rows"] == json.loads((written.parent / "r.json").read_text())["rows"]


def test_rosbags_reads_the_messages(written: Path) -> None:
    from rosbags.highlevel import AnyReader

    from lisard_ros.bags.reader import open_bag

    with AnyReader([written]) as reader:
        found: dict[str, list[Any]] = {}
        for connection, stamp, raw in reader.messages():
            message: Any = reader.deserialize(raw, connection.msgtype)
            found.setdefault(connection.topic, []).append((stamp, message))
    drawings = [message for _, message in found["/perception/camera/annotations"]]
    drawing = next(one for one in drawings if any(text.text.endswith(" missed") for text in one.texts))
    assert len(drawing.points) == len(drawing.texts) > 2, "two answers, and what was missed"
    assert [text.text for text in drawing.texts][:2] == ["stop 0.90", "crosswalk 0.80"]
    assert drawing.points[0].type == 2 and len(drawing.points[0].points) == 4
    stamp, boxes = found["/perception/camera/attacked/noise/detections"][1]
    assert [box.results[0].hypothesis.class_id for box in boxes.detections] == ["stop", "crosswalk"]
    assert stamp == boxes.header.stamp.sec * 10**9 + boxes.header.stamp.nanosec
    with open_bag(written, images=["/camera/image/compressed"], boxes="/perception/camera/detections") as bag:
        frames = list(bag.frames())
    assert len(frames) == 6 and all(item.frame is not None and len(item.regions or ()) == 2 for item in frames)


def test_the_layout_shows_topics_that_are_there(written: Path) -> None:
    from mcap.reader import make_reader

    layout = json.loads((ROOT / "config/foxglove_replay.json").read_text(encoding="utf-8"))
    named = set()
    for panel in layout["configById"].values():
        mode = panel.get("imageMode", {})
        named |= {*filter(None, [panel.get("topicPath"), mode.get("imageTopic")]), *mode.get("annotations", {})}
    with written.open("rb") as file:
        topics = {channel.topic for channel in make_reader(file).get_summary().channels.values()}
    assert len(named) == 5 and named <= topics


def test_a_replay_that_fails_leaves_no_half_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), mcap_output.open_mcap(tmp_path / "x.mcap"):
        raise RuntimeError
    assert not (tmp_path / "x.mcap").exists()


def test_a_full_disk_is_said_and_leaves_no_half_file(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from lisard_ros import cli

    words = ["replay", str(ROOT / "data/road_drive"), "--bundle", str(tiny.classifier().path), "--limit", "3"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        status = cli.main([*words, "--mcap", str(tmp_path / "out.mcap")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    told = capsys.readouterr().err
    assert status == 2 and "cannot write --mcap" in told and "out.mcap: File too large" in told
    assert not (tmp_path / "out.mcap").exists()


def test_without_the_package_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mcap.writer", None)
    with pytest.raises(UsageError, match=r"needs the Python package mcap.*pip install 'lisard_ros\[mcap\]'"):
        mcap_output.require_mcap()
