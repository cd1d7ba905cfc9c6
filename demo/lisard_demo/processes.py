"""Start the processes of the demonstration and make sure that none outlives it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lisard_ros.errors import LisardError

POLL_S = 0.05
PATIENCE_S = 8.0
_LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1  # linux/prctl.h: the signal that a child gets when its parent dies


class ProcessError(LisardError):
    """A process of the demonstration ended with an error or did not answer in time."""


class Child:
    """One running process; what it prints goes into files."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Start `command`; its output goes to folder/NAME.out and NAME.err. `tick` is called during every wait."""
        folder.mkdir(parents=True, exist_ok=True)
        self._tick = tick
        self.name, self.out, self.err = name, folder / f"{name}.out", folder / f"{name}.err"
        with self.out.open("w") as out, self.err.open("w") as err:
            # A session of its own: Ctrl-C reaches only the demonstration, which then ends its children in order.
            self._process = subprocess.Popen(
                list(command),
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env=dict(environment),
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    @property
    def status(self) -> int | None:
        """Exit status, None while it runs."""
        return self._process.poll()

    def printed(self) -> str:
        """Return what it has written to its standard output so far."""
        return self.out.read_text(encoding="utf-8", errors="replace")

    def wait(self, seconds: float) -> int:
        """Wait for its end and return the exit status."""
        self._until(lambda: self.status is not None, seconds, "did not end")
        assert self.status is not None
        return self.status

    def wait_for_line(self, line: str, seconds: float) -> None:
        """Wait until it has printed `line`."""

        def printed() -> bool:
            if self.status is not None and line not in self.printed().splitlines():
                raise self.failure(f"ended with status {self.status} before it was ready")
            return line in self.printed().splitlines()

        self._until(printed, seconds, f"did not print '{line}'")

    def stop(self, seconds: float = PATIENCE_S) -> int:
        """Ask it to end with SIGINT, kill it if it does not; return the exit status."""
        for number in (signal.SIGINT, signal.SIGKILL):
            if self.status is None:
                self._process.send_signal(number)
                try:
                    self._process.wait(seconds)
                except subprocess.TimeoutExpired:
                    continue
        return self._process.wait()

    def failure(self, what: str) -> ProcessError:
        """Build the error that shows the last lines of its output."""
        texts = (path.read_text(encoding="utf-8", errors="replace").strip() for path in (self.err, self.out))
        last = "\n".join(line for text in texts for line in text.splitlines()[-6:])
        return ProcessError(f"the {self.name} {what}", cure=f"see {self.out} and {self.err}; the last lines:\n{last}")

    def _until(self, true: Callable[[], bool], seconds: float, failure: str) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            if time.monotonic() > deadline:
                raise self.failure(f"{failure} within {seconds:g} s")
            self._tick()
            time.sleep(POLL_S)


class Children:
    """All processes of one scenario; leaving the `with` block ends those that still run."""

    def __init__(self, root: Path, logs: Path, tick: Callable[[], None] = lambda: None) -> None:
        """root: the checkout, put on the import path of the children; logs: folder for what they print.

        tick: called during every wait; what it raises ends the wait.
        """
        self._root, self._logs, self._tick = root, logs, tick
        self._running: list[Child] = []

    def __enter__(self) -> Children:
        """Start with none."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all in the reverse order of their start."""
        for child in reversed(self._running):
            child.stop()

    def python(self, name: str, *words: object) -> Child:
        """Start this interpreter with `words`."""
        child = Child(name, [sys.executable, *map(str, words)], self._logs, self._environment(), self._tick)
        self._running.append(child)
        return child

    def _environment(self) -> dict[str, str]:
        path = [str(self._root), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        quiet = {"PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        local = {} if "ROS_LOCALHOST_ONLY" in os.environ else {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        return {**local, **os.environ, **quiet, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path))}


def _end_with_parent() -> None:
    """Ask the kernel to end this process when the demonstration is killed. Runs between fork and exec."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
