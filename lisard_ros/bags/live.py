"""A recording played through the running node, beside the same frames without DDS: what became of every frame.

Pure: `lisard_ros.tools.live_replay` plays and listens, this module compares and counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

from lisard_ros.errors import DataError
from lisard_ros.evaluation.pairs import Label, answered
from lisard_ros.frames import Result

EQUAL, DIFFERENT = "equal", "different"
REPLACED, LOST, TOO_OLD, FAILED, UNCLEAR = "replaced", "lost", "too old", "failed", "unclear"
OUTCOMES = (EQUAL, DIFFERENT, REPLACED, LOST, TOO_OLD, FAILED, UNCLEAR)
UNANSWERED = "unanswered"
METRICS = (LOST, REPLACED, DIFFERENT, UNANSWERED)
SHOWN = 5  # frames that are named
# Another number of threads changes the last bits of scores and boxes, and nothing else does.
SCORE_TOLERANCE, BOX_TOLERANCE_PX = 0.01, 1.0
Answers = Mapping[int, tuple[Label, ...]]


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How to play. topics: of images, which the node looks at; others: boxes, which are played as well.

    bundle_sha256: of the bundle that the node must run.

    labels: of the bundles, by index, for nodes whose `class_id_format` is `index`.
    """

    bag: Path
    topics: tuple[str, ...]
    bundle_sha256: str
    others: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    node: str = "/perception"
    rate: float = 1.0
    reliability: str = "reliable"
    clock_hz: float | None = None
    wait_s: float = 20.0


@dataclass(frozen=True, slots=True)
class NodeCounts:
    """What the node's diagnostics count of one camera."""

    received: int
    answered: int
    replaced: int
    too_old: int
    failed: int
    lost: int

    @property
    def settled(self) -> bool:
        """Whether every frame that was received has an outcome."""
        return self.received == self.answered + self.replaced + self.too_old + self.failed

    def since(self, before: NodeCounts) -> NodeCounts:
        """Return what was counted since an earlier moment.

        Raises:
            DataError: A counter fell: the node was started again.
        """
        names = ("received", "answered", "replaced", "too_old", "failed", "lost")
        gone = {name: getattr(self, name) - getattr(before, name) for name in names}
        if any(count < 0 for count in gone.values()):
            raise DataError(
                "the node was started again while the recording was played",
                found=f"{self.received} frames received, {before.received} before",
                cure="play it again; the node's own log has the reason",
            )
        return NodeCounts(**gone)


@dataclass(frozen=True, slots=True, eq=False)
class PlayedCamera:
    """What was published for one camera, and what the node answered.

    answers: by stamp in ns. counts: of this replay alone. history: what the node counted of this replay at earlier
    moments, in their order.
    """

    topic: str
    stamps_ns: Sequence[int]
    answers: Answers
    counts: NodeCounts
    history: Sequence[NodeCounts] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Played:
    """A recording that was played. node: its full name; backend: as its diagnostics name it."""

    node: str
    backend: str
    seconds: float
    cameras: tuple[PlayedCamera, ...]


@dataclass(frozen=True, slots=True)
class LiveCamera:
    """What became of the frames of one camera, in the order of publishing.

    outcomes: one of OUTCOMES -> the numbers of its frames, from 0. `equal` and `different`: of answered ones, compared
    with the answer without DDS. `unclear`: unanswered, where the node counts several causes at one time and does not
    tell which frame had which. counts: what the node counted. unaccounted: published, and neither received nor known
    to be lost.
    """

    topic: str
    published: int
    counts: NodeCounts
    unaccounted: int
    stamps_ns: tuple[int, ...]
    outcomes: dict[str, tuple[int, ...]]

    def share(self, metric: str) -> float:
        """Return a share of all published frames, one of METRICS; NaN where none was published."""
        count = {
            LOST: self.counts.lost,
            REPLACED: self.counts.replaced,
            DIFFERENT: len(self.outcomes.get(DIFFERENT, ())),
            UNANSWERED: self.published - sum(len(self.outcomes.get(name, ())) for name in (EQUAL, DIFFERENT)),
        }[metric]
        return count / self.published if self.published else math.nan


@dataclass(frozen=True, slots=True)
class LiveReplay:
    """A recording played through a node. backend: what ran the model there; offline: what ran it without DDS."""

    node: str
    backend: str
    offline: str
    seconds: float
    cameras: tuple[LiveCamera, ...]

    @property
    def answered(self) -> bool:
        """Whether any frame was answered."""
        return any(camera.counts.answered for camera in self.cameras)


@dataclass(slots=True)
class OfflineAnswers:
    """The answer without DDS to each frame, by topic and stamp in ns; None: it cannot be answered."""

    by_topic: dict[str, dict[int, tuple[Label, ...] | None]] = field(default_factory=dict)

    def note(self, topic: str, stamp_ns: int, outcome: object) -> None:
        """Keep one answer; an outcome that is no Result is none.

        Raises:
            DataError: Two frames of a camera have one stamp, by which answers are told apart.
        """
        of_topic = self.by_topic.setdefault(topic, {})
        if stamp_ns in of_topic:
            raise DataError(
                f"two frames of {topic} have one stamp",
                found=f"{stamp_ns} ns twice",
                expected="stamps that differ: the answers of a node are told apart by them",
                cure="replay without --live",
            )
        of_topic[stamp_ns] = answered(outcome, detector=True) if isinstance(outcome, Result) else None


