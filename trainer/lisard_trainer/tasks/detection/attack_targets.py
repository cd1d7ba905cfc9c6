"""What the stored attacks on a detector are made on: images and their true boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from lisard_ros.attacks.model import BoxCriterion
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import InputSpec, TrueBox
from lisard_ros.errors import BundleError
from lisard_ros.evaluation import references
from lisard_ros.frames import Frame, pixels_sha256
from lisard_ros.inference.preprocess import fit, prepare

from ...data.detection import NOTHING, Scenes
from ..base import AttackTargets


def known(bundle: Bundle) -> AttackTargets:
    """The self-test images as the network meets them."""
    test = bundle.manifest.self_test
    if test is None:
        raise BundleError(
            f"bundle {bundle.manifest.name} has no images to attack",
            found="no self test",
            expected="`self_test`",
            cure="export it again with `lisard export`",
        )
    frames = references.load(bundle, test).frames
    pixels = [frame.rgb() for frame in frames]
    x = torch.from_numpy(prepare(pixels, bundle.manifest.input))
    criterion = criterion_of(frames, test.boxes, bundle.manifest.input)
    return AttackTargets(x, criterion, tuple(pixels_sha256(rgb) for rgb in pixels))


def criterion_of(frames: Sequence[Frame], truths: Sequence[tuple[TrueBox, ...]], spec: InputSpec) -> BoxCriterion:
    """The true boxes of all frames, moved to input pixels and padded to one number of boxes."""
    most = max(len(boxes) for boxes in truths)
    corners, labels = np.zeros((len(truths), most, 4)), np.full((len(truths), most), NOTHING, np.int64)
    for row, (frame, boxes) in enumerate(zip(frames, truths, strict=True)):
        in_frame = np.array([box.box_xyxy_px for box in boxes], np.float64).reshape(-1, 4)
        corners[row, : len(boxes)] = fit(frame.width_px, frame.height_px, spec).to_input(in_frame)
        labels[row, : len(boxes)] = [box.label for box in boxes]
    return BoxCriterion(corners, labels, "joint")


def of_scenes(scenes: Scenes) -> AttackTargets:
    """Training scenes."""
    content = scenes.content.numpy().astype(np.float64)
    return AttackTargets(scenes.images.float().div(255).contiguous(), scenes.criterion(), content=content)
