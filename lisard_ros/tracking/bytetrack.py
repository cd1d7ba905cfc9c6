"""ByteTrack (Zhang et al. 2022, "ByteTrack: Multi-Object Tracking by Associating Every Detection Box").

Tracks first take the boxes that are reported anyway; a track that gets none takes one of the faint boxes, which are too
weak to be reported on their own. Overlap with the predicted place decides, and a class that changes costs some of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lisard_ros.frames import Detection
from lisard_ros.inference.postprocess import iou_matrix
from lisard_ros.message_fields import NS_PER_S
from lisard_ros.tracking import motion
from lisard_ros.tracking.assignment import assign
from lisard_ros.tracking.interface import Tracked
from lisard_ros.tracking.motion import MotionNoise

_LARGEST_PX = 1e6  # boxes of other detectors may have any finite corners


@dataclass(frozen=True, slots=True)
class ByteTrackSettings:
    """Limits of the association.

    min_iou, min_iou_faint, min_iou_second: lowest overlap of a predicted track with a reported box, with a faint one,
    and of a box with the next one when a track begins; those of the published code. class_change: what another class
    takes off the overlap. max_lost_s: how long a track lives without a box. max_tracks: bounds memory and time; of the
    boxes of a frame those with the best scores are tracked, of the tracks those that were seen last are kept.
    """

    min_iou: float = 0.2
    min_iou_faint: float = 0.5
    min_iou_second: float = 0.3
    class_change: float = 0.2
    max_lost_s: float = 1.0
    max_tracks: int = 300
    noise: MotionNoise = field(default_factory=MotionNoise)


@dataclass(frozen=True, slots=True)
class _Track:
    """id: 0 until the track has a second box. label: class of its last box, which was seen at `seen_ns`."""

    id: int
    label: str
    seen_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class _Boxes:
    """The boxes of a frame that can be tracked, best scores first. numbers: their places among all boxes."""

    corners: NDArray[np.float64]
    labels: NDArray[np.str_]
    numbers: tuple[int, ...]


class ByteTrack:
    """The tracks of one camera, see `interface.Tracker`."""

    def __init__(self, settings: ByteTrackSettings | None = None) -> None:
        """Begin without tracks; ids count from 1."""
        self._settings = settings or ByteTrackSettings()
        self._ids = 0
        self._forget()

    def update(self, reported: Sequence[Detection], faint: Sequence[Detection], stamp_ns: int) -> Tracked:
        """Take the boxes of the next frame; stamps in nanoseconds, a jump back forgets all tracks."""
        if stamp_ns < self._stamp_ns:
            self._forget()
        limits = self._settings
        previous_ns = self._advance(stamp_ns)
        strong, weak = _boxes(reported, limits.max_tracks), _boxes(faint, limits.max_tracks)
        tracks = range(len(self._tracks))
        confirmed = [n for n in tracks if self._tracks[n].id]
        taken = self._match(confirmed, strong, range(len(strong.numbers)), limits.min_iou)
        unseen = [n for n in confirmed if n not in taken and self._tracks[n].seen_ns == previous_ns]
        recovered = self._match(unseen, weak, range(len(weak.numbers)), limits.min_iou_faint)
        free = sorted(set(range(len(strong.numbers))) - set(taken.values()))
        tentative = [n for n in tracks if not self._tracks[n].id]
        taken |= self._match(tentative, strong, free, limits.min_iou_second)
        ids = self._ids_of(taken)
        self._go_on(taken, recovered, strong, weak, ids)
        return Tracked(
            _with_ids(reported, {strong.numbers[box]: ids[track] for track, box in taken.items()}),
            tuple(replace(faint[weak.numbers[box]], id=str(ids[track])) for track, box in sorted(recovered.items())),
        )

    def _forget(self) -> None:
        self._tracks: tuple[_Track, ...] = ()
        self._motion = motion.begin(np.empty((0, 4)), self._settings.noise)
        self._stamp_ns = 0

    def _advance(self, stamp_ns: int) -> int:
        """Predict all tracks to this time, end those that were not seen for too long; return the time before."""
        previous_ns, self._stamp_ns = self._stamp_ns, stamp_ns
        longest_ns = self._settings.max_lost_s * NS_PER_S
        self._keep([n for n, track in enumerate(self._tracks) if stamp_ns - track.seen_ns <= longest_ns])
        if self._tracks:
            self._motion = self._motion.after((stamp_ns - previous_ns) / NS_PER_S, self._settings.noise)
        return previous_ns

    def _match(self, tracks: Sequence[int], boxes: _Boxes, allowed: Sequence[int], min_iou: float) -> dict[int, int]:
        """Return the box of each of `tracks` that gets one, by number in `boxes`."""
        if not (len(tracks) and len(allowed)):
            return {}
        overlap = iou_matrix(self._motion.boxes_xyxy_px[list(tracks)], boxes.corners[list(allowed)])
        labels = np.array([self._tracks[n].label for n in tracks])
        changed = labels[:, None] != boxes.labels[list(allowed)][None]
        pairs = assign(overlap - min_iou - self._settings.class_change * changed)
        return {tracks[row]: allowed[column] for row, column in pairs}

    def _ids_of(self, taken: dict[int, int]) -> dict[int, int]:
        """Return the id of each track; those that just got their second box are numbered, the best score first."""
        ids = {n: track.id for n, track in enumerate(self._tracks)}
        for track, _ in sorted(taken.items(), key=lambda pair: pair[1]):
            if not ids[track]:
                self._ids += 1
                ids[track] = self._ids
        return ids

    def _go_on(
        self, taken: dict[int, int], recovered: dict[int, int], strong: _Boxes, weak: _Boxes, ids: dict[int, int]
    ) -> None:
        """Correct the tracks by their boxes, end tentative ones without, begin tracks with what is left."""
        measured = {n: (strong.corners[box], str(strong.labels[box])) for n, box in taken.items()}
        measured |= {n: (weak.corners[box], str(weak.labels[box])) for n, box in recovered.items()}
        seen = sorted(measured)
        lost = [n for n, track in enumerate(self._tracks) if track.id and n not in measured]
        new = sorted(set(range(len(strong.numbers))) - set(taken.values()))
        noise, now_ns = self._settings.noise, self._stamp_ns
        corners = np.array([measured[n][0] for n in seen]).reshape(-1, 4)
        moved = self._motion.rows(seen).corrected(corners, noise)
        waiting = self._motion.rows(lost).keeping_size()
        self._motion = moved.joined(waiting).joined(motion.begin(strong.corners[new], noise))
        self._tracks = (
            *(_Track(ids[n], measured[n][1], now_ns) for n in seen),
            *(self._tracks[n] for n in lost),
            *(_Track(0, str(strong.labels[box]), now_ns) for box in new),
        )
        if len(self._tracks) > self._settings.max_tracks:
            latest = sorted(range(len(self._tracks)), key=lambda n: -self._tracks[n].seen_ns)
            self._keep(sorted(latest[: self._settings.max_tracks]))

    def _keep(self, numbers: list[int]) -> None:
        self._tracks = tuple(self._tracks[n] for n in numbers)
        self._motion = self._motion.rows(numbers)


def _boxes(detections: Sequence[Detection], most: int) -> _Boxes:
    """Return up to `most` boxes with an area, the best scores first."""

    def rank(number: int) -> tuple[object, ...]:
        item = detections[number]
        return -_score(item), item.box_xyxy_px, _label(item)

    numbers = sorted((n for n, item in enumerate(detections) if _has_area(item)), key=rank)[:most]
    corners = np.array([detections[n].box_xyxy_px for n in numbers], np.float64).reshape(-1, 4)
    return _Boxes(corners, np.array([_label(detections[n]) for n in numbers], np.str_), tuple(numbers))


def _has_area(item: Detection) -> bool:
    left, top, right, bottom = item.box_xyxy_px
    return -_LARGEST_PX < left < right < _LARGEST_PX and -_LARGEST_PX < top < bottom < _LARGEST_PX


def _score(item: Detection) -> float:
    return item.hypotheses[0].score if item.hypotheses else 0.0


def _label(item: Detection) -> str:
    return item.hypotheses[0].label if item.hypotheses else ""


def _with_ids(items: Sequence[Detection], ids: dict[int, int]) -> tuple[Detection, ...]:
    """Return the boxes with the ids of their tracks; '' for a box that has none, whatever it had before."""
    return tuple(replace(item, id=str(ids[n]) if n in ids else "") for n, item in enumerate(items))
