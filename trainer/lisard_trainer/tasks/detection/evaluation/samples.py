"""Images for the page: true boxes and the bundle's answers, clean and changed."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros.inference.postprocess import Boxes
from lisard_ros.reporting.display import png

from ....evaluation.conditions import CLEAN
from ....evaluation.deployed import TORCH
from ....evaluation.page import CaptionedImage, Gallery, ImageCard
from .measuring import DetectionContext, DetectionResult

SHOWN = 3  # images of a condition
PRINT_ZOOM = 4  # pixels for one square of a patch
TRUE_COLOUR, FOUND_COLOUR = (250, 210, 40), (60, 220, 110)  # RGB


def galleries(context: DetectionContext, results: Sequence[DetectionResult]) -> tuple[Gallery, ...]:
    """For every attacked or noisy condition the bundle's images where most was lost, before and after."""
    own = [r for r in results if (r.model, r.backend) == (context.models.of_bundle.name, TORCH)]
    clean = next(result for result in own if result.condition.name == CLEAN)
    return tuple(_gallery(context, clean, r) for r in own if r.condition.group not in ("clean", "corruption"))


def _gallery(context: DetectionContext, clean: DetectionResult, result: DetectionResult) -> Gallery:
    condition, cards = result.condition, []
    if condition.where:
        patch = context.workshop.print_of(condition, context.source_for_bundle(condition))
        levels = np.rint(patch.transpose(1, 2, 0) * 255).astype(np.uint8)
        enlarged = levels.repeat(PRINT_ZOOM, 0).repeat(PRINT_ZOOM, 1)
        cards.append(ImageCard((CaptionedImage(png(enlarged), "the print"),)))
    lost = [int((a & ~b).sum()) for a, b in zip(clean.matches.met, result.matches.met, strict=True)]
    for place in np.argsort(-np.array(lost), kind="stable")[:SHOWN].tolist():
        batch, met = context.as_met(condition, place)
        before = context.scenes.images[place].numpy().astype(np.float32) / 255
        images = (
            CaptionedImage(png(draw(before, clean.found[place], context, place)), "clean"),
            CaptionedImage(png(draw(met[place - batch.start], result.found[place], context, place)), "changed"),
        )
        first, then = (int(r.matches.met[place].sum()) for r in (clean, result))
        words = f"{context.scenes.paths[place]}: {first} of {len(result.matches.met[place])} met clean, {then} after"
        cards.append(ImageCard(images, words))
    return Gallery(condition.name, tuple(cards), enlarged=False)


def draw(image: NDArray[np.floating], found: Boxes, context: DetectionContext, place: int) -> NDArray[np.uint8]:
    """RGB [H,W,3] with the true boxes and the answers that the bundle would show."""
    canvas = np.ascontiguousarray(np.rint(np.clip(image, 0, 1).transpose(1, 2, 0) * 255).astype(np.uint8))
    labels = context.scenes.labels[place].numpy()
    for box in context.scenes.boxes[place].numpy()[labels >= 0]:
        _rectangle(canvas, box, TRUE_COLOUR)
    for box, score, label in zip(found.boxes_xyxy_px, found.scores, found.classes, strict=True):
        if score >= context.threshold:
            _rectangle(canvas, box, FOUND_COLOUR)
            corner = (max(0, int(box[0])), max(10, int(box[1]) - 3))
            cv2.putText(canvas, f"{context.scenes.classes[label]} {score:.2f}", corner, 0, 0.35, FOUND_COLOUR, 1)
    return canvas


def _rectangle(canvas: NDArray[np.uint8], box: NDArray[np.floating], colour: tuple[int, int, int]) -> None:
    left, top, right, bottom = (round(float(v)) for v in box)
    cv2.rectangle(canvas, (left, top), (right, bottom), colour, 1)
