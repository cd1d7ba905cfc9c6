"""Score a recording: accuracy where labels exist, else agreement with the clean fp32 answer; latency by stage.

One pass over the bag: each frame is prepared once, answered clean, then answered under every injection.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros.bags.answers import Label, Pair, answered, compared, recorded
from lisard_ros.bags.blocks import Blocks
from lisard_ros.bags.reader import BagFrame
from lisard_ros.bags.report import (
    ACCURACY,
    AGREEMENT,
    MOST_FAILURES,
    NO_EFFECT,
    NOT_APPLIED,
    REFERENCE,
    STAGES,
    BackendInfo,
    CameraFrames,
    CameraResult,
    Confusion,
    FrameFailure,
    FrameScores,
    Replay,
)
from lisard_ros.bags.tracks import TrackRecorder
from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.errors import ImageError, OutputError
from lisard_ros.evaluation.statistics import Proportion, clustered_counts, percentiles
from lisard_ros.frames import WHOLE_FRAME, Frame, Pixels, Region, Result, StageTimes
from lisard_ros.inference.pipeline import Attacked, Outcome, Pipeline, Prepared
from lisard_ros.inference.preprocess import Tensor
from lisard_ros.injection import CLEAN, AtDetector, Injection
from lisard_ros.reporting.display import as_seen
from lisard_ros.tracking import NONE
from lisard_ros.tracking.stage import FAINT_SHARE


@dataclass(frozen=True, slots=True, eq=False)
class AttackedView:
    """A frame as the attacked network saw it. image: uint8 RGB [H, W, 3]; change: what the attack added, int16."""

    image: Pixels
    change: NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """The answers to one frame under one condition. view: of an attacked frame, None for a clean one.

    outcome: the answer itself, or why there is none; None where the injection was not made for this frame.
    """

    item: BagFrame
    condition: str
    pairs: tuple[Pair, ...]
    view: Callable[[], AttackedView] | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class References:
    """What an answer is compared with: the recorded labels and the clean answer; None where there are none."""

    recorded: tuple[Label, ...] | None
    clean: tuple[Label, ...] | None


@dataclass(slots=True)
class _Score:
    """Hits among judged images or boxes, and answers that meet none of them, frame by frame of one camera."""

    right: array[int] = field(default_factory=lambda: array("H"))
    judged: array[int] = field(default_factory=lambda: array("H"))
    false: array[int] = field(default_factory=lambda: array("H"))

    def add(self, frame: int, pairs: Sequence[Pair]) -> None:
        """Count the answers to one frame, by its number; frames in between were not judged."""
        self.fill(frame)
        self.right.append(sum(pair.right is True for pair in pairs))
        self.judged.append(sum(pair.reference is not None for pair in pairs))
        self.false.append(sum(pair.reference is None for pair in pairs))

    def fill(self, frames: int) -> None:
        """Count nothing for the frames up to this number."""
        missing = [0] * (frames - len(self.judged))
        for values in (self.right, self.judged, self.false):
            values.extend(missing)

    def proportion(self, blocks: Sequence[int]) -> Proportion:
        """The share of hits, with an interval for as much as the blocks are worth."""
        return clustered_counts(self.right, self.judged, blocks)


@dataclass(slots=True)
class _Tally:
    """The counts of one camera under one injection. clean: the clean answers over what the injection applied to."""

    frames: int = 0
    answered: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    not_applicable: int = 0
    accuracy: _Score = field(default_factory=_Score)
    agreement: _Score = field(default_factory=_Score)
    clean_accuracy: _Score = field(default_factory=_Score)
    clean_agreement: _Score = field(default_factory=_Score)
    confusion: dict[str, Counter[tuple[str, str]]] = field(default_factory=lambda: defaultdict(Counter))
    times_ms: dict[str, array[float]] = field(default_factory=lambda: {stage: array("f") for stage in STAGES})

    def add_times(self, times: StageTimes) -> None:
        """Keep the times of one answer."""
        for stage, values in self.times_ms.items():
            values.append(getattr(times, f"{stage}_ms"))

    def fill(self) -> None:
        """Make all scores as long as the camera has frames."""
        for score in (self.accuracy, self.agreement, self.clean_accuracy, self.clean_agreement):
            score.fill(self.frames)


@dataclass(slots=True, eq=False)
class _Camera:
    """The frames of one camera so far, and the hash of their labels."""

    stamps_ns: array[int] = field(default_factory=lambda: array("q"))
    recordings: array[int] = field(default_factory=lambda: array("i"))
    blocks: array[int] = field(default_factory=lambda: array("i"))
    copies: int = 0
    truth: hashlib._Hash = field(default_factory=hashlib.sha256)


class _Evaluation:
    """One pass over a recording."""

    def __init__(
        self,
        pipeline: Pipeline,
        injections: Sequence[Injection],
        watch: Callable[[Seen], object],
        tracking: str,
        reference: Pipeline | None,
        blocks: Blocks,
    ) -> None:
        self.pipeline, self.injections, self.watch = pipeline, injections, watch
        self.reference, self.blocks = reference, blocks
        self.recorder = TrackRecorder(tracking, pipeline.choice.backend.description)
        self.tallies: dict[tuple[str, str], _Tally] = defaultdict(_Tally)
        self.cameras: dict[str, _Camera] = defaultdict(_Camera)
        self.failures: list[FrameFailure] = []

    def score(self, item: BagFrame) -> None:
        """Answer one frame clean and under each injection."""
        pipeline, finds = self.pipeline, self.pipeline.finds_boxes
        truth = recorded(item, finds)
        self._note(item, truth)
        if item.frame is None:
            self._note_failure(item, item.error)
            for name in (CLEAN, *(i.name for i in self.injections)):
                self.tallies[item.topic, name].failed[_cause(item.error)] += 1
            return
        regions = (WHOLE_FRAME,) if item.regions is None or finds else item.regions
        prepared = pipeline.prepare([item.frame], [regions])
        inferred = pipeline.infer(prepared)
        clean = _timed(pipeline.decode(inferred, FAINT_SHARE if self.recorder.on else 1.0)[0], item.decode_ms)
        if isinstance(clean, Result):
            clean = self.recorder.follow(item.topic, clean)
        else:
            self._note_failure(item, clean.error)
        own = answered(clean, finds) if isinstance(clean, Result) else None
        expected = own
        if self.reference is not None and truth is None:
            expected = _answer_of(self.reference, item.frame, regions)
        looked_at = frozenset({0}) if finds else frozenset(crop.region for crop in prepared.crops)
        compare_clean = None if self.reference is None else expected
        pairs = self._count(item, CLEAN, clean, References(truth, compare_clean), looked_at)
        self.watch(Seen(item, CLEAN, pairs, None, clean))
        for injection in self.injections:
            attacked = pipeline.answer_attacked(prepared, injection)[0]
            tally = self.tallies[item.topic, injection.name]
            if not attacked.applied:
                tally.not_applicable += 1
                self.watch(Seen(item, injection.name, ()))
                continue
            outcome = _timed(attacked.outcome, item.decode_ms)
            hit = looked_at if finds else attacked.regions
            pairs = self._count(item, injection.name, outcome, References(truth, expected), hit)
            if isinstance(outcome, Result):
                self._count_clean(tally, References(truth, compare_clean), own or (), hit)
            self.watch(Seen(item, injection.name, pairs, _views(pipeline, prepared, injection, attacked), outcome))

    def _note(self, item: BagFrame, truth: tuple[Label, ...] | None) -> None:
        camera, copies = self.cameras[item.topic], self.blocks.copies
        camera.stamps_ns.append(item.stamp_ns)
        camera.recordings.append(item.recording)
        camera.blocks.append(self.blocks.add(item))
        camera.copies += self.blocks.copies - copies
        camera.truth.update(repr(truth).encode())
        for name in (CLEAN, *(i.name for i in self.injections)):
            self.tallies[item.topic, name].frames += 1

    def _note_failure(self, item: BagFrame, error: Exception | None) -> None:
        if len(self.failures) < MOST_FAILURES:
            number = len(self.cameras[item.topic].stamps_ns) - 1
            self.failures.append(FrameFailure(item.topic, item.recording, number, item.stamp_ns, str(error)))

    def _count(
        self, item: BagFrame, condition: str, outcome: Outcome, references: References, images: frozenset[int]
    ) -> tuple[Pair, ...]:
        """Add one answer; only `images`, those that were looked at and that the injection applied to, are judged.

        Returns how it compares with what was recorded, else with the clean answer.
        """
        tally = self.tallies[item.topic, condition]
        if not isinstance(outcome, Result):
            tally.failed[_cause(outcome.error)] += 1
            return ()
        tally.answered += 1
        tally.add_times(outcome.times)
        tracked = condition == CLEAN and self.recorder.on
        answers = answered(outcome, self.pipeline.finds_boxes, tracked)
        pairs = tuple(Pair(answer, None, None) for answer in answers)
        for kind, score, labels in (
            (AGREEMENT, tally.agreement, references.clean),
            (ACCURACY, tally.accuracy, references.recorded),
        ):
            if labels is not None:
                pairs = compared([label for label in labels if label.image in images], answers, self.pipeline)
                score.add(tally.frames - 1, pairs)
                tally.confusion[kind].update(
                    (pair.reference.name if pair.reference else "", pair.answer.name if pair.answer else "")
                    for pair in pairs
                )
        return pairs

    def _count_clean(
        self, tally: _Tally, references: References, answers: tuple[Label, ...], images: frozenset[int]
    ) -> None:
        """Add the clean answers over the very images that an injection applied to."""
        pairs = ((tally.clean_accuracy, references.recorded), (tally.clean_agreement, references.clean))
        for score, labels in pairs:
            if labels is not None:
                judged = [label for label in labels if label.image in images]
                score.add(tally.frames - 1, compared(judged, answers, self.pipeline))

    def rows(self) -> tuple[tuple[CameraResult, ...], tuple[CameraFrames, ...]]:
        """Return the result of every camera and injection, and the frames of every camera."""
        settled = self.blocks.settled([number for camera in self.cameras.values() for number in camera.blocks])
        cameras, begin = [], 0
        for topic, camera in self.cameras.items():
            blocks = settled[begin : begin + len(camera.blocks)]
            begin += len(blocks)
            truth = camera.truth.hexdigest()
            cameras.append(CameraFrames(topic, camera.stamps_ns, camera.recordings, blocks, camera.copies, truth))
        knowledge = {CLEAN: "none", **{i.name: i.knowledge for i in self.injections}}
        of_topic = {camera.topic: camera.blocks for camera in cameras}
        labelled = {topic for (topic, _), tally in self.tallies.items() if any(tally.accuracy.judged)}
        rows = []
        for (topic, name), tally in self.tallies.items():
            tally.fill()
            rows.append(self._row(topic, name, knowledge[name], tally, topic in labelled, of_topic[topic]))
        return tuple(rows), tuple(cameras)

    def _row(
        self, topic: str, name: str, knowledge: str, tally: _Tally, labelled: bool, blocks: Sequence[int]
    ) -> CameraResult:
        compared_clean = labelled or self.reference is not None
        kind = ACCURACY if labelled else AGREEMENT if name != CLEAN or compared_clean else REFERENCE
        score = tally.accuracy if labelled else tally.agreement
        clean = score if name == CLEAN else tally.clean_accuracy if labelled else tally.clean_agreement
        has_false = self.pipeline.finds_boxes and tally.answered and (labelled or kind == AGREEMENT)
        false = sum(score.false) if has_false else None
        judged = {block for block, count in zip(blocks, score.judged, strict=True) if count}
        confusion = tally.confusion[ACCURACY if labelled else AGREEMENT].most_common()
        return CameraResult(
            topic,
            self.pipeline.choice.backend.description,
            name,
            knowledge,
            tally.frames,
            tally.answered,
            dict(tally.failed),
            tally.not_applicable,
            kind,
            score.proportion(blocks),
            clean.proportion(blocks),
            false,
            {stage: percentiles(values) for stage, values in tally.times_ms.items()},
            "" if name == CLEAN else _effect(tally, score, clean, compared_clean),
            len(judged),
            tuple(Confusion(was, answer, count) for (was, answer), count in confusion),
            FrameScores(score.right, score.judged, score.false if any(score.false) else ()),
        )


def evaluate(
    pipeline: Pipeline,
    bag: str,
    frames: Iterable[BagFrame],
    injections: Sequence[Injection],
    progress: Callable[[], object] = lambda: None,
    watch: Callable[[Seen], object] = lambda seen: None,
    tracking: str = NONE,
    reference: Pipeline | None = None,
    blocks: Blocks | None = None,
) -> Replay:
    """Answer every frame clean and under each injection and score the answers.

    Frames with recorded boxes are judged by box (coarse labels by the bundle's `roi_groups`), others as a whole. A
    detector always looks at the whole frame. Tracking changes no score: boxes that a track adds are listed beside them.

    Args:
        pipeline: The model under test.
        bag: Name of the recording, for the report.
        frames: The recorded frames in order.
        injections: What to inject, each under a name of its own.
        progress: Called after each frame.
        watch: Called with every answer, each frame's clean one first.
        tracking: What follows the objects of the clean answers, a name of `lisard_ros.tracking.TRACKERS`.
        reference: The fp32 model, whose clean answers those without labels are compared with; None: `pipeline` is it.
        blocks: Which frames are independent evidence; None: stretches of time.
    """
    run = _Evaluation(pipeline, injections, watch, tracking, reference, blocks or Blocks())
    for item in frames:
        run.score(item)
        progress()
    rows, cameras = run.rows()
    manifest, choice = pipeline.bundle.manifest, pipeline.choice
    first = pipeline.detector.bundle if pipeline.detector is not None else None
    key = str(getattr(choice.backend, "engine_key", ""))
    return Replay(
        bag,
        manifest.name,
        pipeline.bundle.sha256,
        choice.backend.description,
        rows,
        tracking,
        run.recorder.tracks(),
        detector=first.manifest.name if first else "",
        detector_sha256=first.sha256 if first else "",
        reference="" if reference is None else reference.choice.backend.description,
        backends=(BackendInfo(choice.backend.description, choice.reason, key, tuple(choice.backend.warnings)),),
        by=run.blocks.by,
        block_s=run.blocks.block_s,
        cameras=cameras,
        failures=tuple(run.failures),
    )


def _answer_of(reference: Pipeline, frame: Frame, regions: Sequence[Region]) -> tuple[Label, ...] | None:
    (outcome,) = reference.run([frame], [regions])
    return answered(outcome, reference.finds_boxes) if isinstance(outcome, Result) else None


def _views(
    pipeline: Pipeline, prepared: Prepared, injection: Injection, attacked: Attacked
) -> Callable[[], AttackedView]:
    """Shows the frame as the attacked network saw it: the whole of it, or its crops in their places."""
    frame = prepared.frames[0]

    def whole(seen: Tensor, clean: Tensor, spec: InputSpec) -> AttackedView:
        pictures = [as_seen(x, frame.width_px, frame.height_px, spec) for x in (seen, clean)]
        return AttackedView(pictures[0], pictures[0].astype(np.int16) - pictures[1])

    def view() -> AttackedView:
        if isinstance(injection, AtDetector) and pipeline.detector is not None:
            clean = pipeline.detector.prepare([frame]).x[0]
            return whole(attacked.seen[0], clean, pipeline.detector.bundle.manifest.input)
        spec = pipeline.bundle.manifest.input
        if [crop.pixels.shape[:2] for crop in prepared.crops] == [(frame.height_px, frame.width_px)]:
            return whole(attacked.seen[0], prepared.x[0], spec)
        image = frame.rgb().copy()
        change = np.zeros(image.shape, np.int16)
        for crop, seen, clean in zip(prepared.crops, attacked.seen, prepared.x, strict=True):
            height, width = crop.pixels.shape[:2]
            place = (slice(crop.top_px, crop.top_px + height), slice(crop.left_px, crop.left_px + width))
            small = [as_seen(x, width, height, spec) for x in (seen, clean)]
            large = [cv2.resize(one, (width, height), interpolation=cv2.INTER_NEAREST) for one in small]
            image[place], change[place] = large[0], large[0].astype(np.int16) - large[1]
        return AttackedView(image, change)

    return view


def _effect(tally: _Tally, score: _Score, clean: _Score, compared_clean: bool) -> str:
    """Return the effect of an attack. compared_clean: False where the clean answer is the reference itself."""
    if tally.not_applicable and tally.not_applicable + tally.failed.total() == tally.frames and not tally.answered:
        return NOT_APPLIED
    hits, judged, false = sum(score.right), sum(score.judged), sum(score.false)
    if not compared_clean:
        return NO_EFFECT if judged and hits == judged and not false else ""
    harmless = hits >= sum(clean.right) and false <= sum(clean.false)
    return NO_EFFECT if judged and judged == sum(clean.judged) and harmless else ""


def _timed(outcome: Outcome, decode_ms: float) -> Outcome:
    if isinstance(outcome, Result):
        return replace(outcome, times=replace(outcome.times, decode_ms=decode_ms))
    return outcome


def _cause(error: Exception | None) -> str:
    if isinstance(error, ImageError):
        return "image"
    return "output" if isinstance(error, OutputError) else "other"
