"""The self test of a running node: live frames, the report, and activation that depends on it."""

from __future__ import annotations

import json
import os
import shutil
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
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from peers import ROOT, NodeProcess, Peer, children_of, image, ros_words, wait_until
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import Image
from vision_msgs.msg import Classification

from lisard_engines.gradient import derive
from lisard_ros import bundle as bundles

NAME = "/tested/perception"
END_S = 20.0  # that a node may take to end on a busy machine; its self test would go on for longer
# The node in a namespace of its own, in which the folder of the report is a small disk.
ON_A_SMALL_DISK = """
import os, sys
folder, *words = sys.argv[1:]
mount = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
inside = ["sh", "-c", mount, folder, sys.executable, "-m", "lisard_ros.node.main", *words]
os.execvp("unshare", ["unshare", "--user", "--map-root-user", "--mount", *inside])
"""
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


@pytest.fixture
def start_on() -> Iterator[Callable[..., NodeProcess]]:
    """Start a node for which a folder is a disk of 1 MiB; skips where the system gives no namespace for that."""
    tried = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    if shutil.which("unshare") is None or subprocess.run(tried, capture_output=True, check=False).returncode:
        pytest.skip("no namespace for a disk of its own")
    made: list[NodeProcess] = []

    def make(folder: Path, **parameters: object) -> NodeProcess:
        node = NodeProcess.__new__(NodeProcess)
        node.start(ros_words("/tested", parameters), program=("-c", ON_A_SMALL_DISK, str(folder)))
        made.append(node)
        return node

    yield make
    for node in made:
        if node.process.poll() is None:
            node.process.kill()
        node.wait()


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
    assert held["without attacks"] >= 6, "those to the frames that it collected"
    assert "data:image/" in (folder / "self_test.html").read_text() and (folder / "self_test.csv").exists()
    wait_until(lambda: diagnosis.messages["self_test"] == "passed: 1 of 1 limits hold", "the diagnostics")
    assert diagnosis.values["self_test"]["report"] == str(folder / "self_test.html"), "lisard watch shows it"
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


def test_latencies_and_failed_images_have_limits_too(peer: Peer, start: Start, bundle: Path, tmp_path: Path) -> None:
    """As in `lisard attack run --limits`; each is a row of answer, diagnostics and report."""
    diagnosis, folder = peer.diagnosis(NAME), tmp_path / "report"
    node = start(
        "/tested",
        bundle=bundle,
        image_topics=["/s/image_raw"],
        diagnostics_period_s=0.2,
        self_test__suite=["clean", "p95_ms=100000.0", "failed=0"],
        self_test__min_interval_s=0.0,
        self_test__report=str(folder),
    )
    node.said("active: ")
    response = peer.call(SelfTest, f"{NAME}/self_test")
    assert [(one.name, one.level) for one in response.status] == [
        ("clean", b"\x00"),
        ("p95_ms", b"\x00"),
        ("failed", b"\x00"),
    ]
    assert response.passed == b"\x01"
    assert response.status[2].message == "0, limit 0: passed"
    wait_until(lambda: diagnosis.values["self_test"].get("failed") == "0, limit 0: passed", "the diagnostics")
    assert "p95_ms&lt;=100000" in (folder / "self_test.html").read_text()
    change(peer, "suite", type=9, string_array_value=["p95_ms=0.000001"])
    slow = peer.call(SelfTest, f"{NAME}/self_test")
    assert slow.passed == b"\x00" and len(slow.status) > 2, "the usual suite"
    assert slow.status[-1].name == "p95_ms" and slow.status[-1].level == b"\x02"
    assert "ms, limit 1e-06 ms: FAILED: " in slow.status[-1].message
    change(peer, "suite", type=9, string_array_value=["p95=50"])
    refused = peer.call(SelfTest, f"{NAME}/self_test")
    assert refused.passed == b"\x00" and "did you mean 'p95_ms'" in refused.status[0].message
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


