"""A bundle's patch on objects and at a fixed place: what it covers, what does not count, and the same image again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lisard_ros import cli, injection
from lisard_ros.attacks import patch_store
from lisard_ros.attacks.patch_store import StoredPatch
from lisard_ros.attacks.placement import Placement
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import InputSpec, Perturbation
from lisard_ros.errors import AttackError
from lisard_ros.evaluation.injection_settings import injection_settings
from lisard_ros.frames import Frame, Region
from lisard_ros.inference.pipeline import Pipeline, open_pipeline
from lisard_ros.inference.preprocess import prepare

GREEN = StoredPatch(np.stack([np.full((4, 4), level, np.uint8) for level in (0, 255, 0)]), Placement())
ABOUT = Perturbation(
    name="print",
    file="print.npz",
    kind="patch",
    attack="patch",
    knowledge="white-box",
    eps_255=255.0,
    steps=5,
    seed=0,
    count=1,
    made_on="a test",
)
FILES: dict[str, Any] = {"files": {"print.npz": patch_store.dump(GREEN)}, "perturbations": (ABOUT,)}
ROWS = np.array([[2, 3, 9, 12, 1, 0.9, 0, 0], [10, 8, 16, 14, 1, 0, 0.8, 0]], np.float32)  # two boxes, always


@pytest.fixture
def detector(tiny: Any) -> Pipeline:
    """Finds the same two boxes in every image; square images are letterboxed."""
    bundle = tiny.detector(ROWS, **FILES, input=InputSpec(width=16, height=16, resize="letterbox"))
    return open_pipeline(bundle)


def frames(count: int, width: int = 16, height: int = 16) -> list[Frame]:
    """Images of noise."""
    random = np.random.default_rng(5)
    return [Frame(random.integers(0, 256, (height, width, 3), np.uint8), "rgb", 0, "", "cam") for _ in range(count)]


def prepared(bundle: Bundle, count: int, **size: int) -> np.ndarray:
    """Those as the network meets them."""
    return prepare([frame.image for frame in frames(count, **size)], bundle.manifest.input)


def changed(bundle: Bundle, name: str, x: np.ndarray, seed: int = 0) -> np.ndarray:
    """Which pixels an injection changes, bool [N, H, W]; all of it on the 8-bit grid."""
    x.flags.writeable = False
    injected = injection.make(bundle, name, seed=seed).apply(x, [""] * len(x))
    levels = injected.x * 255
    assert injected.applied.all() and injected.x.dtype == np.float32 and np.abs(levels - np.rint(levels)).max() < 1e-4
    again = injection.make(bundle, name, seed=seed).apply(x[1:], [""] * (len(x) - 1))
    np.testing.assert_array_equal(again.x, injected.x[1:])
    return (injected.x != x).any(axis=1)


def test_each_object_of_a_detector_gets_one_within_its_box(detector: Pipeline) -> None:
    where = changed(detector.bundle, "attack/patch_object/30", prepared(detector.bundle, 12))
    in_boxes = np.zeros((16, 16), bool)
    in_boxes[3:12, 2:9] = in_boxes[8:14, 10:16] = True
    assert not where[:, ~in_boxes].any()
    assert where[:, 3:12, 2:9].any(axis=(1, 2)).all() and where[:, 8:14, 10:16].any(axis=(1, 2)).all()
    other = changed(detector.bundle, "attack/patch_object/30", prepared(detector.bundle, 12), seed=1)
    assert (other != where).any()


def test_a_fixed_place_is_in_the_image_within_its_padding(detector: Pipeline) -> None:
    where = changed(detector.bundle, "attack/patch_fixed/25", prepared(detector.bundle, 8, width=32, height=16))
    assert not where[:, :4].any() and not where[:, 12:].any(), "nothing is put on the padding"
    assert where.all(axis=0).any() and 0.2 * 128 < where.sum(axis=(1, 2)).mean() < 0.45 * 128


def test_what_a_classifier_sees_is_its_object_with_a_margin(tiny: Any) -> None:
    bundle = tiny.classifier(**FILES, roi_margin=0.5)
    where = changed(bundle, "attack/patch_object/60", prepared(bundle, 12))
    assert where.any(axis=0)[4:12, 4:12].mean() > 0.9 and where.sum() == where[:, 4:12, 4:12].sum()
    assert changed(bundle, "attack/patch_fixed/100", prepared(bundle, 2)).mean() > 0.5


def test_a_frame_without_objects_has_no_regions(tiny: Any) -> None:
    rows = np.array([[2, 3, 9, 12, 0, 0, 0, 0]], np.float32)
    pipeline = open_pipeline(tiny.detector(rows, **FILES))
    made = injection.make(pipeline.bundle, "attack/patch_object")
    (answer,) = pipeline.attack(frames(1), made)
    assert not answer.applied and answer.no_regions
    (answer,) = pipeline.attack(frames(1), injection.make(pipeline.bundle, "attack/patch_fixed"))
    assert answer.applied and not answer.no_regions
    classifier = open_pipeline(tiny.classifier(**FILES))
    (answer,) = classifier.attack(frames(1), injection.make(classifier.bundle, "attack/patch_object"), [()])
    assert not answer.applied and answer.no_regions


def test_an_object_too_small_for_a_patch_does_not_count(detector: Pipeline) -> None:
    (answer,) = detector.attack(frames(1), injection.make(detector.bundle, "attack/patch_object/1"))
    assert not answer.applied and not answer.no_regions


def test_it_counts_in_two_stages_too(tiny: Any, detector: Pipeline) -> None:
    two = open_pipeline(tiny.classifier(**FILES, roi_classes=()), detector=detector)
    first, second = frames(2)
    made = injection.make_staged(two.bundle, detector.bundle, "detector/attack/patch_object/30")
    assert all(answer.applied for answer in two.attack([first, second], made))
    region = Region((2, 2, 14, 14), "red", 0.9)
    crops = injection.make_staged(two.bundle, detector.bundle, "attack/patch_object/40")
    (answer,) = two.attack([first], crops, [(region,)])
    assert answer.regions == {0}


def test_a_budget_of_0_is_the_clean_image_and_an_empty_batch_stays_empty(detector: Pipeline) -> None:
    x = prepared(detector.bundle, 2)
    for name in ("attack/patch_object/0", "attack/patch_fixed/0"):
        np.testing.assert_array_equal(injection.make(detector.bundle, name).apply(x, ["", ""]).x, x)
    made = injection.make(detector.bundle, "attack/patch_object")
    assert made.apply(x[:0], ()).x.shape == (0, 3, 16, 16)


def test_the_print_is_green_in_either_order_of_colours(tiny: Any) -> None:
    red = replace(GREEN, levels=np.roll(GREEN.levels, -1, axis=0), placement=Placement(contrast=0, brightness=0))
    files = {"files": {"print.npz": patch_store.dump(red)}, "perturbations": (ABOUT,)}
    for colour, channel in (("rgb", 0), ("bgr", 2)):
        bundle = tiny.classifier(**files, input=InputSpec(width=16, height=16, colour=colour))  # type: ignore[arg-type]
        x = np.full((1, 3, 16, 16), 128 / 255, np.float32)
        seen = injection.make(bundle, "attack/patch_fixed/20").apply(x, ()).x[0]
        assert seen[channel].max() == 1 and seen[1].max() < 0.51 and seen[1].min() == 0


def test_reports_say_how_it_was_made(detector: Pipeline) -> None:
    made = injection.make(detector.bundle, "attack/patch_object/10")
    assert (made.name, made.knowledge) == ("attack/patch_object/10", "white-box"), "as the print was made"
    about = injection_settings(detector.bundle, None, made, sigma_255=16.0, seed=3)
    assert (about.attack, about.eps_255, about.strength, about.seed) == ("patch_object", 255, 10, 3)


def test_without_a_print_or_with_a_bad_seed_it_is_refused(tiny: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tiny.classifier()
    with pytest.raises(AttackError, match="has no printed patch: found no perturbations.*--patch"):
        injection.make(bundle, "attack/patch_object")
    with pytest.raises(AttackError, match="seed of a patch is negative"):
        injection.make(tiny.classifier("own", **FILES), "attack/patch_fixed", seed=-1)
    assert cli.main(["attack", "run", str(bundle.path), "--attack", "patch_fixed"]) == 2
    assert "has no printed patch" in capsys.readouterr().err
    assert cli.main(["attack", "list", "--task", "detection"]) == 0
    line = next(row for row in capsys.readouterr().out.splitlines() if "attack/patch_object" in row)
    assert "percent of the area of an object" in line and "AML.T0041" in line
