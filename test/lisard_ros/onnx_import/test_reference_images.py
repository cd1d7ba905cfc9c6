"""`lisard bundle --images`: the self test of a foreign model, on real images and the shipped networks' ONNX files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from lisard_ros import bundle as bundles
from lisard_ros import cli
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.errors import DataError
from lisard_ros.evaluation import references, self_test
from lisard_ros.image_files import coco_images
from lisard_ros.inference.pipeline import open_pipeline
from lisard_ros.onnx_import import reference_images

ROOT = Path(__file__).resolve().parents[3]
SIGNS = ROOT / "data" / "gtsrb_tracks"  # class folders 00000, 00001, ... of real signs


@pytest.fixture(scope="module")
def signs() -> Bundle:
    """The shipped classifier."""
    return bundles.read(ROOT / "models" / "traffic_signs")


@pytest.fixture(scope="module")
def roads() -> Bundle:
    """The shipped detector."""
    return bundles.read(ROOT / "models" / "road_signs")


def wrap(bundle: Bundle, folder: Path, *words: Any) -> int:
    """Make a bundle of the bare ONNX file of a shipped one, as a user would who has nothing else."""
    (folder / "net.onnx").write_bytes(bundle.data("model.onnx"))
    (folder / "labels.txt").write_text("\n".join(bundle.manifest.labels))
    options = ("--labels", folder / "labels.txt", "--out", folder / "made")
    return cli.main([str(word) for word in ("bundle", folder / "net.onnx", *options, *words)])


def coco_folder(bundle: Bundle, folder: Path, count: int = 10) -> Path:
    """The reference images of a detection bundle as files with a COCO list, each in a border of 40 pixels."""
    test = bundle.manifest.self_test
    assert test is not None
    own = references.load(bundle, test).take(np.arange(count))
    folder.mkdir()
    images, annotations = [], []
    for number, (frame, truth) in enumerate(zip(own.frames, own.truths, strict=True)):
        assert not isinstance(truth, int)
        name = f"{number}.png"
        cv2.imwrite(str(folder / name), cv2.copyMakeBorder(frame.rgb()[..., ::-1], 40, 40, 40, 40, cv2.BORDER_REFLECT))
        images.append({"id": number, "file_name": name, "width": frame.width_px + 80, "height": frame.height_px + 80})
        for box in truth:
            x0, y0, x1, y1 = box.box_xyxy_px
            place = {"bbox": [x0 + 40, y0 + 40, x1 - x0, y1 - y0], "category_id": box.label + 1}
            annotations.append({"id": len(annotations), "image_id": number, **place})
    categories = [{"id": n + 1, "name": label} for n, label in enumerate(bundle.manifest.labels)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def test_class_folders_become_a_self_test(signs: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Regression: a bundle made of a bare ONNX file could have no self test, so four commands refused it."""
    assert wrap(signs, tmp_path, "--images", SIGNS) == 0
    shown = capsys.readouterr()
    made = bundles.read(tmp_path / "made")
    test = made.manifest.self_test
    assert test is not None and [case.injection for case in test.suite] == list(references.SUITE)
    own = references.load(made, test)
    assert len(own.frames) == 86 and {frame.width_px for frame in own.frames} == {32}, "two of each class, scaled"
    assert set(own.labels) == {int(path.name) for path in SIGNS.iterdir() if path.is_dir()}
    assert test.suite[0].min_accuracy > 0.8, "real signs, and a network that knows them"
    assert "measured       clean: " in shown.out and "self test      yes" in shown.out
    assert self_test.run(open_pipeline(made.path)).passed


def test_a_coco_list_becomes_a_self_test(roads: Bundle, tmp_path: Path) -> None:
    folder = coco_folder(roads, tmp_path / "street")
    assert wrap(roads, tmp_path, "--images", folder, "--images-count", 6) == 0
    made = bundles.read(tmp_path / "made")
    test, spec = made.manifest.self_test, made.manifest.input
    assert test is not None and len(test.labels) == 6 and spec.resize == "letterbox"
    assert test.suite[0].min_accuracy > 0.5, "boxes were moved with their images"
    report = self_test.run(open_pipeline(made.path))
    assert report.passed and report.cases[0].counted == "boxes"


def test_frames_are_what_preprocessing_makes_of_the_files(roads: Bundle, tmp_path: Path) -> None:
    folder = coco_folder(roads, tmp_path / "street", 3)
    manifest = roads.manifest
    chosen = reference_images.choose(folder, manifest)
    files = sorted(folder.glob("*.png"))
    assert len(chosen.test.labels) == len(files) == 3
    listed = {one.path: one.boxes for one in coco_images.read(folder / "annotations.json", manifest.labels)}
    for path, truth in zip(files, chosen.test.labels, strict=True):
        assert not isinstance(truth, int) and len(truth) == len(listed[path].classes)
        scale = manifest.input.width / cv2.imread(str(path)).shape[1]
        for box, corners in zip(truth, listed[path].boxes_xyxy_px, strict=True):
            assert box.box_xyxy_px == pytest.approx((corners * scale).clip(0, 320), abs=0.01)


