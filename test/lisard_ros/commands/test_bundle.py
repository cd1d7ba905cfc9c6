"""`lisard bundle`: anybody's ONNX becomes a bundle that answers, or is refused with what to change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from lisard_ros import bundle as bundles
from lisard_ros.frames import Frame
from lisard_ros.pipeline import Failure

ROOT = Path(__file__).resolve().parents[3]
ROWS = np.array([[2, 4, 10, 12, 1.0, 0.9, 0.1, 0.0], [6, 8, 16, 16, 1.0, 0.1, 0.2, 0.8]], np.float32)
BLACK = Frame(np.zeros((16, 16, 3), np.uint8), "rgb", 0, "", "c")


@pytest.fixture
def net(tiny: Any, tmp_path: Path) -> Path:
    """The tiny classifier as a file."""
    path = tmp_path / "net.onnx"
    path.write_bytes(tiny.classifier_onnx())
    return path


def words(net: Path, made: Path, **changes: str) -> list[str]:
    """A complete call, with changes; an empty value leaves the option out."""
    options = {"task": "classification", "labels": "red,green,blue", "input": "16x16", "out": str(made), **changes}
    return ["bundle", str(net), *(word for key, value in options.items() if value for word in (f"--{key}", value))]


def test_a_classifier_becomes_a_bundle(lisard: Any, net: Path, tmp_path: Path, tiny: Any) -> None:
    done = lisard(*words(net, tmp_path / "made"))
    assert done.status == 0 and "verified       every file matches its hash" in done.out
    bundle = bundles.read(tmp_path / "made")
    assert bundle.manifest.name == "net" and bundle.manifest.labels == ("red", "green", "blue")
    assert bundle.manifest.output.name == "out" and bundle.manifest.output.activation == "softmax"
    assert bundle.data("model.onnx") == net.read_bytes()
    red = Frame(np.full((9, 9, 3), (200, 0, 0), np.uint8), "rgb", 0, "", "c")
    assert tiny.pipeline(bundle).run([red])[0].classification.hypotheses[0].label == "red"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["made", "net.onnx"]


@pytest.mark.parametrize(
    ("layout", "rows"),
    [
        ("xyxy_objectness_classes", ROWS),
        ("cxcywh_objectness_classes", ROWS),
        ("cxcywh_classes_first", np.delete(ROWS, 4, axis=1).T.copy()),
    ],
)
def test_a_detector_of_each_layout_becomes_a_bundle(
    lisard: Any, tiny: Any, tmp_path: Path, layout: str, rows: np.ndarray
) -> None:
    (tmp_path / "det.onnx").write_bytes(tiny.detector_onnx(rows))
    out = tmp_path / "made"
    done = lisard(*words(tmp_path / "det.onnx", out, task="detection", layout=layout, resize="letterbox"))
    assert done.status == 0, done.err
    bundle = bundles.read(out)
    assert bundle.manifest.decode is not None and bundle.manifest.decode.layout == layout
    assert bundle.manifest.output.activation == "none"
    (outcome,) = tiny.pipeline(bundle).run([BLACK])
    assert not isinstance(outcome, Failure) and len(outcome.detections.items) == 2


def test_every_option_reaches_the_manifest(lisard: Any, net: Path, tmp_path: Path) -> None:
    done = lisard(
        *words(
            net,
            tmp_path / "made",
            name="mine",
            colour="bgr",
            mean="0.1,0.2,0.3",
            std="0.5",
            resize="letterbox",
            output="out",
            activation="sigmoid",
            **{"roi-classes": "sign,lamp"},
        )
    )
    assert done.status == 0
    manifest = bundles.read(tmp_path / "made").manifest
    assert (manifest.name, manifest.input.colour, manifest.input.resize) == ("mine", "bgr", "letterbox")
    assert manifest.input.mean == (0.1, 0.2, 0.3) and manifest.input.std == (0.5, 0.5, 0.5)
    assert manifest.output.activation == "sigmoid" and manifest.roi_classes == ("sign", "lamp")


@pytest.mark.parametrize("data", [b"red\ngreen\nblue\n", b"\xef\xbb\xbfred\r\n green \r\n\r\nblue"])
def test_labels_from_a_file(lisard: Any, net: Path, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "labels.txt").write_bytes(data)
    assert lisard(*words(net, tmp_path / "made", labels=str(tmp_path / "labels.txt"))).status == 0
    assert bundles.read(tmp_path / "made").manifest.labels == ("red", "green", "blue")


def test_a_long_list_of_labels(lisard: Any, tiny: Any, tmp_path: Path) -> None:
    """Regression: a list longer than a file name may be raised OSError."""
    (tmp_path / "net.onnx").write_bytes(tiny.classifier_onnx(np.ones((3, 80), np.float32)))
    labels = ",".join(f"a_rather_long_label_{n}" for n in range(80))
    assert lisard(*words(tmp_path / "net.onnx", tmp_path / "made", labels=labels)).status == 0
    assert len(bundles.read(tmp_path / "made").manifest.labels) == 80


def test_a_zip_beside_it(lisard: Any, net: Path, tmp_path: Path) -> None:
    assert lisard(*words(net, tmp_path / "made", zip=str(tmp_path / "made.zip"))).status == 0
    assert bundles.read(tmp_path / "made.zip").sha256 == bundles.read(tmp_path / "made").sha256


def test_overwriting_must_be_asked_for(lisard: Any, net: Path, tmp_path: Path) -> None:
    call = words(net, tmp_path / "made")
    assert lisard(*call).status == 0
    lisard(*call).refused("exists already", "--overwrite")
    assert lisard(*call, "--overwrite").status == 0


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["task", "labels", "input", "out"])
def test_what_is_missing_is_named(lisard: Any, net: Path, tmp_path: Path, missing: str) -> None:
    lisard(*words(net, tmp_path / "made", **{missing: ""})).refused(f"found no --{missing}", "lisard bundle --help")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": "red,green"}, "does not fit task and labels: found [3], expected [2]"),
        ({"labels": "red,green,blue,red"}, "labels repeat"),
        ({"labels": ","}, "no labels"),
        ({"labels": "labels.txt"}, "cannot read the label file: found no file labels.txt"),
        ({"labels": "/nowhere/labels"}, "cannot read the label file"),
        ({"input": "16"}, "cannot read --input"),
        ({"input": "wide x high"}, "cannot read --input"),
        ({"input": "0x16"}, "input size out of range: found (0, 16)"),
        ({"input": "32x16"}, "input size is not the bundle's: found ['n', 3, 16, 16], expected ['N', 3, 16, 32]"),
        ({"mean": "1,2"}, "cannot read --input, --mean or --std"),
        ({"mean": "nan"}, "not finite"),
        ({"std": "0"}, "std not positive"),
        ({"output": "logits"}, "lacks the bundle's output: found out, expected logits"),
        ({"task": "detection"}, "a detection model needs --layout"),
        (
            {"task": "detection", "layout": "cxcywh_classes_first"},
            "does not fit task and labels: found [3], expected [7,",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    lisard: Any, net: Path, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    lisard(*words(net, tmp_path / "made", **changes)).refused(message)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "option",
    [
        ("--task", "segmentation"),
        ("--colour", "yuv"),
        ("--resize", "crop"),
        ("--activation", "relu"),
        ("--layout", "yolo"),
    ],
)
def test_an_impossible_choice_is_wrong_use(lisard: Any, net: Path, tmp_path: Path, option: tuple[str, str]) -> None:
    done = lisard(*words(net, tmp_path / "made"), *option)
    assert done.status == 2 and "invalid choice" in done.err


@pytest.mark.parametrize("data", [b"", b"hello", b"\x08\x07" + bytes(50)])
def test_what_is_no_model_is_refused(lisard: Any, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(data)
    lisard(*words(tmp_path / "net.onnx", tmp_path / "made")).refused("ONNX Runtime refuses the model")


def test_labels_that_are_no_text_are_refused(lisard: Any, net: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(b"\xff\xfe\x00red")
    lisard(*words(net, tmp_path / "made", labels=str(tmp_path / "labels.txt"))).refused("cannot read the label file")


def test_several_outputs_must_be_named(lisard: Any, tiny: Any, tmp_path: Path) -> None:
    model = onnx.load_from_string(tiny.classifier_onnx())
    model.graph.output.append(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 3]))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    lisard(*words(tmp_path / "net.onnx", tmp_path / "made")).refused("several outputs: found out, logits", "--output")
    assert lisard(*words(tmp_path / "net.onnx", tmp_path / "made", output="logits")).status == 0


def test_a_file_that_is_not_there_is_refused(lisard: Any, tmp_path: Path) -> None:
    lisard(*words(tmp_path / "none.onnx", tmp_path / "made")).refused("cannot read the ONNX file", "none.onnx")
    lisard("bundle", tmp_path / "none").refused("no bundle there")


def test_raw_logits_declared_as_scores_are_refused(lisard: Any, tiny: Any, tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[0, 5] = 12.7
    (tmp_path / "det.onnx").write_bytes(tiny.detector_onnx(rows))
    call = words(tmp_path / "det.onnx", tmp_path / "made", task="detection", layout="xyxy_objectness_classes")
    lisard(*call).refused("the model's outputs are no scores", "12.7", "--activation")


def test_a_place_that_cannot_be_written_is_refused(lisard: Any, net: Path, tmp_path: Path) -> None:
    lisard(*words(net, net / "made")).refused("cannot write the bundle")
    done = lisard(*words(net, tmp_path / "made", zip=str(tmp_path / "none" / "x.zip")))
    done.refused("cannot write the result to --zip")
    assert not (tmp_path / "made").exists(), "tried before the work"


def test_a_failed_overwrite_keeps_the_old_bundle(lisard: Any, net: Path, tmp_path: Path) -> None:
    assert lisard(*words(net, tmp_path / "made")).status == 0
    before = bundles.read(tmp_path / "made").sha256
    lisard(*words(net, tmp_path / "made", labels="a,b"), "--overwrite").refused("does not fit")
    assert bundles.read(tmp_path / "made").sha256 == before


# --- showing --------------------------------------------------------------------------------------------------------


def test_a_bundle_is_shown_and_verified(lisard: Any, tiny: Any) -> None:
    bundle = tiny.armed()
    done = lisard("bundle", bundle.path)
    assert done.status == 0 and bundle.sha256 in done.out and "fgsm (gray-box fgsm, eps 8/255, n=12)" in done.out
    as_json = json.loads(lisard("bundle", bundle.path, "--json").out)
    assert as_json["sha256"] == bundle.sha256 and as_json["classes"] == 3 and as_json["self_test"] is True


def test_a_tampered_bundle_is_refused(lisard: Any, tiny: Any) -> None:
    bundle = tiny.classifier()
    (bundle.path / "model.onnx").write_bytes(b"another")
    lisard("bundle", bundle.path).refused("is not the file that bundle.json lists", "never edit files")


@pytest.mark.parametrize(
    "changes",
    [{"std": "0"}, {"mean": "nan"}, {"std": "inf"}, {"input": "0x16"}, {"labels": "red,red,blue"}, {"labels": ","}],
)
def test_an_option_out_of_range_is_cured_by_that_option(
    lisard: Any, net: Path, tmp_path: Path, changes: dict[str, str]
) -> None:
    """Regression: the cure was to restore the original file of a bundle that is only being made."""
    done = lisard(*words(net, tmp_path / "made", **changes))
    done.refused("check --labels, --input, --mean, --std and --name")
    assert "restore" not in done.err and not (tmp_path / "made").exists()


def test_a_suffix_in_capitals_is_one_too(lisard: Any, net: Path, tmp_path: Path) -> None:
    """Regression: net.ONNX was taken for a bundle, and no readable zip."""
    net = net.rename(tmp_path / "NET.ONNX")
    assert lisard(*words(net, tmp_path / "made")).status == 0
    lisard("predict", net, tmp_path / "x.png").refused("an ONNX file", "`lisard bundle` makes a bundle from")


@pytest.mark.parametrize("how", ["option", "file"])
def test_names_and_labels_that_are_not_ascii_in_the_c_locale(net: Path, tmp_path: Path, how: str) -> None:
    """Regression: a traceback, as Python cannot decode what stands on the command line there."""
    net = net.rename(tmp_path / "\u0437\u043d\u0430\u043a.onnx")
    labels = "\u00fcber,green,blue"
    (tmp_path / "labels.txt").write_text(labels.replace(",", "\n"), encoding="utf-8")
    given = str(tmp_path / "labels.txt") if how == "file" else labels
    command = [sys.executable, "-m", "lisard_ros", *words(net, tmp_path / "made", labels=given)]
    c_locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env={**os.environ, **c_locale}, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0 and done.stderr == b""
    manifest = bundles.read(tmp_path / "made").manifest
    assert manifest.name == net.stem and manifest.labels[0] == "\u00fcber"
