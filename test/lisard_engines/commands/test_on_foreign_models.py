"""A bare ONNX file and a folder of images: bundle, `attack run`, `doctor`, `build` and `verify` on what it made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lisard_ros import cli
from lisard_ros.frames import Frame, Result
from lisard_ros.inference.pipeline import open_pipeline


@pytest.fixture
def classifier(small: Any, tmp_path: Path) -> Path:
    """A bundle of a small network with convolutions, made by the command from its ONNX file and class folders."""
    (tmp_path / "net.onnx").write_bytes(small.network())
    images = small.images()
    assert (
        cli.main(["bundle", str(tmp_path / "net.onnx"), "--out", str(tmp_path / "net"), "--images", str(images)]) == 0
    )
    return tmp_path / "net"


@pytest.fixture
def detector(small: Any, tmp_path: Path) -> Path:
    """A bundle of a small detector; the true boxes of its images are what it finds there itself."""
    (tmp_path / "det.onnx").write_bytes(small.detector().data("model.onnx"))
    labels = ",".join(small.labels)
    words = ["bundle", str(tmp_path / "det.onnx"), "--labels", labels, "--layout", "xyxy_objectness_classes"]
    words += ["--activation", "sigmoid"]
    assert cli.main([*words, "--out", str(tmp_path / "bare")]) == 0
    folder = tmp_path / "street"
    write_own_boxes(tmp_path / "bare", folder, small.labels)
    assert cli.main([*words, "--out", str(tmp_path / "det"), "--images", str(folder), "--images-count", "36"]) == 0
    return tmp_path / "det"


def write_own_boxes(bundle: Path, folder: Path, labels: tuple[str, ...]) -> None:
    """Images of the model's size and a COCO list of the boxes that the bundle finds in them."""
    folder.mkdir()
    pipeline = open_pipeline(bundle)
    random = np.random.default_rng(1)
    images, boxes = [], []
    for number in range(36):
        pixels = random.integers(0, 256, (16, 16, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number:02}.png"), pixels)
        images.append({"id": number, "file_name": f"{number:02}.png", "width": 16, "height": 16})
        (outcome,) = pipeline.run([Frame(pixels, "bgr", 0, "", "c")])
        assert isinstance(outcome, Result) and outcome.detections is not None
        for item in outcome.detections.items:
            x0, y0, x1, y1 = item.box_xyxy_px
            own = {"image_id": number, "category_id": item.hypotheses[0].index, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            boxes.append({"id": len(boxes), **own})
    categories = [{"id": number, "name": label} for number, label in enumerate(labels)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))


def test_the_self_test_runs_as_attack_and_in_doctor(classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Regression: `attack run` refused such a bundle, and doctor said that nothing proves its answers."""
    capsys.readouterr()
    assert cli.main(["attack", "run", str(classifier)]) == 0
    shown = capsys.readouterr().out
    assert "self test passed" in shown and "corruption/motion_blur/3" in shown
    assert cli.main(["doctor", str(classifier)]) == 0
    shown = capsys.readouterr().out
    assert any(line.startswith("ok   self test") for line in shown.splitlines()), shown


def test_variants_are_built_and_verified(
    classifier: Path, small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calibration = small.images("calibration", 36, 8)
    capsys.readouterr()
    assert cli.main(["build", str(classifier), "--calibration", str(calibration), "--json"]) == 0
    built = json.loads(capsys.readouterr().out)["variants"]
    assert [(one["model"]["flavour"], one["installed"]) for one in built] == [
        ("plain", True),
        ("u8s8", True),
        ("s8s8", True),
    ]
    assert all(one["measured"]["labelled"] and one["measured"]["pictures"] == 30 for one in built)
    for precision in ("fp32", "fp16", "int8"):
        assert cli.main(["verify", str(classifier), "--precision", precision]) == 0
        assert "gate passed" in capsys.readouterr().out
    assert cli.main(["attack", "run", str(classifier)]) == 0, "the self test is still there"


def test_a_detector_goes_the_same_way(detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert cli.main(["attack", "run", str(detector), "--suite", "clean"]) == 0
    assert "true boxes found" in capsys.readouterr().out
    assert cli.main(["doctor", str(detector)]) == 0
    assert "boxes found" in capsys.readouterr().out
    words = ["build", str(detector), "--calibration", str(tmp_path / "street"), "--max-clean-loss", "20", "--json"]
    assert cli.main([*words, "--variants", "fp16,u8s8"]) == 0
    built = json.loads(capsys.readouterr().out)["variants"]
    assert [one["installed"] for one in built] == [True, True]
    assert all(one["measured"]["metric"] == "AP50" and one["measured"]["labelled"] for one in built)
    for precision in ("fp16", "int8"):
        assert cli.main(["verify", str(detector), "--precision", precision, "--max-clean-loss", "20"]) == 0
