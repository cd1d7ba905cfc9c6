"""What the injection process does to itself before anything else: lowest priority, bounded memory, end with its parent.

Standard library only, because the priority must be lowered before anything heavy is imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
NORMAL = "normal"  # the priority of a process that need not give way
_SHORT = 0.9  # of the limit
_FIRST_TO_END_WITHOUT_MEMORY = "1000"  # the largest oom_score_adj


def lower_priority() -> str:
    """Take the processor only while nobody else wants it; return how, for diagnostics: SCHED_IDLE, else nice 19."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_END_WITHOUT_MEMORY, encoding="ascii")
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (AttributeError, OSError):
        return f"nice {os.nice(19)}"
    return "SCHED_IDLE"


def end_with_parent(parent: int) -> None:
    """Be killed when the thread that started this process ends, however it ends; end now if it has ended already.

    parent: its process id. Interrupts of the terminal and of a service manager are for the parent, which then ends
    this process.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):  # without it, the end of the pipe is noticed after the frame
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def limit_memory(limit_mb: int) -> None:
    """Refuse private memory beyond `limit_mb` MiB to this process: what asks for more fails with MemoryError.

    Device memory and mapped files do not count; the parent looks at the resident memory as a whole.
    """
    limit_bytes = limit_mb << 20
    with contextlib.suppress(OSError, ValueError):  # a lower hard limit holds already
        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def memory_is_short() -> bool:
    """Whether the private memory of this process is close to its limit."""
    limit_bytes = resource.getrlimit(resource.RLIMIT_DATA)[0]
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    used_kib = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData:")), 0)
    return 0 < limit_bytes < used_kib * 1024 / _SHORT
