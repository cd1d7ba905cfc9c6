"""The process: what it says and returns for wrong use, broken bundles, and signals at any moment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import write
from diagnostic_msgs.srv import SelfTest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from peers import ROOT, NodeProcess, Peer, children_of, image, node_with, wait_until
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger
from vision_msgs.msg import Classification

from lisard_ros.bundle.manifest import ModelFile, Verification

Start = Callable[..., NodeProcess]


def run_to_the_end(arguments: list[str]) -> tuple[int, str]:
    process = node_with(arguments)
    try:
        return process.wait(), process.log
    finally:
        process.process.kill()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["-p", "modle:=x", "-p", "bundel:=y"], 2, "'bundel': this node does not declare it; did you mean 'bundle'?"),
        (["-p", "threads:=many"], 2, "parameter 'threads': found 'many' (str), expected an integer in [0, 256]"),
        (["-p", "reliability:=off"], 2, "quote it in YAML"),
        (["-p", ":="], 2, "Couldn't parse parameter override rule"),
        ([], 1, "cannot configure: parameter 'bundle': found no path"),
        (["-p", "bundle:=/no/such/bundle"], 1, "no bundle there: found nothing at /no/such/bundle"),
        (["-p", "bundle:=BUNDLE", "-p", "image_topics:=/a/image,/a/image_raw"], 1, "'/a/image' and '/a/image_raw'"),
        (["-p", "bundle:=BUNDLE", "-p", "image_topics:=/a/0/image"], 1, "expected a ROS topic name"),
        (["-p", "bundle:=BUNDLE", "-p", "boxes_topic:=/b//x"], 1, "parameter 'boxes_topic': found '/b//x'"),
        (["-p", "bundle:=BUNDLE", "-p", "injection.attacks:=['fgsm']"], 1, "injection of bundle colours"),
        (["-p", "bundle:=BUNDLE", "-p", "injection.attacks:=['corruption/frots/3']"], 1, "'corruption/frost/3'?"),
        (
            ["-p", "bundle:=BUNDLE", "-p", "injection.surrogate:=models/road_signs"],
            1,
            "bundle road_signs cannot be the surrogate of colours: another task: found detection, expected classif",
        ),
    ],
)
def test_wrong_use_ends_with_words(arguments: list[str], status: int, said: str, bundle: Path) -> None:
    words = [word.replace("BUNDLE", str(bundle)) for word in arguments]
    returned, log = run_to_the_end(["--ros-args", "-r", "__ns:=/wrong", *words])
    assert said in log and "Traceback" not in log
    assert returned == status


def test_a_variant_installed_by_force_is_said_for_as_long_as_it_runs(start: Start, tmp_path: Path) -> None:
    lossy = Verification(
        against="fp32",
        backend="ONNX Runtime",
        pictures=30,
        attacked=30,
        pictures_sha256="",
        max_abs_difference=9.0,
        agreement=0.5,
        clean_loss_points=50.0,
        robust_loss_points=0.0,
        clean_limit_points=1.0,
        robust_limit_points=1.5,
        passed=False,
        forced=True,
    )
    int8 = ModelFile(file="model.onnx", precision="int8", scheme="u8s8", verification=lossy)
    forced = write(tmp_path / "forced", models=(ModelFile(file="model.onnx"), int8))
    node = start("/forced", bundle=forced, image_topics=["/f/image"], precision="int8", diagnostics_period_s=0.2)
    node.said("model: int8/u8s8: loses 50.00 points clean (limit 1)")
    node.said("installed by force")
    assert node.stop() == 0


def test_int8_that_nobody_verified_runs_only_when_it_is_asked_for(start: Start, tmp_path: Path) -> None:
    int8 = ModelFile(file="model.onnx", precision="int8", scheme="u8s8")
    alone = write(tmp_path / "alone", models=(int8,))
    words = ["--ros-args", "-r", "__ns:=/alone", "-p", f"bundle:={alone}"]
    status, log = run_to_the_end(words)
    assert status == 1 and "Traceback" not in log
    assert "the bundle has no fp32 model for this backend: found int8/u8s8, expected fp32" in log
    assert "make the bundle of the fp32 file, or ask for another precision by name" in log
    node = start("/alone", bundle=alone, image_topics=["/a/image"], precision="int8", diagnostics_period_s=0.2)
    node.said("model: int8/u8s8: it was never compared with the fp32 model")
    assert node.stop() == 0


def test_a_precision_that_the_bundle_lacks_and_an_engine_without_a_gpu_end_with_words(bundle: Path) -> None:
    words = ["--ros-args", "-r", "__ns:=/wrong", "-p", f"bundle:={bundle}"]
    status, log = run_to_the_end([*words, "-p", "precision:=fp16"])
    assert status == 1 and "has no fp16 model for this backend: found fp32/plain" in log
    status, log = run_to_the_end([*words, "-p", "backend:=tensorrt"])
    assert status == 1 and "stage: " in log and "Traceback" not in log


def test_a_cv_bridge_of_another_numpy_is_one_warning(
    bundle: Path, peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: Humble's under NumPy 2 (vision_opencv#535) kept the node from starting."""
    marker = tmp_path / "share/ament_index/resource_index/packages/cv_bridge"
    marker.parent.mkdir(parents=True)
    marker.touch()
    (tmp_path / "cv_bridge.py").write_text("raise AttributeError('_ARRAY_API not found')", encoding="utf-8")
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join([str(tmp_path), os.environ["AMENT_PREFIX_PATH"]]))
    parameters = ["-p", f"bundle:={bundle}", "-p", "image_topics:=[/bridge/image_raw]"]
    node = node_with(["--ros-args", "-r", "__ns:=/bridge", *parameters], tmp_path)
    try:
        node.said("active: ")
        answers = peer.collect(Classification, "/bridge/perception/bridge/classification")
        message = image((200, 20, 20), 1_000)
        rgba = np.dstack([np.frombuffer(message.data, np.uint8).reshape(24, 32, 3), np.full((24, 32), 255, np.uint8)])
        message.encoding, message.step, message.data = "rgba8", 32 * 4, rgba.tobytes()
        peer.publisher(Image, "/bridge/image_raw").publish(message)
        assert wait_until(lambda: answers and answers[0], "an answer").results[0].class_id == "red"
        assert node.stop() == 0
    finally:
        node.process.kill()
    warning = f"cv_bridge of {tmp_path} cannot be used (_ARRAY_API not found); images are converted by rosbags-image"
    assert node.log.count(warning) == 1 and "image conversion: rosbags-image" in node.log


