"""A replay in slices: scan the recordings, answer the slices, and join the results to what one process would find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lisard_ros.bags.album import ReplayAlbum
from lisard_ros.bags.evaluation import MatrixEvaluation, MatrixModel
from lisard_ros.bags.evaluation_state import EvaluationState
from lisard_ros.bags.labels import LabelJoin
from lisard_ros.bags.reader import labels_unmet
from lisard_ros.distributed.kept_slices import KeptSlices
from lisard_ros.distributed.plan import FrameSlice, RecordingScan, ReplayJob, ScanTask, SliceResult, slices
from lisard_ros.distributed.processes import TaskPool


@dataclass(frozen=True, slots=True)
class ScannedLabels:
    """The labels of all recordings, as `Bag` counts them."""

    names: Counter[str]
    boxes: bool

    def label_names(self) -> Counter[str]:
        """Count the classes of all labels."""
        return self.names

    def has_boxes(self) -> bool:
        """Whether some label is a list of boxes."""
        return self.boxes


@dataclass(frozen=True, slots=True, eq=False)
class MergedReplay:
    """What all slices found. kept: how many of them were finished by an earlier run; hosts: who answered the others."""

    state: EvaluationState
    joins: tuple[LabelJoin, ...]
    kept: int
    slices: int
    hosts: tuple[str, ...]


def scan(job: ReplayJob, pool: TaskPool, step: Callable[[], object]) -> tuple[RecordingScan, ...]:
    """Read all recordings without decoding them; `step` is called after each.

    Raises:
        LisardError: One cannot be read.
    """
    found: dict[int, RecordingScan] = {}
    for result in pool.results(job, [ScanTask(number) for number in range(len(job.recordings))]):
        assert isinstance(result, RecordingScan)
        found[result.recording] = result
        step()
    return tuple(found[number] for number in range(len(job.recordings)))


def labels_of(job: ReplayJob, scans: Sequence[RecordingScan]) -> ScannedLabels:
    """Return the labels of all recordings; a file beside them belongs to each of them and counts once."""
    counted = scans[:1] if job.labels.file is not None else scans
    names = sum((one.label_names for one in counted), Counter[str]())
    boxes = any(one.has_boxes for one in counted) if job.labels.file is not None else job.topics.boxes is not None
    return ScannedLabels(names, boxes)


def answer(
    job: ReplayJob,
    scans: Sequence[RecordingScan],
    models: Sequence[MatrixModel],
    pool: TaskPool,
    folder: Path | None,
    album: ReplayAlbum,
    step: Callable[[int], object],
) -> MergedReplay:
    """Answer all slices and join them.

    Args:
        job: The replay; `labelled` is known by now.
        scans: Of its recordings.
        models: As the workers open them; they answer nothing here.
        pool: The workers.
        folder: Where finished slices are kept and looked for; None: nowhere.
        album: Takes the examples of all slices.
        step: Called with the number of frames of each slice that is there.

    Raises:
        LisardError: A slice cannot be answered or kept, or no label belongs to a frame.
    """
    kept = None if folder is None else KeptSlices(folder, job)
    wanted, state = slices(scans), MatrixEvaluation(models, job.rule, job.tracking).state
    found: dict[FrameSlice, SliceResult] = {}
    for part in wanted if kept is not None else ():
        result = kept.load(scans[part.recording], part) if kept is not None else None
        if result is not None and result.state.models == state.models:  # `auto` may choose another backend today
            found[part] = result
            step(part.stop - part.start)
    resumed = len(found)
    hosts: list[str] = []
    for one in pool.results(job, [part for part in wanted if part not in found]):
        assert isinstance(one, SliceResult)
        if kept is not None:
            kept.save(scans[one.part.recording], one)
        found[one.part] = one
        hosts.append(one.host)
        step(one.part.stop - one.part.start)
    ordered = [found[part] for part in wanted]
    _require_labels_met(ordered)
    for result in ordered:
        state.append(result.state)
        album.add(result.examples)
    return MergedReplay(state, merged_joins(ordered), resumed, len(wanted), tuple(dict.fromkeys(hosts)))


def merged_joins(results: Sequence[SliceResult]) -> tuple[LabelJoin, ...]:
    """Join the counts of labels: frames of all slices, and unused labels once for each recording."""
    of_recording: dict[tuple[int, str, str], LabelJoin] = {}
    for result in results:
        for one in result.joins:
            key = (result.part.recording, one.topic, one.source)
            of_recording[key] = one if key not in of_recording else _added(of_recording[key], one, one.unused)
    together: dict[tuple[str, str], LabelJoin] = {}
    for (_, topic, source), one in of_recording.items():
        before = together.get((topic, source))
        together[topic, source] = one if before is None else _added(before, one, before.unused + one.unused)
    return tuple(together.values())


def _added(one: LabelJoin, other: LabelJoin, unused: int) -> LabelJoin:
    return replace(
        one,
        tolerance_ms=max(one.tolerance_ms, other.tolerance_ms),
        matched=one.matched + other.matched,
        unmatched=one.unmatched + other.unmatched,
        ambiguous=one.ambiguous + other.ambiguous,
        unused=unused,
    )


def _require_labels_met(results: Sequence[SliceResult]) -> None:
    known = [result for result in results if result.labels_met is not None]
    if known and not any(result.labels_met for result in known):
        join = next((one for result in known for one in result.joins), None)
        if join is not None:
            raise labels_unmet(join.tolerance_ms, "none nearer in any recording", join.source)
