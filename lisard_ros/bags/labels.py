"""True labels of a recording, of its topics or of a file beside it, and which frame each of them belongs to.

A label belongs to the frame nearest in time, within a tolerance. Where two are equally near, the frame is ambiguous and
is not scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lisard_ros.errors import DataError, nearest
from lisard_ros.frames import Region

UNMATCHED, AMBIGUOUS = -1, -2
MOST_DEFAULT_TOLERANCE_MS = 20.0
NS_PER_MS = 1_000_000
SHOWN = 5  # names in a message
Stamps = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Truth:
    """What one frame shows. label: the class of the whole; regions: its boxes, with labels; None: nothing is known.

    track: of the object that a whole frame shows, '' where none is named.
    """

    label: str | None = None
    regions: tuple[Region, ...] | None = None
    track: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class LabelSeries:
    """Labels in the order of their stamps. stamps_ns [N]: rising; truths: None where two of one stamp differ.

    source: topic or file. topic: of the images that they belong to; '': to every camera. repeated: how many labels
    were left out because the same one stands there already.
    """

    source: str
    stamps_ns: Stamps
    truths: tuple[Truth | None, ...]
    topic: str = ""
    repeated: int = 0

    def names(self) -> Counter[str]:
        """Count the classes that occur."""
        known = [truth for truth in self.truths if truth is not None]
        whole = [truth.label for truth in known]
        boxes = [region.label for truth in known for region in truth.regions or ()]
        return Counter(name for name in (*whole, *boxes) if name is not None)


@dataclass(frozen=True, slots=True)
class LabelJoin:
    """How the labels of one source met the images of one camera. matched, unmatched, ambiguous: frames that were read.

    unused: labels that belong to no frame of this camera; those of a file, to none of it in any recording.
    """

    topic: str
    source: str
    tolerance_ms: float
    matched: int
    unmatched: int
    ambiguous: int
    unused: int

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"labels of {self.source} on {self.topic}: {self.matched} frames matched within {self.tolerance_ms:g} ms, "
            f"{self.unmatched} unmatched, {self.ambiguous} ambiguous; {self.unused} labels without a frame"
        )


def added(joins: Iterable[LabelJoin]) -> tuple[LabelJoin, ...]:
    """Add up those of one source and camera."""
    together: dict[tuple[str, str], LabelJoin] = {}
    for one in joins:
        before = together.get((one.topic, one.source))
        together[one.topic, one.source] = (
            one
            if before is None
            else LabelJoin(
                one.topic,
                one.source,
                max(before.tolerance_ms, one.tolerance_ms),
                before.matched + one.matched,
                before.unmatched + one.unmatched,
                before.ambiguous + one.ambiguous,
                before.unused + one.unused,
            )
        )
    return tuple(together.values())


def in_order(source: str, labels: Iterable[tuple[int, Truth]], topic: str = "") -> LabelSeries:
    """Sort labels (stamp in ns, truth) by their stamps.

    Of equal labels at one stamp one is kept. Different ones at one stamp contradict each other: the stamp stays, its
    truth is None.
    """
    by_stamp: dict[int, Truth | None] = {}
    repeated = 0
    for stamp, truth in labels:
        if stamp not in by_stamp:
            by_stamp[stamp] = truth
        elif by_stamp[stamp] == truth:
            repeated += 1
        else:
            by_stamp[stamp] = None
    stamps = sorted(by_stamp)
    return LabelSeries(source, np.array(stamps, np.int64), tuple(by_stamp[s] for s in stamps), topic, repeated)


def default_tolerance_ms(frames_ns: Stamps) -> float:
    """Return half the median interval of a camera's frames, at most MOST_DEFAULT_TOLERANCE_MS.

    Examples:
        >>> default_tolerance_ms(np.array([0, 33_000_000, 66_000_000]))
        16.5
    """
    intervals = np.diff(np.unique(frames_ns))
    if not intervals.size:
        return MOST_DEFAULT_TOLERANCE_MS
    return min(MOST_DEFAULT_TOLERANCE_MS, float(np.median(intervals)) / 2 / NS_PER_MS)


def join(frames_ns: Stamps, series: LabelSeries, tolerance_ms: float | NDArray[np.float64]) -> NDArray[np.intp]:
    """Find the label of each frame: the nearest one, if no other frame is nearer to it.

    Args:
        frames_ns: Stamps of one camera's frames in the order of the recording, int64 [F].
        series: The labels.
        tolerance_ms: How far a label may be from its frame, 0 or more; one for all frames, or for each [F].

    Returns:
        [F]: the place of the label in the series, UNMATCHED, or AMBIGUOUS where two labels are equally near, two
        frames are equally near to one label, or the labels of that stamp contradict each other.
    """
    stamps, count = series.stamps_ns, len(series.stamps_ns)
    places = np.full(len(frames_ns), UNMATCHED, np.intp)
    if not count or not len(frames_ns):
        return places
    after = np.minimum(np.searchsorted(stamps, frames_ns), count - 1)
    before = np.maximum(after - 1, 0)
    to_after, to_before = np.abs(stamps[after] - frames_ns), np.abs(stamps[before] - frames_ns)
    nearest_one = np.where(to_before < to_after, before, after)
    distance = np.minimum(to_before, to_after)
    near = distance <= tolerance_ms * NS_PER_MS
    places[near] = nearest_one[near]
    contradicting = np.array([truth is None for truth in series.truths], bool)
    tied = near & ((to_before == to_after) & (before != after) | contradicting[nearest_one])

    best = np.full(count, np.iinfo(np.int64).max)  # of each label, the distance of the frame that is nearest to it
    np.minimum.at(best, nearest_one[near], distance[near])
    takers = np.bincount(nearest_one[near & (distance == best[nearest_one])], minlength=count)
    places[near & (distance > best[nearest_one])] = UNMATCHED
    shared = near & (distance == best[nearest_one]) & (takers[nearest_one] > 1)
    places[tied | shared] = AMBIGUOUS
    return places


def renamed(series: LabelSeries, names: Mapping[str, str]) -> LabelSeries:
    """Return the labels under other names; what is renamed to '' is left out.

    names: recorded name -> name of the bundle, or ''.
    """
    if not names:
        return series
    truths = tuple(None if truth is None else _renamed(truth, names) for truth in series.truths)
    return replace(series, truths=truths)


def _renamed(truth: Truth, names: Mapping[str, str]) -> Truth:
    label = None if truth.label is None else names.get(truth.label, truth.label) or None
    if truth.regions is None:
        return replace(truth, label=label)
    regions = tuple(
        region if region.label is None else replace(region, label=names.get(region.label, region.label))
        for region in truth.regions
    )
    return replace(truth, label=label, regions=tuple(region for region in regions if region.label != ""))


def require_known(recorded: Mapping[str, int], known: Iterable[str], bundle: str) -> None:
    """Refuse labels of classes that the bundle does not have: each would count as a wrong answer.

    Args:
        recorded: How often each class is recorded.
        known: Classes that an answer can fit: labels of the bundle and its groups.
        bundle: Its name, for the message.

    Raises:
        DataError: Some are unknown; it suggests names for --label-map.
    """
    names = sorted(known)
    unknown = sorted(set(recorded) - set(names), key=lambda name: (-recorded[name], name))
    if not unknown:
        return
    found = ", ".join(f"{name} ({recorded[name]})" for name in unknown[:SHOWN])
    pairs = [f"{name}={guess}" for name in unknown[:SHOWN] if (guess := nearest(name, names)) is not None]
    example = ",".join(pairs) or f"{unknown[0]}={names[0] if names else ''}"
    raise DataError(
        f"labels of classes that bundle {bundle} does not have",
        found=found + (f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""),
        expected="of " + shown(names),
        cure=f"--label-map {example} renames them, NAME= leaves them out",
    )


def gap_ms(frames_ns: Stamps, series: LabelSeries) -> float:
    """Return the smallest distance between a frame and a label; infinity where there are none."""
    if not len(frames_ns) or not len(series.stamps_ns):
        return float("inf")
    after = np.minimum(np.searchsorted(series.stamps_ns, frames_ns), len(series.stamps_ns) - 1)
    both = np.abs(np.stack([series.stamps_ns[after], series.stamps_ns[np.maximum(after - 1, 0)]]) - frames_ns)
    return float(both.min()) / NS_PER_MS


def shown(names: Sequence[str]) -> str:
    """Name the first few."""
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