def test_a_tampered_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tampered"
    shutil.copytree(bundle, copy)
    model = bytearray((copy / "model.onnx").read_bytes())
    model[-1] ^= 1
    (copy / "model.onnx").write_bytes(model)
    status, log = run_to_the_end(["--ros-args", "-p", f"bundle:={copy}"])
    assert status == 1 and "cannot configure" in log and "model.onnx" in log and "expected" in log


def test_files_own_sections_are_strict_and_shared_ones_warn(tmp_path: Path) -> None:
    strict = tmp_path / "strict.yaml"
    strict.write_text("perception:\n  ros__parameters:\n    min_scor: 0.5\n")
    assert run_to_the_end(["--ros-args", "--params-file", str(strict)])[0] == 2
    shared = tmp_path / "shared.yaml"
    shared.write_text("/**:\n  ros__parameters:\n    min_scor: 0.5\n")
    status, log = run_to_the_end(["--ros-args", "--params-file", str(shared)])
    assert status == 1 and "unknown parameter 'min_scor'" in log and "did you mean 'min_score'?" in log
    assert "given for all nodes, ignored" in log
    mixed = tmp_path / "mixed.yaml"
    mixed.write_text("perception:\n  ros__parameters:\n    roi_classes: [stop, y]\n")
    status, log = run_to_the_end(["--ros-args", "--params-file", str(mixed)])
    assert status == 2 and "in YAML quote y" in log


