"""From a detector's checkpoint to a model bundle: ONNX, PyTorch weights, self test and training card.

The ONNX file is only written if ONNX Runtime and torch agree on real images, in pixels and in scores.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from lisard_ros import bundle as bundles
from lisard_ros.bundle.arrays import dump_arrays
from lisard_ros.bundle.manifest import (
    Architecture,
    Decode,
    Manifest,
    ModelFile,
    OutputSpec,
    SelfTest,
    SelfTestCase,
    TrueBox,
)
from lisard_ros.errors import LisardError
from lisard_ros.evaluation import references, self_test_limits

from ...data.detection import Scenes, SceneSplit
from ...data.detection.scenes import input_spec
from ...training.checkpoint import Checkpoint
from ..base import Exported
from ..exporting import FRAMES_FILE, INPUT, MODEL_FILE, WEIGHTS_FILE, card, round_filters, to_onnx
from . import network as networks
from .evaluation.metrics import ACTIVATION, LAYOUT
from .geometry import BOX, OBJECTNESS
from .network import Detector

OUTPUT = "boxes"
REFERENCE_IMAGES = 10  # at 320x320 these and their perturbations are 4 MB of a bundle that may have 20
CORNER_DIGITS = 2  # of corners in pixels
PARITY_IMAGES = 100
LIMIT_BOX_PX, LIMIT_SCORE = 0.05, 1e-4
SCORE_THRESHOLD, NMS_IOU, MOST_DETECTIONS = 0.25, 0.6, 100


@dataclass(frozen=True)
class Parity:
    """Largest differences between torch and ONNX Runtime: corners in pixels, scores (class times objectness)."""

    box_px: float
    score: float


def export(saved: Checkpoint, split: SceneSplit, folder: Path, name: str, command: str) -> Exported:
    """Writes the bundle `folder`; replaces a bundle that is there."""
    network = networks.trained(saved)
    weights = round_filters(network)
    size = saved.recipe.data
    model = to_onnx(network, size.width_px, OUTPUT, size.height_px)
    parity = check_parity(network, model, split.validation.images[:PARITY_IMAGES])
    contents = {MODEL_FILE: model, WEIGHTS_FILE: save(weights)}
    manifest = describe(saved, split.train, split.validation, name, command, network)
    chosen = choose_reference(split.validation)
    if chosen is None:
        tqdm.write("lisard: no validation image has a box, so the bundle gets no self test", file=sys.stderr)
    else:
        test, contents[FRAMES_FILE] = chosen
        manifest = self_test_limits.with_limits(manifest, test, contents)
    words = f"{parity.box_px:.1e} px and {parity.score:.1e} in scores at most"
    return Exported(bundles.write(folder, manifest, contents, overwrite=True), words)


def check_parity(network: nn.Module, model: bytes, images: Tensor) -> Parity:
    """Largest differences on real images uint8 [N,3,H,W], for batches of all and of one."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    worst = Parity(0.0, 0.0)
    for some in [*images.split(16), images[:1]]:
        x = some.float().div(255).contiguous()
        with torch.no_grad():
            expected = network(x).numpy()
        found = session.run([OUTPUT], {INPUT: x.numpy()})[0]
        parity = difference(found, expected)
        worst = Parity(max(worst.box_px, parity.box_px), max(worst.score, parity.score))
    if not (worst.box_px <= LIMIT_BOX_PX and worst.score <= LIMIT_SCORE):
        raise LisardError(
            "ONNX file",
            found=f"boxes that differ by {worst.box_px:.2g} px, scores by {worst.score:.2g}",
            expected=f"at most {LIMIT_BOX_PX} px and {LIMIT_SCORE}",
        )
    return worst


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> Parity:
    """Between two outputs [N,P,5+C]."""
    boxes = np.abs(found[..., BOX] - expected[..., BOX]).max()
    return Parity(float(boxes), float(np.abs(_scores(found) - _scores(expected)).max()))


def _scores(output: NDArray[np.float32]) -> NDArray[np.float64]:
    score = 1 / (1 + np.exp(-np.clip(output[..., OBJECTNESS:].astype(np.float64), -80, 80)))
    return np.asarray(score[..., 1:] * score[..., :1])


def describe(
    saved: Checkpoint, train: Scenes, validation: Scenes, name: str, command: str, network: Detector
) -> Manifest:
    """Everything of bundle.json but the hashes."""
    size, last = saved.recipe.data, saved.history[-1]
    measures = {"validation_ap": last.validation_ap, "validation_ap50": last.validation_ap50}
    return Manifest(
        name=name,
        task="detection",
        labels=saved.classes,
        input=input_spec(size.width_px, size.height_px),
        output=OutputSpec(name=OUTPUT, activation=ACTIVATION),
        models=(ModelFile(file=MODEL_FILE),),
        decode=Decode(layout=LAYOUT, score_threshold=SCORE_THRESHOLD, nms_iou=NMS_IOU, max_detections=MOST_DETECTIONS),
        architecture=Architecture(name=networks.NAME, arguments=asdict(network.spec)),
        twin=WEIGHTS_FILE,
        card=card(saved, len(train), len(validation), measures, command),
    )


def choose_reference(scenes: Scenes) -> tuple[SelfTest, bytes] | None:
    """A self test on some of the scenes, its limits not yet measured (0), and the file with its images.

    Scenes are kept as they were letterboxed for training, so that the images are small and preprocessing leaves them
    as they are. None where no scene has a box.
    """
    chosen = scenes.take(reference_positions(scenes))
    labels = []
    for row_labels, row_boxes in zip(chosen.labels.tolist(), chosen.boxes.tolist(), strict=True):
        found = []
        for label, box in zip(row_labels, row_boxes, strict=True):
            if label >= 0:
                left, top, right, bottom = (round(value, CORNER_DIGITS) for value in box)
                found.append(TrueBox(label=label, box_xyxy_px=(left, top, right, bottom)))
        labels.append(tuple(found))
    if not any(labels):
        return None
    images = chosen.images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    suite = tuple(SelfTestCase(injection=name, min_accuracy=0.0) for name in references.SUITE)
    return SelfTest(frames=FRAMES_FILE, labels=tuple(labels), suite=suite), dump_arrays({"frames": images})


def reference_positions(scenes: Scenes, count: int = REFERENCE_IMAGES) -> NDArray[np.int64]:
    """Always the same scenes with boxes: of each class in turn, spread evenly over those that hold it."""
    labels = scenes.labels.cpu().numpy()
    holds = np.stack([(labels == number).any(axis=1) for number in range(len(scenes.classes))], axis=1)
    return np.asarray(references.of_each_class(holds, count), np.int64)
