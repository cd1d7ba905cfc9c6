"""A replay in slices: scan the recordings, answer the slices, and join the results to what one process would find."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lisard_ros.bags.album import ReplayAlbum
from lisard_ros.bags.evaluation import MatrixEvaluation, MatrixModel
from lisard_ros.bags.evaluation_state import EvaluationState
from lisard_ros.bags.labels import LabelJoin, added
from lisard_ros.bags.reader import Bag, labels_unmet
from lisard_ros.distributed.kept_slices import KeptSlices
from lisard_ros.distributed.plan import FrameSlice, RecordingScan, ReplayJob, ScanTask, SliceResult, tasks
from lisard_ros.distributed.processes import TaskPool
from lisard_ros.distributed.scanning import packed


@dataclass(frozen=True, slots=True)
class ScannedLabels:
    """The labels of all recordings, as `Bag` counts them. joins: how they met the frames."""

    names: Counter[str]
    boxes: bool
    joins: tuple[LabelJoin, ...]

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
    kept: int
    slices: int
    hosts: tuple[str, ...]


def scan(job: ReplayJob, pool: TaskPool, step: Callable[[], object]) -> tuple[RecordingScan, ...]:
    """Read all recordings without decoding them; `step` is called after each.

    Raises:
        LisardError: One cannot be read, or topics hold labels and none belongs to a frame.
    """
    found: dict[int, RecordingScan] = {}
    for result in pool.results(job, [ScanTask(number) for number in range(len(job.recordings))]):
        assert isinstance(result, RecordingScan)
        found[result.recording] = result
        step()
    scans = tuple(found[number] for number in range(len(job.recordings)))
    met = [one.labels_met for one in scans if one.labels_met is not None]
    if met and not any(met):
        join = next(join for one in scans for join in one.joins)
        raise labels_unmet(join.tolerance_ms, "none nearer in any recording", join.source)
    return scans


def with_labels(
    job: ReplayJob, bag: Bag, scans: Sequence[RecordingScan]
) -> tuple[tuple[RecordingScan, ...], ScannedLabels]:
    """Return scans whose tasks have their labels, and what is known of all labels.

    Those of topics came with the scans. A file is joined here, with the frames of all recordings as in one process.

    Args:
        job: The replay.
        bag: Its recordings, with its labels.
        scans: Of these recordings.

    Raises:
        DataError: As for `Bag.require_met`.
    """
    if job.labels.file is None:
        names = sum((one.label_names for one in scans), Counter[str]())
        joins = added(join for one in scans for join in one.joins)
        return tuple(scans), ScannedLabels(names, job.topics.boxes is not None, joins)
    orders = [one.frames_in_order for one in scans if one.frames_in_order is not None]
    bag.join_labels({(n, topic): of for n, one in enumerate(orders) for topic, of in one.by_topic().items()})
    bag.require_met()
    labelled = []
    for number, (one, frames) in enumerate(zip(scans, orders, strict=True)):
        truths = [bag.truth_of(number, topic, image) for topic, image in frames]
        parts = [replace(task, truths=packed(truths[task.part.start : task.part.stop])) for task in one.tasks]
        labelled.append(replace(one, tasks=tuple(parts), frames_in_order=None))
    return tuple(labelled), ScannedLabels(bag.label_names(), bag.has_boxes(), bag.joins())


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
        LisardError: A slice cannot be answered or kept.
    """
    kept = None if folder is None else KeptSlices(folder, job)
    wanted, state = tasks(scans), MatrixEvaluation(models, job.rule, job.tracking).state
    found: dict[FrameSlice, SliceResult] = {}
    for part in (task.part for task in wanted) if kept is not None else ():
        result = kept.load(scans[part.recording], part) if kept is not None else None
        if result is not None and result.state.models == state.models:  # `auto` may choose another backend today
            found[part] = result
            step(part.stop - part.start)
    resumed = len(found)
    hosts: list[str] = []
    for one in pool.results(job, [task for task in wanted if task.part not in found]):
        assert isinstance(one, SliceResult)
        if kept is not None:
            kept.save(scans[one.part.recording], one)
        found[one.part] = one
        hosts.append(one.host)
        step(one.part.stop - one.part.start)
    for task in wanted:
        state.append(found[task.part].state)
        album.add(found[task.part].examples)
    return MergedReplay(state, resumed, len(wanted), tuple(dict.fromkeys(hosts)))
