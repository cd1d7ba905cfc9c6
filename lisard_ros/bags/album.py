"""The frames that a replay's page shows: for each injection those in which it did most harm, and one that held.

A frame held if every answer to it is still right.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros.bags.answers import Pair
from lisard_ros.bags.seen import Seen
from lisard_ros.frames import GREY_LEVELS, Pixels
from lisard_ros.injection import CLEAN
from lisard_ros.reporting.display import FrameImage, Overlay, in_percent, jpeg, words

HALF_GREY = GREY_LEVELS // 2
WORST, HELD = 2, 1  # frames shown of each injection and camera
MOST_WIDE_PX, QUALITY = 480, 82  # so that a page of five attacks stays below 5 MB


@dataclass(frozen=True, slots=True)
class Example:
    """One frame clean and under an injection, as one model answered it.

    harm: wrong, missed and false answers more than in the clean answer. model: its number. change: what the injection
    added, around grey, `gain` times as strong; None where nobody can see it.
    """

    topic: str
    injection: str
    stamp_ns: int
    harm: int
    clean: FrameImage
    attacked: FrameImage
    change: FrameImage | None
    gain: int
    model: int = 0


class Album:
    """Sees every answer (evaluation.evaluate) and keeps the examples alone."""

    def __init__(self, worst: int = WORST, held: int = HELD) -> None:
        """Keep so many frames of each camera and injection."""
        self._worst, self._held = worst, held
        self._clean: Seen | None = None
        self._kept: dict[tuple[int, str, str], list[Example]] = defaultdict(list)

    @classmethod
    def for_models(cls, count: int) -> Album:
        """Return an album that shows fewer frames of each where several models are shown."""
        return cls() if count == 1 else cls(1, 1 if count == 2 else 0)  # a page stays below 5 MB

    def watch(self, seen: Seen) -> None:
        """Look at one answer; the clean one of a frame and model comes first."""
        if seen.condition == CLEAN:
            self._clean = seen
            return
        clean, kept = self._clean, self._kept[seen.model, seen.item.topic, seen.condition]
        if clean is None or not any(pair.right is not None for pair in seen.pairs):
            return
        harm = wrong(seen.pairs) - wrong(clean.pairs)
        if harm <= 0 and wrong(seen.pairs):
            return  # wrong when clean too: neither harmed nor held
        group = [one for one in kept if (one.harm > 0) == (harm > 0)]
        most = self._worst if harm > 0 else self._held
        if len(group) >= most and (harm <= 0 or harm <= min(one.harm for one in group)):
            return
        if len(group) >= most:
            kept.remove(min(group, key=lambda one: one.harm))
        kept.append(_example(clean, seen, harm))

    def examples(self) -> tuple[Example, ...]:
        """Return what was kept: cameras and injections as they came, the most harm first."""
        return tuple(one for kept in self._kept.values() for one in sorted(kept, key=lambda one: -one.harm))


def wrong(pairs: tuple[Pair, ...]) -> int:
    """Count wrong, missed and false answers."""
    return sum(pair.right is False for pair in pairs)


def _example(clean: Seen, seen: Seen, harm: int) -> Example:
    item = seen.item
    assert item.frame is not None  # a frame that was answered was decoded
    plain = item.frame.rgb()
    view = None if seen.view is None else seen.view()
    change, gain = (None, 1) if view is None else _drawn(view.change, plain)
    return Example(
        item.topic,
        seen.condition,
        item.stamp_ns,
        harm,
        _image(plain, plain, clean),
        _image(plain if view is None else view.image, plain, seen),
        change,
        gain,
        seen.model,
    )


def _drawn(change: NDArray[np.int16], frame: Pixels) -> tuple[FrameImage | None, int]:
    """Draw a change of at most 255 levels around grey, as strong as fits."""
    if not change.any():
        return None, 1
    usual = float(np.percentile(np.abs(change), 99))  # a few stronger pixels may be cut off
    gain = max(1, int(HALF_GREY // max(usual, 1.0)))
    levels = np.clip(HALF_GREY + 1 + gain * change.astype(np.int32), 0, GREY_LEVELS).astype(np.uint8)
    height, width = frame.shape[:2]
    return FrameImage(jpeg(_smaller(levels), QUALITY), width, height, (), ""), gain


def _image(shown: Pixels, frame: Pixels, seen: Seen) -> FrameImage:
    """What was shown to the network, with the answers; boxes are in pixels of the frame."""
    height, width = frame.shape[:2]
    overlays = tuple(_overlay(pair, width, height) for pair in seen.pairs)
    truth = ", ".join(dict.fromkeys(words(pair.reference.name) for pair in seen.pairs if pair.reference))
    return FrameImage(jpeg(_smaller(shown), QUALITY), width, height, overlays, truth, seen.condition)


def _overlay(pair: Pair, width: int, height: int) -> Overlay:
    label = pair.answer or pair.reference
    assert label is not None  # a pair has one of both
    text = f"{words(label.name)} {label.score:.2f}" if pair.answer else f"{words(label.name)} missed"
    text = f"{label.track} {text}" if label.track else text
    box = label.box_xyxy_px or (0.0, 0.0, float(width), float(height))
    return Overlay(*in_percent(box, width, height), text, pair.right, pair.answer is None)


def _smaller(rgb: Pixels) -> Pixels:
    if rgb.shape[1] <= MOST_WIDE_PX:
        return rgb
    size = (MOST_WIDE_PX, max(1, round(rgb.shape[0] * MOST_WIDE_PX / rgb.shape[1])))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
