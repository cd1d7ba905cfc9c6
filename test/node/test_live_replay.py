"""`lisard replay --live` through a real node over real DDS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import COLOURS
from peers import ROOT, NodeProcess

from lisard_ros.bags.messages import CLASSIFICATION, IMAGE, typestore
from lisard_ros.bags.writer import BagWriter, header, image_message

FRAMES, PERIOD_NS, START_NS, TOPIC = 15, 100_000_000, 1_700_000_000 * 10**9, "/drive/image_raw"
NAMES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of fifteen coloured frames with labels; the last image is cut short."""
    path, store = tmp_path_factory.mktemp("live") / "drive", typestore()
    with BagWriter(path, store) as bag:
        for number in range(FRAMES):
            stamp = START_NS + number * PERIOD_NS
            message = image_message(store, header(store, stamp, "camera"), np.full((24, 32, 3), COLOURS[number % 3]))
            if number == FRAMES - 1:
                message.data = message.data[:-100]
            bag.write(TOPIC, IMAGE, stamp, message)
            hypothesis = store.types["vision_msgs/msg/ObjectHypothesis"](class_id=NAMES[number % 3], score=1.0)
            label = store.types[CLASSIFICATION](header=header(store, stamp, "camera"), results=[hypothesis])
            bag.write("/drive/labels", CLASSIFICATION, stamp, label)
    return path


def lisard_replay(words: Sequence[object]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lisard_ros", "replay", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)


@pytest.mark.ros
def test_every_frame_of_a_live_replay_has_its_outcome(
    start: Callable[..., NodeProcess], bundle: Path, drive: Path, tmp_path: Path
) -> None:
    node = start("/live", bundle=bundle, image_topics=[TOPIC], queue_depth=50)
    node.said("active: ")
    words = [drive, "--bundle", bundle, "--injections", "none", "--live", "--node", "live/perception"]
    limits = "clean=0.3,live/lost=0,live/different=0,live/unanswered=0.99"
    done = lisard_replay([*words, "--by", "frame", "--limits", limits, "--json", tmp_path / "live.json"])
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads((tmp_path / "live.json").read_text())
    (camera,) = report["live"]["cameras"]
    outcomes, counts = camera["outcomes"], camera["counts"]
    assert camera["stamps_ns"] == [START_NS + number * PERIOD_NS for number in range(FRAMES)]
    assert sorted(number for numbers in outcomes.values() for number in numbers) == list(range(FRAMES))
    assert set(outcomes) <= {"equal", "replaced", "failed"}  # a loaded machine may replace frames
    assert len(outcomes["equal"]) == counts["answered"] and len(outcomes.get("replaced", ())) == counts["replaced"]
    assert outcomes["failed"] == [FRAMES - 1] or counts["replaced"]
    assert counts["received"] == FRAMES and camera["unaccounted"] == 0
    assert f"live: {TOPIC} through /live/perception: {FRAMES} published" in done.stdout
    assert "live/lost<=0: holds" in done.stdout

    broken = lisard_replay([*words, "--rate", "20", "--limits", "live/unanswered=0"])
    assert broken.returncode == 1 and "live/unanswered<=0: BROKEN" in broken.stdout, broken.stderr
    other = lisard_replay([drive, "--bundle", ROOT / "models/traffic_signs", "--live", "--node", "/live/perception"])
    assert other.returncode == 2 and "the node runs another bundle" in other.stderr
    node.stop()
    gone = lisard_replay([*words, "--live-timeout", "0.5"])
    assert gone.returncode == 2 and "no /diagnostics of /live/perception" in gone.stderr
