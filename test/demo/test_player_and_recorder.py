"""The player and the recorder over real DDS, and their pure parts."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lisard_ros.errors import DataError, UsageError
from lisard_ros.tools import playback, player, recorder

PLAYER, RECORDER = ("-m", "lisard_ros.tools.player"), ("-m", "lisard_ros.tools.recorder")
ANSWERER = Path(__file__).with_name("answerer.py")
FRAMES, START_NS, PERIOD_NS = 12, 1_700_000_000 * 10**9, 50_000_000


def finish(process: subprocess.Popen[str], status: int = 0) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    return out if status == 0 else err


def test_played_answered_and_joined_by_stamp_over_two_loops(start: Any, small_bag: Path, tmp_path: Path) -> None:
    out, stamps = tmp_path / "out.jsonl", tmp_path / "stamps.jsonl"
    start(ANSWERER, "/cam/image_raw", "/answers")
    recording = start(
        *RECORDER,
        out,
        "--answers",
        "/answers=classification",
        "--labels",
        "/cam/labels=classification",
        "--idle",
        "5",
        "--limit",
        "30",
    )
    played = start(
        *PLAYER,
        small_bag,
        "--profile",
        "--reliability",
        "best_effort",
        "--loops",
        "2",
        "--stamps",
        stamps,
        "--wait-for",
        "/cam/image_raw=1",
        "--wait-for",
        "/cam/labels=1",
        "--follow",
        "/answers=vision_msgs/msg/Classification",
    )
    result = json.loads(finish(played).splitlines()[-1])
    assert result["published"] == {"/cam/image_raw": 2 * FRAMES, "/cam/labels": 2 * FRAMES}
    assert result["finished"] and result["unanswered"] == 0 and result["profile"].endswith("fastdds_shm.xml")
    assert result["seconds"] >= (2 * FRAMES - 1) * PERIOD_NS / 1e9 - 0.1  # no faster than it was recorded
    summary = json.loads(finish(recording).splitlines()[-1])
    assert summary["duplicates"] == 0
    assert summary["received"] == {"/answers": 2 * FRAMES, "/cam/labels": 2 * FRAMES}

    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    frames = [line for line in lines if line["kind"] == "frame"]
    assert [frame["stamp_ns"] for frame in frames] == [START_NS + i * PERIOD_NS for i in range(2 * FRAMES)]
    for index, frame in enumerate(frames):
        assert frame["answers"]["/answers"]["hypotheses"] == [["640x480", 0.5]]
        assert frame["labels"]["/cam/labels"]["hypotheses"][0][0] == f"class_{index % FRAMES}"
    sent = [json.loads(line) for line in stamps.read_text(encoding="utf-8").splitlines()]
    sent_ns = {entry["stamp_ns"]: entry["sent_ns"] for entry in sent if entry["topic"] == "/cam/image_raw"}
    delays_ms = [(f["answers"]["/answers"]["received_ns"] - sent_ns[f["stamp_ns"]]) / 1e6 for f in frames]
    assert all(0 < delay < 20_000 for delay in delays_ms)


def test_clock_follows_the_recording(start: Any, small_bag: Path, tmp_path: Path) -> None:
    clock = start("-c", CLOCK_LISTENER)
    assert clock.stdout.readline() == "ready\n"
    finish(start(*PLAYER, small_bag, "--clock", "100", "--wait-for", "/clock=1", "--topics", "/cam/labels"))
    times = json.loads(finish(clock))
    assert times == sorted(times) and len(times) > 30
    assert times[0] > START_NS - 10**8 and times[-1] == START_NS + (FRAMES - 1) * PERIOD_NS


CLOCK_LISTENER = f"""
import json, rclpy
from rosgraph_msgs.msg import Clock
rclpy.init()
node = rclpy.create_node("listener")
times = []
node.create_subscription(Clock, "/clock", lambda m: times.append(m.clock.sec * 10**9 + m.clock.nanosec), 1000)
print("ready", flush=True)
while not (times and times[-1] >= {START_NS + (FRAMES - 1) * PERIOD_NS}):
    rclpy.spin_once(node, timeout_sec=1)
