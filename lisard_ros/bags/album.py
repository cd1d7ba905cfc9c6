"""The frames that a replay's page shows, chosen while they are answered (reporting/album.py)."""

from __future__ import annotations

from collections.abc import Iterable

from lisard_ros.bags.seen import Seen
from lisard_ros.injection import CLEAN
from lisard_ros.reporting.album import HELD, WORST, Album, AnsweredImage, Example


class ReplayAlbum:
    """Sees every answer (evaluation.evaluate) and keeps the examples alone."""

    def __init__(self, worst: int = WORST, held: int = HELD) -> None:
        """Keep so many frames of each model, camera and injection."""
        self._album = Album(worst, held)
        self._clean: AnsweredImage | None = None

    @classmethod
    def for_models(cls, count: int) -> ReplayAlbum:
        """Return an album that shows fewer frames of each where several models are shown."""
        return cls() if count == 1 else cls(1, 1 if count == 2 else 0)

    def watch(self, seen: Seen) -> None:
        """Look at one answer; the clean one of a frame and model comes first."""
        frame = seen.item.frame
        answered = None if frame is None else AnsweredImage(frame, seen.condition, seen.pairs, seen.view)
        if seen.condition == CLEAN:
            self._clean = answered
        elif self._clean is not None and answered is not None:
            self._album.offer(seen.item.topic, self._clean, answered, seen.model)

    @property
    def sizes(self) -> tuple[int, int]:
        """How many frames it keeps of each model, camera and injection: harmed ones, and others."""
        return self._album.sizes

    def add(self, examples: Iterable[Example]) -> None:
        """Take what another album kept of the frames that come next (`in_order`)."""
        self._album.add(examples)

    def in_order(self) -> tuple[Example, ...]:
        """Return everything that was kept, of each model, camera and injection by time."""
        return self._album.in_order()

    def examples(self) -> tuple[Example, ...]:
        """Return what was kept."""
        return self._album.examples()
