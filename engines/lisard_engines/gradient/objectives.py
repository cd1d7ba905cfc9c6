"""The losses that attacks raise, as nodes behind a model; a weight for each makes their sum.

They are those of lisard_ros/attacks/objective.py and, for a detector, of the trainer's tasks/detection/attack_model.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lisard_ros.attacks.gradient_file import CLASSES, LOSS, TARGETS, WEIGHTS, GradientKey
from lisard_ros.inference.postprocess import LARGEST_LOG_SIZE, grid_cells

from .assignment import ASSIGNED_BOXES, ASSIGNED_CLASSES, add_assignment
from .builder import GraphBuilder

TINY = 1e-12  # keeps the ratio of DLR finite, as in objective.py
TINY_AREA = 1e-7  # as in the trainer's geometry.py
SMALLEST_SCORE = 1e-6  # of scores that the model gives itself, so that their logits are finite
MOST_RANKED = 4


def add_loss(graph: GraphBuilder, key: GradientKey, output: str, rows: int) -> None:
    """Put the loss of each image, [N], behind the model's output. rows: of a detector for each image."""
    terms = _box_terms(graph, key, output, rows) if key.layout else _class_losses(graph, key, output)
    columns = [graph.op("Unsqueeze", term, graph.ints(1)) for term in terms]
    stacked = columns[0] if len(columns) == 1 else graph.op("Concat", *columns, axis=1)
    total = graph.op("ReduceSum", graph.op("Mul", stacked, WEIGHTS), graph.ints(1), keepdims=0)
    graph.alias(total, LOSS)


def _class_losses(g: GraphBuilder, key: GradientKey, output: str) -> list[str]:
    logits = _class_logits(g, key, output)
    own = _of_class(g, CLASSES, key.classes)
    value = _rows(g, g.op("Mul", logits, own))
    # The two sides of the sum are taken apart so that backwards softmax - one-hot remains, as torch has it.
    losses = [g.op("Neg", _rows(g, g.op("Mul", g.op("LogSoftmax", logits, axis=1), own)))]
    if "margin" in key.losses:
        others = g.op("Where", g.op("Cast", own, to=9), g.constant(-np.inf), logits)
        losses.append(g.op("Sub", g.op("ReduceMax", others, g.ints(1), keepdims=0), value))
    if "dlr" in key.losses:
        count = min(MOST_RANKED, key.classes)
        ranked, _ = g.ops("TopK", logits, g.ints(count), outputs=2, axis=1)
        place = [g.op("Gather", ranked, g.constant(i, np.int64), axis=1) for i in range(count)]
        losses.append(g.op("Div", losses[-1], _at_least(g, g.op("Sub", place[0], place[2]), TINY)))
        if "dlr_targeted" in key.losses:
            aim = _rows(g, g.op("Mul", logits, _of_class(g, TARGETS, key.classes)))
            width = g.op("Sub", place[0], g.op("Mul", g.op("Add", place[2], place[3]), g.constant(0.5)))
            losses.append(g.op("Neg", g.op("Div", g.op("Sub", value, aim), _at_least(g, width, TINY))))
    return losses


def _class_logits(g: GraphBuilder, key: GradientKey, output: str) -> str:
    """What a softmax is taken of; of scores that the model gives itself, what it took it of, or their logarithm."""
    if key.activation != "none":
        return output
    maker = next((node for node in g.nodes if output in node.output), None)
    if maker is not None and maker.op_type == "Softmax":
        return str(maker.input[0])
    return g.op("Log", _at_least(g, output, SMALLEST_SCORE))


def _of_class(g: GraphBuilder, classes: str, count: int) -> str:
    """Return 1 at the class of each row, else 0."""
    return g.op("OneHot", classes, g.constant(count, np.int64), g.constant([0, 1]), axis=-1)


def _rows(g: GraphBuilder, tensor: str) -> str:
    """Sum what belongs to one image."""
    return g.op("ReduceSum", g.op("Flatten", tensor, axis=1), g.ints(1), keepdims=0)


def _at_least(g: GraphBuilder, tensor: str, least: float) -> str:
    return g.op("Clip", tensor, g.constant(np.float32(least)))


