"""The self test of a running node: live frames, the report, and activation that depends on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import write
from diagnostic_msgs.srv import SelfTest
from peers import ROOT, NodeProcess, Peer, image, wait_until
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification

from lisard_engines.gradient import derive
from lisard_ros import bundle as bundles

NAME = "/tested/perception"
Start = Callable[..., NodeProcess]


@contextmanager
def publishing(camera: Any) -> Iterator[None]:
    """Publish images of three colours until the end."""
    ended = threading.Event()

    def run() -> None:
        stamp = 0
        while not ended.wait(0.03):
            stamp += 1_000_000
            pixels = np.random.default_rng(stamp).integers(0, 60, (24, 32, 3), np.uint8)
            pixels[..., stamp // 1_000_000 % 3] += 150
            camera.publish(image(pixels, stamp))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)


def change(peer: Peer, name: str, **value: Any) -> None:
    """Set a parameter of the self test."""
    request = SetParameters.Request(parameters=[Parameter(name=f"self_test.{name}", value=ParameterValue(**value))])
    assert peer.call(SetParameters, f"{NAME}/set_parameters", request).results[0].successful


def test_live_frames_are_tested_and_the_report_is_filed(peer: Peer, start: Start, bundle: Path, tmp_path: Path) -> None:
    diagnosis = peer.diagnosis(NAME)
    folder = tmp_path / "report"
    node = start(
        "/tested",
        bundle=bundle,
        image_topics=["/s/image_raw"],
        diagnostics_period_s=0.2,
        self_test__source="live",
        self_test__count=6,
        self_test__live_wait_s=0.5,
        self_test__block_s=0.0,
        self_test__suite=["clean=0.6", "noise"],
        self_test__min_interval_s=0.0,
        self_test__report=str(folder),
    )
    node.said("active: ")
    none = peer.call(SelfTest, f"{NAME}/self_test")
    assert none.passed == b"\x00"
    assert "no live frame for the self test: found none within 0.5 s" in none.status[0].message
    change(peer, "live_wait_s", type=3, double_value=60.0)
    camera = peer.publisher(Image, "/s/image_raw")
    answers = peer.collect(Classification, f"{NAME}/s/classification")
    with publishing(camera):
        wait_until(lambda: answers, "answers")
        response = peer.call(SelfTest, f"{NAME}/self_test")
        before = len(answers)
        wait_until(lambda: len(answers) > before, "answers to go on")
    peer.node.destroy_publisher(camera)
    assert response.passed == b"\x01", [status.message for status in response.status]
    assert [status.name for status in response.status] == ["clean", "noise"]
    assert "agreement with the clean answer, no limit: measured" in response.status[1].message
    report = json.loads((folder / "self_test.json").read_text())
    assert report["source"] == "live" and report["cases"][0]["accuracy"]["n"] == 6
    held = {kind["name"]: kind["frames"] for kind in report["load"]}
    assert held["with attacks"] > 0, "the operational answers during the test"
    assert "data:image/" in (folder / "self_test.html").read_text() and (folder / "self_test.csv").exists()
    wait_until(lambda: diagnosis.messages["self_test"] == "passed: 1 of 1 limits hold", "the diagnostics")
    change(peer, "suite", type=9, string_array_value=["clean=0.7"])
    camera = peer.publisher(Image, "/s/image_raw")
    with publishing(camera):
        response = peer.call(SelfTest, f"{NAME}/self_test")
    peer.node.destroy_publisher(camera)
    assert response.passed == b"\x00", "six images are not enough evidence for it"
    assert "the lower bound of 100.0 % [61.0, 100.0] n=6 is below 70 %" in response.status[0].message
    change(peer, "suite", type=9, string_array_value=["clean=0.1"])
    change(peer, "block_s", type=3, double_value=0.2)
    camera = peer.publisher(Image, "/s/image_raw")
    with publishing(camera):
        response = peer.call(SelfTest, f"{NAME}/self_test")
    peer.node.destroy_publisher(camera)
    assert "in 1 independent blocks, 5 are needed" in response.status[0].message, "the stamps cover less than 0.2 s"
    assert node.stop() == 0 and "Traceback" not in node.log


def test_a_node_that_requires_its_self_test_does_not_start_with_a_broken_model(
    start: Start, broken_bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "report"
    node = start("/tested", bundle=broken_bundle, self_test__on_start="require", self_test__report=str(folder))
    assert node.wait() == 1
    assert "cannot activate: the self test failed and self_test.on_start is require" in node.log
    assert "Traceback" not in node.log
    assert json.loads((folder / "self_test.json").read_text())["passed"] is False


def test_a_sound_model_passes_at_the_start_and_a_full_path_is_reported(
    peer: Peer, start: Start, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    diagnosis = peer.diagnosis(NAME)
    node = start(
        "/tested",
        bundle=bundle,
        image_topics=["/s/image_raw"],
        diagnostics_period_s=0.2,
        self_test__on_start="require",
        self_test__report=str(tmp_path / "file"),
    )
    node.said("self test passed: 2 of 2 limits hold; cannot write the report of the self test")
    node.said("active: ")
    wait_until(lambda: "cannot write the report" in diagnosis.messages.get("self_test", ""), "the reason")
    assert node.stop() == 0


def test_attacks_follow_the_gradients_of_a_surrogate(
    peer: Peer, start: Start, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One without a gradient is refused; with one, self test and injection are gray-box."""
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "cache"))
    surrogate = write(tmp_path / "surrogate", sign=0.5, name="surrogate")
    given: dict[str, Any] = {"bundle": bundle, "image_topics": ["/s/image_raw"], "injection__surrogate": surrogate}
    refused = start("/tested", **given)
    assert refused.wait() == 1 and "there is no gradient of bundle surrogate: found " in refused.log
    derive.provide(bundles.read(surrogate))
    diagnosis = peer.diagnosis(NAME)
    attacks = {"self_test__suite": ["attack/fgsm"], "injection__attacks": ["attack/fgsm"], "injection__enabled": True}
    node = start("/tested", **given, **attacks, diagnostics_period_s=0.2)
    node.said("active: ")
    response = peer.call(SelfTest, f"{NAME}/self_test")
    assert {pair.key: pair.value for pair in response.status[0].values}["knowledge"] == "gray-box", response.status
    camera = peer.publisher(Image, "/s/image_raw")
    with publishing(camera):
        wait_until(lambda: int(diagnosis.values.get("injection", {}).get("answered", 0)) > 0, "an attacked answer")
    peer.node.destroy_publisher(camera)
    assert diagnosis.values["injection"]["surrogate"].startswith("surrogate ")
    assert node.stop() == 0 and "Traceback" not in node.log


