"""`lisard bundle`: anybody's ONNX becomes a bundle that answers, or is refused with what to change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from lisard_ros import bundle as bundles
from lisard_ros.frames import Frame
from lisard_ros.inference.pipeline import Failure

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
            interpolation="linear",
            **{"roi-classes": "sign,lamp"},
        )
    )
    assert done.status == 0 and done.err == "", "what is stated is no guess"
    manifest = bundles.read(tmp_path / "made").manifest
    assert (manifest.name, manifest.input.colour, manifest.input.resize) == ("mine", "bgr", "letterbox")
    assert manifest.input.interpolation == "linear"
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": "red,green"}, "does not fit task and labels: found [3], expected [2]"),
        ({"labels": "red,green,blue,red"}, "--labels has duplicates"),
        ({"labels": ","}, "--labels is empty"),
        ({"labels": "labels.txt"}, "cannot read the label file: found no file labels.txt"),
        ({"labels": "/nowhere/labels"}, "cannot read the label file"),
        ({"input": "16"}, "cannot read --input"),
        ({"input": "wide x high"}, "cannot read --input"),
        ({"input": "0x16"}, "--input out of range: found 0x16"),
        ({"input": "32x16"}, "input size is not the model's: found 32x16, expected 16x16"),
        ({"mean": "1,2"}, "cannot read --mean: found 1,2, expected one or three numbers"),
        ({"mean": "nan"}, "--mean is not finite"),
        ({"std": "1,1,inf"}, "--std is not finite"),
        ({"std": "0"}, "--std is not positive: found 0, expected numbers above 0"),
        ({"score-threshold": "1.5"}, "--score-threshold out of range: found 1.5"),
        ({"nms-iou": "nan"}, "--nms-iou out of range: found nan"),
        ({"images-count": "3"}, "--images-count: found no --images"),
        ({"output": "logits"}, "does not have the bundle's output: found out, expected logits"),
        ({"task": "detection"}, "outputs are of no format that is decoded: found out ['N', 3]"),
        ({"task": "detection", "layout": "cxcywh_classes_first"}, "found out ['N', 3], expected one output with"),
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
    lisard(*words(tmp_path / "net.onnx", tmp_path / "made")).refused("found [3], [3]", "--output")
    assert lisard(*words(tmp_path / "net.onnx", tmp_path / "made", output="logits")).status == 0


def test_a_file_that_is_not_there_is_refused(lisard: Any, tmp_path: Path) -> None:
    lisard(*words(tmp_path / "none.onnx", tmp_path / "made")).refused("cannot read the ONNX file", "none.onnx")
    lisard("bundle", tmp_path / "none").refused("no bundle there")


def test_raw_logits_declared_as_scores_are_refused(lisard: Any, tiny: Any, tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[0, 5] = 12.7
    (tmp_path / "det.onnx").write_bytes(tiny.detector_onnx(rows))
    call = words(tmp_path / "det.onnx", tmp_path / "made", task="detection", layout="xyxy_objectness_classes")
    lisard(*call, "--activation", "none").refused("the model's outputs are no scores", "12.7", "--activation")
    done = lisard(*call)
    assert done.status == 0 and "activation sigmoid: from the outputs of the file" in done.err


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


# --- what is proposed -----------------------------------------------------------------------------------------------


def exported(data: bytes, path: Path, **metadata: str) -> Path:
    """The model with the metadata that an exporter writes."""
    model = onnx.load_from_string(data)
    onnx.helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_file_alone_becomes_a_bundle_and_every_guess_is_said(
    lisard: Any, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: an ONNX file needed four options, all of which its shapes tell or nobody knows."""
    monkeypatch.chdir(tmp_path)
    done = lisard("bundle", "net.onnx")
    assert done.status == 0, done.err
    manifest = bundles.read(tmp_path / "net").manifest
    assert manifest.labels == ("class_0", "class_1", "class_2") and manifest.task == "classification"
    lines = done.err.splitlines()
    assert "lisard: input 16x16: from the input of the file; --input overrides it" in lines
    assert "lisard: labels class_0, class_1, class_2: numbered, because the file names no classes; --labels" in done.err
    assert "lisard: out net: named as the file; --out overrides it" in lines
    assert "0.485,0.456,0.406" in done.err, "the one guess that is often wrong for a classifier"
    options = [line.split("; ")[-1].split()[0] for line in lines]
    assert len(options) == len(set(options)) and {"--task", "--mean", "--std", "--colour", "--resize"} <= set(options)


