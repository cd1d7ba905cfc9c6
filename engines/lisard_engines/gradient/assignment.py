"""Which rows of a detector's output answer for which true box, as nodes between the output and the losses.

The assignment is the trainer's (SimOTA, Ge et al. 2021, arXiv 2107.08430 section 2.3) for every layout: a test compares
the two. Rows that are not cells of the grids of strides 8, 16 and 32 stand where their box stands. No gradient passes
it: its results hang on whole numbers and comparisons alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lisard_ros.attacks.gradient_file import BOXES, LABELS, GradientKey
from lisard_ros.inference.postprocess import grid_cells, grid_rows

from .builder import GraphBuilder

ASSIGNED_CLASSES, ASSIGNED_BOXES = "lisard.assigned_classes", "lisard.assigned_boxes"
RADIUS = 2.5  # a cell may answer for a box whose centre lies within so many strides of its own, per axis
MOST_ROWS = 10  # per box
OVERLAP_WEIGHT = 3.0
FAR = 1e5  # cost of a row that may not answer
SMALLEST_SCORE, SMALLEST_OVERLAP, SMALLEST_AREA = 1e-6, 1e-8, 1e-7
NOBODY = -1
BOOL, FLOAT = 9, 1  # ONNX types


def add_assignment(g: GraphBuilder, key: GradientKey, rows: str, corners: Sequence[str], count: int) -> None:
    """Add ASSIGNED_CLASSES, whole numbers [N, P], NOBODY where none, and ASSIGNED_BOXES [N, P, 4].

    Args:
        g: Where nodes are added; its inputs BOXES [N, M, 4] and LABELS [N, M] are the true boxes, with a negative
            label where there is none.
        key: How the output is read.
        rows: The output as [N, P, columns].
        corners: Left, top, right and bottom of its boxes in input pixels, each [N, P, 1].
        count: P.
    """
    true = [g.op("Slice", BOXES, g.ints(i), g.ints(i + 1), g.ints(2)) for i in range(4)]  # each [N, M, 1]
    found = [g.op("Transpose", side, perm=[0, 2, 1]) for side in corners]  # each [N, 1, P]
    real = g.op("Unsqueeze", g.op("GreaterOrEqual", LABELS, g.constant(0, np.int64)), g.ints(2))
    candidate = g.op("And", _near(g, key, true, found, count), real)  # [N, M, P]
    overlap = g.op("Mul", _overlap(g, true, found), g.op("Cast", candidate, to=FLOAT))
    far = g.op("Mul", g.op("Cast", g.op("Not", candidate), to=FLOAT), g.constant(FAR))
    cost = g.op("Add", g.op("Sub", _class_cost(g, key, rows), _log_share(g, overlap)), far)

    most = min(MOST_ROWS, count)
    best, _ = g.ops("TopK", overlap, g.ints(most), outputs=2, axis=2)
    wanted = g.op("Max", g.op("Floor", g.op("ReduceSum", best, g.ints(2))), g.constant(1))
    _, cheapest = g.ops("TopK", cost, g.ints(most), outputs=2, axis=2, largest=0)
    within = g.op("Less", g.constant(np.arange(most).reshape(1, 1, most)), wanted)
    nothing = g.op("Mul", far, g.constant(0))
    taken = g.op("ScatterElements", nothing, cheapest, g.op("Cast", within, to=FLOAT), axis=2)
    taken = g.op("And", g.op("Cast", taken, to=BOOL), candidate)

    # A row that several boxes want goes to the one that it costs least.
    owner = g.op("ArgMin", g.op("Where", taken, cost, g.constant(np.inf)), axis=1, keepdims=0)
    owned = g.op("ReduceMax", g.op("Cast", taken, to=FLOAT), g.ints(1), keepdims=0)
    classes = g.op("GatherElements", LABELS, owner, axis=1)
    g.alias(
        g.op("Where", g.op("Cast", owned, to=BOOL), classes, g.constant(NOBODY, np.int64)),
        ASSIGNED_CLASSES,
    )
    place = g.op("Concat", *[g.op("Unsqueeze", owner, g.ints(2))] * 4, axis=2)
    g.alias(g.op("GatherElements", BOXES, place, axis=1), ASSIGNED_BOXES)


def _near(g: GraphBuilder, key: GradientKey, true: Sequence[str], found: Sequence[str], count: int) -> str:
    """Whether a row may answer for a box, [N, M, P]."""
    if count == grid_rows(key.size_px):
        cells, strides = grid_cells(key.size_px)
        near = []
        for axis in range(2):
            middle = g.op("Mul", g.op("Add", true[axis], true[axis + 2]), g.constant(0.5))
            place = g.constant(((cells[:, axis] + 0.5) * strides[:, 0]).reshape(1, 1, -1))
            reach = g.constant(RADIUS * strides[:, 0].reshape(1, 1, -1))
            near.append(g.op("Less", g.op("Abs", g.op("Sub", place, middle)), reach))
        return g.op("And", *near)
    inside = []
    for axis in range(2):
        centre = g.op("Mul", g.op("Add", found[axis], found[axis + 2]), g.constant(0.5))
        inside += [g.op("GreaterOrEqual", centre, true[axis]), g.op("Less", centre, true[axis + 2])]
    return g.op("And", g.op("And", *inside[:2]), g.op("And", *inside[2:]))


def _overlap(g: GraphBuilder, true: Sequence[str], found: Sequence[str]) -> str:
    """IoU of each true box with each row, [N, M, P]; a box without area overlaps nothing."""

    def area(sides: Sequence[str]) -> str:
        lengths = (g.op("Max", g.op("Sub", sides[i + 2], sides[i]), g.constant(0)) for i in range(2))
        return g.op("Mul", *lengths)

    shared = area([g.op("Max" if i < 2 else "Min", true[i], found[i]) for i in range(4)])
    union = g.op("Sub", g.op("Add", area(true), area(found)), shared)
    return g.op("Div", shared, g.op("Max", union, g.constant(SMALLEST_AREA)))


def _class_cost(g: GraphBuilder, key: GradientKey, rows: str) -> str:
    """Cross entropy of each row's scores when it answers for a box of each label, [N, M, P]."""
    low, high = g.constant(SMALLEST_SCORE), g.constant(1 - SMALLEST_SCORE)
    score = g.op("Clip", g.op("Sqrt", _scores(g, key, rows)), low, high)  # [N, P, C]
    against = g.op("Neg", g.op("Log", g.op("Sub", g.constant(1), score)))
    own = g.op("Transpose", g.op("Sub", g.op("Neg", g.op("Log", score)), against), perm=[0, 2, 1])
    known = g.op("Max", LABELS, g.constant(0, np.int64))
    of_label = g.op("OneHot", known, g.constant(key.classes, np.int64), g.constant([0, 1]), axis=-1)  # [N, M, C]
    everywhere = g.op("Unsqueeze", g.op("ReduceSum", against, g.ints(2), keepdims=0), g.ints(1))
    return g.op("Add", g.op("MatMul", of_label, own), everywhere)


def _log_share(g: GraphBuilder, overlap: str) -> str:
    return g.op("Mul", g.op("Log", g.op("Max", overlap, g.constant(SMALLEST_OVERLAP))), g.constant(OVERLAP_WEIGHT))


def _scores(g: GraphBuilder, key: GradientKey, rows: str) -> str:
    """Score of each class, objectness included, [N, P, C]."""

    def columns(first: int, end: int) -> str:
        return g.op("Slice", rows, g.ints(first), g.ints(end), g.ints(2))

    def squashed(logits: str) -> str:
        return logits if key.activation == "none" else g.op("Sigmoid", logits)

    if key.layout == "xyxy_score_class":
        named = g.op("Equal", g.op("Round", columns(5, 6)), g.constant(np.arange(key.classes).reshape(1, 1, -1)))
        return g.op("Mul", squashed(columns(4, 5)), g.op("Cast", named, to=FLOAT))
    first = 4 if key.layout == "cxcywh_classes_first" else 5
    classes = columns(first, first + key.classes)
    scores = g.op("Softmax", classes, axis=2) if key.activation == "softmax" else squashed(classes)
    return g.op("Mul", scores, squashed(columns(4, 5))) if first == 5 else scores
