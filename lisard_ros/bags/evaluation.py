"""Answer a recording with several models, clean and attacked: accuracy where labels exist, else agreement.

One pass over the bag: each frame is read and decoded once, and every model prepares it once, answers it clean, and then
under each injection. What comes of it is added to an `EvaluationState`, of which results.py makes the report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from lisard_ros.attacks.aims import Answer, answers_of
from lisard_ros.bags.blocks import NO_IMAGE, BlockRule, fingerprint
from lisard_ros.bags.evaluation_state import (
    CameraState,
    Cell,
    Code,
    Condition,
    EvaluationState,
    FrameStatus,
    MatrixModelInfo,
)
from lisard_ros.bags.read_ahead import read_ahead
from lisard_ros.bags.reader import BagFrame
from lisard_ros.bags.report import ACCURACY, AGREEMENT, FrameFailure
from lisard_ros.bags.seen import Seen, view_of
from lisard_ros.bags.tracks import TrackRecorder
from lisard_ros.bundle.manifest import TrueBox
from lisard_ros.errors import ImageError, OutputError, UsageError
from lisard_ros.evaluation.average_precision import FAINTEST_SCORE
from lisard_ros.evaluation.pairs import Label, Pair, answered, compared, ranked
from lisard_ros.frames import WHOLE_FRAME, Frame, Region, Result
from lisard_ros.inference.pipeline import Inferred, InjectedBatch, Outcome, Pipeline, Prepared
from lisard_ros.injection import CLEAN, Injection, is_quick, redraw, truths_for
from lisard_ros.tracking import NONE
from lisard_ros.tracking.stage import FAINT_SHARE


@dataclass(frozen=True, slots=True, eq=False)
class MatrixModel:
    """One model on one backend, and what it is attacked with; each injection has a name of its own.

    reference: the fp32 model of the same bundle, whose clean answers those without labels are compared with; None:
    `pipeline` is it. It may be the pipeline of another model, which then answers once.
    """

    pipeline: Pipeline
    injections: Sequence[Injection] = ()
    reference: Pipeline | None = None

    def info(self, name: str) -> MatrixModelInfo:
        """Describe it for the report, under this name."""
        bundle, choice = self.pipeline.bundle, self.pipeline.choice
        first = self.pipeline.detector.bundle if self.pipeline.detector is not None else None
        return MatrixModelInfo(
            name,
            bundle.sha256,
            choice.backend.description,
            choice.reason,
            (Condition(CLEAN, "none"), *(Condition(one.name, one.knowledge) for one in self.injections)),
            str(getattr(choice.backend, "engine_key", "")),
            tuple(choice.backend.warnings),
            "" if self.reference is None else self.reference.choice.backend.description,
            first.manifest.name if first else "",
            first.sha256 if first else "",
            self.pipeline.finds_boxes,
            tuple((name, tuple(finer)) for name, finer in bundle.manifest.roi_groups.items()),
        )


def names_of(models: Sequence[MatrixModel]) -> tuple[str, ...]:
    """Return the names of the bundles, with the beginning of the sha256 where another one has the same name."""
    bundles = [model.pipeline.bundle for model in models]
    hashes: dict[str, set[str]] = {}
    for bundle in bundles:
        hashes.setdefault(bundle.manifest.name, set()).add(bundle.sha256)
    return tuple(
        f"{bundle.manifest.name} ({bundle.sha256[:8]})"
        if len(hashes[bundle.manifest.name]) > 1
        else bundle.manifest.name
        for bundle in bundles
    )


@dataclass(frozen=True, slots=True)
class References:
    """What an answer is compared with: the recorded labels and the clean answer; None where there are none."""

    recorded: tuple[Label, ...] | None
    clean: tuple[Label, ...] | None


def recorded(item: BagFrame, detector: bool) -> tuple[Label, ...] | None:
    """Return the recorded labels: the class of the whole frame, or of its boxes; None where there are none."""
    if item.regions is not None:
        boxes = enumerate(item.regions)
        known = tuple(
            Label(0 if detector else n, r.box_xyxy_px, r.label, track=r.id) for n, r in boxes if r.label is not None
        )
        return known if known or (detector and not item.regions) else None
    return None if item.label is None or detector else (Label(0, None, item.label, track=item.track),)


def _true_answers(pipeline: Pipeline, prepared: Prepared, labels: tuple[Label, ...] | None) -> dict[str, Answer]:
    """What the images of one frame show, for attacks on them; nothing where a label is no class of the bundle."""
    names, spec = pipeline.bundle.manifest.labels, pipeline.bundle.manifest.input
    if labels is None or pipeline.detector is not None:
        return {}
    if not pipeline.finds_boxes:
        known = {label.image: names.index(label.name) for label in labels if label.name in names}
        rows = zip(prepared.keys(), prepared.crops, strict=True)
        return {key: known[crop.region] for key, crop in rows if crop.region in known}
    boxes = [
        TrueBox(label=names.index(label.name), box_xyxy_px=label.box_xyxy_px)
        for label in labels
        if label.name in names and label.box_xyxy_px is not None
    ]
    if len(boxes) < len(labels):
        return {}
    return answers_of([prepared.frames[0].rgb()], [boxes], spec)


@dataclass(slots=True, eq=False)
class _CleanAnswer:
    """The clean answer of one pipeline to the frame at hand. labels: None where it has none."""

    prepared: Prepared
    inferred: Inferred
    outcome: Outcome
    labels: tuple[Label, ...] | None


@dataclass(slots=True, eq=False)
class ReadyFrame:
    """A frame before it is answered: what was recorded, its fingerprint, where to look, and what networks shall see.

    prepared: by the identity of the pipeline; the others prepare when they answer. injected: of quick injections, by
    the numbers of model and condition.
    """

    item: BagFrame
    truth: tuple[Label, ...] | None
    image: int = NO_IMAGE
    regions: tuple[Region, ...] = (WHOLE_FRAME,)
    prepared: dict[int, Prepared] = field(default_factory=dict)
    injected: dict[tuple[int, int], InjectedBatch] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _OpenFrame:
    """The frame at hand: where it stands, and the clean answers so far."""

    ready: ReadyFrame
    frame: Frame
    camera: CameraState
    number: int
    answers: dict[int, _CleanAnswer] = field(default_factory=dict)

    @property
    def item(self) -> BagFrame:
        """As it was read."""
        return self.ready.item

    @property
    def truth(self) -> tuple[Label, ...] | None:
        """What was recorded."""
        return self.ready.truth


class MatrixEvaluation:
    """One pass over a recording, or over some consecutive frames of it; `state` is what was found so far."""

    def __init__(
        self,
        models: Sequence[MatrixModel],
        rule: BlockRule | None = None,
        tracking: str = NONE,
        watch: Callable[[Seen], object] = lambda seen: None,
    ) -> None:
        """Take the models, which stay open.

        Args:
            models: What answers; all of them find boxes, or none.
            rule: Which frames are independent evidence; None: stretches of time.
            tracking: What follows the objects of the clean answers, a name of `lisard_ros.tracking.TRACKERS`.
            watch: Called with every answer; of each frame and model the clean one comes first.

        Raises:
            UsageError: Some models find boxes and others do not.
        """
        infos = tuple(model.info(name) for model, name in zip(models, names_of(models), strict=True))
        if len({info.finds_boxes for info in infos}) > 1:
            raise UsageError(
                "models of different tasks in one replay",
                found=", ".join(f"{info.bundle} {'finds boxes' if info.finds_boxes else 'does not'}" for info in infos),
                expected="detectors alone, or classifiers alone",
                cure="replay them one by one",
            )
        self.models, self.watch = tuple(models), watch
        self.state = EvaluationState(infos, rule or BlockRule(), tracking)
        self._finds = infos[0].finds_boxes if infos else False
        every = (pipeline for model in models for pipeline in (model.pipeline, model.reference) if pipeline is not None)
        self._pipelines = tuple({id(pipeline): pipeline for pipeline in every}.values())
        self._quick = tuple(
            (number, place, model.pipeline, injection)
            for number, model in enumerate(models)
            for place, injection in enumerate(model.injections)
            if model.pipeline.detector is None and is_quick(injection)
        )
        self._recorders = [TrackRecorder(tracking, info.backend, info.bundle) for info in infos]
        self._recorder_of = {id(one.pipeline): recorder for one, recorder in zip(models, self._recorders, strict=True)}

    def finish(self) -> EvaluationState:
        """Return the state with the tracks that were followed."""
        self.state.tracks = [track for recorder in self._recorders for track in recorder.tracks()]
        return self.state

    def ready(self, item: BagFrame) -> ReadyFrame:
        """Do what needs no network and no frame before; another thread may do so ahead."""
        truth = recorded(item, self._finds)
        if item.frame is None:
            return ReadyFrame(item, truth)
        regions = (WHOLE_FRAME,) if item.regions is None or self._finds else item.regions
        prepared = {
            id(pipeline): pipeline.prepare([item.frame], [regions])
            for pipeline in self._pipelines
            if pipeline.detector is None
        }
        image = fingerprint(item.frame)
        injected = {}
        for number, place, pipeline, injection in self._quick:
            redraw(injection, image)
            injected[number, place] = pipeline.inject(prepared[id(pipeline)], injection)
        return ReadyFrame(item, truth, image, regions, prepared, injected)

    def score(self, ready: ReadyFrame) -> None:
        """Answer one frame with every model, clean and under each injection."""
        state, item = self.state, ready.item
        camera = state.camera(item.topic)
        number = len(camera.frames)
        names = [region.id for region in item.regions or () if region.id] + [item.track] * bool(item.track)
        tracks = [state.track_names.of((item.recording, "", name)) for name in names]
        camera.frames.add(item.stamp_ns, item.recording, ready.image, _digest(ready.truth), tracks)
        if item.frame is None:
            self._fail(item, camera, number)
            return
        frame = _OpenFrame(ready, item.frame, camera, number)
        for model in range(len(self.models)):
            self._answer(frame, model)

    def _fail(self, item: BagFrame, camera: CameraState, number: int) -> None:
        """Count a frame without an image."""
        failure = FrameFailure(item.topic, item.recording, number, item.stamp_ns, str(item.error))
        self.state.add_failure(failure)
        for things in (camera.labels, *camera.clean):
            things.add((), ())
        for cell in (cell for cells in camera.cells for cell in cells):
            cell.status.append(FrameStatus.FAILED)
            cell.failed[_cause(item.error)] += 1

    def _answer(self, open_frame: _OpenFrame, number: int) -> None:
        """Answer the frame with one model, clean and under each injection."""
        model, camera, truth = self.models[number], open_frame.camera, open_frame.truth
        clean = self._clean(open_frame, model.pipeline)
        if not isinstance(clean.outcome, Result):
            self.state.add_failure(self._failure(open_frame, number, clean.outcome.error))
        expected = None
        if not truth:
            expected = clean.labels if model.reference is None else self._clean(open_frame, model.reference).labels
        looked_at = frozenset({0}) if self._finds else frozenset(crop.region for crop in clean.prepared.crops)
        references = References(truth, None if model.reference is None else expected)
        pairs = self._compared(clean.outcome, references, looked_at, model.pipeline, clean.labels)
        if number == 0:
            self._add_things(open_frame, None, truth, pairs.get(ACCURACY, ()))
        self._add_things(open_frame, number, expected, pairs.get(AGREEMENT, ()))
        cell = camera.cells[number][0]
        self._count(open_frame, cell, clean.outcome, references, pairs)
        self._rank(open_frame, cell, model.pipeline, clean.inferred)
        self.watch(Seen(open_frame.item, CLEAN, _shown(pairs, clean.labels), None, clean.outcome, number))
        for place in range(len(model.injections)):
            self._answer_attacked(open_frame, (number, place), clean, References(truth, expected), looked_at)

    def _failure(self, open_frame: _OpenFrame, number: int, error: Exception) -> FrameFailure:
        item, info = open_frame.item, self.state.models[number]
        at = (item.topic, item.recording, open_frame.number, item.stamp_ns)
        return FrameFailure(*at, str(error), info.bundle, info.backend)

    def _answer_attacked(
        self,
        open_frame: _OpenFrame,
        where: tuple[int, int],
        clean: _CleanAnswer,
        references: References,
        looked_at: frozenset[int],
    ) -> None:
        """Answer the frame with one model under one injection. where: their numbers."""
        model, item = self.models[where[0]], open_frame.item
        pipeline, injection = model.pipeline, model.injections[where[1]]
        cell = open_frame.camera.cells[where[0]][1 + where[1]]
        batch, attacked = open_frame.ready.injected.get(where), None
        if batch is None:
            redraw(injection, open_frame.ready.image)
            truths = truths_for(injection)
            if truths is not None:
                truths.told = _true_answers(pipeline, clean.prepared, references.recorded)
            attacked = pipeline.answer_attacked(clean.prepared, injection)[0]
        elif batch.injected.applied.any():  # else the network need not run
            attacked = pipeline.answer_injected(clean.prepared, batch)[0]
        if attacked is None or not attacked.applied:
            nothing = not clean.prepared.crops if attacked is None else attacked.no_regions
            cell.status.append(FrameStatus.NO_REGIONS if nothing else FrameStatus.NOT_APPLICABLE)
            self._add_codes(cell, references, {})
            self.watch(Seen(item, injection.name, (), model=where[0]))
            return
        outcome = _timed(attacked.outcome, item.decode_ms)
        labels = answered(outcome, self._finds) if isinstance(outcome, Result) else None
        pairs = self._compared(outcome, references, looked_at if self._finds else attacked.regions, pipeline, labels)
        self._count(open_frame, cell, outcome, references, pairs)
        self._rank(open_frame, cell, pipeline, attacked.inferred)
        view = view_of(pipeline, clean.prepared, injection, attacked)
        self.watch(Seen(item, injection.name, _shown(pairs, labels), view, outcome, where[0]))

    def _clean(self, open_frame: _OpenFrame, pipeline: Pipeline) -> _CleanAnswer:
        """Answer the frame clean, once with each pipeline."""
        known = open_frame.answers.get(id(pipeline))
        if known is not None:
            return known
        recorder = self._recorder_of.get(id(pipeline))
        tracked = recorder is not None and recorder.on
        prepared = open_frame.ready.prepared.get(id(pipeline))
        if prepared is None:
            prepared = pipeline.prepare([open_frame.frame], [open_frame.ready.regions])
        inferred = pipeline.infer(prepared)
        decoded = pipeline.decode(inferred, FAINT_SHARE if tracked else 1.0)[0]
        outcome = _timed(decoded, open_frame.item.decode_ms)
        if recorder is not None and isinstance(outcome, Result):
            outcome = recorder.follow(open_frame.item.topic, outcome, open_frame.item.recording)
        labels = answered(outcome, self._finds, tracked) if isinstance(outcome, Result) else None
        answer = open_frame.answers[id(pipeline)] = _CleanAnswer(prepared, inferred, outcome, labels)
        return answer

    def _compared(
        self,
        outcome: Outcome,
        references: References,
        images: frozenset[int],
        pipeline: Pipeline,
        labels: tuple[Label, ...] | None,
    ) -> dict[str, tuple[Pair, ...]]:
        """Compare an answer with each reference; only `images`, those that were looked at and attacked, are judged."""
        if not isinstance(outcome, Result) or labels is None:
            return {}
        return {
            kind: compared([label for label in wanted if label.image in images], labels, pipeline)
            for kind, wanted in ((ACCURACY, references.recorded), (AGREEMENT, references.clean))
            if wanted is not None
        }

    def _add_things(
        self, open_frame: _OpenFrame, model: int | None, labels: tuple[Label, ...] | None, pairs: Sequence[Pair]
    ) -> None:
        """Keep what the frame's answers are compared with. model None: the recorded labels.

        A thing without a track of its own gets that of the clean answer which finds it.
        """
        state, item, camera = self.state, open_frame.item, open_frame.camera
        followed = {id(pair.reference): pair.answer.track for pair in pairs if pair.answer is not None}
        tracker = f"{model or 0} {item.topic}"
        tracks = []
        for label in labels or ():
            by_tracker = model is not None or not label.track
            name = label.track or followed.get(id(label), "")
            key = (item.recording, tracker if by_tracker else "", name)
            tracks.append(state.track_names.of(key) if name else 0)
        things = camera.labels if model is None else camera.clean[model]
        things.add([state.classes.of(label.name) for label in labels or ()], tracks)

    def _count(
        self,
        open_frame: _OpenFrame,
        cell: Cell,
        outcome: Outcome,
        references: References,
        pairs: dict[str, tuple[Pair, ...]],
    ) -> None:
        """Add one answer, or its failure."""
        if isinstance(outcome, Result):
            cell.status.append(FrameStatus.ANSWERED)
            cell.add_times(outcome.times)
        else:
            cell.status.append(FrameStatus.FAILED)
            cell.failed[_cause(outcome.error)] += 1
        self._add_codes(cell, references, pairs)
        classes = self.state.classes
        for kind, of_kind in pairs.items():
            false = [classes.of(pair.answer.name) for pair in of_kind if pair.reference is None and pair.answer]
            cell.answers[kind].false_classes.extend(false)
            cell.answers[kind].false_frames.extend([open_frame.number] * len(false))

    def _add_codes(self, cell: Cell, references: References, pairs: dict[str, tuple[Pair, ...]]) -> None:
        """Say of each thing how it was answered."""
        for kind, wanted in ((ACCURACY, references.recorded), (AGREEMENT, references.clean)):
            if not wanted:
                continue
            codes = {id(pair.reference): self._code(pair) for pair in pairs.get(kind, ()) if pair.reference is not None}
            cell.answers[kind].codes.extend([codes.get(id(label), Code.NOT_JUDGED) for label in wanted])

    def _code(self, pair: Pair) -> int:
        if pair.answer is None:
            return Code.MISSED
        return self.state.classes.of(pair.answer.name) | (Code.RIGHT if pair.right else 0)

    def _rank(self, open_frame: _OpenFrame, cell: Cell, pipeline: Pipeline, inferred: Inferred | None) -> None:
        """Add a detector's boxes in a labelled frame for AP, which looks at faint ones too."""
        if open_frame.truth is None or not self._finds or inferred is None:
            return
        outcome = pipeline.decode(inferred, min(1.0, FAINTEST_SCORE / max(pipeline.threshold, FAINTEST_SCORE)))[0]
        if isinstance(outcome, Result):
            boxes = ranked(outcome, open_frame.truth or (), pipeline)
            classes = [self.state.classes.of(name) for name in boxes.names]
            cell.ranked.add(open_frame.number, boxes.scores, classes, boxes.hits)


