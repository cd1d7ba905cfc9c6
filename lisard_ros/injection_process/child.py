"""The injection process: what it does to itself, what it was started for, and how it ends.

Started by `process.InjectionProcess`, never by hand.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from lisard_ros.injection_process import restraint

EXIT_TROUBLE = 3


@dataclass(frozen=True, slots=True)
class Descriptors:
    """The file descriptors that the parent opened: start order, sizes of orders, shared memory, pipe for messages."""

    start: int
    orders: int
    frames: int
    messages: int


def main(parent: int, memory_mb: int, descriptors: Descriptors, *, lowest: bool) -> int:
    """Do what the start order says, at the longest until the parent closes the pipe; returns the exit status.

    The priority comes before the heavy imports.
    """
    priority = restraint.lower_priority() if lowest else restraint.NORMAL
    restraint.end_with_parent(parent)
    from lisard_ros.errors import LisardError
    from lisard_ros.injection_process import injection_server, self_test_server, wire
    from lisard_ros.injection_process.serving import Outlet
    from lisard_ros.injection_process.shared_frame import SharedFrame

    restraint.limit_memory(memory_mb)
    try:
        start = wire.decode_start(_read_all(descriptors.start))
        frames, outlet = SharedFrame(descriptors.frames), Outlet(descriptors.messages)
        if start.self_test is not None:
            self_test_server.serve(start, start.self_test, frames, descriptors.orders, outlet, priority)
        elif start.plan is not None:
            injection_server.serve(start, start.plan, frames, descriptors.orders, outlet, priority)
    except BrokenPipeError:  # the parent has given this process up
        return 0
    except Exception as error:  # of the model, of its memory, or a bug: the parent reports it
        reason = str(error) if isinstance(error, LisardError) else f"{type(error).__name__}: {error}"
        if isinstance(error, MemoryError) or restraint.memory_is_short():
            reason = f"out of memory, it may use {memory_mb} MiB (injection.max_memory_mb): {reason}"
        os.write(descriptors.messages, wire.framed(wire.Trouble(reason[: wire.LONGEST_REASON])))
        return EXIT_TROUBLE
    return 0


def _read_all(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return file.read()
