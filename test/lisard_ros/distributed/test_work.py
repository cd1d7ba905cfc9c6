"""A worker: the bundle and the recording that it must have, and slices in any order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lisard_ros.bags.evaluation_state import EvaluationState
from lisard_ros.bags.frame_order import FrameStart
from lisard_ros.bags.matrix import MatrixSpec
from lisard_ros.bags.reader import Topics
from lisard_ros.bags.results import replay_of
from lisard_ros.commands.output import to_json
from lisard_ros.distributed.plan import FrameSlice, ReplayJob, ScanTask, SliceResult, SliceTask
from lisard_ros.distributed.scanning import scan
from lisard_ros.distributed.shipping import perform_shipped, ship
from lisard_ros.distributed.work import ReplayWorker, perform
from lisard_ros.errors import BundleError, DataError

TOPIC, SECOND = "/front/image_raw", 1_000_000_000


@pytest.fixture
def job(tiny, recording) -> ReplayJob:
    """Nine frames of three colours."""
    colours = np.eye(3, dtype=np.uint8) * 200
    messages = [recording.raw(np.full((20, 20, 3), colours[n % 3], np.uint8), n * SECOND) for n in range(9)]
    bundle = tiny.classifier()
    spec = MatrixSpec((bundle.path,), (("onnxruntime", "fp32"),), "noise", threads=1)
    bag = recording.write("drive", messages)
    return ReplayJob(spec, (bundle.sha256,), (bag,), Topics((TOPIC,), None, None), slice_s=3.0)


def counted(state: EvaluationState) -> list[int]:
    return list(state.cameras[TOPIC].frames.stamps_ns) if state.cameras else []


def test_slices_are_answered_in_any_order(job: ReplayJob) -> None:
    worker, tasks = ReplayWorker(job), scan(job, ScanTask(0)).tasks
    assert [(task.part.start, task.part.stop) for task in tasks] == [(0, 3), (3, 6), (6, 9)]
    try:
        for number in (1, 2, 0, 1):
            state = worker.answer(tasks[number]).state
            assert counted(state) == [n * SECOND for n in range(3 * number, 3 * number + 3)]
    finally:
        worker.close()


def test_a_worker_with_another_bundle_does_not_answer(job: ReplayJob) -> None:
    worker = ReplayWorker(replace(job, bundles_sha256=("0" * 64,)))
    with pytest.raises(BundleError, match="another bundle than the command: found .* expected 000000000000"):
        worker.answer(SliceTask(FrameSlice(0, 0, 3), FrameStart()))
    worker.close()


def test_a_worker_without_bundle_or_recording_names_the_machine(job: ReplayJob, tmp_path: Path) -> None:
    gone = replace(job, recordings=(tmp_path / "gone",))
    found = perform(gone, ScanTask(0))
    assert isinstance(found, DataError) and "on " in str(found) and "no such bag" in str(found)
    gone = replace(job, spec=replace(job.spec, bundles=(tmp_path / "gone",)))
    found = perform(gone, SliceTask(FrameSlice(0, 0, 3), FrameStart()))
    assert isinstance(found, BundleError) and "gone" in str(found)


def test_a_recording_that_was_cut_since_the_scan_is_named(job: ReplayJob) -> None:
    longer = SliceTask(FrameSlice(0, 6, 12), scan(job, ScanTask(0)).tasks[2].begin)
    found = perform(job, longer)
    assert isinstance(found, DataError) and "has changed since it was scanned" in str(found)
    assert "3 of the 6 frames" in str(found)


def test_a_shipped_job_needs_no_bundle_on_the_machine(job: ReplayJob) -> None:
    task = SliceTask(FrameSlice(0, 0, 9), FrameStart())
    expected = perform(job, task)
    shipped = ship(job)
    for path in job.spec.bundles:
        path.rename(path.with_name("moved away"))
    found = perform_shipped(shipped, task)
    assert isinstance(found, SliceResult) and isinstance(expected, SliceResult)
    plain = [replace(replay_of(one.state, "drive"), rows=()) for one in (found, expected)]
    assert to_json(plain[0]) == to_json(plain[1])
