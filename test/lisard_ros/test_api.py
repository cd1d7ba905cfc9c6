"""The public API: load a bundle, call it, and read what it found; import costs nothing; the documented examples run."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import lisard_ros
from lisard_ros import attacks, bundle
from lisard_ros.bundle import signature
from lisard_ros.errors import BundleError, ImageError, UsageError
from lisard_ros.frames import Frame, Hypothesis, Region

ROOT = Path(__file__).resolve().parents[2]
SIGN = ROOT / "data/gtsrb_tracks/00001/00005_00000.png"
DOCUMENTED = [
    "lisard_ros.api",
    *(f"lisard_ros.attacks.{name}" for name in ("apgd", "attack_suite", "ensemble", "gradient")),
    *(f"lisard_ros.attacks.{name}" for name in ("mifgsm", "model", "square", "torch_model")),
    "lisard_ros.corruptions",
    "lisard_ros.evaluation.statistics",
]


@pytest.fixture(scope="module")
def classifier() -> Any:
    with lisard_ros.load(ROOT / "models/traffic_signs", top_k=3) as model:
        yield model


@pytest.fixture(scope="module")
def detector() -> Any:
    with lisard_ros.load(ROOT / "models/road_signs") as model:
        yield model


def answers(model: Any, frame: Frame, regions: list[Region]) -> Any:
    """What the pipeline below says of a frame."""
    return model._pipeline.run([frame], [regions])[0]


def test_a_detector_gives_each_object_with_its_box(detector: Any, road_frames: tuple[Frame, ...]) -> None:
    frame = road_frames[0]
    found = detector(frame.image)
    expected = answers(detector, frame, [Region()]).detections.items
    assert found and len(found) == len(expected)
    for one, item in zip(found, expected, strict=True):
        best = item.hypotheses[0]
        assert (one.label, one.score, one.index) == (best.label, best.score, best.index)
        assert one.box_xyxy == item.box_xyxy_px and one.alternatives == ()
        left, top, right, bottom = one.box_xyxy
        assert 0 <= left < right <= frame.width_px and 0 <= top < bottom <= frame.height_px


def test_a_classifier_gives_its_classes_with_the_whole_image(classifier: Any) -> None:
    found = classifier(SIGN)
    height, width = cv2.imread(str(SIGN)).shape[:2]
    assert [one.label for one in found][:1] == ["speed_limit_30"] and len(found) == 3
    assert {one.box_xyxy for one in found} == {(0.0, 0.0, float(width), float(height))}
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert classifier.labels[found[0].index] == found[0].label


def test_array_path_and_frame_give_the_same(classifier: Any) -> None:
    bgr = cv2.imread(str(SIGN))
    rgb = np.ascontiguousarray(bgr[..., ::-1])
    frame = Frame(bgr, "bgr", 5, "camera", "front")
    expected = classifier(bgr)
    assert expected == classifier(rgb, rgb=True) == classifier(SIGN) == classifier(str(SIGN)) == classifier(frame)
    assert classifier(rgb) != expected, "the order of the colours matters"
    grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    assert classifier(grey) == classifier(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))


def test_boxes_are_looked_at_one_by_one(classifier: Any) -> None:
    bgr = cv2.imread(str(SIGN))
    image = np.hstack([bgr, 255 - bgr])
    height, width = bgr.shape[:2]
    boxes = [(0.0, 0.0, float(width), float(height)), (float(width), 0.0, 2.0 * width, float(height))]
    found = classifier(image, boxes=boxes)
    assert [one.box_xyxy for one in found] == [boxes[0]] * 3 + [boxes[1]] * 3
    assert found[0].label == "speed_limit_30"
    assert classifier(image, boxes=[]) == ()


def test_every_box_of_many_is_answered(classifier: Any) -> None:
    """The pipeline takes 300 boxes of a frame at most; the API leaves none out."""
    left, right = (0.0, 0.0, 30.0, 30.0), (1.0, 1.0, 32.0, 32.0)
    found = classifier(SIGN, boxes=[left, right] * 170)
    first = classifier(SIGN, boxes=[left, right])
    assert len(found) == 3 * 340
    assert [(one.label, one.box_xyxy) for one in found] == [(one.label, one.box_xyxy) for one in first] * 170


def test_two_stages_give_each_box_its_class(road_frames: tuple[Frame, ...]) -> None:
    with lisard_ros.load(ROOT / "models/traffic_signs", detector=ROOT / "models/road_signs") as model:
        found = [one for frame in road_frames for one in model(frame)]
        assert found and all(isinstance(one.alternatives, tuple) for one in found)
        fine = [one for one in found if one.label in model.labels]
        assert fine and all(isinstance(other, Hypothesis) for one in fine for other in one.alternatives)


def test_a_zip_is_the_same_bundle(classifier: Any, tmp_path: Path) -> None:
    packed = tmp_path / "signs.zip"
    bundle.pack(ROOT / "models/traffic_signs", packed)
    with lisard_ros.load(packed, top_k=3) as model:
        assert model(SIGN) == classifier(SIGN)
        assert (model.name, model.task, len(model.labels)) == ("traffic_signs", "classification", 43)


def test_a_closed_model_refuses(tiny: Any) -> None:
    made = tiny.classifier()
    with lisard_ros.load(made.path) as model:
        assert model(np.zeros((20, 20, 3), np.uint8))
    model.close()
    with pytest.raises(UsageError, match="the model is closed: found .*; load it again"):
        model(np.zeros((20, 20, 3), np.uint8))


@pytest.mark.parametrize(
    ("image", "options", "error", "text"),
    [
        (np.zeros((20, 20, 3), np.float32), {}, ImageError, r"found float32 \[20, 20, 3\], expected uint8"),
        (np.zeros((20, 20, 4), np.uint8), {}, ImageError, r"found uint8 \[20, 20, 4\]"),
        (np.zeros((0, 20, 3), np.uint8), {}, ImageError, "not empty"),
        (b"png", {}, UsageError, "not an image: found bytes, expected a NumPy array uint8"),
        (None, {}, UsageError, "not an image: found NoneType"),
        ("no_such_file.png", {}, ImageError, "cannot read the file"),
        (SIGN, {"rgb": True}, UsageError, "rgb is only for arrays"),
        (SIGN, {"boxes": [(5.0, 5.0, 5.0, 9.0)]}, UsageError, "a box without area"),
        (SIGN, {"boxes": [(500.0, 500.0, 600.0, 600.0)]}, ImageError, "box"),
        (SIGN, {"boxes": [(float("nan"), 0.0, 5.0, 9.0)]}, ImageError, "not finite"),
    ],
)
def test_bad_images_and_boxes_are_refused(
    classifier: Any, image: Any, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        classifier(image, **options)


def test_a_signature_can_be_asked_for(tiny: Any, tmp_path: Path) -> None:
    private, public, _ = signature.write_new_key(tmp_path / "key.pem")
    made = tiny.classifier()
    with pytest.raises(BundleError, match="is not signed"):
        lisard_ros.load(made.path, trusted_keys=[public])
    bundle.add_signature(made, signature.sign(made, signature.read_private_key(private)))
    lisard_ros.load(made.path, trusted_keys=[public]).close()


def test_bad_bundles_and_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="bundle"):
        lisard_ros.load(tmp_path / "nothing")
    with pytest.raises(UsageError, match="out of range"):
        lisard_ros.load(ROOT / "models/traffic_signs", top_k=0)
    with pytest.raises(UsageError, match="two stages"):
        lisard_ros.load(ROOT / "models/traffic_signs", detector=ROOT / "models/traffic_signs")


def modules_after(code: str) -> set[str]:
    """The modules that a fresh Python holds after some code."""
    text = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_package_loads_nothing_heavy() -> None:
    before, after = modules_after(""), modules_after("import lisard_ros")
    assert {name for name in after - before if "." not in name} <= {"lisard_ros", "importlib", "typing", "warnings"} | {
        name for name in sys.stdlib_module_names
    }
    assert not after & {"numpy", "cv2", "torch", "rclpy", "onnxruntime", "msgspec"}


def test_attacks_do_not_load_torch() -> None:
    after = modules_after("from lisard_ros import attacks\nattacks.PGD(); attacks.from_torch")
    assert not after & {"torch", "rclpy", "cv2", "onnxruntime"}


def test_public_names_are_there() -> None:
    assert set(lisard_ros.__all__) <= set(dir(lisard_ros))
    for module in (lisard_ros, attacks):
        assert all(getattr(module, name) is not None for name in module.__all__)
    assert lisard_ros.attacks is attacks
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        lisard_ros.lod  # noqa: B018
    assert (ROOT / "lisard_ros/py.typed").is_file()


def example_names() -> dict[str, Any]:
    """What the examples of docstrings take for granted: a model, four images and their labels."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 5))
    images = np.random.default_rng(0).random((4, 3, 8, 8)).astype(np.float32)
    names = {name: getattr(attacks, name) for name in attacks.__all__}
    return names | {
        "attacks": attacks,
        "np": np,
        "model": attacks.from_torch(net),
        "images": images,
        "labels": np.array([0, 1, 2, 3]),
    }


@pytest.mark.parametrize("name", ["lisard_ros.attacks", *DOCUMENTED])
def test_the_examples_of_docstrings_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = doctest.testmod(importlib.import_module(name), extraglobs=example_names())
    assert done.failed == 0 and done.attempted > 0


def test_the_examples_of_the_documentation_run(
    road_frames: tuple[Frame, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/api.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"image": road_frames[0].image}
    for block in blocks:
        exec(block, names)
    assert len(blocks) >= 5 and names["found"] and names["adversarial"].shape == (4, 3, 32, 32)
    assert "apgd-t" in capsys.readouterr().out
