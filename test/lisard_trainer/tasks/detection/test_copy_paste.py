"""Copy-paste: a pasted box is what was drawn, and nothing that was there is covered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.errors import UsageError
from lisard_trainer import recipes
from lisard_trainer.data.detection import IGNORED, NOTHING, Scenes
from lisard_trainer.tasks.detection import compose, copy_paste, geometry
from lisard_trainer.tasks.detection.copy_paste import CopyPaste

SIZE = 64
BLOCK, GROUND, BELOW = 250, 20, 0.3


def make_scenes() -> Scenes:
    """Three dark images, each with a bright block and its box: of class 0, of class 1, and one of class 1 too small."""
    images = torch.full((3, 3, SIZE, SIZE), GROUND, dtype=torch.uint8)
    boxes, labels = torch.zeros(3, 2, 4), torch.full((3, 2), NOTHING)
    for row, (corners, label) in enumerate([((10, 12, 40, 32), 0), ((30, 20, 50, 52), 1), ((5, 5, 8, 8), 1)]):
        left, top, right, bottom = corners
        images[row, label, top:bottom, left:right] = BLOCK
        boxes[row, 0], labels[row, 0] = torch.tensor(corners), label
    content = torch.tensor([[0.0, 0, SIZE, SIZE]]).expand(3, 4).clone()
    sizes = torch.tensor([[SIZE, SIZE]] * 3)
    return Scenes(images, boxes, labels, content, sizes, ("a", "b", "c"), ("red", "green"))


SCENES = make_scenes()
THERE = torch.tensor([[[20.0, 20, 36, 44], [0, 0, 0, 0]], [[0, 50, 30, 64], [40, 0, 64, 12]]])
THERE_LABELS = torch.tensor([[0, NOTHING], [IGNORED, 1]])


def pasted(seed: int, shown: torch.Tensor | None = None, **changes):
    """Two even grey scenes with boxes, and what is drawn into them: pixels, boxes, labels."""
    x = torch.full((2, 3, SIZE, SIZE), BELOW)
    everywhere = torch.ones(2, SIZE, SIZE, dtype=torch.bool) if shown is None else shown
    chosen = CopyPaste(**{"share": 1.0, "px_low": 6.0, "px_high": 20.0, **changes})
    random = torch.Generator().manual_seed(seed)
    return x, *copy_paste.paste(SCENES, x, everywhere, THERE, THERE_LABELS, chosen, random)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_a_pasted_box_is_what_was_drawn_and_covers_no_box(seed, count):
    x, boxes, labels = pasted(seed, count=count)
    assert torch.equal(boxes[:, :2], THERE) and torch.equal(labels[:, :2], THERE_LABELS)
    for number in range(2):
        changed = (x[number] != BELOW).any(0)
        for left, top, right, bottom in THERE[number][THERE_LABELS[number] != NOTHING].int().tolist():
            assert not changed[top:bottom, left:right].any()
        new = labels[number, 2:] != NOTHING
        bright = x[number, :2].amax(0) > 0.8
        marked = torch.zeros_like(bright)
        for box, label in zip(boxes[number, 2:][new], labels[number, 2:][new].tolist(), strict=True):
            left, top, right, bottom = box.tolist()
            inner = x[number, :, int(np.ceil(top + 1)) : int(bottom - 1), int(np.ceil(left + 1)) : int(right - 1)]
            assert inner[label].min() > 0.9 and inner[1 - label].max() < 0.2  # the block, and not the scene below it
            marked[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
        assert not (bright & ~marked).any()  # no block without its box
        assert not changed.any() or new.any()
        apart = boxes[number, 2:][new]
        shared, _ = geometry.overlaps(apart[:, None], apart[None])
        assert torch.equal(shared > 0, torch.eye(len(apart), dtype=torch.bool))


def test_sizes_lie_within_the_bounds_and_shapes_are_kept():
    sides = []
    for seed in range(30):
        _, boxes, labels = pasted(seed, count=1)
        new = boxes[:, 2:][labels[:, 2:] != NOTHING]
        sides += geometry.areas(new).sqrt().tolist()
        for width, height in (new[:, 2:] - new[:, :2]).tolist():
            assert min(abs(width / height - 30 / 20), abs(width / height - 20 / 32)) < 0.25
    assert min(sides) > 5.5 and max(sides) < 20.5  # whole pixels of a piece round its size
    assert min(sides) < 8 and max(sides) > 16


def test_only_the_classes_asked_for_alone_and_large_enough():
    rows, columns = copy_paste.sources(SCENES, CopyPaste(px_low=6.0))
    assert rows.tolist() == [0, 1] and columns.tolist() == [0, 0]  # the third is too small
    near = SCENES.take([0, 1])
    near.boxes[0, 1], near.labels[0, 1] = torch.tensor([41.0, 12, 50, 32]), IGNORED  # in the margin of the first
    assert copy_paste.sources(near, CopyPaste(px_low=6.0))[0].tolist() == [1]
    labels = torch.cat([pasted(seed, classes="green")[2] for seed in range(5)])[:, 2:]
    assert (labels == 1).any() and torch.isin(labels, torch.tensor([NOTHING, 1])).all()


def test_nothing_is_pasted_on_padding():
    shown = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    shown[:, :, 38:] = True
    count = 0
    for seed in range(20):
        x, _, labels = pasted(seed, shown)
        assert (x[..., :38] == BELOW).all()
        count += int((labels[:, 2:] != NOTHING).sum())
    assert count > 10


def test_a_scene_without_room_and_a_set_without_sources_stay_as_they_are():
    full = torch.tensor([[[0.0, 0, SIZE, SIZE]]] * 2)
    x = torch.full((2, 3, SIZE, SIZE), BELOW)
    shown = torch.ones(2, SIZE, SIZE, dtype=torch.bool)
    given_labels = torch.zeros(2, 1, dtype=torch.int64)
    for boxes, changes in ((full, {}), (full[:, :, [0, 0, 0, 0]], {"px_low": 60.0, "px_high": 63.0})):
        chosen = CopyPaste(**{"share": 1.0, "px_low": 6.0, **changes})
        random = torch.Generator().manual_seed(0)
        _, labels = copy_paste.paste(SCENES, x, shown, boxes, given_labels, chosen, random)
        assert (x == BELOW).all() and (labels[:, 1:] == NOTHING).all()


def test_pasting_ends_with_the_mosaics_and_is_off_by_default():
    def draw(share_done: float, copies: CopyPaste) -> compose.ComposedScenes:
        random = torch.Generator().manual_seed(0)
        augment = compose.SceneAugment(mosaic=0.0)
        return compose.compose(SCENES, torch.arange(3), augment, random, share_done, copies)

    copies = CopyPaste(share=1.0, px_low=6.0, px_high=12.0)
    assert (draw(0.0, copies).labels >= 0).sum() > 3
    assert torch.equal(draw(0.0, copies).x, draw(0.0, copies).x)
    assert torch.equal(draw(0.9, copies).x, draw(0.9, CopyPaste()).x)
    assert (draw(0.0, CopyPaste()).labels >= 0).sum() <= 3


@pytest.mark.parametrize("changes", [{"share": 1.1}, {"count": 0}, {"px_low": 0.0}, {"px_low": 50.0}])
def test_impossible_bounds(changes):
    with pytest.raises(UsageError, match="recipe key copy_paste"):
        recipes.from_mapping({"name": "one", "task": "detection", "copy_paste": changes})


def test_unknown_classes():
    with pytest.raises(UsageError, match="did you mean 'green'"):
        CopyPaste(classes="gren").numbers(("red", "green"))
