"""From what was kept frame by frame to the lines of the report: shares, intervals, effects, flips, AP, classes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lisard_ros.bags import blocks
from lisard_ros.bags.evaluation_state import CameraState, Cell, Code, Condition, EvaluationState, FrameStatus, Things
from lisard_ros.bags.report import (
    ACCURACY,
    AGREEMENT,
    NO_EFFECT,
    NOT_APPLIED,
    REFERENCE,
    CameraFrames,
    CameraResult,
    ClassResult,
    Confusion,
    DetectionPrecision,
    FrameScores,
    Replay,
    ReplayedModel,
)
from lisard_ros.evaluation import average_precision as ap
from lisard_ros.evaluation.statistics import Proportion, clustered_counts, interval_of, proportion, resamples
from lisard_ros.growing import as_array
from lisard_ros.injection import CLEAN

AP_ROUNDS = 500  # of the bootstrap: each needs a ranking, where a share needs a sum
_SEED = 0  # of the bootstrap
_AT_ONCE = 1 << 22  # numbers of a bootstrap that are in memory together


def replay_of(state: EvaluationState, bag: str) -> Replay:
    """Return the report of all frames of a state. bag: name of the recording."""
    rows, cameras = _results(state)
    models = tuple(
        ReplayedModel(
            info.bundle,
            info.bundle_sha256,
            info.backend,
            info.reason,
            info.engine_key,
            info.warnings,
            info.reference,
            info.detector,
            info.detector_sha256,
        )
        for info in state.models
    )
    return Replay(
        bag,
        "; ".join(dict.fromkeys(one.bundle for one in models)),
        models[0].bundle_sha256,
        "; ".join(dict.fromkeys(one.description for one in models)),
        rows,
        state.tracking,
        tuple(state.tracks),
        reference="; ".join(dict.fromkeys(one.reference for one in models if one.reference)),
        models=models,
        by=state.rule.by,
        block_s=state.rule.block_s,
        cameras=cameras,
        failures=tuple(state.failures),
    )


def _results(state: EvaluationState) -> tuple[tuple[CameraResult, ...], tuple[CameraFrames, ...]]:
    settled = blocks.settle(state.rule, [camera.frames for camera in state.cameras.values()])
    frames = []
    for (topic, camera), of_camera in zip(state.cameras.items(), settled, strict=True):
        log = camera.frames
        numbers, truth = as_array("i", of_camera.blocks), hashlib.sha256(log.truths.tobytes()).hexdigest()
        frames.append(CameraFrames(topic, log.stamps_ns, log.recordings, numbers, of_camera.copies, truth))
    rows = []
    for number, info in enumerate(state.models):
        for (topic, camera), of_camera in zip(state.cameras.items(), settled, strict=True):
            lines = _CameraLines(state, topic, camera, number, of_camera.blocks)
            rows += [lines.row(place, one) for place, one in enumerate(info.conditions)]
    return tuple(rows), tuple(frames)


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """How the things of one condition were answered. right, judged: bool [T]; answers: numbers of classes [T]."""

    right: NDArray[np.bool_]
    judged: NDArray[np.bool_]
    answers: NDArray[np.int64]


class _CameraLines:
    """The lines of one camera and model."""

    def __init__(
        self, state: EvaluationState, topic: str, camera: CameraState, model: int, of_frames: NDArray[np.int64]
    ) -> None:
        """of_frames: the block of each frame [F]."""
        self.number, self.info = model, state.models[model]
        self.topic, self.blocks, self.names = topic, of_frames, [str(name) for name in state.classes.names]
        self.cells, self.count = camera.cells[model], len(camera.frames)
        self.labelled = any(_any_judged(cell) for cell in camera.cells[model])
        self.compared_clean = self.labelled or bool(self.info.reference)
        self.kind = ACCURACY if self.labelled else AGREEMENT
        things: Things = camera.labels if self.labelled else camera.clean[model]
        self.frame_of = np.repeat(np.arange(self.count), np.array(things.counts, np.int64))
        self.classes, self.tracks = (np.array(values, np.int64) for values in (things.classes, things.tracks))
        self.clean = self._judged(self.cells[0])

    def row(self, place: int, condition: Condition) -> CameraResult:
        """Return the line of a condition, the number of its cell."""
        cell, is_clean = self.cells[place], condition.name == CLEAN
        kind = self.kind if self.compared_clean or not is_clean else REFERENCE
        of_cell = self._judged(cell)
        right, judged = (self._by_frame(values) for values in (of_cell.right, of_cell.judged))
        false = np.bincount(np.array(cell.answers[self.kind].false_frames, np.int64), minlength=self.count)
        score = clustered_counts(right, judged, self.blocks)
        clean = score
        if not is_clean:
            met = self._by_frame(self.clean.right & of_cell.judged)
            clean = clustered_counts(met, judged, self.blocks) if self.compared_clean else proportion(0, 0)
        status = np.bincount(np.array(cell.status, np.int64), minlength=FrameStatus.NO_REGIONS + 1)
        has_false = self.info.finds_boxes and status[FrameStatus.ANSWERED] and kind != REFERENCE
        scores = FrameScores(as_array("H", right), as_array("H", judged), as_array("H", false) if false.any() else ())
        return CameraResult(
            self.topic,
            self.info.backend,
            condition.name,
            condition.knowledge,
            self.count,
            int(status[FrameStatus.ANSWERED]),
            dict(cell.failed),
            int(status[FrameStatus.NOT_APPLICABLE]),
            kind,
            score,
            clean,
            int(false.sum()) if has_false else None,
            {stage: histogram.percentiles() for stage, histogram in cell.times.items()},
            "" if is_clean else self._effect(cell, score, clean, false),
            len(np.unique(self.blocks[judged > 0])),
            self._confusion(cell, of_cell),
            scores,
            self.info.bundle,
            int(status[FrameStatus.NO_REGIONS]),
            self.number,
            self._flips(of_cell, is_clean),
            *self._by_class(cell, of_cell),
        )

    def _judged(self, cell: Cell) -> _Judged:
        codes = np.array(cell.answers[self.kind].codes, np.int64)
        if len(codes) != len(self.classes):  # the clean answers are the reference itself
            codes = np.full(len(self.classes), Code.NOT_JUDGED)
        judged = codes != Code.NOT_JUDGED
        return _Judged(judged & (codes & Code.RIGHT > 0), judged, np.where(judged, codes & Code.MISSED, Code.MISSED))

    def _by_frame(self, things: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(self.frame_of[things], minlength=self.count)

    def _effect(self, cell: Cell, score: Proportion, clean: Proportion, false: NDArray[np.int64]) -> str:
        """Return the effect of an attack."""
        status = np.array(cell.status, np.uint8)
        nowhere = (status == FrameStatus.NOT_APPLICABLE) | (status == FrameStatus.NO_REGIONS)
        if nowhere.any() and (nowhere | (status == FrameStatus.FAILED)).all():
            return NOT_APPLIED
        if not self.compared_clean:
            return NO_EFFECT if score.n and score.hits == score.n and not false.sum() else ""
        answered = status == FrameStatus.ANSWERED
        before = np.array(self.cells[0].answers[self.kind].false_frames, np.int64)
        harmless = score.hits >= clean.hits and false.sum() <= answered[before].sum()
        return NO_EFFECT if score.n and harmless else ""

    def _confusion(self, cell: Cell, of_cell: _Judged) -> tuple[Confusion, ...]:
        """Count each pair of class and answer, the commonest first."""
        pairs = np.stack([self.classes[of_cell.judged], of_cell.answers[of_cell.judged]], axis=1)
        false = np.array(cell.answers[self.kind].false_classes, np.int64)
        pairs = np.concatenate([pairs, np.stack([np.full(len(false), Code.MISSED), false], axis=1)])
        found, counts = np.unique(pairs, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        return tuple(
            Confusion(self._name(was), self._name(answer), count)
            for (was, answer), count in zip(found[order].tolist(), counts[order].tolist(), strict=True)
        )

    def _name(self, number: int) -> str:
        return "" if number == Code.MISSED else self.names[number]

    def _flips(self, of_cell: _Judged, is_clean: bool) -> Proportion:
        """Count answers that change from one frame of an object to its next, while what they are compared with stays.

        The clean answers of the reference have nothing to be compared with: every change counts.
        """
        answers, judged, kept = of_cell.answers, of_cell.judged, self.classes
        if is_clean and not self.compared_clean:
            answers, judged, kept = self.classes, np.ones(len(answers), bool), np.zeros(len(answers), np.int64)
        places = np.flatnonzero(judged & (self.tracks > 0))
        places = places[np.argsort(self.tracks[places], kind="stable")]
        before, after = places[:-1], places[1:]
        same = (self.tracks[before] == self.tracks[after]) & (kept[before] == kept[after])
        same &= self.frame_of[before] < self.frame_of[after]
        before, after = before[same], after[same]
        changed = answers[before] != answers[after]
        return clustered_counts(changed, np.ones(len(after)), self.blocks[self.frame_of[after]])

    def _by_class(self, cell: Cell, of_cell: _Judged) -> tuple[tuple[ClassResult, ...], DetectionPrecision | None]:
        """Return the share of each class that was judged, and AP over all of them."""
        precision, of_class = self._precision(cell)
        results = []
        for number in np.unique(self.classes[of_cell.judged]).tolist():
            chosen = of_cell.judged & (self.classes == number)
            groups = self.blocks[self.frame_of[chosen]]
            score = clustered_counts(of_cell.right[chosen], np.ones(int(chosen.sum())), groups)
            results.append(ClassResult(self.names[number], score, of_class.get(number, float("nan"))))
        return tuple(results), precision

    def _precision(self, cell: Cell) -> tuple[DetectionPrecision | None, dict[int, float]]:
        """Return AP with its intervals, and AP50 by class; nothing where no box was ranked or to be found."""
        frames = np.array(cell.ranked.frames, np.int64)
        ranked = np.isin(self.frame_of, frames)
        if not self.labelled or not ranked.any():
            return None, {}
        wanted, truths_of = np.unique(self.classes[ranked], return_inverse=True)
        used, _ = np.unique(self.blocks[frames], return_inverse=True)
        truths = np.zeros((len(used), len(wanted)), np.int64)
        np.add.at(truths, (np.searchsorted(used, self.blocks[self.frame_of[ranked]]), truths_of), 1)
        known = {int(name): place for place, name in enumerate(wanted)}
        places = np.array([known.get(self._coarse(number, known), -1) for number in range(len(self.names))], np.int64)

        def at_iou(boxes: ap.Ranked) -> list[ap.Matches]:
            """The boxes in those frames, matched at each of AP_IOUS."""
            of_box = np.repeat(np.array(boxes.frames, np.int64), np.array(boxes.counts, np.int64))
            kept = np.isin(of_box, frames)
            classes = places[np.array(boxes.classes, np.intp)[kept]]
            matches = ap.Matches(
                np.array(boxes.scores, np.float64)[kept],
                classes,
                np.searchsorted(used, self.blocks[of_box[kept]]),
                np.zeros(len(classes), bool),
                np.ones(len(classes), bool),
                truths,
                (),
            )
            hits = np.array(boxes.hits, np.int64)[kept]
            return [replace(matches, right=(hits >> bit & 1).astype(bool)) for bit in range(len(ap.AP_IOUS))]

        attacked, once = at_iou(cell.ranked), np.ones((1, len(used)))
        each = ap.ap50s_of_classes(attacked[0], once)[:, 0]
        rounds = AP_ROUNDS if len(used) > 1 else 0
        weights = np.concatenate([once, resamples(np.arange(len(used)), rounds, _SEED)])
        drawn = [_in_parts(one, weights) for one in attacked]
        clean = [ap.ap50s(one, once) for one in at_iou(self.cells[0].ranked)]
        every = (drawn[0], np.mean(drawn, axis=0), clean[0], np.mean(clean, axis=0))
        precision = DetectionPrecision(*map(interval_of, every))
        return precision, dict(zip(wanted.tolist(), each.tolist(), strict=True))

    def _coarse(self, number: int, known: dict[int, int]) -> int:
        """Return the class that a finer one counts as, where that alone was recorded."""
        if number in known:
            return number
        name = self.names[number]
        coarse = next((group for group, finer in self.info.groups if name in finer), None)
        return self.names.index(coarse) if coarse in self.names else number


def _any_judged(cell: Cell) -> bool:
    return bool((np.array(cell.answers[ACCURACY].codes, np.int64) != Code.NOT_JUDGED).any())


def _in_parts(matches: ap.Matches, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return AP of each bootstrap sample, some of them at a time."""
    at_once = max(1, _AT_ONCE // max(1, int(matches.right.sum())))
    parts = [ap.ap50s(matches, weights[begin : begin + at_once]) for begin in range(0, len(weights), at_once)]
    return np.concatenate(parts)
