"""`lisard doctor`: exit status 0 when the node can run here, 1 when something that it needs is missing or wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lisard_ros.commands import doctor

ROOT = Path(__file__).resolve().parents[3]
NAMES = {"cv2": "opencv", "array_api_compat": "array-api-compat"}
# An interpreter of its own without these libraries, of which some take seconds to import.
WITHOUT = "import sys; sys.modules.update(dict.fromkeys({libraries})); "
HEAVY = ("torch", "safetensors", "onnx", "onnxslim", "openvino", "pycocotools", "cryptography")


def findings(text: str) -> dict[str, dict[str, Any]]:
    """JSON output by name."""
    return {finding["what"]: finding for finding in json.loads(text)}


@pytest.fixture(autouse=True)
def no_slow_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch takes seconds to import and is optional here."""
    if "torch" not in sys.modules:
        monkeypatch.setitem(sys.modules, "torch", None)


def test_this_machine_can_run_the_node(lisard: Any) -> None:
    done = lisard("doctor")
    assert done.status == 0 and "ok   onnxruntime" in done.out and "ok   cores" in done.out
    found = findings(lisard("doctor", "--json").out)
    assert found["numpy"]["ok"] and found["numpy"]["detail"] == np.__version__


def test_a_missing_library_is_status_1(lisard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = lisard("doctor")
    (line,) = (line for line in done.out.splitlines() if line.startswith("FAIL onnxruntime"))
    assert done.status == 1 and line.endswith("pip install onnxruntime")


@pytest.mark.parametrize("library", ["numpy", "cv2", "onnxruntime", "msgspec", "array_api_compat"])
def test_doctor_itself_needs_none_of_what_it_looks_for(library: str, tmp_path: Path) -> None:
    """Regression: without ONNX Runtime `lisard doctor` could not be loaded."""
    code = WITHOUT.format(libraries=(library, *HEAVY)) + "from lisard_ros.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "doctor", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and f"FAIL {NAMES.get(library, library)}" in done.stdout
    assert "Traceback" not in done.stderr and str(tmp_path) not in done.stdout


def test_a_missing_option_is_not(lisard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lisard_trainer", None)
    done = lisard("doctor")
    assert done.status == 0 and "-    trainer" in done.out


def test_the_profile_is_looked_for_under_both_names(lisard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert not findings(lisard("doctor", "--json").out)["DDS profile"]["ok"]
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/etc/profile.xml")
    assert findings(lisard("doctor", "--json").out)["DDS profile"]["detail"].endswith("=/etc/profile.xml")


def test_a_sound_bundle_passes(lisard: Any, tiny: Any) -> None:
    done = lisard("doctor", tiny.armed().path)
    assert done.status == 0 and "ok   self test" in done.out and "fgsm (gray-box): 100.0 %" in done.out


def test_a_broken_bundle_fails(lisard: Any, tiny: Any) -> None:
    shuffled = np.roll(np.eye(3, dtype=np.float32), 1, axis=1) * 20
    done = lisard("doctor", tiny.armed(weights=shuffled).path)
    assert done.status == 1 and "ok   bundle" in done.out and "FAIL self test" in done.out


def test_a_tampered_bundle_fails(lisard: Any, tiny: Any) -> None:
    bundle = tiny.armed()
    (bundle.path / "model.onnx").write_bytes(b"another")
    done = lisard("doctor", bundle.path)
    assert done.status == 1 and "FAIL bundle" in done.out and "is not the file" in done.out


def test_a_bundle_without_a_self_test_is_not_proved_but_no_failure(lisard: Any, tiny: Any) -> None:
    """Regression: a bundle made by `lisard bundle` could never pass."""
    done = lisard("doctor", tiny.classifier().path)
    assert done.status == 0 and "-    self test" in done.out and "nothing proves" in done.out


def test_every_declared_library_is_looked_for(lisard: Any) -> None:
    """Regression: rosbags, jinja2, array_api_compat, lightning_fabric and others were not."""
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    groups = re.findall(
        r"^(?:RUNTIME|TRAINER|ENGINES|TENSORBOARD|IMAGENET) = \[(.*?)\]", text, re.MULTILINE | re.DOTALL
    )
    declared = {re.match(r"[\w-]+", name)[0] for group in groups for name in re.findall(r'"([^"]+)"', group)}
    found = {name.lower() for name in findings(lisard("doctor", "--json").out)}
    assert len(groups) == 5 and len(declared) > 15
    assert {name.lower() for name in declared} - {"opencv-python-headless"} <= found


@pytest.mark.parametrize("library", [package.module for package in doctor.OPTIONAL_PACKAGES])
def test_a_missing_optional_library_says_what_it_is_for(
    lisard: Any, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    done = lisard("doctor")
    package = next(package for package in doctor.OPTIONAL_PACKAGES if package.module == library)
    (line,) = (line for line in done.out.splitlines() if line[5:].split()[0] == package.name)
    assert (
        done.status == 0
        and line.startswith("-    ")
        and line.endswith(f"for {package.purpose}: pip install {package.name}")
    )


@pytest.mark.parametrize(
    ("library", "status", "mark"), [("rosbags", 0, "-    rosbags"), ("onnxruntime", 1, "FAIL onnxruntime")]
)
@pytest.mark.parametrize("end", ["raise AttributeError('torn')", "raise SystemExit('torn')"])
def test_a_damaged_library_is_no_traceback(
    library: str, status: int, mark: str, end: str, tiny: Any, tmp_path: Path
) -> None:
    """Regression: a library that raised anything but ImportError ended the command with its traceback."""
    (tmp_path / f"{library}.py").write_text(f"print('advice of a library')\n{end}\n")
    code = (
        WITHOUT.format(libraries=HEAVY) + "sys.path.insert(0, sys.argv.pop(1)); "
        "from lisard_ros.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", code, str(tmp_path), "doctor", str(tiny.armed().path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == status and mark in done.stdout and ": torn" in done.stdout
    assert "Traceback" not in done.stderr and "advice" not in done.stdout


def test_what_breaks_while_looking_is_a_finding(lisard: Any, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(pipeline: Any) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(doctor, "_self_test", torn)
    done = lisard("doctor", tiny.armed().path)
    assert done.status == 1 and "FAIL bundle" in done.out and "ZeroDivisionError: a bug" in done.out


def test_the_running_system_is_a_look_of_its_own(lisard: Any, tmp_path: Path) -> None:
    lisard("doctor", tmp_path, "--ros").refused("a bundle together with --ros", "run one after the other")
    lisard("doctor", "--ros", "--seconds", "0").refused("--seconds", "at most 600")
    lisard("doctor", "--ros", "--seconds", "nan").refused("--seconds")


def test_the_running_system_needs_ros_and_an_installation(lisard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    monkeypatch.delitem(sys.modules, "lisard_ros.tools.system_observer", raising=False)
    lisard("doctor", "--ros").refused("the ROS package rclpy cannot be imported", "sudo apt install ros-", "make setup")
    monkeypatch.setattr(doctor, "entry_points", lambda group: [])
    lisard("doctor", "--ros").refused("is not installed", "make setup")
