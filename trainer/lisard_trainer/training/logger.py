"""What a training leaves to read: epochs.csv, steps.csv, TensorBoard files if asked for, and a lock on the folder.

After an interruption the files go on where the checkpoint does: rows that are about to be repeated are dropped.
"""

from __future__ import annotations

import csv
import fcntl
import importlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from lisard_ros.errors import UsageError

from .checkpoint import replace_file
from .records import Epoch, Records, StepRecord

EPOCHS, STEPS, BOARD = "epochs.csv", "steps.csv", "tensorboard"


class RunLogger:
    """The log files of one run folder."""

    def __init__(
        self,
        folder: Path,
        step: int,
        history: Sequence[Epoch],
        kinds: Records,
        board: bool = False,
    ) -> None:
        """Goes on after `step` steps and the epochs of `history`. kinds: of records. board: TensorBoard files too."""
        self.folder, self._kinds = folder, kinds
        self._steps = [row for row in _rows(folder / STEPS, len(fields(kinds.step))) if int(row[0]) <= step]
        self._board: Any = None
        if board:
            check_board()
            writer = importlib.import_module("tensorboardX").SummaryWriter
            self._board = writer(str(folder / BOARD), purge_step=step + 1)
        self.write_steps()
        self._write_epochs(history)

    def step(self, record: StepRecord) -> None:
        """Adds a row for steps.csv, and to the curves."""
        self._steps.append([str(value) for value in asdict(record).values()])
        self._draw("step", asdict(record), record.step)

    def write_steps(self) -> None:
        """Writes steps.csv. Due before the checkpoint: rows that run ahead of it are dropped, missing ones stay so."""
        _write(self.folder / STEPS, [field.name for field in fields(self._kinds.step)], self._steps)

    def epoch(self, history: Sequence[Epoch], step: int) -> None:
        """Writes epochs.csv; `history` ends with the epoch that is done after `step` steps."""
        self._write_epochs(history)
        self._draw("epoch", asdict(history[-1]), step)
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Writes what is not yet written."""
        self.write_steps()
        if self._board is not None:
            self._board.close()

    def _write_epochs(self, history: Sequence[Epoch]) -> None:
        names = [field.name for field in fields(self._kinds.epoch)]
        _write(self.folder / EPOCHS, names, [list(asdict(record).values()) for record in history])

    def _draw(self, group: str, values: dict[str, float], step: int) -> None:
        if self._board is None:
            return
        for name, value in values.items():
            if name not in ("step", "epoch"):
                self._board.add_scalar(f"{group}/{name}", value, step)


def _rows(path: Path, width: int) -> list[list[str]]:
    """Whole rows of a log that is there; the heading and rows of another form are left out."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.reader(file) if len(row) == width and row[0].isdigit()]


def _write(path: Path, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    replace_file(path, text.getvalue().encode())


def check_board() -> None:
    """Raises UsageError unless TensorBoard files can be written."""
    try:
        importlib.import_module("tensorboardX")
    except ImportError as error:
        raise UsageError(
            "--tensorboard", found="no package tensorboardX", expected="it installed", cure="pip install tensorboardX"
        ) from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Holds a run folder, so that no second training writes into it; the lock ends with the process in any case."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UsageError(
            f"run folder {folder}",
            found=error.strerror,
            expected="a folder that can be made",
            cure="choose another --out",
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise UsageError(
            f"run folder {folder}",
            found="another training at work in it",
            expected="one at a time",
            cure="wait for it, or choose another --out",
        ) from error
    try:
        yield
    finally:
        os.close(handle)
