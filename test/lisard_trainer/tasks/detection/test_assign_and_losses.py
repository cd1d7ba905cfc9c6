"""Assignment against a plain loop, overlaps against definitions, and what the detection loss rewards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.inference.postprocess import iou_with
from lisard_trainer.data.detection import IGNORED, NOTHING
from lisard_trainer.tasks.detection import assign, geometry, losses, network

CLASSES = 3
SIDES = st.floats(1, 60)


def random_output(seed, places, rows=2):
    """Predictions near their positions."""
    centres, strides = places
    random = torch.Generator().manual_seed(seed)
    raw = torch.randn(rows, len(centres), 4, generator=random) * 0.5
    logits = torch.randn(rows, len(centres), 1 + CLASSES, generator=random)
    return torch.cat([network.decode(raw, network.level_sizes(64, 64)), logits], 2)


def random_boxes(seed, rows=2, most=4):
    random = np.random.default_rng(seed)
    low = random.uniform(0, 50, (rows, most, 2))
    boxes = np.concatenate([low, low + random.uniform(3, 40, (rows, most, 2))], 2)
    labels = random.integers(0, CLASSES, (rows, most))
    labels[random.random((rows, most)) < 0.3] = NOTHING
    return torch.tensor(boxes, dtype=torch.float32), torch.tensor(labels)


def slowly_assigned(output, boxes, labels, centres, strides):
    """SimOTA in words: box by box, position by position. Returns {(row, column): box number}."""
    found = {}
    for row in range(len(output)):
        costs, wanted = {}, {}
        for m in range(boxes.shape[1]):
            if labels[row, m] < 0:
                continue
            middle = (boxes[row, m, :2] + boxes[row, m, 2:]) / 2
            own, overlaps = {}, {}
            for p in range(len(centres)):
                if (centres[p] - middle).abs().max() >= assign.RADIUS * strides[p]:
                    continue
                box, guess = boxes[row, m].double().numpy(), output[row, p : p + 1, :4].double().numpy()
                overlap = float(iou_with(box, guess)[0])
                score = (output[row, p, 5:].sigmoid() * output[row, p, 4].sigmoid()).sqrt().clamp(1e-6, 1 - 1e-6)
                target = torch.zeros(CLASSES)
                target[labels[row, m]] = 1
                bce = float(torch.nn.functional.binary_cross_entropy(score, target, reduction="sum"))
                own[p], overlaps[p] = bce - 3 * np.log(max(overlap, 1e-8)), overlap
            best = sorted(overlaps.values(), reverse=True)[: assign.MOST_POSITIONS]
            count = max(1, int(sum(best) + 1e-6))
            for p in sorted(own, key=own.get)[:count]:
                wanted.setdefault(p, []).append(m)
                costs[p, m] = own[p]
        for p, rivals in wanted.items():
            found[row, p] = min(rivals, key=lambda m: costs[p, m])
    return found


@pytest.mark.parametrize("seed", range(6))
def test_assignment_is_that_of_a_plain_loop(seed, places):
    output, (boxes, labels) = random_output(seed, places), random_boxes(seed)
    found = assign.assign(output, boxes, labels, *places)
    slow = slowly_assigned(output, boxes, labels, *places)
    assert dict.fromkeys(zip(found.rows.tolist(), found.columns.tolist(), strict=True)) == dict.fromkeys(sorted(slow))
    for n, (row, column) in enumerate(zip(found.rows.tolist(), found.columns.tolist(), strict=True)):
        own = slow[row, column]
        assert torch.equal(found.boxes[n], boxes[row, own]) and found.labels[n] == labels[row, own]


def test_every_box_gets_a_position_even_a_tiny_or_huge_one(places):
    boxes = torch.tensor([[[3.0, 3, 5, 5], [0, 0, 64, 64], [30, 1, 31, 60]]])
    found = assign.assign(random_output(0, places, 1), boxes, torch.tensor([[0, 1, 2]]), *places)
    assert set(found.labels.tolist()) == {0, 1, 2}


def test_images_in_parts_are_assigned_alike(places, monkeypatch):
    output, (boxes, labels) = random_output(1, places, 4), random_boxes(1, 4)
    whole = assign.assign(output, boxes, labels, *places)
    monkeypatch.setattr(assign, "MOST_PAIRS", 1)
    parts = assign.assign(output, boxes, labels, *places)
    assert all(torch.equal(getattr(whole, name), getattr(parts, name)) for name in ("rows", "columns", "boxes"))


def test_without_boxes_nothing_is_assigned_and_the_loss_is_objectness_alone(places):
    output = random_output(2, places).requires_grad_(True)
    for most in (0, 3):
        labels = torch.full((2, most), NOTHING)
        found = assign.assign(output, torch.zeros(2, most, 4), labels, *places)
        parts = losses.detection(output, found, losses.Weights())
        assert len(found) == 0 and parts.box == 0 and parts.classes == 0 and parts.objectness > 0
        parts.total(losses.Weights()).backward()
        assert torch.isfinite(output.grad).all()


def test_ignored_regions_teach_nothing(places):
    output = random_output(3, places, 1).requires_grad_(True)
    boxes, labels = torch.tensor([[[0.0, 0, 64, 32]]]), torch.tensor([[IGNORED]])
    found = assign.assign(output, boxes, labels, *places)
    losses.detection(output, found, losses.Weights()).total(losses.Weights()).backward()
    upper = places[0][:, 1] < 32
    assert (output.grad[0, upper] == 0).all() and (output.grad[0, ~upper, 4] > 0).all()


def perfect(boxes, labels, places):
    """An output that predicts each box from its nearest position of the first level."""
    output = random_output(0, places, 1)
    output[..., 4:] = -12
    output[..., 2:4] = output[..., :2] + 0.5  # the others overlap nothing
    for box, label in zip(boxes, labels, strict=True):
        near = (places[0][:64] - (box[:2] + box[2:]) / 2).abs().sum(1).argmin()
        output[0, near, :4], output[0, near, 4], output[0, near, 5 + label] = box, 12, 12
    return output


def test_a_perfect_answer_costs_nearly_nothing_and_each_error_costs(places):
    boxes, labels = torch.tensor([[4.0, 4, 20, 20], [30, 34, 50, 60]]), torch.tensor([0, 2])
    output = perfect(boxes, labels, places)
    found = assign.assign(output, boxes[None], labels[None], *places)
    weights = losses.Weights()
    base = losses.detection(output, found, weights).total(weights)
    assert len(found) == 2 and base < 0.01
    for column in (0, 4, 5, 6):
        worse = output.clone()
        worse[found.rows[0], found.columns[0], column] += -14 if column in (4, 5) else 14
        assert losses.detection(worse, found, weights).total(weights) > base + 0.1


def test_focus_spares_easy_negatives(places):
    output = random_output(4, places)
    found = assign.assign(output, *random_boxes(4), *places)
    plain = losses.detection(output, found, losses.Weights())
    focused = losses.detection(output, found, losses.Weights(focal_gamma=2.0))
    assert focused.objectness < plain.objectness and focused.box == plain.box


def test_location_is_the_box_loss_of_each_image(places):
    output = random_output(5, places)
    found = assign.assign(output, *random_boxes(5), *places)
    parts = losses.detection(output, found, losses.Weights())
    assert losses.location(output, found).sum() == pytest.approx(float(parts.box) * len(found), rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(SIDES, min_size=8, max_size=8))
def test_overlaps_of_any_two_boxes(v):
    a, b = torch.tensor([v[0], v[1], v[0] + v[2], v[1] + v[3]]), torch.tensor([v[4], v[5], v[4] + v[6], v[5] + v[7]])
    iou, giou = float(geometry.iou(a, b)), float(geometry.giou(a, b))
    assert iou == pytest.approx(iou_with(a.numpy().astype(float), b.numpy().astype(float)[None])[0], abs=1e-4)
    assert -1 <= giou <= iou + 1e-5 and geometry.iou(a, a) == pytest.approx(1, abs=1e-5)
    moved = geometry.giou(a + 100, b + 100)
    assert float(moved) == pytest.approx(giou, abs=1e-3)
    assert float(geometry.giou(b, a)) == pytest.approx(giou, abs=1e-5)


def test_boxes_that_are_apart_still_have_a_gradient():
    a = torch.tensor([0.0, 0, 10, 10], requires_grad=True)
    (1 - geometry.giou(a, torch.tensor([30.0, 0, 40, 10]))).backward()
    assert a.grad[2] < 0  # to widen to the right would help


def test_gradients_of_the_loss_are_those_of_finite_differences(places):
    output = random_output(6, places).double()
    found = assign.assign(output, *random_boxes(6), *places)
    weights = losses.Weights()

    def loss(changed):
        # the IoU target is held, as in training it has no gradient
        own = changed[found.rows, found.columns]
        return 5 * (1 - geometry.giou(own[:, :4], found.boxes.double())).sum() / len(found)

    assert torch.autograd.gradcheck(loss, (output[:, :, :].clone().requires_grad_(True),), atol=1e-4, fast_mode=True)
    assert torch.isfinite(losses.detection(output, found, weights).total(weights))
