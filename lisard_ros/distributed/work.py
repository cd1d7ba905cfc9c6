"""What a worker does: scan a recording, or answer a slice of it. Models and the recording stay open between slices."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from lisard_ros.bags.album import ReplayAlbum
from lisard_ros.bags.evaluation import MatrixModel, evaluate
from lisard_ros.bags.labels import LabelJoin
from lisard_ros.bags.matrix import open_matrix
from lisard_ros.bags.reader import Bag, BagFrame
from lisard_ros.bags.recordings import open_recording
from lisard_ros.distributed.plan import (
    FrameSlice,
    RecordingScan,
    ReplayJob,
    ScanTask,
    SliceResult,
    Task,
    TaskResult,
    ends_of,
)
from lisard_ros.errors import BundleError, DataError, LisardError, one_line
from lisard_ros.tracking import NONE


class _FrameReader:
    """Reads slices of one recording; later ones go on where the last one ended."""

    def __init__(self, job: ReplayJob, number: int) -> None:
        self.number = number
        recording = open_recording(job.recordings[number])
        self.bag = Bag([recording], job.topics, job.labels, number, may_lack_labels=len(job.recordings) > 1)
        self._close = recording.close
        self._wanted = range(0)
        self._place = 0
        self._frames: Iterator[BagFrame | None] = iter(())
        self._is_open = False

    def frames(self, part: FrameSlice) -> Iterator[BagFrame]:
        """Yield the frames of a slice."""
        if self.begins_anew(part):
            self._frames, self._place, self._is_open = self.bag.chosen_frames(self._is_wanted), 0, True
        self._wanted = range(part.start, part.stop)
        while self._place < part.stop:
            item = next(self._frames, None)
            self._place += 1
            if item is not None:
                yield item

    def begins_anew(self, part: FrameSlice) -> bool:
        """Whether this slice lies before the place that was reached."""
        return not self._is_open or self._place > part.start

    def close(self) -> None:
        self._close()

    def _is_wanted(self, number: int) -> bool:
        return number in self._wanted


class ReplayWorker:
    """One process's share of a replay."""

    def __init__(self, job: ReplayJob) -> None:
        """Open nothing yet."""
        self.job = job
        self._opened = ExitStack()
        self._models: tuple[MatrixModel, ...] | None = None
        self._reader: _FrameReader | None = None

    def scan(self, task: ScanTask) -> RecordingScan:
        """Read a recording to its end without decoding it.

        Raises:
            DataError: It cannot be read, or a label cannot.
        """
        job, recording = self.job, open_recording(self.job.recordings[task.recording])
        try:
            bag = Bag([recording], job.topics, job.labels)
            names, has_boxes = bag.label_names(), bag.has_boxes()
            whole = bag.is_video or job.tracking != NONE
            ends = ends_of(bag.stamps_ns(), job.slice_s, whole)
            return RecordingScan(task.recording, bag.info()[0], ends, names, has_boxes)
        finally:
            recording.close()

    def answer(self, part: FrameSlice) -> SliceResult:
        """Answer the frames of a slice.

        Raises:
            LisardError: The bundle or the recording is not there, or is another one.
        """
        job, models, reader = self.job, self._open_models(), self._open_reader(part.recording)
        before = () if reader.begins_anew(part) else reader.bag.joins()
        album = None if job.examples is None else ReplayAlbum(*job.examples)
        state = evaluate(
            models,
            reader.frames(part),
            job.rule,
            job.tracking,
            watch=album.watch if album is not None else lambda seen: None,
        )
        joins = _gained(reader.bag.joins(), before)
        examples = album.in_order() if album is not None else ()
        return SliceResult(part, state, joins, reader.bag.labels_met, examples, socket.gethostname())

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

    def _open_reader(self, number: int) -> _FrameReader:
        if self._reader is None or self._reader.number != number:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
            self._reader = _FrameReader(self.job, number)
        return self._reader


def _gained(now: tuple[LabelJoin, ...], before: tuple[LabelJoin, ...]) -> tuple[LabelJoin, ...]:
    """Return the joins of the frames that were read in between."""
    known = {(one.topic, one.source): one for one in before}
    gained = []
    for one in now:
        was = known.get((one.topic, one.source))
        if was is not None:
            one = replace(
                one,
                matched=one.matched - was.matched,
                unmatched=one.unmatched - was.unmatched,
                ambiguous=one.ambiguous - was.ambiguous,
            )
        gained.append(one)
    return tuple(gained)


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
        return _worker.scan(task) if isinstance(task, ScanTask) else _worker.answer(task)
    except LisardError as error:
        return type(error)(f"on {socket.gethostname()}: {error}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return DataError(
            f"on {socket.gethostname()}: a file cannot be read or written",
            found=f"{where}{error.strerror or one_line(error)}",
            cure="make room in TMPDIR there, and check that recordings have the same path on every machine",
        )
