"""A worker: the bundle and the recording that it must have, and slices in any order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lisard_ros.bags.evaluation_state import EvaluationState
from lisard_ros.bags.matrix import MatrixSpec
from lisard_ros.bags.reader import Topics
from lisard_ros.bags.results import replay_of
from lisard_ros.commands.output import to_json
from lisard_ros.distributed.plan import FrameSlice, ReplayJob, ScanTask, SliceResult
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
    worker = ReplayWorker(job)
    try:
        ends = worker.scan(ScanTask(0)).ends
        assert ends == (3, 6, 9)
        for start, stop in ((3, 6), (6, 9), (0, 3), (3, 6)):
            state = worker.answer(FrameSlice(0, start, stop)).state
            assert counted(state) == [n * SECOND for n in range(start, stop)]
    finally:
        worker.close()


def test_a_worker_with_another_bundle_does_not_answer(job: ReplayJob) -> None:
    worker = ReplayWorker(replace(job, bundles_sha256=("0" * 64,)))
    with pytest.raises(BundleError, match="another bundle than the command: found .* expected 000000000000"):
        worker.answer(FrameSlice(0, 0, 3))
    worker.close()


def test_a_worker_without_bundle_or_recording_names_the_machine(job: ReplayJob, tmp_path: Path) -> None:
    gone = replace(job, recordings=(tmp_path / "gone",))
    found = perform(gone, ScanTask(0))
    assert isinstance(found, DataError) and "on " in str(found) and "no such bag" in str(found)
    gone = replace(job, spec=replace(job.spec, bundles=(tmp_path / "gone",)))
    found = perform(gone, FrameSlice(0, 0, 3))
    assert isinstance(found, BundleError) and "gone" in str(found)


def test_a_shipped_job_needs_no_bundle_on_the_machine(job: ReplayJob) -> None:
    expected = perform(job, FrameSlice(0, 0, 9))
    shipped = ship(job)
    for path in job.spec.bundles:
        path.rename(path.with_name("moved away"))
    found = perform_shipped(shipped, FrameSlice(0, 0, 9))
    assert isinstance(found, SliceResult) and isinstance(expected, SliceResult)
    plain = [replace(replay_of(one.state, "drive"), rows=()) for one in (found, expected)]
    assert to_json(plain[0]) == to_json(plain[1])
