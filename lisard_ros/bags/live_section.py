"""What a replay's page shows of a recording that was played through a node (live.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from lisard_ros.bags.live import DIFFERENT, EQUAL, FAILED, LOST, REPLACED, TOO_OLD, UNCLEAR, LiveCamera
from lisard_ros.bags.stretches import stretches
from lisard_ros.reporting import charts

MOST_RANGES = 40  # that are named
MEANINGS = {
    EQUAL: "the answer without DDS",
    DIFFERENT: "another answer",
    REPLACED: "a newer frame came before the node took this one",
    LOST: "the middleware lost it",
    TOO_OLD: "older than max_age_ms",
    FAILED: "no answer is possible",
    UNCLEAR: "unanswered; the node counts several causes at that time",
}


@dataclass(frozen=True, slots=True)
class LiveOutcome:
    """What became of some frames. share: of all published ones, in [0, 1]; frames: their numbers, in words."""

    name: str
    meaning: str
    count: int
    share: float
    frames: str


@dataclass(frozen=True, slots=True)
class LiveSection:
    """One camera. timeline: the share of each outcome over time."""

    camera: LiveCamera
    outcomes: tuple[LiveOutcome, ...]
    timeline: Markup


def section(camera: LiveCamera) -> LiveSection:
    """Lay out what became of the frames of one camera."""
    outcomes = tuple(
        LiveOutcome(name, MEANINGS[name], len(numbers), len(numbers) / camera.published, in_words(numbers))
        for name, numbers in camera.outcomes.items()
    )
    return LiveSection(camera, outcomes, _timeline(camera))


def in_words(numbers: Sequence[int]) -> str:
    """Name rising numbers, neighbours together.

    Examples:
        >>> in_words((0, 1, 2, 7, 9, 10))
        '0-2, 7, 9-10'
    """
    ranges = [f"{begin}-{end}" if end > begin else str(begin) for begin, end in _ranges(numbers)]
    more = len(ranges) - MOST_RANGES
    return ", ".join(ranges[:MOST_RANGES]) + (f" and {more} more places (the JSON has all)" if more > 0 else "")


def _ranges(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    begin = None
    for place, number in enumerate(numbers):
        begin = number if begin is None else begin
        if place + 1 == len(numbers) or numbers[place + 1] != number + 1:
            yield begin, number
            begin = None


def _timeline(camera: LiveCamera) -> Markup:
    """Draw each outcome over time."""
    if not camera.published:
        return Markup("")
    time, everything, rows = stretches(camera.stamps_ns), np.ones(camera.published), []
    for name, numbers in camera.outcomes.items():
        of_outcome = np.zeros(camera.published)
        of_outcome[list(numbers)] = 1
        shares = tuple(one for one in time.shares(of_outcome, everything) if one[2])
        rows.append(charts.ShareTimes(name, shares))
    return Markup(charts.share_timeline(rows, time.length_s, "Share of each outcome over time"))
