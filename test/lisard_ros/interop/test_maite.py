"""Bundles, data, injections and metrics in MAITE's protocols: each call is checked by MAITE itself (spotcheck)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from lisard_ros.bags.reader import open_bag
from lisard_ros.bundle import Bundle
from lisard_ros.errors import DataError, ImageError, UsageError
from lisard_ros.evaluation.average_precision import TrueBoxes, ap50, match
from lisard_ros.evaluation.references import load
from lisard_ros.frames import Frame
from lisard_ros.inference.postprocess import Boxes
from lisard_ros.injection import make
from lisard_ros.interop import maite as interop

pytest.importorskip("maite", reason="requirements/interop.txt is not installed")
pytest.importorskip("beartype", reason="requirements/interop.txt is not installed")

from maite.protocols import image_classification as ic
from maite.protocols import object_detection as od
from maite.spotcheck import spotcheck
from maite.tasks import evaluate

ROOT = Path(__file__).resolve().parents[3]
classify = spotcheck(evaluate, ai_problem="image_classification")
detect = spotcheck(evaluate, ai_problem="object_detection")
SIDE_PX = 20


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Six images in class folders, three of each class; one of the red ones is green."""
    for name, bgr in (("red", (0, 0, 200)), ("green", (0, 200, 0))):
        (tmp_path / "colours" / name).mkdir(parents=True)
        for number in range(3):
            shown = (0, 200, 0) if (name, number) == ("red", 2) else bgr
            image = np.full((SIDE_PX, SIDE_PX + number, 3), shown, np.uint8)
            cv2.imwrite(str(tmp_path / "colours" / name / f"{number:05d}_00000.png"), image)
    return tmp_path / "colours"


@pytest.fixture
def boxed(tmp_path: Path) -> Path:
    """Two grey images of 32x32 with a COCO list: the boxes that the armed detector finds, and one more."""
    folder = tmp_path / "boxed"
    folder.mkdir()
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((32, 32, 3), 110, np.uint8))
    boxes = [(0, 0, [2, 4, 12, 24]), (0, 1, [18, 4, 12, 24]), (1, 0, [2, 4, 12, 24]), (1, 2, [18, 4, 12, 24])]
    rows = [
        {"id": n, "image_id": image, "category_id": kind, "bbox": box} for n, (image, kind, box) in enumerate(boxes)
    ]
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 32, "height": 32} for n in range(2)],
        "annotations": rows,
        "categories": [{"id": n, "name": name} for n, name in enumerate(("red", "green", "blue"))],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def test_a_classifier_is_evaluated_on_a_folder(tiny, colours: Path) -> None:
    with interop.load_model(tiny.classifier().path, threads=1) as model:
        data, metric = interop.load_folder(colours, model), interop.make_metric(model)
        assert isinstance(model, ic.Model) and isinstance(data, ic.Dataset) and isinstance(metric, ic.Metric)
        result, answers, _ = classify(model=model, dataset=data, metric=metric, batch_size=4, return_preds=True)
        assert result["accuracy"] == pytest.approx(5 / 6)
        assert (result["n"], result["blocks"], result["not_applicable"]) == (6, 6, 0)
        scores = np.stack([row for batch in answers for row in batch])
        assert scores.shape == (6, 3) and np.allclose(scores.sum(axis=1), 1, atol=1e-6)
        frames = [Frame(data[n][0].transpose(1, 2, 0), "rgb", 0, "", "") for n in range(6)]
        own = [outcome.classification.hypotheses for outcome in model.pipeline.run(frames)]
        assert [{h.index: h.score for h in one} for one in own] == [dict(enumerate(row.tolist())) for row in scores]