def test_what_ultralytics_wrote_into_the_file_is_taken(lisard: Any, tiny: Any, tmp_path: Path) -> None:
    rows = np.tile(np.array([[8, 10, 4, 6, 0.9, 0.1, 0.0], [12, 4, 2, 3, 0.1, 0.2, 0.8]], np.float32), (8, 1)).T.copy()
    names = "{0: 'person', 1: 'bicycle', 2: 'car'}"
    facts = {"task": "detect", "imgsz": "[16, 16]", "names": names, "batch": "1", "stride": "8"}
    described = {"author": "Ultralytics", "license": "AGPL-3.0", "description": "YOLOv8n"}
    path = exported(tiny.detector_onnx(rows, 0.001), tmp_path / "yolo.onnx", **facts, **described)
    done = lisard("bundle", path, "--out", tmp_path / "made", "--json")
    assert done.status == 0, done.err
    manifest = bundles.read(tmp_path / "made").manifest
    assert manifest.labels == ("person", "bicycle", "car") and manifest.task == "detection"
    spec, decode = manifest.input, manifest.decode
    assert (spec.width, spec.colour, spec.resize, spec.interpolation) == (16, "rgb", "letterbox", "linear")
    assert decode.layout == "cxcywh_classes_first" and (decode.score_threshold, decode.nms_iou) == (0.25, 0.65)
    assert manifest.card.licence == "AGPL-3.0" and "Ultralytics" in manifest.card.attribution
    said = {one["what"]: one for one in json.loads(done.out)["conclusions"]}
    assert said["labels"]["source"] == "from the metadata of the file" and said["labels"]["option"] == "--labels"
    assert "score threshold 0.25: a guess; --score-threshold overrides it" in done.err


def test_what_is_stated_wins_over_the_file(lisard: Any, tiny: Any, tmp_path: Path) -> None:
    path = exported(tiny.classifier_onnx(), tmp_path / "net.onnx", task="classify", names="['a', 'b', 'c']")
    assert lisard("bundle", path, "--labels", "x,y,z", "--out", tmp_path / "made").status == 0
    assert bundles.read(tmp_path / "made").manifest.labels == ("x", "y", "z")


def test_labels_of_the_file_that_repeat_are_numbered(lisard: Any, tiny: Any, tmp_path: Path) -> None:
    """ImageNet has two classes `crane`; a bundle with two labels of one name is refused."""
    path = exported(tiny.classifier_onnx(), tmp_path / "net.onnx", names="['crane', 'b', 'crane']")
    done = lisard("bundle", path, "--out", tmp_path / "made")
    assert done.status == 0 and "labels that repeat in the file are numbered: crane" in done.err
    assert bundles.read(tmp_path / "made").manifest.labels == ("crane", "b", "crane_2")


def test_another_task_and_names_that_cannot_be_read(lisard: Any, tiny: Any, tmp_path: Path) -> None:
    path = exported(tiny.classifier_onnx(), tmp_path / "net.onnx", task="segment", names="{0: 'a'")
    lisard("bundle", path, "--out", tmp_path / "made").refused("found task segment", "--task")
    done = lisard("bundle", path, "--task", "classification", "--out", tmp_path / "made")
    assert done.status == 0 and "the metadata `names` of the file cannot be read" in done.err


@pytest.mark.parametrize("batch", [4, "n"])
def test_a_fixed_batch_is_said(lisard: Any, tiny: Any, tmp_path: Path, batch: int | str) -> None:
    (tmp_path / "net.onnx").write_bytes(tiny.classifier_onnx(batch=batch))
    done = lisard("bundle", tmp_path / "net.onnx", "--out", tmp_path / "made")
    assert done.status == 0 and ("batch of the file is fixed to 4" in done.err) == (batch == 4)


