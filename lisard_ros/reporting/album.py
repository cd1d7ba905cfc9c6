"""The images that a page shows of attacks: for each attack those in which it did most harm, and one that held.

An image held if every answer to it is still right.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros.evaluation.pairs import Pair
from lisard_ros.frames import GREY_LEVELS, Frame, Pixels
from lisard_ros.reporting.display import AttackedView, FrameImage, Overlay, in_percent, jpeg, png, words

HALF_GREY = GREY_LEVELS // 2
WORST, HELD = 2, 1  # images shown of each attack and source
MOST_WIDE_PX, QUALITY = 480, 82
LOSSLESS_PX = 128  # images up to this size are shown pixel by pixel
MOST_BYTES = 4_000_000  # of all images of a page, so that it stays below 5 MB


@dataclass(frozen=True, slots=True, eq=False)
class AnsweredImage:
    """A frame with the answers to it. condition: `clean` or an attack; view: how the attacked network saw it."""

    frame: Frame
    condition: str
    pairs: tuple[Pair, ...]
    view: Callable[[], AttackedView] | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One image clean and under an attack. harm: wrong, missed and false answers more than in the clean answer.

    source: the camera, or what else the images come from. model: number of the model that answered. change: what the
    attack added, around grey, `gain` times as strong; None where nobody can see it.
    """

    source: str
    injection: str
    stamp_ns: int
    harm: int
    clean: FrameImage
    attacked: FrameImage
    change: FrameImage | None
    gain: int
    model: int = 0

    @property
    def size_bytes(self) -> int:
        """How much its images add to a page."""
        images = (self.clean, self.attacked, self.change)
        return sum(len(image.uri) for image in images if image is not None)


class Album:
    """Is offered every attacked image and keeps the examples alone."""

    def __init__(self, worst: int = WORST, held: int = HELD) -> None:
        """Keep so many images of each model, source and attack."""
        self._worst, self._held = worst, held
        self._kept: dict[tuple[int, str, str], list[Example]] = defaultdict(list)

    def offer(self, source: str, clean: AnsweredImage, attacked: AnsweredImage, model: int = 0) -> None:
        """Look at one image, answered clean and under an attack."""
        kept = self._kept[model, source, attacked.condition]
        if not any(pair.right is not None for pair in attacked.pairs):
            return
        harm = wrong(attacked.pairs) - wrong(clean.pairs)
        if harm <= 0 and wrong(attacked.pairs):
            return  # wrong when clean too: neither harmed nor held
        self._keep(kept, harm, lambda: replace(_example(source, clean, attacked, harm), model=model))

    def add(self, examples: Iterable[Example]) -> None:
        """Take what another album kept of the images that come next (`in_order`)."""
        for one in examples:
            self._keep(self._kept[one.model, one.source, one.injection], one.harm, functools.partial(_itself, one))

    def in_order(self) -> tuple[Example, ...]:
        """Return everything that was kept, of each model, source and attack by time."""
        return tuple(one for kept in self._kept.values() for one in kept)

    @property
    def sizes(self) -> tuple[int, int]:
        """How many images it keeps of each model, source and attack: harmed ones, and others."""
        return self._worst, self._held

    def _keep(self, kept: list[Example], harm: int, make: Callable[[], Example]) -> None:
        """Keep an example that does more harm than those that are kept, or that there is room for."""
        group = [one for one in kept if (one.harm > 0) == (harm > 0)]
        most = self._worst if harm > 0 else self._held
        if len(group) >= most and (harm <= 0 or harm <= min(one.harm for one in group)):
            return
        if len(group) >= most:
            kept.remove(min(group, key=lambda one: one.harm))
        kept.append(make())

    def examples(self, most_bytes: int = MOST_BYTES) -> tuple[Example, ...]:
        """Return what was kept: sources and attacks as they came, the most harm first.

        Where all of it is too large, every attack keeps its first examples as long as there is room.
        """
        groups = [sorted(kept, key=lambda one: -one.harm) for kept in self._kept.values()]
        chosen, room = set[int](), most_bytes
        for rank in range(self._worst + self._held):
            for one in (group[rank] for group in groups if rank < len(group)):
                if one.size_bytes <= room:
                    chosen.add(id(one))
                    room -= one.size_bytes
        return tuple(one for group in groups for one in group if id(one) in chosen)


def _itself(example: Example) -> Example:
    return example


def wrong(pairs: tuple[Pair, ...]) -> int:
    """Count wrong, missed and false answers."""
    return sum(pair.right is False for pair in pairs)


def _example(source: str, clean: AnsweredImage, attacked: AnsweredImage, harm: int) -> Example:
    plain = attacked.frame.rgb()
    view = None if attacked.view is None else attacked.view()
    change, gain = (None, 1) if view is None else _drawn(view.change, plain)
    shown = plain if view is None else view.image
    return Example(
        source,
        attacked.condition,
        attacked.frame.stamp_ns,
        harm,
        _image(plain, plain, clean),
        _image(shown, plain, attacked),
        change,
        gain,
    )


def _drawn(change: NDArray[np.int16], frame: Pixels) -> tuple[FrameImage | None, int]:
    """Draw a change of at most 255 levels around grey, as strong as fits."""
    if not change.any():
        return None, 1
    usual = float(np.percentile(np.abs(change), 99))  # a few stronger pixels may be cut off
    gain = max(1, int(HALF_GREY // max(usual, 1.0)))
    levels = np.clip(HALF_GREY + 1 + gain * change.astype(np.int32), 0, GREY_LEVELS).astype(np.uint8)
    height, width = frame.shape[:2]
    return FrameImage(_uri(levels), width, height, (), "", pixelated=_is_small(levels)), gain


def _image(shown: Pixels, frame: Pixels, answered: AnsweredImage) -> FrameImage:
    """What was shown to the network, with the answers; boxes are in pixels of the frame."""
    height, width = frame.shape[:2]
    overlays = tuple(_overlay(pair, width, height) for pair in answered.pairs)
    truth = ", ".join(dict.fromkeys(words(pair.reference.name) for pair in answered.pairs if pair.reference))
    return FrameImage(_uri(shown), width, height, overlays, truth, answered.condition, _is_small(shown))


def _overlay(pair: Pair, width: int, height: int) -> Overlay:
    label = pair.answer or pair.reference
    assert label is not None  # a pair has one of both
    text = f"{words(label.name)} {label.score:.2f}" if pair.answer else f"{words(label.name)} missed"
    text = f"#{label.track} {text}" if label.track else text
    box = label.box_xyxy_px or (0.0, 0.0, float(width), float(height))
    return Overlay(*in_percent(box, width, height), text, pair.right, pair.answer is None)


def _uri(rgb: Pixels) -> str:
    if _is_small(rgb):
        return png(rgb)
    if rgb.shape[1] > MOST_WIDE_PX:
        size = (MOST_WIDE_PX, max(1, round(rgb.shape[0] * MOST_WIDE_PX / rgb.shape[1])))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    return jpeg(rgb, QUALITY)


def _is_small(rgb: Pixels) -> bool:
    return max(rgb.shape[:2]) <= LOSSLESS_PX