def test_a_self_test_of_a_broken_model_does_not_pass(peer: Peer, broken_bundle: Path, start: Start) -> None:
    node = start("/sick", bundle=broken_bundle, image_topics=["/s/image"])
    node.said("active: ")
    response = peer.call(SelfTest, "/sick/perception/self_test")
    assert response.passed == b"\x00"
    assert response.status[0].level == b"\x02" and "is below the limit" in response.status[0].message
    assert node.stop(signal.SIGTERM) == 0


def child_of(pid: int) -> int:
    """Id of the only child of a process; 0 while there is none."""
    return next(iter(children_of(pid)), 0)


def test_a_self_test_can_be_cancelled_lost_and_ended_with_the_node(peer: Peer, tmp_path: Path, start: Start) -> None:
    """Its process is killed, the user cancels, the node is deactivated, the node ends: each caller is answered."""
    slow = write(tmp_path / "long", images=60_000)
    name = "/long/perception"
    node = start(
        "/long", bundle=slow, image_topics=["/g/image"], self_test__min_interval_s=0.0, diagnostics_period_s=0.2
    )
    node.said("active: ")
    diagnosis = peer.diagnosis(name)
    client = peer.node.create_client(SelfTest, f"{name}/self_test")
    assert client.wait_for_service(timeout_sec=60)

    def asked() -> Any:
        wait_until(lambda: not diagnosis.values.get("self_test", {}).get("case"), "the last one to be gone")
        future = client.call_async(SelfTest.Request())
        wait_until(lambda: diagnosis.values.get("self_test", {}).get("case", "").startswith("1 of 2"), "a first image")
        return future

    def message(future: Any) -> str:
        wait_until(future.done, "an answer")
        assert future.result().passed == b"\x00"
        return str(future.result().status[-1].message)

    first = asked()
    assert diagnosis.messages["self_test"].startswith("under way: case 1 of 2 (clean), ")
    assert diagnosis.values["self_test"]["images"].endswith(" of 60000")
    assert "under way" in message(client.call_async(SelfTest.Request()))
    os.kill(child_of(node.process.pid), signal.SIGKILL)
    assert "the process of the self test ended before the test: found it was killed (SIGKILL" in message(first)
    wait_until(lambda: diagnosis.levels["self_test"] == "ERROR", "the outcome in the diagnostics")
    second = asked()
    assert peer.call(Trigger, f"{name}/cancel_self_test").success
    assert "cancelled" in message(second)
    third = asked()
    deactivation = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_DEACTIVATE))
    assert peer.call(ChangeState, f"{name}/change_state", deactivation).success
    assert message(third) == "the self test was cancelled" and not child_of(node.process.pid)
    asked()
    pid = child_of(node.process.pid)
    assert node.stop() == 0 and not Path(f"/proc/{pid}").exists()
    peer.node.destroy_client(client)


def test_a_self_test_soon_after_another_is_told_when_to_come_back(peer: Peer, bundle: Path, start: Start) -> None:
    node = start("/often", bundle=bundle, image_topics=["/o/image"], self_test__min_interval_s=3600)
    node.said("active: ")
    assert peer.call(SelfTest, "/often/perception/self_test").passed == b"\x01"
    again = peer.call(SelfTest, "/often/perception/self_test")
    assert again.passed == b"\x00" and "call again in " in again.status[0].message
    change = Parameter(name="self_test.min_interval_s", value=ParameterValue(type=3, double_value=0.0))
    request = SetParameters.Request(parameters=[change])
    assert peer.call(SetParameters, "/often/perception/set_parameters", request).results[0].successful
    assert peer.call(SelfTest, "/often/perception/self_test").passed == b"\x01"
    assert node.stop() == 0