def compare(played: Played, offline: OfflineAnswers, backend: str) -> LiveReplay:
    """Say what became of every frame that was published.

    Args:
        played: The recording played through the node.
        offline: The answers without DDS to the same frames.
        backend: What gave these.
    """
    cameras = tuple(_camera(camera, offline.by_topic.get(camera.topic, {})) for camera in played.cameras)
    return LiveReplay(played.node, played.backend, backend, played.seconds, cameras)


def _camera(camera: PlayedCamera, offline: Mapping[int, tuple[Label, ...] | None]) -> LiveCamera:
    outcomes: dict[str, list[int]] = {name: [] for name in OUTCOMES}
    for numbers, counts in _parts(camera):
        stamps = [camera.stamps_ns[number] for number in numbers]
        bad = {stamp for stamp in stamps if offline.get(stamp) is None and stamp not in camera.answers}
        silent = [stamp for stamp in stamps if stamp not in camera.answers and stamp not in bad]
        cause = _cause(replace(counts, failed=max(0, counts.failed - len(bad))), len(silent))
        for number, stamp in zip(numbers, stamps, strict=True):
            answer = camera.answers.get(stamp)
            if answer is None:
                outcomes[FAILED if stamp in bad else cause].append(number)
            else:
                outcomes[EQUAL if same(answer, offline.get(stamp)) else DIFFERENT].append(number)
    published = len(camera.stamps_ns)
    unaccounted = published - camera.counts.received - camera.counts.lost
    known = {name: tuple(numbers) for name, numbers in outcomes.items() if numbers}
    return LiveCamera(camera.topic, published, camera.counts, unaccounted, tuple(camera.stamps_ns), known)


def _parts(camera: PlayedCamera) -> Iterator[tuple[range, NodeCounts]]:
    """Cut the frames at moments at which it is known which of them were counted; each part with its own counts.

    Frames come to the node in the order of publishing, so at a moment it has counted the first ones: as many as it
    received and lost. A loss can be counted before frames ahead of it are received. That is ruled out where the last of
    these frames was answered, and as many of them as the node counts.
    """
    answered = [0, *accumulate(stamp in camera.answers for stamp in camera.stamps_ns)]
    begin, before = 0, NodeCounts(0, 0, 0, 0, 0, 0)
    for counts in camera.history:
        end = counts.received + counts.lost
        is_known = counts.settled and begin < end <= len(camera.stamps_ns) and answered[end] == counts.answered
        if is_known and camera.stamps_ns[end - 1] in camera.answers:
            yield range(begin, end), counts.since(before)
            begin, before = end, counts
    yield range(begin, len(camera.stamps_ns)), camera.counts.since(before)


def _cause(counts: NodeCounts, silent: int) -> str:
    """Return why frames have no answer, `unclear` where the node counts several causes or another number."""
    causes = {REPLACED: counts.replaced, LOST: counts.lost, TOO_OLD: counts.too_old, FAILED: counts.failed}
    seen = [cause for cause, count in causes.items() if count]
    return seen[0] if len(seen) == 1 and causes[seen[0]] == silent else UNCLEAR


def same(one: Sequence[Label], other: Sequence[Label] | None) -> bool:
    """Whether two answers agree: the same classes at the same places, in any order, with nearly the same scores."""
    if other is None or len(one) != len(other):
        return False
    left = list(other)
    for label in one:
        twin = next((candidate for candidate in left if _alike(label, candidate)), None)
        if twin is None:
            return False
        left.remove(twin)
    return True


def _alike(one: Label, other: Label) -> bool:
    if one.name != other.name or abs(one.score - other.score) > SCORE_TOLERANCE:
        return False
    if one.box_xyxy_px is None or other.box_xyxy_px is None:
        return one.box_xyxy_px is other.box_xyxy_px
    sides = zip(one.box_xyxy_px, other.box_xyxy_px, strict=True)
    return all(abs(a - b) <= BOX_TOLERANCE_PX for a, b in sides)


def lines(live: LiveReplay) -> Iterator[str]:
    """Say it for people, a line for each camera, and which frames have other answers."""
    if live.backend != live.offline:
        yield f"live: the node answers with {live.backend}, without DDS it is {live.offline}"
    for camera in live.cameras:
        parts = [f"{len(numbers)} {name}" for name, numbers in camera.outcomes.items()]
        line = f"live: {camera.topic} through {live.node}: {camera.published} published, {', '.join(parts)}"
        if UNCLEAR in camera.outcomes:
            counts = camera.counts
            line += f" (the node counts {counts.lost} lost, {counts.replaced} replaced, {counts.too_old} too old, "
            line += f"{counts.failed} failed)"
        yield line + (f"; {camera.unaccounted} not accounted for" if camera.unaccounted else "")
        other = camera.outcomes.get(DIFFERENT, ())
        if other:
            more = f" and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
            stamps = ", ".join(f"{camera.stamps_ns[number]} ns" for number in other[:SHOWN])
            yield f"live: other answers to the frames at {stamps}{more}"
