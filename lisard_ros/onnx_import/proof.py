"""What proves a new bundle: it answers, its scores are alive on real images, and one image shows its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros import backends
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import Decode
from lisard_ros.errors import BundleError, UsageError
from lisard_ros.frames import BoxXyxyPx, Frame, Hypothesis, Pixels, Result
from lisard_ros.inference.pipeline import Failure, Pipeline, Settings
from lisard_ros.inference.preprocess import normalise, prepare
from lisard_ros.reporting import drawing

_CURE = "check --labels, --task, --output, --activation and --layout"
_QUANTISED = b"DequantizeLinear"  # in int8 files a faint score is exactly 0
SHOWN_CLASSES = 5
SHOWN_LABELS = 5


@dataclass(frozen=True, slots=True)
class CheckedImage:
    """An image that the bundle answered. answers: one line for each object or class; saved: the image with them."""

    file: str
    answers: tuple[str, ...]
    saved: str


def require_answers(bundle: Bundle, images: Sequence[Pixels] = ()) -> None:
    """Answer two black images in one batch, then real ones; the first failure (shape, numbers, batch) is an error.

    Args:
        bundle: The bundle.
        images: Real images, uint8 RGB [h, w, 3] of any size; may be empty.

    Raises:
        BundleError: An image has no answer.
    """
    spec = bundle.manifest.input
    black = Frame(np.zeros((spec.height, spec.width, 3), np.uint8), "rgb", 0, "", "proof")
    pipeline = Pipeline(bundle, backends.choose(bundle))
    outcomes = pipeline.run([black, black]) + pipeline.run([Frame(rgb, "rgb", 0, "", "proof") for rgb in images])
    pipeline.close()
    for outcome in outcomes:
        if isinstance(outcome, Failure):
            error = outcome.error
            raise BundleError(error.what, found=error.found, expected=error.expected, cure=_CURE) from error


def require_live_scores(bundle: Bundle, images: Sequence[Pixels]) -> None:
    """Refuse a bundle of which a score is 0 in every row of every real image: a column was misread.

    Args:
        bundle: The bundle.
        images: Real images, uint8 RGB [h, w, 3] of any size. Without any, nothing is concluded.

    Raises:
        BundleError: A detector's objectness or class, or every class of a classifier, is always 0. In an int8 file
            faint scores become 0, so there only all classes together count.
    """
    manifest = bundle.manifest
    if not len(images) or manifest.output.activation != "none":
        return  # no sigmoid or softmax gives 0
    backend = backends.choose(bundle).backend
    outputs = backend.infer(normalise(prepare(images, manifest.input), manifest.input))
    backend.close()
    names, scores = _scores(outputs, manifest.decode, manifest.labels)
    dead = np.asarray(~scores.any(axis=0), bool)
    whole = manifest.decode is None or any(_QUANTISED in bundle.data(model.file) for model in manifest.models)
    if not (dead.all() if whole else dead.any()):
        return
    always = [name for name, is_dead in zip(names, dead.tolist(), strict=True) if is_dead]
    raise BundleError(
        "a score of the model is always 0",
        found=f"0 for {', '.join(always[:SHOWN_LABELS])}{', ...' if len(always) > SHOWN_LABELS else ''} "
        f"in all {len(scores)} rows of {len(images)} images",
        expected="scores that are not 0 everywhere",
        cure="check --layout, --labels and --output; take images that show the model's classes",
    )


def check_image(pipeline: Pipeline, frame: Frame, file: Path, target: Path) -> CheckedImage:
    """Answer one image and write it with its boxes, or with its best classes.

    Args:
        pipeline: The bundle that answers.
        frame: The image.
        file: Where it was read.
        target: The image file to write.

    Returns:
        The answers as lines.

    Raises:
        BundleError: The bundle has no answer.
        UsageError: The file cannot be written.
    """
    (outcome,) = pipeline.run([frame])
    if isinstance(outcome, Failure):
        raise BundleError(f"no answer to {file}", found=str(outcome.error), cure=_CURE) from outcome.error
    answers = _answers(outcome)
    captions = [drawing.Caption(f"{h.label} {h.score:.2f}", h.index, box) for h, box in answers]
    done, data = cv2.imencode(target.suffix, drawing.draw(frame, captions))
    assert done
    try:
        target.write_bytes(data.tobytes())
    except OSError as error:
        raise UsageError(
            "cannot write the checked image",
            found=f"{target}: {error.strerror}",
            expected="a folder that you may write to",
            cure="choose another --out, or call it in another folder",
        ) from error
    return CheckedImage(str(file), tuple(_line(h, box) for h, box in answers), str(target))


def checking(bundle: Bundle) -> Pipeline:
    """Return the pipeline for `check_image`."""
    return Pipeline(bundle, backends.choose(bundle), Settings(top_k=SHOWN_CLASSES))


def _scores(
    outputs: NDArray[np.float32], decode: Decode | None, labels: Sequence[str]
) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    """Names of the score columns, and their numbers in all rows of all images, [rows, columns]."""
    if decode is None:
        return tuple(labels), outputs.reshape(len(outputs), -1)
    rows = outputs.transpose(0, 2, 1) if decode.layout == "cxcywh_classes_first" else outputs
    rows = rows.reshape(-1, rows.shape[2])
    if decode.layout == "xyxy_score_class":
        return ("every box",), rows[:, 4:5]
    if decode.layout == "cxcywh_classes_first":
        return tuple(labels), rows[:, 4:]
    return ("objectness", *labels), rows[:, 4:]


def _answers(result: Result) -> list[tuple[Hypothesis, BoxXyxyPx | None]]:
    if result.detections is not None:
        return [(item.hypotheses[0], item.box_xyxy_px) for item in result.detections.items if item.hypotheses]
    return [(hypothesis, None) for hypothesis in result.classification.hypotheses] if result.classification else []


def _line(hypothesis: Hypothesis, box: BoxXyxyPx | None) -> str:
    where = "" if box is None else " at [" + ", ".join(f"{value:.1f}" for value in box) + "]"
    return f"{hypothesis.label} {hypothesis.score:.3f}{where}"