def evaluate(
    models: Sequence[MatrixModel],
    frames: Iterable[BagFrame],
    rule: BlockRule | None = None,
    tracking: str = NONE,
    progress: Callable[[], object] = lambda: None,
    watch: Callable[[Seen], object] = lambda seen: None,
    ahead: int = 0,
) -> EvaluationState:
    """Answer every frame with every model, clean and under each injection.

    Frames with recorded boxes are judged by box (coarse labels by the bundle's `roi_groups`), others as a whole. A
    detector always looks at the whole frame. Tracking changes no score: boxes that a track adds are listed beside them.
    What an injection draws at random depends on its seed and the image, so parts of a recording give what the whole
    gives (`EvaluationState.append`).

    Args:
        models: The models under test.
        frames: The recorded frames in order.
        rule: As for `MatrixEvaluation`.
        tracking: As for `MatrixEvaluation`.
        progress: Called after each frame.
        watch: As for `MatrixEvaluation`.
        ahead: How many threads make the next frames ready meanwhile: 1 decodes and scales them, 2 share this.
    """
    run = MatrixEvaluation(models, rule, tracking, watch)
    ready = map(run.ready, read_ahead(frames) if ahead > 1 else frames)
    for frame in read_ahead(ready) if ahead else ready:
        run.score(frame)
        progress()
    return run.finish()


def _shown(pairs: dict[str, tuple[Pair, ...]], labels: tuple[Label, ...] | None) -> tuple[Pair, ...]:
    """How an answer compares with what was recorded, else with the clean answer."""
    plain = tuple(Pair(label, None, None) for label in labels or ())
    return pairs.get(ACCURACY, pairs.get(AGREEMENT, plain))


def _digest(truth: tuple[Label, ...] | None) -> int:
    return int.from_bytes(hashlib.blake2b(repr(truth).encode(), digest_size=8).digest(), "little")


def _timed(outcome: Outcome, decode_ms: float) -> Outcome:
    if isinstance(outcome, Result):
        return replace(outcome, times=replace(outcome.times, decode_ms=decode_ms))
    return outcome


def _cause(error: Exception | None) -> str:
    if isinstance(error, ImageError):
        return "image"
    return "output" if isinstance(error, OutputError) else "other"
