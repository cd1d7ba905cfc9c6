"""`lisard attack run --topic` on a running camera: its frames are attacked, and a topic without any is explained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from peers import BEST_EFFORT, ROOT, Peer, camera, image
from sensor_msgs.msg import Image
from std_msgs.msg import String


def attack(bundle: Path, *words: str) -> Callable[[], tuple[int, str, str]]:
    """Start the command; what is returned waits for its exit status, stdout and stderr."""
    started = subprocess.Popen(
        [sys.executable, "-m", "lisard_ros", "attack", "run", str(bundle), "--json", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )

    def ended() -> tuple[int, str, str]:
        out, err = started.communicate(timeout=200)
        assert "Traceback" not in err, err
        return started.returncode, out, err

    return ended


def three_colours(number: int) -> Image:
    """Noise in which one colour is stronger."""
    pixels = np.random.default_rng(number).integers(0, 60, (24, 32, 3), np.uint8)
    pixels[..., number % 3] += 150
    return image(pixels, number)


def test_the_frames_of_a_camera_are_attacked(peer: Peer, bundle: Path, tmp_path: Path) -> None:
    words = peer.node.create_publisher(String, "/attacked/words", 1)
    with camera(peer, "/attacked/image_raw", BEST_EFFORT, three_colours):
        live = attack(
            bundle,
            *("--topic", "/attacked/image_raw", "--count", "6", "--suite", "clean=0.5,noise,attack/square100/255"),
            *("--block-s", "0"),
            *("--report", str(tmp_path / "report")),
        )
        other = attack(bundle, "--topic", "/attacked/words")
        nobody = attack(bundle, "--topic", "/attacked/nobody/image_raw", "--wait-s", "3")
        status, out, err = live()
        refused, missing = other(), nobody()
    peer.node.destroy_publisher(words)
    assert status == 0, err
    report = json.loads(out)
    assert (report["source"], report["origin"], report["passed"]) == ("live", "/attacked/image_raw", True)
    cases = {case["injection"]: case for case in report["cases"]}
    assert {case["judged"] for case in cases.values()} == {"agreement"}
    assert cases["clean"]["accuracy"]["n"] == 6 and cases["attack/square100/255"]["success"]["hits"] == 6
    assert (tmp_path / "report" / "self_test.html").stat().st_size > 1000
    assert refused[0] == 2 and "topic /attacked/words has no images: found std_msgs/msg/String" in refused[2]
    assert missing[0] == 2 and "no frame on /attacked/nobody/image_raw" in missing[2]
    assert "0 publishers" in missing[2] and "/attacked/image_raw" in missing[2], "the topics that there are"