def test_thresholds_are_options(lisard: Any, tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "det.onnx").write_bytes(tiny.detector_onnx(ROWS, 0.001))
    call = words(tmp_path / "det.onnx", tmp_path / "made", task="detection")
    assert lisard(*call, "--score-threshold", "0.85", "--nms-iou", "0.5").status == 0
    bundle = bundles.read(tmp_path / "made")
    assert (bundle.manifest.decode.score_threshold, bundle.manifest.decode.nms_iou) == (0.85, 0.5)
    (outcome,) = tiny.pipeline(bundle).run([BLACK])
    assert [item.hypotheses[0].score for item in outcome.detections.items] == [pytest.approx(0.9)]


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ("0.485,0.456,0.406", "0.229,0.224,0.225", IMAGENET),
        ("123.675,116.28,103.53", "58.395,57.12,57.375", IMAGENET),
        ("127.5", "127.5", {"mean": (0.5,) * 3, "std": (0.5,) * 3}),
        ("", "255", {"mean": (0.0,) * 3, "std": (1.0,) * 3}),
        ("104,117,123", "1", {"mean": (104 / 255, 117 / 255, 123 / 255), "std": (1 / 255,) * 3}),
    ],
)
def test_mean_and_std_of_0_to_255_are_converted(
    lisard: Any, net: Path, tmp_path: Path, mean: str, std: str, expected: dict[str, Any]
) -> None:
    """Regression: the numbers of most model cards were taken for pixels in 0..1, so that every image was black."""
    done = lisard(*words(net, tmp_path / "made", mean=mean, std=std))
    assert done.status == 0, done.err
    spec = bundles.read(tmp_path / "made").manifest.input
    assert spec.mean == pytest.approx(expected["mean"]) and spec.std == pytest.approx(expected["std"])
    assert ("are for pixels in 0..255: stored as" in done.err) == (not mean.startswith("0."))


@pytest.mark.parametrize(
    ("mean", "std"),
    [("123.675,116.28,103.53", "0.229"), ("123.675", ""), ("300", "300"), ("-5", "58"), ("0.5", "2,1,0.5")],
)
def test_a_mean_and_std_of_two_ranges_are_refused(lisard: Any, net: Path, tmp_path: Path, mean: str, std: str) -> None:
    lisard(*words(net, tmp_path / "made"), f"--mean={mean}", *([f"--std={std}"] if std else [])).refused(
        "--mean and --std are not of one range", "both for 0..255"
    )


# --- images of --check ----------------------------------------------------------------------------------------------


def test_a_checked_image_is_written_with_its_classes(lisard: Any, net: Path, tmp_path: Path, image: Any) -> None:
    done = lisard(*words(net, tmp_path / "made"), "--check", image(0, "lamp.png"), "--check", image(1))
    assert done.status == 0, done.err
    assert "red 1.000" in done.out and "green 1.000" in done.out
    drawn = cv2.imread(str(tmp_path / "made_check_lamp.png"))
    assert drawn is not None and (drawn == 255).all(axis=2).any(), "white text on the enlarged image"
    assert (tmp_path / "made_check_1.png").is_file()


def test_a_checked_image_is_written_with_its_boxes(lisard: Any, tiny: Any, tmp_path: Path, image: Any) -> None:
    (tmp_path / "det.onnx").write_bytes(tiny.detector_onnx(ROWS, 0.001))
    call = words(tmp_path / "det.onnx", tmp_path / "made", task="detection", resize="stretch")
    large = image(2, "street.png", (320, 320))
    done = lisard(*call, "--check", large, "--json")
    assert done.status == 0, done.err
    (checked,) = json.loads(done.out)["checked"]
    assert checked["answers"][0].startswith("red 0.9") and "at [40.0, 80.0, 200.0, 240.0]" in checked["answers"][0]
    drawn, plain = cv2.imread(checked["saved"]), cv2.imread(str(large))
    assert drawn.shape == plain.shape and (drawn[160, 40] != plain[160, 40]).any(), "the left side of the first box"
    assert (drawn[310, 10] == plain[310, 10]).all()


