"""Finished slices on disk: they come back as they were, and only where nothing that decides them has changed."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from lisard_ros.bags.matrix import MatrixSpec
from lisard_ros.bags.reader import LabelOptions, Topics, open_bag
from lisard_ros.bags.results import replay_of
from lisard_ros.commands.output import to_json
from lisard_ros.distributed.kept_slices import KeptSlices
from lisard_ros.distributed.plan import FrameSlice, RecordingScan, ReplayJob, ScanTask, SliceResult
from lisard_ros.distributed.scanning import scan
from lisard_ros.distributed.work import ReplayWorker
from lisard_ros.errors import UsageError

SECOND = 1_000_000_000


@pytest.fixture
def job(tiny, recording) -> ReplayJob:
    """A small labelled recording of two cameras and a bundle with attacks."""
    random, messages = np.random.default_rng(0), []
    for n in range(12):
        image = random.integers(0, 90, (20, 24, 3), dtype=np.uint8)
        image[..., n % 3] += 120
        messages.append(recording.png(image, n * SECOND, f"/{'left' if n % 2 else 'right'}/image_raw/compressed"))
        messages.append(recording.label(n * SECOND, ("red", "green", "blue")[n // 2 % 3]))
    bag, bundle = recording.write("drive", messages), tiny.armed()
    with open_bag(bag) as opened:
        topics = opened.topics
    spec = MatrixSpec((bundle.path,), (("onnxruntime", "fp32"),), "noise,universal", threads=1)
    return ReplayJob(spec, (bundle.sha256,), (bag,), topics, slice_s=4.0, labelled=True, examples=(2, 1))


def answered(job: ReplayJob) -> tuple[RecordingScan, SliceResult]:
    worker, scanned = ReplayWorker(job), scan(job, ScanTask(0))
    try:
        return scanned, worker.answer(scanned.tasks[1])
    finally:
        worker.close()


def test_a_slice_comes_back_as_it_was(job: ReplayJob, tmp_path: Path) -> None:
    scanned, result = answered(job)
    assert [task.part for task in scanned.tasks] == [FrameSlice(0, n, n + 4) for n in (0, 4, 8)] and result.examples
    KeptSlices(tmp_path / "kept", job).save(scanned, result)
    again = KeptSlices(tmp_path / "kept", job).load(scanned, result.part)
    assert again is not None and again is not result
    assert to_json(replay_of(again.state, "x")) == to_json(replay_of(result.state, "x"))
    assert (again.part, again.host) == (result.part, result.host)
    assert again.examples == result.examples
    assert KeptSlices(tmp_path / "kept", job).load(scanned, FrameSlice(0, 0, 4)) is None


def test_what_has_changed_is_not_taken_up(job: ReplayJob, tmp_path: Path, tiny) -> None:
    scanned, result = answered(job)
    KeptSlices(tmp_path / "kept", job).save(scanned, result)

    def found(changed: ReplayJob, of: RecordingScan = scanned) -> bool:
        return KeptSlices(tmp_path / "kept", changed).load(of, result.part) is not None

    assert found(job)
    labels = tmp_path / "labels.csv"
    labels.write_text("stamp_s,label\n1,red\n")
    with_labels = replace(job, labels=LabelOptions(labels))
    assert not found(with_labels)
    KeptSlices(tmp_path / "kept", with_labels).save(scanned, result)
    assert found(with_labels)
    labels.write_text("stamp_s,label\n1,green\n")
    assert not found(with_labels)
    assert not found(job, replace(scanned, info=replace(scanned.info, sha256="0" * 64)))
    spec = job.spec
    for changed in (
        replace(job, bundles_sha256=("0" * 64,)),
        replace(job, tracking="bytetrack"),
        replace(job, labelled=False),
        replace(job, topics=Topics(job.topics.images, None, None)),
        *(
            replace(job, spec=replace(spec, **one))
            for one in ({"seed": 1}, {"sigma_255": 2.0}, {"injections": "noise"})
        ),
        replace(job, spec=replace(spec, engines=(("onnxruntime", "int8"),))),
    ):
        assert not found(changed)


def test_a_damaged_file_is_answered_anew(job: ReplayJob, tmp_path: Path) -> None:
    scanned, result = answered(job)
    kept = KeptSlices(tmp_path / "kept", job)
    kept.save(scanned, result)
    (path,) = (tmp_path / "kept").iterdir()
    whole = path.read_bytes()
    foreign = msgspec.msgpack.encode(["object", "Path", [["a", "b"]]])
    for damage in (
        whole[:-5],
        whole[: len(whole) // 2],
        b"",
        b"\x93\x01",
        foreign,
        msgspec.msgpack.encode(["array", "q"]),
    ):
        path.write_bytes(damage)
        assert kept.load(scanned, result.part) is None
    path.write_bytes(whole)
    assert kept.load(scanned, result.part) is not None


def test_a_folder_that_cannot_be_made(job: ReplayJob, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot keep finished slices"):
        KeptSlices(tmp_path / "file" / "kept", job)


FULL_DISK = """
import resource, sys
from lisard_ros.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


def test_a_disk_that_is_full_in_mid_run_keeps_what_was_finished(job: ReplayJob, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    words = ["replay", str(job.recordings[0]), "--bundle", str(job.spec.bundles[0]), "--workers", "1", "--slice-s", "4"]
    words += ["--slices", str(kept)]
    scanned, result = answered(replace(job, examples=None))
    KeptSlices(tmp_path / "sizes", job).save(scanned, result)
    size = next((tmp_path / "sizes").iterdir()).stat().st_size

    def run(limit: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", FULL_DISK, str(limit), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=dict(os.environ))

    done = run(size // 2)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "cannot keep finished slices" in done.stderr and "Traceback" not in done.stderr
    assert list(kept.iterdir()) == []
    done = run(1 << 30)
    assert done.returncode == 0 and len(list(kept.iterdir())) == 3, done.stderr
