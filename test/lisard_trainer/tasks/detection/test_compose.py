"""Composed scenes: boxes stay on what they mark, flips only where allowed, nothing lost without need."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.errors import UsageError
from lisard_trainer.data.detection import IGNORED, NOTHING, Scenes
from lisard_trainer.tasks.detection import compose

SIZE = 64
CALM = {"contrast_low": 1.0, "contrast_high": 1.0, "brightness": 0.0, "saturation_low": 1.0, "saturation_high": 1.0}


def make_scenes(count: int = 6) -> Scenes:
    """Dark images 64 wide and 48 high in their letterbox, each with a bright block of one colour and its box."""
    random = np.random.default_rng(0)
    images = torch.full((count, 3, SIZE, SIZE), 114, dtype=torch.uint8)
    images[:, :, 8:56] = 20
    boxes, labels = torch.zeros(count, 3, 4), torch.full((count, 3), NOTHING)
    for row in range(count):
        x, y = int(random.integers(2, 40)), int(random.integers(10, 34))
        wide, high = (int(v) for v in random.integers(10, 20, 2))
        images[row, row % 2, y : y + high, x : x + wide] = 250
        boxes[row, 0], labels[row, 0] = torch.tensor([x, y, x + wide, y + high]), row % 2
    images = images.contiguous(memory_format=torch.channels_last)
    content = torch.tensor([[0.0, 8, 64, 56]]).expand(count, 4).clone()
    names = tuple(f"{n}.png" for n in range(count))
    return Scenes(images, boxes, labels, content, torch.tensor([[64, 48]] * count), names, ("red", "green"))


SCENES = make_scenes()


def draw(seed=0, share_done=0.0, **changes):
    augment = compose.SceneAugment(**{**CALM, **changes})
    return compose.compose(SCENES, torch.arange(6), augment, torch.Generator().manual_seed(seed), share_done)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 1.0]))
def test_boxes_stay_on_the_blocks_that_they_mark(seed, mosaic):
    batch = draw(seed, mosaic=mosaic, flip_classes="red", min_visible=0.0, min_px=0.0)
    covered = torch.zeros(6, SIZE, SIZE, dtype=torch.bool)
    for row, column in (batch.labels >= 0).nonzero().tolist():
        x0, y0, x1, y1 = batch.boxes[row, column].tolist()
        channel = int(batch.labels[row, column])
        inner = batch.x[row, :, int(np.ceil(y0 + 1)) : int(y1 - 1), int(np.ceil(x0 + 1)) : int(x1 - 1)]
        if inner.numel():
            assert inner[channel].min() > 0.9 and inner[1 - channel].max() < 0.5
        covered[row, max(0, int(y0) - 1) : int(np.ceil(y1)) + 1, max(0, int(x0) - 1) : int(np.ceil(x1)) + 1] = True
    bright = batch.x.amax(1) > 0.6
    assert not (bright & ~covered).any()  # no block without its box


def test_without_change_the_image_comes_back():
    batch = draw(mosaic=0.0, zoom_low=1.0, zoom_high=1.0)
    for row in range(6):
        # Only the place within the padding is random.
        x0, y0 = (int(v) for v in batch.boxes[row, 0, :2])
        x1, y1 = (int(v) for v in SCENES.boxes[row, 0, :2])
        assert x0 == x1
        shift = batch.boxes[row, 0, 1] - SCENES.boxes[row, 0, 1]
        assert torch.allclose(batch.boxes[row, 0], SCENES.boxes[row, 0] + torch.tensor([0, 1, 0, 1]) * shift)
    assert batch.x.shape == (6, 3, SIZE, SIZE) and batch.x.is_contiguous(memory_format=torch.channels_last)


def test_only_images_of_the_named_classes_are_mirrored():
    for seed in range(4):
        random = torch.Generator().manual_seed(seed)
        plan = compose.draw_plan(SCENES, torch.arange(6), compose.SceneAugment(flip_classes="green"), random, 0.0)
        flipped = plan.sources[plan.mirrored]
        assert len(flipped) and (flipped % 2 == 1).all()
    none = compose.draw_plan(SCENES, torch.arange(6), compose.SceneAugment(), torch.Generator(), 0.0)
    assert not none.mirrored.any()


def test_mosaics_end_before_the_run_does():
    early = compose.draw_plan(SCENES, torch.arange(6), compose.SceneAugment(mosaic=1.0), torch.Generator(), 0.5)
    late = compose.draw_plan(SCENES, torch.arange(6), compose.SceneAugment(mosaic=1.0), torch.Generator(), 0.9)
    assert (early.high[:, 0] < SIZE).all() and (late.high[:, 0] == SIZE).all()
    assert (early.sources[:, 0] == torch.arange(6)).all()
    areas = (early.high - early.low).prod(-1).sum(1)
    assert torch.equal(areas, torch.full((6,), float(SIZE * SIZE)))


def test_boxes_that_are_mostly_cut_off_become_ignored_regions():
    seen = set()
    for seed in range(8):
        batch = draw(seed, mosaic=1.0, min_visible=0.9)
        seen |= set(batch.labels.unique().tolist())
        real = batch.boxes[batch.labels != NOTHING]
        assert (real[:, 2:] > real[:, :2]).all() and real.min() >= 0 and real.max() <= SIZE
    assert IGNORED in seen and {0, 1} & seen


def test_images_without_boxes_are_scenes_too():
    empty = SCENES.take([0, 1])
    empty.labels.fill_(NOTHING)
    batch = compose.compose(empty, torch.arange(2), compose.SceneAugment(), torch.Generator(), 0.0)
    assert batch.boxes.shape == (2, 0, 4) and batch.labels.shape == (2, 0)


def test_light_changes_images_and_not_boxes():
    calm, lit = draw(3, mosaic=0.0), draw(3, mosaic=0.0, contrast_low=0.5, contrast_high=0.6, brightness=0.1)
    assert torch.equal(calm.boxes, lit.boxes) and not torch.allclose(calm.x, lit.x)
    assert lit.x.min() >= 0 and lit.x.max() <= 1


def test_the_same_seed_draws_the_same():
    assert torch.equal(draw(5).x, draw(5).x) and not torch.equal(draw(5).x, draw(6).x)


@pytest.mark.parametrize("changes", [{"zoom_low": 0.0}, {"mosaic": 1.5}, {"contrast_low": 2.0}])
def test_impossible_bounds(changes):
    with pytest.raises(UsageError, match="recipe key augment"):
        compose.SceneAugment(**changes)


def test_unknown_classes_to_mirror():
    with pytest.raises(UsageError, match="did you mean 'green'"):
        compose.SceneAugment(flip_classes="gren").flips(("red", "green"))
