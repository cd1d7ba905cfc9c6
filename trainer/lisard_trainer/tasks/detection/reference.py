"""The self test of a detection bundle: held-back scenes with their true boxes, and the injections of its suite.

Scenes are kept as they were letterboxed for training, so that the images are small and preprocessing leaves them as
they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lisard_ros.bundle.arrays import dump_arrays
from lisard_ros.bundle.manifest import SelfTest, SelfTestCase, TrueBox
from lisard_ros.evaluation import references

from ...data.detection import Scenes
from ..exporting import FRAMES_FILE

IMAGES = 10  # at 320x320 these and their perturbations are 4 MB of a bundle that may have 20
DIGITS = 2  # of corners in pixels


@dataclass(frozen=True, eq=False)
class Reference:
    """The self test, its limits not yet measured (0), and the bytes of the file with its images."""

    test: SelfTest
    frames: bytes


def choose(scenes: Scenes) -> Reference | None:
    """A self test on some of the scenes; None where no scene has a box."""
    chosen = scenes.take(positions(scenes))
    labels = []
    for row_labels, row_boxes in zip(chosen.labels.tolist(), chosen.boxes.tolist(), strict=True):
        boxes = (
            (label, [round(value, DIGITS) for value in box]) for label, box in zip(row_labels, row_boxes, strict=True)
        )
        real = ((label, (left, top, right, bottom)) for label, (left, top, right, bottom) in boxes if label >= 0)
        labels.append(tuple(TrueBox(label=label, box_xyxy_px=corners) for label, corners in real))
    if not any(labels):
        return None
    images = chosen.images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    suite = tuple(SelfTestCase(injection=name, min_accuracy=0.0) for name in references.SUITE)
    return Reference(SelfTest(frames=FRAMES_FILE, labels=tuple(labels), suite=suite), dump_arrays({"frames": images}))


def positions(scenes: Scenes, count: int = IMAGES) -> NDArray[np.int64]:
    """Always the same scenes with boxes: of each class in turn, spread evenly over those that hold it."""
    labels = scenes.labels.cpu().numpy()
    holds = np.stack([(labels == number).any(axis=1) for number in range(len(scenes.classes))], axis=1)
    return np.asarray(references.of_each_class(holds, count), np.int64)