@pytest.mark.parametrize("end", ["SIGINT", "deactivate", "shutdown"])
def test_a_node_that_ends_in_the_middle_of_a_live_self_test_loses_nothing_else(
    peer: Peer, start: Start, tmp_path: Path, end: str
) -> None:
    """Its caller is told, the process of the test is gone, the report of before stays, every frame has an outcome."""
    diagnosis, folder = peer.diagnosis(NAME), tmp_path / "report"
    folder.mkdir()
    (folder / "self_test.json").write_text("of before")
    node = start(
        "/tested",
        bundle=ROOT / "models" / "traffic_signs",
        image_topics=["/s/image_raw"],
        diagnostics_period_s=0.2,
        injection__enabled=True,
        injection__attacks=["noise"],
        self_test__source="live",
        self_test__count=20,
        self_test__block_s=0.0,
        self_test__suite=["clean=0.1", "attack/square1000"],
        self_test__report=str(folder),
    )
    node.said("active: ")
    camera = peer.publisher(Image, "/s/image_raw")
    command = [sys.executable, "-m", "lisard_ros.tools.ask", "self_test", NAME, "--timeout", "100"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with publishing(camera), subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as asking:
        wait_until(lambda: diagnosis.values.get("self_test", {}).get("case") == "2 of 2", "the second case")
        wait_until(lambda: int(diagnosis.values["injection"]["answered"]) > 0, "an attacked answer")
        children = children_of(node.process.pid)
        assert len(children) == 2, "injection and self test"
        began_s = time.monotonic()
        if end == "SIGINT":
            assert node.stop() == 0
        else:
            number = {"deactivate": Transition.TRANSITION_DEACTIVATE, "shutdown": Transition.TRANSITION_ACTIVE_SHUTDOWN}
            request = ChangeState.Request(transition=Transition(id=number[end]))
            assert peer.call(ChangeState, f"{NAME}/change_state", request).success
        assert time.monotonic() - began_s < END_S
        printed, errors = asking.communicate(timeout=30)
    peer.node.destroy_publisher(camera)
    assert asking.returncode == 1
    if end == "SIGINT":
        assert f"{NAME} ended before it answered" in errors and not printed
    else:
        assert json.loads(printed)["cases"][-1]["message"] == "the self test was cancelled"
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert [(file.name, file.read_text()) for file in folder.iterdir()] == [("self_test.json", "of before")]
    wait_until(lambda: diagnosis.messages["self_test"] == "the self test was cancelled", "the last diagnostics")
    frames, copies = diagnosis.last_values["camera s"], diagnosis.last_values["injection"]
    for received, *outcomes in (
        [frames[key] for key in ("received", "answered", "replaced", "too_old", "failed")],
        [copies[key] for key in ("offered", "answered", "replaced", "not_applicable", "no_regions", "failed")],
    ):
        assert int(received) == sum(map(int, outcomes)) > 0
    assert frames["failed"] == "0" and copies["failed"] == copies.get("failed_deactivated", "0")
    assert node.stop() == 0 and "Traceback" not in node.log


def test_a_full_disk_costs_the_report_and_nothing_else(peer: Peer, start_on: Any, bundle: Path, tmp_path: Path) -> None:
    """A real one. The answer has the result and the reason; the report of before stays, and the next one is written."""
    diagnosis, folder = peer.diagnosis(NAME), tmp_path / "disk"
    folder.mkdir()
    node = start_on(
        folder,
        bundle=bundle,
        image_topics=["/s/image_raw"],
        diagnostics_period_s=0.2,
        self_test__source="live",
        self_test__count=6,
        self_test__block_s=0.0,
        self_test__suite=["clean=0.5", "noise"],
        self_test__min_interval_s=0.0,
        self_test__report=str(folder),
    )
    node.said("active: ")
    inside = Path(f"/proc/{node.process.pid}/root{folder}")  # the folder as the node sees it
    camera = peer.publisher(Image, "/s/image_raw")
    answers = peer.collect(Classification, f"{NAME}/s/classification")
    with publishing(camera):
        assert [one.name for one in peer.call(SelfTest, f"{NAME}/self_test").status] == ["clean", "noise"]
        before = {file.name: file.read_bytes() for file in inside.iterdir()}
        assert sorted(before) == ["self_test.csv", "self_test.html", "self_test.json"]
        filler = inside / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))
        response = peer.call(SelfTest, f"{NAME}/self_test")
        reached = len(answers)
        wait_until(lambda: len(answers) > reached + 5, "answers to go on")
        assert response.passed == b"\x01", "the result is what it is"
        assert [one.name for one in response.status] == ["clean", "noise", "report"]
        assert response.status[-1].level == b"\x02"
        said = f"cannot write the report of the self test: found {folder}: No space left on device"
        assert said in response.status[-1].message
        wait_until(lambda: said in diagnosis.messages["self_test"], "the reason in the diagnostics")
        assert diagnosis.levels["self_test"] == "WARN" and said in node.log
        assert {file.name: file.read_bytes() for file in inside.iterdir() if file != filler} == before
        command = [sys.executable, "-m", "lisard_ros.tools.ask", "self_test", NAME]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        asked = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)
        assert asked.returncode == 1 and json.loads(asked.stdout)["passed"] is True, "passed, but not on file"
        filler.unlink()
        assert [one.name for one in peer.call(SelfTest, f"{NAME}/self_test").status] == ["clean", "noise"]
        assert (
            json.loads((inside / "self_test.json").read_text())["made"] != json.loads(before["self_test.json"])["made"]
        )
    peer.node.destroy_publisher(camera)
    wait_until(lambda: diagnosis.levels["self_test"] == "OK", "the diagnostics to forget it")
    camera_values = diagnosis.values["camera s"]
    counted = {key: int(camera_values[key]) for key in ("received", "answered", "replaced", "failed")}
    assert counted["failed"] == 0 and counted["received"] == counted["answered"] + counted["replaced"], counted
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
