"""Frames in, answers out: the one path that node, bag replay, self test and tests share.

`prepare` cuts and scales the regions of a batch of frames, `infer` runs the network on them, `decode` makes answers of
its outputs, and `answer_attacked` does all of it on an injected copy. The operational answer never depends on an
injection. With a detector in front, the whole frame stands for the boxes that it finds there.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from lisard_ros import backends
from lisard_ros import bundle as bundles
from lisard_ros.bundle import Bundle, model_choice
from lisard_ros.bundle.manifest import Decode
from lisard_ros.bundle.signature import TrustedKeys
from lisard_ros.errors import ImageError, LisardError, OutputError, UsageError, unknown_name
from lisard_ros.frames import (
    WHOLE_FRAME,
    Classification,
    Colour,
    Detection,
    Detections,
    Frame,
    Hypothesis,
    Pixels,
    Region,
    Result,
    StageTimes,
    pixels_sha256,
    to_rgb,
)
from lisard_ros.inference import postprocess
from lisard_ros.inference.injected import AtDetector, Injected, Injection
from lisard_ros.inference.preprocess import Tensor, crop_bounds_px, fit, normalise, prepare

MAX_BATCH = 64
_NO_TIME = StageTimes()
_NO_OUTPUTS: NDArray[np.float32] = np.empty((0,), np.float32)


@dataclass(frozen=True, slots=True)
class Settings:
    """What an answer contains, of every stage.

    min_score: lowest score of a box or class; 0: a detector's own threshold. nms_iou: 0: a detector's own.
    max_detections: besides a detector's own limit. classes: what is reported, by name; empty: everything.
    roi_classes: which boxes are classified; None: as the bundle says; an empty tuple: all.
    """

    top_k: int = 5
    min_score: float = 0.0
    max_detections: int = 300
    roi_classes: tuple[str, ...] | None = None
    nms_iou: float = 0.0
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse settings with which no answer can be given."""
        shares = 0 <= self.min_score <= 1 and 0 <= self.nms_iou <= 1
        if self.top_k < 1 or self.max_detections < 1 or not shares:
            raise UsageError(
                "settings of the answer out of range",
                found=f"top_k {self.top_k}, min_score {self.min_score}, max_detections {self.max_detections}, "
                f"nms_iou {self.nms_iou}",
                expected="top_k >= 1, 0 <= min_score <= 1, max_detections >= 1, 0 <= nms_iou <= 1",
            )

    def of_decode(self, decode: Decode) -> Decode:
        """Return how a detector's output is decoded: as its bundle says, unless these settings say otherwise."""
        return msgspec.structs.replace(
            decode,
            score_threshold=self.min_score or decode.score_threshold,
            nms_iou=self.nms_iou or decode.nms_iou,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """A frame without an answer, and why."""

    frame: Frame
    error: LisardError


Outcome = Result | Failure


@dataclass(frozen=True, slots=True)
class _Answer:
    """The fields of a Result that come from the outputs."""

    classification: Classification | None = None
    detections: Detections | None = None
    faint: tuple[Detection, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageCrop:
    """One image for the network: region `region` of frame number `frame`.

    pixels: a view on the frame's image, in its colour order. left_px, top_px: where the crop begins in the frame.
    """

    frame: int
    region: int
    pixels: Pixels
    colour: Colour
    left_px: int = 0
    top_px: int = 0

    @property
    def rgb(self) -> Pixels:
        """The crop as contiguous RGB [h, w, 3]."""
        return to_rgb(self.pixels, self.colour)


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A batch ready for the network. x: float32 [N, 3, H, W] in [0, 1], one row for each crop.

    times: what it took so far; with a detector in front that is the detector's time as well. failures: frames, by
    number, for which the detector had no answer.
    """

    frames: tuple[Frame, ...]
    regions: tuple[tuple[Region, ...], ...]
    crops: tuple[ImageCrop, ...]
    x: Tensor
    times: StageTimes
    failures: Mapping[int, LisardError] = field(default_factory=dict)

    @property
    def preprocess_ms(self) -> float:
        """Milliseconds of cutting and scaling."""
        return self.times.preprocess_ms

    def rows_of(self, frame: int) -> slice:
        """Where the looks of a frame stand, which follow one another."""
        first = sum(crop.frame < frame for crop in self.crops)
        return slice(first, first + sum(crop.frame == frame for crop in self.crops))

    def keys(self) -> tuple[str, ...]:
        """Hash of the pixels behind each row, to find the perturbation made for it."""
        return tuple(pixels_sha256(crop.rgb) for crop in self.crops)


@dataclass(frozen=True, slots=True, eq=False)
class Inferred:
    """What the network gave for a prepared batch: outputs, float32 with a row for each crop, or the backend's error."""

    prepared: Prepared
    outputs: NDArray[np.float32]
    times: StageTimes
    error: LisardError | None = None


@dataclass(frozen=True, slots=True)
class Attacked:
    """The answer to an attacked frame.

    regions: numbers of the frame's regions that the injection was applied to; the others got their clean answer.
    seen: float32 [n, 3, H, W] in [0, 1], what the network saw of this frame, crop by crop (the detector, where that is
    what was attacked). no_regions: the frame had nothing to attack, such as one without boxes. inferred: what the
    network gave for the batch.
    """

    outcome: Outcome
    injection: str
    regions: frozenset[int]
    seen: Tensor
    no_regions: bool = False
    inferred: Inferred | None = None

    @property
    def applied(self) -> bool:
        """False when the injection was not made for any image of this frame."""
        return bool(self.regions)


@dataclass(frozen=True, slots=True, eq=False)
class InjectedBatch:
    """An injected copy of a prepared batch. injection: its name; times: until here."""

    injection: str
    injected: Injected
    times: StageTimes


@dataclass(slots=True)
class _Clock:
    """Milliseconds since the last lap, on a steady clock."""

    last_ns: int = field(default_factory=time.perf_counter_ns)

    def lap_ms(self) -> float:
        now = time.perf_counter_ns()
        self.last_ns, elapsed = now, now - self.last_ns
        return elapsed / 1e6


@dataclass(frozen=True, slots=True)
class _Detected:
    """What the detector in front found: regions of each frame, failures by number, and the time of the batch."""

    regions: tuple[tuple[Region, ...], ...]
    failures: Mapping[int, LisardError]
    times: StageTimes


class Pipeline:
    """Answers frames with one bundle on one backend; `detector` says where to look in frames without regions."""

    def __init__(
        self,
        bundle: Bundle,
        choice: backends.Choice,
        settings: Settings | None = None,
        detector: Pipeline | None = None,
    ) -> None:
        """Keep the parts; backend and detector are closed by `close`."""
        self.bundle, self.choice = bundle, choice
        self.settings = settings or Settings()
        self.detector = None if detector is None else detector.with_settings(replace(self.settings, classes=()))
        manifest = bundle.manifest
        self.decoding = None if manifest.decode is None else self.settings.of_decode(manifest.decode)
        before = detector.labels if detector is not None else ()
        self.labels: tuple[str, ...] = (*manifest.labels, *(label for label in before if label not in manifest.labels))
        for name in self.settings.classes:
            if name not in self.labels:
                raise unknown_name("class", name, self.labels)
        chosen = self.settings.roi_classes
        self.roi_classes = frozenset(manifest.roi_classes if chosen is None else chosen)
        if detector is not None:
            _require_stages(detector.bundle, bundle, self.roi_classes)

    def with_settings(self, settings: Settings) -> Pipeline:
        """Return a pipeline with other settings; both share the loaded model."""
        return Pipeline(self.bundle, self.choice, settings, self.detector)

    def reopened(self, backend: str, threads: int, plan_policy: str = "require") -> Pipeline:
        """Return a pipeline whose models are loaded again from the bundles in memory; this one stays as it is.

        Each stage keeps its precision: it may have been chosen by what was measured on this CPU. backend, threads,
        plan_policy: as for `open_pipeline`.
        """
        first = None if self.detector is None else self.detector.reopened(backend, threads, plan_policy)
        choice = backends.choose(self.bundle, backend, threads, self.choice.precision, plan_policy)
        if choice.backend.description == self.choice.backend.description:  # then the reason and the warnings hold too
            choice.backend.warnings = self.choice.backend.warnings
            choice = replace(self.choice, backend=choice.backend, halved=None)
        return Pipeline(self.bundle, choice, self.settings, first)

    @property
    def threshold(self) -> float:
        """Lowest score of a box, or of a class where no detector takes part."""
        if self.detector is not None:
            return self.detector.threshold
        return self.settings.min_score if self.decoding is None else self.decoding.score_threshold

    @property
    def finds_boxes(self) -> bool:
        """Whether answers hold boxes that nobody gave: from a detector, alone or in front of a classifier."""
        return self.detector is not None or self.bundle.manifest.runtime_task.finds_boxes

    def close(self) -> None:
        """Free the backend's model, and the detector's."""
        self.choice.close()
        if self.detector is not None:
            self.detector.close()

    def run(self, frames: Sequence[Frame], regions: Sequence[Sequence[Region]] | None = None) -> list[Outcome]:
        """Answer a batch of frames, one outcome for each, in order. regions None: the whole of each frame."""
        return self.answer(self.prepare(frames, regions))

    def attack(
        self, frames: Sequence[Frame], injection: Injection, regions: Sequence[Sequence[Region]] | None = None
    ) -> list[Attacked]:
        """Answer injected copies of the frames."""
        return self.answer_attacked(self.prepare(frames, regions), injection)

    def prepare(self, frames: Sequence[Frame], regions: Sequence[Sequence[Region]] | None = None) -> Prepared:
        """Cut out and scale what the network shall see; boxes that need no second look are left out."""
        per_frame = tuple(tuple(r) for r in regions) if regions is not None else ((WHOLE_FRAME,),) * len(frames)
        found = self._detect(frames, per_frame)
        per_frame, before = found.regions, found.times
        clock = _Clock()
        pairs = enumerate(zip(frames, per_frame, strict=True))
        crops = tuple(crop for number, (frame, wanted) in pairs for crop in self._crops(number, frame, wanted))
        x = prepare([crop.pixels for crop in crops], self.bundle.manifest.input, [crop.colour for crop in crops])
        times = before.plus(preprocess_ms=clock.lap_ms())
        return Prepared(tuple(frames), per_frame, crops, x, times, found.failures)

    def _detect(self, frames: Sequence[Frame], regions: tuple[tuple[Region, ...], ...]) -> _Detected:
        """Put the detector's boxes in the place of whole frames."""
        wanted = [n for n, own in enumerate(regions) if own == (WHOLE_FRAME,)] if self.detector is not None else []
        if self.detector is None or not wanted:
            return _Detected(regions, {}, _NO_TIME)
        outcomes = dict(zip(wanted, self.detector.run([frames[n] for n in wanted]), strict=True))
        failures = {n: outcome.error for n, outcome in outcomes.items() if isinstance(outcome, Failure)}
        results = {n: outcome for n, outcome in outcomes.items() if isinstance(outcome, Result)}
        boxes = {n: _regions_of(result) for n, result in results.items()}
        times = next((result.times for result in results.values()), _NO_TIME)
        return _Detected(
            tuple(() if n in failures else boxes.get(n, own) for n, own in enumerate(regions)), failures, times
        )

    def answer(self, prepared: Prepared) -> list[Outcome]:
        """Run the network on a prepared batch and decode its outputs; `infer` and `decode` in one call."""
        return self.decode(self.infer(prepared))

    def infer(self, prepared: Prepared, *, half: bool = False) -> Inferred:
        """Run the network on a prepared batch; an error of the backend becomes part of the result.

        half: another batch may be inferred at the same time, so this one gets half of the threads where the choice of
        the backend has such a model.
        """
        backend = (self.choice.halved if half else None) or self.choice.backend
        return self._infer(prepared, prepared.x, prepared.times, backend)

    def decode(self, inferred: Inferred, faint_share: float = 1.0) -> list[Outcome]:
        """Turn the network's outputs into one outcome for each frame, in order.

        Args:
            inferred: What the network gave.
            faint_share: Below 1: boxes of a detection bundle whose score is at least this share of the threshold become
                `Result.faint`. The boxes of the answer stay the same. Two stages have no faint boxes: each would be
                classified.
        """
        prepared = inferred.prepared
        if inferred.error is not None:
            return [Failure(frame, inferred.error) for frame in prepared.frames]
        clock = _Clock()
        count = len(prepared.frames)
        answers = [self._answer_frame(prepared, number, inferred.outputs, faint_share) for number in range(count)]
        times = inferred.times.plus(postprocess_ms=clock.lap_ms())
        return [
            Failure(frame, answer)
            if isinstance(answer, LisardError)
            else Result(frame, answer.classification, answer.detections, times, answer.faint)
            for frame, answer in zip(prepared.frames, answers, strict=True)
        ]

    def answer_attacked(self, prepared: Prepared, injection: Injection) -> list[Attacked]:
        """Run the network on an injected copy of a prepared batch."""
        if isinstance(injection, AtDetector):
            return self._answer_at_detector(prepared.frames, injection)
        return self.answer_injected(prepared, self.inject(prepared, injection))

    def inject(self, prepared: Prepared, injection: Injection) -> InjectedBatch:
        """Attack a copy of a prepared batch; no network runs but what the injection itself asks."""
        clock = _Clock()
        injected = injection.apply(prepared.x, prepared.keys() if injection.needs_keys else ())
        return InjectedBatch(injection.name, injected, prepared.times.plus(inject_ms=clock.lap_ms()))

    def answer_injected(self, prepared: Prepared, batch: InjectedBatch) -> list[Attacked]:
        """Run the network on an injected copy of a prepared batch that `inject` made."""
        injected = batch.injected
        inferred = self._infer(prepared, injected.x, batch.times, self.choice.backend)
        outcomes = self.decode(inferred)
        absent = np.zeros(len(injected.x), bool) if injected.without_object is None else injected.without_object
        attacked = []
        for number, outcome in enumerate(outcomes):
            rows = prepared.rows_of(number)
            hit = [crop.region for crop, hit in zip(prepared.crops[rows], injected.applied[rows], strict=True) if hit]
            nothing = bool(absent[rows].all())  # true of no rows at all, too
            attacked.append(Attacked(outcome, batch.injection, frozenset(hit), injected.x[rows], nothing, inferred))
        return attacked

    def _answer_at_detector(self, frames: tuple[Frame, ...], injection: AtDetector) -> list[Attacked]:
        """Let the detector see injected copies; what it then finds is cut out of the frames as they are.

        Regions that were given from outside play no part in it.
        """
        if self.detector is None:
            raise UsageError("an injection for a detector", found=injection.name, expected="a detector in front")
        seen = self.detector.attack(frames, injection.inner)
        found = [_regions_of(a.outcome) if isinstance(a.outcome, Result) else () for a in seen]
        prepared = self.prepare(frames, found)
        before = next((a.outcome.times for a in seen if isinstance(a.outcome, Result)), _NO_TIME)
        times = before.plus(preprocess_ms=prepared.times.preprocess_ms)
        inferred = self.infer(replace(prepared, times=times))
        outcomes = self.decode(inferred)
        return [
            replace(
                a,
                outcome=a.outcome if isinstance(a.outcome, Failure) else outcome,
                injection=injection.name,
                inferred=inferred,
            )
            for a, outcome in zip(seen, outcomes, strict=True)
        ]

    def _crops(self, number: int, frame: Frame, regions: tuple[Region, ...]) -> list[ImageCrop]:
        crops: list[ImageCrop] = []
        margin = self.bundle.manifest.roi_margin
        most = MAX_BATCH if self.bundle.manifest.runtime_task.finds_boxes else self.settings.max_detections
        for index, region in enumerate(regions):
            if len(crops) == most or not self._is_worth_cropping(region):
                continue
            try:
                x0, y0, x1, y1 = crop_bounds_px(frame, region.box_xyxy_px, margin)
            except ImageError:
                continue  # a box outside the frame keeps the detector's own hypothesis
            crops.append(ImageCrop(number, index, frame.image[y0:y1, x0:x1], frame.colour, x0, y0))
        return crops

    def _is_worth_cropping(self, region: Region) -> bool:
        return region.label is None or not self.roi_classes or region.label in self.roi_classes

    def _infer(self, prepared: Prepared, x: Tensor, times: StageTimes, backend: backends.Backend) -> Inferred:
        clock = _Clock()
        try:
            outputs = self._outputs(normalise(x, self.bundle.manifest.input), backend)
        except LisardError as error:
            return Inferred(prepared, _NO_OUTPUTS, times, error)
        return Inferred(prepared, outputs, times.plus(infer_ms=clock.lap_ms()))

    def _outputs(self, x: Tensor, backend: backends.Backend) -> NDArray[np.float32]:
        if not len(x):
            return _NO_OUTPUTS
        infer = backend.infer
        if len(x) <= MAX_BATCH:
            outputs = infer(x)
        else:
            outputs = np.concatenate([infer(x[start : start + MAX_BATCH]) for start in range(0, len(x), MAX_BATCH)])
        if outputs.ndim == 0 or len(outputs) != len(x):
            raise OutputError(
                "the model does not give one answer for each image",
                found=list(outputs.shape),
                expected=f"{len(x)} rows",
                cure="export it with a free or fixed batch axis",
            )
        manifest = self.bundle.manifest
        postprocess.require_shape(outputs.shape[1:], len(manifest.labels), manifest.decode)
        return outputs

    def _answer_frame(
        self, prepared: Prepared, number: int, outputs: NDArray[np.float32], faint_share: float
    ) -> _Answer | LisardError:
        if number in prepared.failures:
            return prepared.failures[number]
        rows = {crop.region: row for row, crop in enumerate(prepared.crops) if crop.frame == number}
        try:
            if self.bundle.manifest.runtime_task.finds_boxes:
                return self._detected(prepared, rows, outputs, faint_share)
            return self._classified(prepared.regions[number], rows, outputs)
        except LisardError as error:
            return error

    def _classified(self, regions: tuple[Region, ...], rows: dict[int, int], outputs: NDArray[np.float32]) -> _Answer:
        whole: Classification | None = None
        items: list[Detection] = []
        boxes = 0
        for index, region in enumerate(regions):
            fine = self._hypotheses(outputs[rows[index]]) if index in rows else ()
            if region.box_xyxy_px is None:
                whole = Classification(tuple(filter(self._asked_for, fine))[: self.settings.top_k])
                continue
            boxes += 1
            coarse = self._coarse(region)
            best = fine[:1] + coarse  # of each stage
            if any(map(self._asked_for, best)) or not (best or self.settings.classes or self.settings.min_score):
                items.append(Detection(region.box_xyxy_px, best + fine[1 : self.settings.top_k], region.id))
        looked_at_boxes = whole is None or boxes
        detections = Detections(tuple(items[: self.settings.max_detections])) if looked_at_boxes else None
        return _Answer(whole, detections)

    def _asked_for(self, hypothesis: Hypothesis) -> bool:
        return not self.settings.classes or hypothesis.label in self.settings.classes

    def _hypotheses(self, output: NDArray[np.float32]) -> tuple[Hypothesis, ...]:
        manifest = self.bundle.manifest
        scores = postprocess.row_scores(output, manifest.output.activation)
        most = len(scores) if self.settings.classes else self.settings.top_k
        return postprocess.hypotheses(scores, manifest.labels, most, self.settings.min_score)

    def _coarse(self, region: Region) -> tuple[Hypothesis, ...]:
        score = 1.0 if region.score is None else region.score
        if region.label is None or not score >= self.settings.min_score or not math.isfinite(score):
            return ()  # NaN: treat as no detection
        index = self.labels.index(region.label) if region.label in self.labels else -1
        return (Hypothesis(region.label, index, score),)

    def _detected(
        self, prepared: Prepared, rows: dict[int, int], outputs: NDArray[np.float32], faint_share: float
    ) -> _Answer:
        if self.decoding is None:
            raise LisardError("a detection bundle without `decode`", cure="validate the bundle")
        threshold = self.decoding.score_threshold
        decoding = msgspec.structs.replace(self.decoding, score_threshold=threshold * faint_share)
        items: list[Detection] = []
        for row in rows.values():
            items += self._boxes_of(prepared.crops[row], outputs[row], decoding)
        items = [item for item in items if self._asked_for(item.hypotheses[0])]
        items.sort(key=lambda item: -item.hypotheses[0].score)
        lowest = float(np.float32(threshold))  # scores are rounded so
        strong = items if faint_share == 1.0 else [item for item in items if item.hypotheses[0].score >= lowest]
        most = self.settings.max_detections
        return _Answer(None, Detections(tuple(strong[:most])), tuple(items[len(strong) :][:most]))

    def _boxes_of(self, crop: ImageCrop, output: NDArray[np.float32], decoding: Decode) -> list[Detection]:
        manifest = self.bundle.manifest
        found = postprocess.detect(
            output,
            decoding,
            manifest.output.activation,
            0.0,
            size_px=(manifest.input.width, manifest.input.height),
            classes=len(manifest.labels),
        )
        if not len(found.scores):
            return []
        height, width = crop.pixels.shape[:2]
        corners = fit(width, height, manifest.input).to_source(found.boxes_xyxy_px)
        corners = np.clip(corners, 0, [width, height] * 2) + [crop.left_px, crop.top_px] * 2
        rows = zip(corners.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
        return [
            Detection((x0, y0, x1, y1), (Hypothesis(manifest.labels[label], label, score),))
            for (x0, y0, x1, y1), score, label in rows
            if x1 > x0 and y1 > y0  # a box in the padding shows nothing
        ]


def _regions_of(result: Result) -> tuple[Region, ...]:
    """The boxes of a detector's answer as regions, best first."""
    items = result.detections.items if result.detections is not None else ()
    return tuple(
        Region(item.box_xyxy_px, item.hypotheses[0].label, item.hypotheses[0].score, item.id) for item in items
    )


def _require_stages(detector: Bundle, classifier: Bundle, roi_classes: frozenset[str]) -> None:
    """Refuse two bundles that cannot work one behind the other."""
    first, second = detector.manifest.runtime_task, classifier.manifest.runtime_task
    if not first.finds_boxes or second.finds_boxes:
        raise UsageError(
            "two stages",
            found=f"{first.name} before {second.name}",
            expected="detection before classification",
            cure="give the detection bundle as the detector",
        )
    if roi_classes and not roi_classes & set(detector.manifest.labels):
        raise UsageError(
            f"detector {detector.manifest.name} finds nothing that {classifier.manifest.name} classifies",
            found=", ".join(detector.manifest.labels),
            expected="some of " + ", ".join(sorted(roi_classes)),
            cure="use bundles that belong together, or set roi_classes",
        )


def open_pipeline(
    path: str | os.PathLike[str] | Bundle,
    *,
    backend: str = backends.AUTO,
    threads: int = 0,
    settings: Settings | None = None,
    detector: str | os.PathLike[str] | Pipeline | None = None,
    precision: str = model_choice.AUTO,
    plan_policy: str = "require",
    trusted_keys: TrustedKeys | None = None,
) -> Pipeline:
    """Read a bundle, choose its backend and join them; OpenCV is held to the same number of threads.

    path: a bundle, where one is, or models/NAME of this package from any folder (`bundle.locate`).
    detector: a detection bundle whose boxes the first bundle classifies, or its pipeline, which this one then closes.
    trusted_keys: both bundles must be signed by one of them; None: signatures are not looked at.
    """
    bundle = path if isinstance(path, Bundle) else bundles.read(bundles.locate(path))
    if trusted_keys is not None:
        trusted_keys.require_signed(bundle)
    cv2.setNumThreads(threads or backends.default_threads())
    first = None
    if isinstance(detector, Pipeline):
        first = detector
    elif detector:
        first = open_pipeline(
            detector,
            backend=backend,
            threads=threads,
            precision=precision,
            plan_policy=plan_policy,
            trusted_keys=trusted_keys,
        )
    try:
        return Pipeline(bundle, backends.choose(bundle, backend, threads, precision, plan_policy), settings, first)
    except BaseException:
        if first is not None:
            first.close()
        raise