def test_a_detector_is_evaluated_on_a_folder(tiny, boxed: Path) -> None:
    with interop.load_model(tiny.armed_detector().path, threads=1) as model:
        data, metric = interop.load_folder(boxed, model), interop.make_metric(model)
        assert isinstance(model, od.Model) and isinstance(data, od.Dataset) and isinstance(metric, od.Metric)
        result, answers, _ = detect(model=model, dataset=data, metric=metric, return_preds=True)
    found = [Boxes(one.boxes, one.scores, one.labels) for (one,) in answers]
    truths = [TrueBoxes(data[n][1].boxes, data[n][1].labels) for n in range(2)]
    assert result["ap50"] == pytest.approx(ap50(match(found, truths, 3)))
    assert 0 < result["ap50_low"] <= result["ap50"] <= result["ap50_high"] <= 1
    assert len(answers[0][0].boxes) == 2


@pytest.mark.parametrize("name", ["fgsm", "universal", "corruption/fog/3"])
def test_an_attacked_image_is_what_the_attacked_network_sees(tiny, name: str) -> None:
    bundle: Bundle = tiny.armed()
    with interop.load_model(bundle.path, threads=1) as model:
        augmentation = interop.make_augmentation(name, model, seed=3)
        assert isinstance(augmentation, ic.Augmentation)
        frames = _references(bundle)
        images = [frame.image.transpose(2, 0, 1) for frame in frames]
        targets, about = [np.eye(3)[0]] * len(images), [{"id": n} for n in range(len(images))]
        attacked, same, noted = augmentation((images, targets, about))
        assert same is targets and all(one["applied"] for one in noted)
        expected = make(bundle, name, seed=3)
        x = model.pipeline.prepare(frames)
        seen = expected.apply(x.x, x.keys()).x
        again = model.pipeline.prepare([interop.frame_of(one) for one in attacked]).x
        assert np.array_equal(again, seen)
        own = [
            one.outcome.classification.hypotheses for one in model.pipeline.attack(frames, make(bundle, name, seed=3))
        ]
        answers = [{h.index: h.score for h in one} for one in own]
        assert answers == [dict(enumerate(row.tolist())) for row in model(attacked)]


def test_boxes_move_with_the_image_of_a_detector(tiny, boxed: Path) -> None:
    with interop.load_model(tiny.armed_detector().path, threads=1) as model:
        data, metric = interop.load_folder(boxed, model), interop.make_metric(model)
        augmentation = interop.make_augmentation("noise", model, sigma_255=1.0)
        assert isinstance(augmentation, od.Augmentation)
        result, _, batches = detect(
            model=model, dataset=data, metric=metric, augmentation=augmentation, return_augmented_data=True
        )
        images, targets, about = batches[0]
        assert images[0].shape == (3, 16, 16) and about[0]["injection"] == "noise"
        assert np.allclose(targets[0].boxes, data[0][1].boxes / 2)
        assert np.allclose(model([images[0]])[0].boxes, model([data[0][0]])[0].boxes / 2)
        assert 0 < result["ap50"] < 1


def test_an_image_that_was_not_attacked_is_not_judged(tiny, colours: Path) -> None:
    with interop.load_model(tiny.armed().path, threads=1) as model:
        data, metric = interop.load_folder(colours, model), interop.make_metric(model)
        augmentation = interop.make_augmentation("fgsm", model)
        result, *_ = classify(model=model, dataset=data, metric=metric, augmentation=augmentation)
    assert (result["n"], result["not_applicable"]) == (0, 6)
    assert np.isnan(result["accuracy"])


def test_recordings_as_data(tiny, recording) -> None:
    def plain(colour: tuple[int, int, int]) -> np.ndarray:
        return np.full((24, 30, 3), colour, np.uint8)

    second = 1_000_000_000
    messages = []
    for number, colour in enumerate([(200, 0, 0), (0, 200, 0), (0, 0, 200)]):
        stamp = (1 + 11 * number) * second
        messages += [recording.png(plain(colour), stamp), recording.label(stamp, ("red", "green", "red")[number])]
    messages.append(recording.png(plain((9, 9, 9)), 40 * second))
    bag = recording.write("labelled", messages)
    with interop.load_model(tiny.classifier().path, threads=1) as model, interop.load_bags(bag, model) as data:
        result, *_ = classify(model=model, dataset=data, metric=interop.make_metric(model), batch_size=2)
        assert data.left_out == {"without a label": 1}
        assert (result["n"], result["blocks"]) == (3, 3)
        assert result["accuracy"] == pytest.approx(2 / 3)
        assert data[-1][0][2].min() == 200  # a step back is read again
        assert data[0][0][0].min() == 200
        with pytest.raises(IndexError):
            data[3]