def test_an_existing_bundle_checks_an_image_too(
    lisard: Any, tiny: Any, tmp_path: Path, image: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tiny.armed()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    done = lisard("bundle", bundle.path, "--check", image(2))
    assert done.status == 0 and "blue 1.000" in done.out and bundles.read(bundle.path).sha256 == bundle.sha256
    assert (tmp_path / "here" / f"{bundle.path.name}_check_2.png").is_file()
    with_dot = lisard("bundle", bundle.path, "--check", image(0, "2.jpg"), "--check", image(1, "2.bmp"))
    assert with_dot.status == 0 and (tmp_path / "here" / f"{bundle.path.name}_check_2_2.png").is_file()


def test_numbers_that_are_no_scores_on_a_real_image_are_refused(
    lisard: Any, tiny: Any, tmp_path: Path, image: Any
) -> None:
    """Black images alone did not show it: the bundle was made, and failed at the first frame of a camera."""
    (tmp_path / "net.onnx").write_bytes(tiny.classifier_onnx())
    call = words(tmp_path / "net.onnx", tmp_path / "made", activation="none")
    lisard(*call, "--check", image(0)).refused("the model's outputs are no scores", "--activation")
    assert not (tmp_path / "made").exists()


def test_an_image_that_cannot_be_checked_is_refused_before_anything_is_written(
    lisard: Any, net: Path, tmp_path: Path
) -> None:
    lisard(*words(net, tmp_path / "made"), "--check", net).refused("not an image that OpenCV reads")
    lisard(*words(net, tmp_path / "made"), "--check", tmp_path / "none.jpg").refused("cannot read an image")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(("column", "name"), [(4, "objectness"), (6, "green")])
def test_a_score_that_is_always_0_is_an_error(
    lisard: Any, tiny: Any, tmp_path: Path, image: Any, column: int, name: str
) -> None:
    """Regression: a column that was misread as a score was 0 for every image, and nothing was ever found."""
    rows = ROWS.copy()
    rows[:, column] = 0
    slope = np.zeros_like(rows)
    slope[:, :4] = 0.01
    (tmp_path / "det.onnx").write_bytes(tiny.detector_onnx(rows, slope))
    call = words(tmp_path / "det.onnx", tmp_path / "made", task="detection", layout="xyxy_objectness_classes")
    refused = lisard(*call, "--check", image(0))
    refused.refused("a score of the model is always 0", f"found 0 for {name} in all 2 rows of 1 images", "--layout")
    assert not (tmp_path / "made").exists()
    assert lisard(*call).status == 0, "without a real image nothing is concluded"


# --- showing --------------------------------------------------------------------------------------------------------


def test_a_bundle_is_shown_and_verified(lisard: Any, tiny: Any) -> None:
    bundle = tiny.armed()
    done = lisard("bundle", bundle.path)
    assert done.status == 0 and bundle.sha256 in done.out and "fgsm (gray-box fgsm, eps 8/255, n=12)" in done.out
    as_json = json.loads(lisard("bundle", bundle.path, "--json").out)
    assert as_json["sha256"] == bundle.sha256 and as_json["classes"] == 3 and as_json["self_test"] is True


@pytest.mark.parametrize(
    "option", [("--images", "photos"), ("--score-threshold", "0"), ("--out", "there"), ("--overwrite",)]
)
def test_a_bundle_that_is_there_is_not_changed(lisard: Any, tiny: Any, option: tuple[str, ...]) -> None:
    """Regression: options that describe a new bundle were left out in silence."""
    bundle = tiny.armed()
    lisard("bundle", bundle.path, *option).refused(f"found {option[0]}", "make it again from its ONNX file")


def test_a_tampered_bundle_is_refused(lisard: Any, tiny: Any) -> None:
    bundle = tiny.classifier()
    (bundle.path / "model.onnx").write_bytes(b"another")
    lisard("bundle", bundle.path).refused("is not the file that bundle.json lists", "never edit files")


@pytest.mark.parametrize(
    ("option", "value"),
    [("std", "0"), ("mean", "nan"), ("std", "inf"), ("input", "0x16"), ("labels", "red,red,blue"), ("labels", ",")],
)
def test_an_option_out_of_range_is_named(lisard: Any, net: Path, tmp_path: Path, option: str, value: str) -> None:
    """Regression: the cure was to restore the original file of a bundle that is only being made."""
    done = lisard(*words(net, tmp_path / "made", **{option: value}))
    done.refused(f"error: --{option}")
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
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    manifest = bundles.read(tmp_path / "made").manifest
    assert manifest.name == net.stem and manifest.labels[0] == "\u00fcber"


def test_paths_of_checked_images_are_tried_before_the_work(lisard: Any, net: Path, tmp_path: Path) -> None:
    """Regression: the bundle was made, and then --check could not be written."""
    cv2.imwrite(str(tmp_path / "red.png"), np.full((20, 20, 3), (0, 0, 255), np.uint8))
    (tmp_path / "made_check_red.png").mkdir()
    done = lisard(*words(net, tmp_path / "made"), "--check", tmp_path / "red.png")
    done.refused("cannot write the result to --check", "made_check_red.png: Is a directory")
    assert not (tmp_path / "made").exists()
