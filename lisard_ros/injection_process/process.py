"""The parent's handle on one injection process: start it, order frames, read its messages, see how it does, end it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lisard_ros.frames import Pixels
from lisard_ros.injection_process.shared_frame import SharedFrame
from lisard_ros.injection_process.wire import SIZES, FrameOrder, Message, MessageBuffer, StartOrder, Trouble, encode

_PIECE_BYTES = 1 << 16
_END_S = 2.0  # for the system to free what a killed process held
# A fresh interpreter, never a fork: this process has threads of the middleware and of inference libraries. The path is
# that of the parent, so that both import the same package from whatever kind of install.
_PROGRAM = """\
import sys
sys.path[:] = {path!r}
from lisard_ros.injection_process.child import Descriptors, main
descriptors = Descriptors(start={start}, orders={orders}, frames={frames}, messages={messages})
sys.exit(main({parent}, {memory_mb}, descriptors, lowest={lowest}))
"""


@dataclass(frozen=True, slots=True)
class ProcessSample:
    """How the process does at one moment.

    state: its letter in /proc ('R' wants to run, 'S' sleeps, 'T' is stopped, 'Z' has ended); '' where it is unknown.
    """

    state: str
    cpu_s: float
    resident_mb: float


class InjectionProcess:
    """One process. It is killed when the thread that made this object ends, so that thread must outlive it."""

    def __init__(
        self, start: StartOrder, memory_mb: int, images: Sequence[Pixels] = (), *, lowest: bool = True
    ) -> None:
        """Start it.

        Args:
            start: What it is for.
            memory_mb: What it may use, MiB.
            images: What lies in the shared memory from the beginning.
            lowest: Whether it gives way to everybody else who wants the processor.

        Raises:
            OSError: The system has no room for another process, or for the images.
        """
        self._frames, self._buffer = SharedFrame(), MessageBuffer()
        self.trouble = ""
        self._ends_itself = False
        order = os.memfd_create("lisard_start")
        orders_read, self._orders = os.pipe()
        self.messages, messages_write = os.pipe()
        inherited = (order, orders_read, self._frames.fd, messages_write)
        program = _PROGRAM.format(
            path=sys.path,
            parent=os.getpid(),
            memory_mb=memory_mb,
            lowest=lowest,
            start=order,
            orders=orders_read,
            frames=self._frames.fd,
            messages=messages_write,
        )
        try:
            if images:
                self._frames.put_all(images)
            with os.fdopen(os.dup(order), "wb") as file:
                file.write(encode(start))
            os.set_blocking(self.messages, False)
            os.set_blocking(self._orders, False)
            # Our own interpreter and program, no shell.
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-c", program],
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        except BaseException:
            os.close(self.messages)
            os.close(self._orders)
            self._frames.close()
            raise
        finally:
            for fd in (order, orders_read, messages_write):
                os.close(fd)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def order(self, order: FrameOrder, pixels: Pixels) -> None:
        """Hand over a frame to a process that wants one.

        Raises:
            OSError: The process is gone, or there is no memory for the frame.
        """
        os.write(self._orders, SIZES.pack(*self._frames.put(encode(order), pixels)))

    def interrupt(self) -> None:
        """Ask a process that runs a self test to end soon, with what it has."""
        with contextlib.suppress(OSError):  # it is gone
            os.write(self._orders, b"x")

    def read(self) -> list[Message] | None:
        """Return the messages that have come, without waiting for more; None once the process has closed the pipe."""
        got: list[Message] = []
        while True:
            try:
                piece = os.read(self.messages, _PIECE_BYTES)
            except BlockingIOError:
                return got
            if not piece:
                self._ends_itself = True
                return got or None
            try:
                got += self._buffer.add(piece)
            except msgspec.DecodeError as error:  # it must have written over its own memory
                self.trouble = f"its messages cannot be read: {error}"
                return None
            self.trouble = next((message.reason for message in got if isinstance(message, Trouble)), self.trouble)

    def sample(self) -> ProcessSample:
        """Return how it does now."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace")
            pages = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1]
            fields = stat.rpartition(")")[2].split()
        except (OSError, IndexError):
            return ProcessSample("", 0.0, 0.0)
        ticks = int(fields[11]) + int(fields[12])  # utime and stime, proc_pid_stat(5)
        resident_mb = int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20
        return ProcessSample(fields[0], ticks / os.sysconf("SC_CLK_TCK"), resident_mb)

    def end(self) -> str:
        """Kill it if it still runs, free what it used, and return how it ended, in words."""
        ended = self._process.poll()
        if ended is None:
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in a driver; the system ends it later
            self._process.wait(_END_S)
        if self._ends_itself:  # it may not have had the processor to be gone, and what comes later changes no status
            ended = self._process.returncode
        for fd in (self.messages, self._orders):
            os.close(fd)
        self._frames.close()
        if self.trouble:
            return self.trouble
        return _in_words(ended)


def _in_words(status: int | None) -> str:
    if status is None:
        return "it was ended"
    if status >= 0:
        return f"it ended with status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    by_kernel = ", by the system if memory ran out" if -status == signal.SIGKILL else ""
    return f"it was killed ({name}{by_kernel})"


def exited_soon(process: InjectionProcess, limit_s: float = 1.0) -> None:
    """Wait a moment for a process that has closed its pipe to be gone, so that its exit status is known."""
    deadline_s = time.monotonic() + limit_s
    while process.sample().state not in ("Z", "") and time.monotonic() < deadline_s:
        time.sleep(0.01)