def test_asking_waits_until_the_node_is_active(start: Start, bundle: Path) -> None:
    """What attack_test.launch.py runs beside the node, started before it."""
    command = [sys.executable, "-m", "lisard_ros.tools.ask", "self_test", NAME, "--active", "--timeout", "100"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as asking:
        time.sleep(0.5)
        node = start("/tested", bundle=bundle, image_topics=["/s/image_raw"])
        answer, _ = asking.communicate(timeout=110)
    assert asking.returncode == 0 and json.loads(answer)["passed"] is True
    assert node.stop() == 0


def test_a_node_that_warns_goes_on_with_a_broken_model(peer: Peer, start: Start, broken_bundle: Path) -> None:
    diagnosis = peer.diagnosis(NAME)
    node = start(
        "/tested",
        bundle=broken_bundle,
        image_topics=["/s/image_raw"],
        diagnostics_period_s=0.2,
        self_test__on_start="warn",
    )
    node.said("active: ")
    wait_until(lambda: diagnosis.levels.get("self_test") == "ERROR", "the result in the diagnostics")
    assert "FAILED: 0 of 2 limits hold" in diagnosis.messages["self_test"]
    assert diagnosis.values["model"]["state"] == "active"
    time.sleep(0.1)
    assert node.stop() == 0