SIGNAL_TO_ANOTHER_THREAD = """
import signal, threading, time
from lisard_ros.node.main import Ending
ending = Ending()
ending.running = True
busy = threading.Thread(target=time.sleep, args=(60,), daemon=True)
busy.start()
threading.Timer(0.5, signal.pthread_kill, (busy.ident, signal.SIGINT)).start()
ending.wait()
print("ended")
"""


def test_a_signal_that_another_thread_gets_ends_the_node_too() -> None:
    """Regression: the main thread slept on, and the node ended only at the next signal."""
    command = [sys.executable, "-c", SIGNAL_TO_ANOTHER_THREAD]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr


def test_without_ros_it_says_what_to_do() -> None:
    code = "import sys; sys.modules['rclpy'] = None; from lisard_ros.node.main import main; sys.exit(main(['x']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and "source a ROS 2 installation" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("onnxruntime", "-m pip install onnxruntime"),
        ("msgspec", "-m pip install msgspec"),
        ("array_api_compat", "-m pip install array-api-compat"),
        ("vision_msgs", "vision-msgs"),
    ],
)
def test_a_missing_package_is_one_sentence_with_the_cure(missing: str, said: str) -> None:
    code = f"import sys; sys.modules['{missing}'] = None; from lisard_ros.node.main import main; sys.exit(main(['x']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and "cannot be imported" in done.stderr and said in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("module", ["node.main", "tools.player"])
def test_without_rosbags_node_and_player_end_with_one_sentence(module: str, bundle: Path) -> None:
    words = {
        "node.main": ["x", "--ros-args", "-r", "__ns:=/lacking", "-p", f"bundle:={bundle}"],
        "tools.player": [str(ROOT / "data/road_signs"), "--wait-for", "0"],
    }[module]
    code = f"import sys; sys.modules['rosbags'] = None; from lisard_ros.{module} import main; sys.exit(main({words}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == (1 if module == "node.main" else 2)
    assert "-m pip install rosbags" in done.stderr and "Traceback" not in done.stderr


def test_help_is_printed_without_ros() -> None:
    code = "import sys; sys.modules['rclpy'] = None; from lisard_ros.node.main import main; sys.exit(main(['x', '-h']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and done.stdout.startswith("usage: perception_node") and "min_score" in done.stdout


def test_a_shipped_bundle_is_found_from_any_folder(tmp_path: Path) -> None:
    words = ["--ros-args", "-r", "__ns:=/shipped", "-p", "regions:=topic", "-p", "boxes_topic:=/b", "-p"]
    command = [sys.executable, "-m", "lisard_ros.node.main", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def log_of(bundle: str) -> str:
        done = subprocess.run(
            [*command, f"bundle:={bundle}"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 1
        return done.stderr

    # A detector refuses boxes once it is read, which ends the node in time.
    assert "parameter 'regions': found topic with a detection bundle" in log_of("models/road_signs")
    log = log_of("models/nothing")
    assert f"found nothing at {tmp_path}/models/nothing or {ROOT}/models/nothing" in log


def handles_signals(pid: int) -> bool:
    """Whether the process has set its handler for SIGTERM (the interpreter itself takes a while to get there)."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("after_s", [0.0, 0.2, 0.5, 1.0, 2.5])
def test_signals_at_any_moment_end_it_cleanly(after_s: float, bundle: Path) -> None:
    words = ["--ros-args", "-p", f"bundle:={bundle}"]
    nodes = {
        number: node_with([*words, "-r", f"__ns:=/signal{number.value}"]) for number in (signal.SIGINT, signal.SIGTERM)
    }
    for node in nodes.values():
        wait_until(lambda node=node: handles_signals(node.process.pid), "the signal handlers")
    time.sleep(after_s)
    for number, node in nodes.items():
        node.process.send_signal(number)
    for node in nodes.values():
        assert node.wait() == 0, node.log
        assert "Traceback" not in node.log