def _box_terms(g: GraphBuilder, key: GradientKey, output: str, count: int) -> list[str]:
    """Class, location, vanish and fabricate, in the order of BOX_TERMS."""
    rows = g.op("Transpose", output, perm=[0, 2, 1]) if key.layout == "cxcywh_classes_first" else output
    corners = _corners(g, key, rows)
    add_assignment(g, key, rows, corners, count)
    assigned = g.op("Cast", g.op("GreaterOrEqual", ASSIGNED_CLASSES, g.constant(0, np.int64)), to=1)
    column = g.op("Unsqueeze", assigned, g.ints(2))
    objects, classes = _detector_logits(g, key, rows)
    wanted = ""
    if classes:
        of_class = _of_class(g, g.op("Max", ASSIGNED_CLASSES, g.constant(0, np.int64)), key.classes)
        wanted = g.op("Mul", of_class, column)
    if objects and classes:
        own = _rows(g, g.op("Mul", _cross_entropy(g, classes, wanted), column))
        class_term = g.op("Add", _rows(g, _cross_entropy(g, objects, column)), own)
    else:
        class_term = _rows(g, _cross_entropy(g, objects or classes, column if objects else wanted))
    apart = g.op("Mul", g.op("Sub", g.constant(1), _overlap(g, corners)), column)
    answers = objects or classes
    return [
        class_term,
        _rows(g, apart),
        g.op("Neg", _rows(g, g.op("Softplus", answers))),
        g.op("Neg", _rows(g, g.op("Softplus", g.op("Neg", answers)))),
    ]


def _detector_logits(g: GraphBuilder, key: GradientKey, rows: str) -> tuple[str, str]:
    """Logits of objectness [N, P, 1] and of the classes [N, P, C]; '' for what the layout does not have."""
    logit: Callable[[str], str] = (lambda t: _logit(g, t)) if key.activation == "none" else (lambda t: t)
    if key.layout == "xyxy_score_class":
        return logit(_columns(g, rows, 4, 5)), ""
    first = 4 if key.layout == "cxcywh_classes_first" else 5
    objects = logit(_columns(g, rows, 4, 5)) if first == 5 else ""
    classes = _columns(g, rows, first, first + key.classes)
    if key.activation == "softmax":
        classes = _logit(g, g.op("Softmax", classes, axis=2))
    return objects, classes if key.activation == "softmax" else logit(classes)


def _logit(g: GraphBuilder, scores: str) -> str:
    inside = g.op("Clip", scores, g.constant(np.float32(SMALLEST_SCORE)), g.constant(np.float32(1 - SMALLEST_SCORE)))
    return g.op("Sub", g.op("Log", inside), g.op("Log", g.op("Sub", g.constant(1), inside)))


def _cross_entropy(g: GraphBuilder, logits: str, wanted: str) -> str:
    """Binary, of each element."""
    return g.op("Sub", g.op("Softplus", logits), g.op("Mul", logits, wanted))


def _columns(g: GraphBuilder, rows: str, first: int, end: int) -> str:
    return g.op("Slice", rows, g.ints(first), g.ints(end), g.ints(2))


def _corners(g: GraphBuilder, key: GradientKey, rows: str) -> list[str]:
    """Left, top, right and bottom in input pixels, each [N, P, 1]."""
    if str(key.layout).startswith("xyxy"):
        return [_columns(g, rows, i, i + 1) for i in range(4)]
    centre, size = _columns(g, rows, 0, 2), _columns(g, rows, 2, 4)
    if key.layout == "yolox_grid":
        cells, strides = grid_cells(key.size_px)
        centre = g.op("Mul", g.op("Add", centre, g.constant(cells)), g.constant(strides))
        limited = g.op("Min", size, g.constant(LARGEST_LOG_SIZE))
        size = g.op("Mul", g.op("Exp", limited), g.constant(strides))
    half = g.op("Mul", size, g.constant(0.5))
    low, high = g.op("Sub", centre, half), g.op("Add", centre, half)
    return [_columns(g, pair, i, i + 1) for pair in (low, high) for i in range(2)]


def _overlap(g: GraphBuilder, box: Sequence[str]) -> str:
    """Generalised IoU of each predicted box with the one assigned to it, [N, P, 1] (Rezatofighi et al. 2019)."""
    true = [_columns(g, ASSIGNED_BOXES, i, i + 1) for i in range(4)]
    shared = _area(g, [g.op("Max" if i < 2 else "Min", box[i], true[i]) for i in range(4)])
    hull = _area(g, [g.op("Min" if i < 2 else "Max", box[i], true[i]) for i in range(4)])
    union = g.op("Sub", g.op("Add", _area(g, box), _area(g, true)), shared)
    overlap = g.op("Div", shared, _at_least(g, union, TINY_AREA))
    return g.op("Sub", overlap, g.op("Div", g.op("Sub", hull, union), _at_least(g, hull, TINY_AREA)))


def _area(g: GraphBuilder, box: Sequence[str]) -> str:
    """0 where a side is negative."""
    return g.op("Mul", *(_at_least(g, g.op("Sub", box[i + 2], box[i]), 0) for i in range(2)))
