"""The reference images of a bundle's self test, and what they show: one class each, or true boxes."""

from __future__ import annotations

from collections.abc import Container, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lisard_ros import injection
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.arrays import reference_images
from lisard_ros.bundle.manifest import SelfTest, TrueBox
from lisard_ros.frames import Frame

NO_CLASS = -1  # of an image that has boxes instead
# Weather, the camera's own motion, and its encoder, each at the middle severity.
CORRUPTIONS = ("corruption/fog/3", "corruption/motion_blur/3", "corruption/jpeg_compression/3")
SUITE = (injection.CLEAN, injection.NOISE, *CORRUPTIONS)  # what every bundle can be tested with
Judged = Literal["accuracy", "agreement"]


@dataclass(frozen=True, slots=True)
class TrueGroup:
    """A coarse class (`roi_groups` of a bundle): each of `classes`, by index, is right."""

    name: str
    classes: frozenset[int]


Truth = int | TrueGroup | tuple[TrueBox, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceImages:
    """Images of a test as frames; truths: for each the index of its class, its coarse class, or its true boxes.

    blocks: of each image the number of the block of evidence that it belongs to; empty: each is one by itself. judged:
    `agreement` where the truths are the clean answers.
    """

    frames: tuple[Frame, ...]
    truths: tuple[Truth, ...]
    blocks: tuple[int, ...] = ()
    judged: Judged = "accuracy"

    @property
    def labels(self) -> NDArray[np.intp]:
        """Class index of each image, int [N]; NO_CLASS for images with boxes."""
        return np.array([truth if isinstance(truth, int) else NO_CLASS for truth in self.truths], np.intp)

    def block_of(self, row: int) -> int:
        """Return the block of evidence of an image."""
        return self.blocks[row] if self.blocks else row

    def take(self, rows: NDArray[np.intp]) -> ReferenceImages:
        """Return some of the images."""
        frames, truths = tuple(self.frames[row] for row in rows), tuple(self.truths[row] for row in rows)
        blocks = tuple(self.block_of(row) for row in rows) if self.blocks else ()
        return ReferenceImages(frames, truths, blocks, self.judged)


def load(bundle: Bundle, test: SelfTest) -> ReferenceImages:
    """Read the reference images of a bundle.

    Raises:
        BundleError: They are not uint8 [N, H, W, 3] RGB with N labels, or a true box lies outside its image.
    """
    frames = tuple(
        Frame(image, "rgb", number, "self_test", "self_test")
        for number, image in enumerate(reference_images(bundle, test))
    )
    return ReferenceImages(frames, test.labels)


def of_each_class(holds: NDArray[np.bool_], count: int) -> NDArray[np.intp]:
    """Choose images for a self test, always the same ones: of each class in turn, spread evenly over those with it.

    Args:
        holds: [N, C], which classes each of N images shows.
        count: How many images, if as many show something; the others are never chosen.

    Returns:
        Rows of the chosen images, sorted.
    """
    pools = [np.flatnonzero(column) for column in holds.T]
    everything = np.flatnonzero(holds.any(axis=1))
    each = -(-count // len(pools))
    by_class = [spread(pool, each) for pool in pools]
    in_turn = [int(rows[turn]) for turn in range(each) for rows in by_class if turn < len(rows)]
    chosen = dict.fromkeys([*in_turn, *spread(everything, count).tolist(), *everything.tolist()])
    return np.sort(np.array(list(chosen)[:count], np.intp))


def spread(rows: NDArray[np.integer], count: int) -> NDArray[np.intp]:
    """Return `count` of the rows, spread evenly over them; all of them if there are no more."""
    places = (np.arange(count) + 0.5) / max(count, 1) * len(rows)
    return np.asarray(rows[np.unique(places.astype(int))] if len(rows) else rows, np.intp)


def of_different_labels(labels: Sequence[Hashable], count: int, used: Container[object] = ()) -> list[int]:
    """Return up to `count` places from all over whose labels differ, from each other and from those `used`."""
    step = max(1, len(labels) // max(1, 3 * count))
    first: dict[Hashable, int] = {}
    for place in (*range(0, len(labels), step), *range(len(labels))):
        if labels[place] not in used:
            first.setdefault(labels[place], place)
    return list(first.values())[:count]