def test_the_classes_of_the_folder_name_those_of_the_file(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.onnx").write_bytes(tiny.classifier_onnx())
    for label, colour in (("a_red", 2), ("b_green", 1), ("c_blue", 0)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(3):
            pixels = np.full((24, 30, 3), 20 + number, np.uint8)
            pixels[..., colour] = 200
            cv2.imwrite(str(tmp_path / "photos" / label / f"{number}.png"), pixels)
    call = ["bundle", str(tmp_path / "net.onnx"), "--out", str(tmp_path / "made"), "--images", str(tmp_path / "photos")]
    assert cli.main(call) == 0
    manifest = bundles.read(tmp_path / "made").manifest
    assert manifest.labels == ("a_red", "b_green", "c_blue") and len(manifest.self_test.labels) == 9
    assert "labels a_red, b_green, c_blue: the classes of --images, in their order; --labels" in capsys.readouterr().err


def refused(capsys: pytest.CaptureFixture[str], status: int, *words: str) -> None:
    """Status 2 and one message with these words."""
    text = capsys.readouterr()
    assert status == 2 and text.out == "" and text.err.count("\n") == 1, text.err
    assert all(word in text.err for word in words), text.err


def test_a_bundle_that_is_right_about_nothing_is_refused(
    signs: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its limits would be 0, and its self test would pass for ever."""
    folder = tmp_path / "photos"
    for wrong, right in (("00001", "00040"), ("00002", "00038")):
        (folder / wrong).mkdir(parents=True)
        for path in sorted((SIGNS / right).glob("*.png"))[:4]:
            (folder / wrong / path.name).write_bytes(path.read_bytes())
    status = wrap(signs, tmp_path, "--images", folder)
    refused(capsys, status, "right about none of the images", "found 0 of 8 classes", "--mean", "order of --labels")
    assert not (tmp_path / "made").exists()


def test_folders_that_do_not_fit_are_refused(
    signs: Bundle, roads: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos" / "gnu").mkdir(parents=True)
    refused(capsys, wrap(signs, tmp_path, "--images", tmp_path / "photos"), "no images in the folder")
    sign = next((SIGNS / "00001").glob("*.png"))
    (tmp_path / "photos" / "gnu" / "1.png").write_bytes(sign.read_bytes())
    refused(
        capsys, wrap(signs, tmp_path, "--images", tmp_path / "photos"), "found folders gnu", "expected folders named"
    )
    refused(capsys, wrap(roads, tmp_path, "--images", tmp_path / "photos"), "no list of boxes", "annotations.json")
    assert not (tmp_path / "made").exists()


def test_images_in_other_folders_and_with_crowds_are_left_out(signs: Bundle, roads: Bundle, tmp_path: Path) -> None:
    sign = next((SIGNS / "00001").glob("*.png"))
    for label in ("gnu", "00001"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        (tmp_path / "photos" / label / "1.png").write_bytes(sign.read_bytes())
    chosen = reference_images.choose(tmp_path / "photos", signs.manifest)
    assert (
        chosen.test.labels == (1,) and "1 images are left out, because their folders are no labels: gnu" in chosen.notes
    )
    folder = coco_folder(roads, tmp_path / "street", 2)
    content = json.loads((folder / "annotations.json").read_text())
    content["annotations"].append({"id": 99, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9], "iscrowd": 1})
    (folder / "annotations.json").write_text(json.dumps(content))
    chosen = reference_images.choose(folder, roads.manifest)
    assert len(chosen.test.labels) == 1 and chosen.notes == ("1 images are left out, because they hold crowds",)
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] == 0]
    (folder / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="no true boxes.*2 images without boxes"):
        reference_images.choose(folder, roads.manifest)


def test_boxes_are_cut_at_the_border(roads: Bundle, tmp_path: Path) -> None:
    folder = coco_folder(roads, tmp_path / "street", 1)
    content = json.loads((folder / "annotations.json").read_text())
    content["annotations"] = [
        {"id": 1, "image_id": 0, "category_id": 1, "bbox": [-10, 100, 210, 600]},
        {"id": 2, "image_id": 0, "category_id": 1, "bbox": [500, 500, 10, 10]},
    ]
    (folder / "annotations.json").write_text(json.dumps(content))
    (truth,) = reference_images.choose(folder, roads.manifest).test.labels
    assert not isinstance(truth, int) and [box.box_xyxy_px for box in truth] == [(0.0, 80.0, 160.0, 320.0)]


def test_class_names_of_a_folder(roads: Bundle, tmp_path: Path) -> None:
    assert reference_images.class_names(coco_folder(roads, tmp_path / "street", 1)) == roads.manifest.labels
    names = reference_images.class_names(SIGNS)
    assert names is not None and names[0] == "00000" and list(names) == sorted(names)
    assert reference_images.class_names(SIGNS / "00001") is None


def test_images_of_each_class_are_chosen_in_turn() -> None:
    holds = np.zeros((100, 3), bool)
    holds[:90, 0] = holds[90:95, 1] = holds[94:96, 2] = True
    chosen = references.of_each_class(holds, 9)
    assert len(chosen) == 9 and holds[chosen].sum(axis=0).min() >= 2
    assert set(references.of_each_class(holds, 1000)) == set(range(96)), "those that show nothing are never chosen"


def test_the_input_spec_decides_how_a_box_is_moved() -> None:
    spec = InputSpec(width=100, height=50)
    truth = reference_images.TrueBoxes(np.array([[10.0, 10.0, 20.0, 20.0]]), np.array([0]))
    (box,) = reference_images._truth(truth, np.zeros((100, 100, 3), np.uint8), spec)
    assert box.box_xyxy_px == (10.0, 5.0, 20.0, 10.0)
