"""What a worker does: scan a recording, or answer a slice of it. Models and the recording stay open between slices."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

from lisard_ros.bags.album import ReplayAlbum
from lisard_ros.bags.evaluation import MatrixModel, evaluate
from lisard_ros.bags.matrix import open_matrix
from lisard_ros.bags.reader import Bag, BagFrame
from lisard_ros.bags.recordings import open_recording
from lisard_ros.distributed.plan import ReplayJob, ScanTask, SliceResult, SliceTask, Task, TaskResult
from lisard_ros.distributed.scanning import scan, unpacked
from lisard_ros.errors import BundleError, DataError, LisardError, one_line


class _SliceReader:
    """Reads slices of one recording: from where the last one ended, or where the index says that the slice begins."""

    def __init__(self, job: ReplayJob, number: int) -> None:
        self.number = number
        recording = open_recording(job.recordings[number])
        self._bag = Bag([recording], job.topics, first_recording=number)
        self._close = recording.close
        self._images = self._bag.order(0)
        self._place = 0

    def frames(self, task: SliceTask) -> Iterator[BagFrame]:
        """Yield the frames of a slice.

        Raises:
            DataError: There are fewer than the scan has found.
        """
        part, count = task.part, task.part.stop - task.part.start
        if self._place > part.start or self._place < task.begin.point.passed:
            self._images, self._place = self._bag.order(0, task.begin), part.start
        for _ in islice(self._images, part.start - self._place):
            pass
        self._place = part.stop
        truths = iter(unpacked(task.truths, count))
        yield from self._bag.decoded(0, zip(islice(self._images, count), truths, strict=False))
        missing = len(list(truths))
        if missing:
            raise DataError(
                "a recording has changed since it was scanned",
                found=f"{missing} of the {count} frames of a slice are missing: {self._bag.name}",
                expected="the frames that the scan found",
                cure="leave recordings as they are until the replay has ended",
            )

    def close(self) -> None:
        self._close()


class ReplayWorker:
    """One process's share of a replay."""

    def __init__(self, job: ReplayJob) -> None:
        """Open nothing yet."""
        self.job = job
        self._opened = ExitStack()
        self._models: tuple[MatrixModel, ...] | None = None
        self._reader: _SliceReader | None = None

    def answer(self, task: SliceTask) -> SliceResult:
        """Answer the frames of a slice.

        Raises:
            LisardError: The bundle or the recording is not there, or is another one.
        """
        job, models, reader = self.job, self._open_models(), self._open_reader(task.part.recording)
        album = None if job.examples is None else ReplayAlbum(*job.examples)
        state = evaluate(
            models,
            reader.frames(task),
            job.rule,
            job.tracking,
            watch=album.watch if album is not None else lambda seen: None,
        )
        examples = album.in_order() if album is not None else ()
        return SliceResult(task.part, state, examples, socket.gethostname())

    def close(self) -> None:
        """Close models and recording."""
        if self._reader is not None:
            self._reader.close()
        self._opened.close()

    def _open_models(self) -> tuple[MatrixModel, ...]:
        if self._models is None:
            matrix = self._opened.enter_context(open_matrix(self.job.spec))
            found = tuple(dict.fromkeys(pipeline.bundle.sha256 for pipeline in matrix.pipelines))
            if found != self.job.bundles_sha256:
                raise BundleError(
                    "a worker has another bundle than the command",
                    found=", ".join(one[:12] for one in found),
                    expected=", ".join(one[:12] for one in self.job.bundles_sha256),
                    cure="leave the bundle as it is until the replay has ended",
                )
            self._models = matrix.models(self.job.labelled)
        return self._models

    def _open_reader(self, number: int) -> _SliceReader:
        if self._reader is None or self._reader.number != number:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
            self._reader = _SliceReader(self.job, number)
        return self._reader


_worker: ReplayWorker | None = None


def perform(job: ReplayJob, task: Task) -> TaskResult | LisardError:
    """Do one task in this process, which keeps what it opened for the next one of the same job.

    Returns:
        What was found, or the error that a user can act on, with the name of this machine.
    """
    global _worker
    if _worker is None or _worker.job != job:
        if _worker is not None:
            _worker.close()
        _worker = ReplayWorker(job)
    try:
        return scan(job, task) if isinstance(task, ScanTask) else _worker.answer(task)
    except LisardError as error:
        return type(error)(f"on {socket.gethostname()}: {error}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return DataError(
            f"on {socket.gethostname()}: a file cannot be read or written",
            found=f"{where}{error.strerror or one_line(error)}",
            cure="make room in TMPDIR there, and check that recordings have the same path on every machine",
        )