print(json.dumps(times))
"""


def test_nobody_listening_is_an_error_in_words(start: Any, small_bag: Path) -> None:
    words = finish(start(*PLAYER, small_bag, "--wait-timeout", "0.3", "--wait-for", "/cam/image_raw=2"), 1)
    assert "not enough subscribers within 0.3 s: found /cam/image_raw has 0 of 2" in words
    options = ("--wait-timeout", "0.3", "--follow", "/nobody=vision_msgs/msg/Classification")
    assert "found no publisher of /nobody" in finish(start(*PLAYER, small_bag, *options), 1)


def test_a_signal_ends_the_player_early_with_the_count(start: Any, small_bag: Path) -> None:
    process = start(*PLAYER, small_bag, "--wait-for", "0", "--hz", "2", "--stamps", "/dev/stdout")
    assert json.loads(process.stdout.readline())["stamp_ns"] == START_NS
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["finished"] is False


def test_the_recorder_writes_what_it_has_when_told_to_end(start: Any, tmp_path: Path) -> None:
    start(ANSWERER, "/cam/image_raw", "/answers")
    out = tmp_path / "out.jsonl"
    process = start(*RECORDER, out, "--answers", "/answers=classification", "--diagnostics")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert json.loads(finish(process).splitlines()[-1])["received"] == {}
    assert json.loads(out.read_text(encoding="utf-8"))["kind"] == "summary"


def test_the_recorder_says_what_never_came(start: Any, tmp_path: Path) -> None:
    words = finish(start(*RECORDER, tmp_path / "o", "--answers", "/no/classification", "--wait-timeout", "0.3"), 1)
    assert "found no publisher of /no/classification" in words


@pytest.mark.parametrize("order", ["<", ">"])
def test_stamps_are_moved_in_the_serialised_bytes(order: str) -> None:
    data = bytes([0, order == "<", 0, 0]) + struct.pack(order + "iI", 7, 999_999_999) + b"rest"
    assert playback.read_stamp_ns(data) == 7_999_999_999
    moved = playback.shift_stamp(data, 2)
    assert playback.read_stamp_ns(moved) == 8_000_000_001 and moved[12:] == b"rest"


def test_pace_counts_distinct_times() -> None:
    recorded = [0, 0, 50, 150]
    assert [playback.Pace(2.0, None).due_ns(t) for t in recorded[:1]] == [0]
    by_rate, by_hz, fast = playback.Pace(0.5, None), playback.Pace(1.0, 10.0), playback.Pace(None, None)
    assert [by_rate.due_ns(t) for t in recorded] == [0, 0, 100, 300]
    assert [by_hz.due_ns(t) for t in recorded] == [0, 0, 10**8, 2 * 10**8]
    assert [fast.due_ns(t) for t in recorded] == [0, 0, 0, 0]


def test_wrong_use_is_refused(small_bag: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert player.main([str(small_bag), "--topics", "/nothing"]) == 2
    assert player.main([str(small_bag), "--follow", "/x"]) == 2
    assert "topics not in the bag: found /nothing" in capsys.readouterr().err
    assert player.main([str(small_bag), "--wait-for", "many"]) == 2
    assert player.main([str(small_bag), "--profile", "/no/profile.xml"]) == 2
    assert player.main(["/no/bag"]) == 1
    assert "no such bag" in capsys.readouterr().err
    with pytest.raises(UsageError, match="write /x=KIND"):
        recorder.source("/x", is_label=False)


def test_an_unknown_message_type_names_its_package() -> None:
    with pytest.raises(DataError, match="install nowhere_msgs, or leave the topic out"):
        player.message_class("nowhere_msgs/msg/Thing")


def test_the_journal_counts_duplicates_and_keeps_the_first() -> None:
    journal = recorder.Journal()
    answer, label = recorder.source("/a/detections", is_label=False), recorder.source("/b/detections", is_label=True)
    journal.note(answer, 5, 100, {"detections": [1]})
    journal.note(answer, 5, 200, {"detections": [2]})
    journal.note(label, 4, 300, {"detections": []})
    journal.note_status("node: eyes", 1, "loss", {"lost": "3"}, 400)
    lines = list(journal.lines())
    assert [line["kind"] for line in lines] == ["frame", "frame", "diagnostics", "summary"]
    assert lines[0]["labels"] and not lines[0]["answers"] and lines[1]["answers"]["/a/detections"]["detections"] == [1]
    assert lines[3]["duplicates"] == 1 and lines[3]["warnings"] == {"node: eyes: loss": 1}
