"""The true boxes of scenes as the runtime's AP50 wants them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lisard_ros.evaluation import average_precision
from lisard_ros.evaluation.average_precision import Matches, TrueBoxes
from lisard_ros.inference.postprocess import Boxes

from ...data.detection import IGNORED, Scenes


def match(found: Sequence[Boxes], scenes: Scenes, threshold: float) -> Matches:
    """Matches what was found in the scenes; threshold: score from which a box counts as met."""
    truths = [_truth(scenes, row) for row in range(len(scenes))]
    return average_precision.match(found, truths, len(scenes.classes), threshold)


def _truth(scenes: Scenes, row: int) -> TrueBoxes:
    labels = scenes.labels[row].cpu().numpy()
    boxes = scenes.boxes[row].cpu().numpy().astype(np.float64)
    own = labels >= 0
    return TrueBoxes(boxes[own], labels[own].astype(np.int64), boxes[labels == IGNORED])