def test_boxes_of_a_recording_are_cut_out_for_a_classifier() -> None:
    with interop.load_model(ROOT / "models/traffic_signs", threads=1) as model:
        with interop.load_bags(ROOT / "data/road_signs", model) as data:
            left_out, images = data.left_out, [data[number][0] for number in range(len(data))]
        assert left_out == {"of a class that is not looked at": 13, "of a group of classes": 27}
        with open_bag(ROOT / "data/road_signs") as bag:
            crops = [
                crop.rgb
                for item in bag.frames()
                for crop in model.pipeline.prepare([item.frame], [item.regions]).crops
                if item.regions[crop.region].label == "stop"
            ]
    assert [one.transpose(1, 2, 0).tolist() for one in images] == [one.tolist() for one in crops]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((20, 20, 3), np.uint8), "channels to the front"),
        (np.zeros((20, 20), np.uint8), "shape"),
        (np.zeros((3, 0, 4), np.uint8), "shape"),
        (np.full((3, 4, 4), 200.0), "divide by 255"),
        (np.full((3, 4, 4), np.nan), "out of range"),
        (np.full((3, 4, 4), -1), "out of range"),
        (np.zeros((3, 4, 4), bool), "out of range"),
    ],
)
def test_what_is_no_image_is_refused(image: np.ndarray, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        interop.frame_of(image)


def test_images_of_other_types() -> None:
    levels = np.arange(48, dtype=np.uint8).reshape(3, 4, 4) * 5
    for same in (levels.astype(np.float32) / 255, levels.astype(np.int64), levels.tolist()):
        assert np.array_equal(interop.frame_of(same).rgb(), levels.transpose(1, 2, 0))
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(levels.astype(np.float32) / 255, requires_grad=True)
    assert np.array_equal(interop.frame_of(tensor).rgb(), levels.transpose(1, 2, 0))
    assert interop.frame_of(levels[:1]).colour == "mono"


def test_labels_that_the_bundle_does_not_have_are_refused(tiny, colours: Path, recording) -> None:
    (colours / "green").rename(colours / "grean")
    with interop.load_model(tiny.classifier().path, threads=1) as model:
        with pytest.raises(DataError, match="grean"):
            interop.load_folder(colours, model)
        bag = recording.write("bare", [recording.png(np.zeros((8, 8, 3), np.uint8), 1_000_000_000)])
        with pytest.raises(DataError, match="1 without a label"):
            interop.load_bags(bag, model)


def test_two_stages(road_frames) -> None:
    with interop.load_model(
        ROOT / "models/traffic_signs", detector=ROOT / "models/road_signs", threads=1, min_score=0.0
    ) as model:
        (answer,) = model([road_frames[0].rgb().transpose(2, 0, 1)])
        (own,) = model.pipeline.run(road_frames[:1])
        best = [item.hypotheses[0] for item in own.detections.items]
        assert [model.metadata["index2label"][label] for label in answer.labels.tolist()] == [h.label for h in best]
        assert len(best) > 0
        with pytest.raises(UsageError, match="two stages"):
            interop.make_augmentation("noise", model)


def test_neither_maite_nor_torch_is_imported() -> None:
    code = "import sys, lisard_ros.interop.maite; assert not {'maite', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def _references(bundle: Bundle) -> list[Frame]:
    assert bundle.manifest.self_test is not None
    return list(load(bundle, bundle.manifest.self_test).frames)
