"""`lisard doctor`: exit status 0 when the node can run here, 1 when something that it needs is missing or wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]


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
    assert done.status == 1 and "FAIL onnxruntime" in done.out


@pytest.mark.parametrize("library", ["numpy", "cv2", "onnxruntime", "msgspec"])
def test_doctor_itself_needs_none_of_what_it_looks_for(library: str, tmp_path: Path) -> None:
    """Regression: without ONNX Runtime `lisard doctor` could not be loaded."""
    code = (
        f"import sys; sys.modules[{library!r}] = sys.modules['torch'] = None; "
        "from lisard_ros.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", code, "doctor", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and f"FAIL {library.replace('cv2', 'opencv')}" in done.stdout
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
