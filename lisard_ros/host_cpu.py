"""What is known about the CPU of this machine: its name and instruction sets, for keys of caches and for reports."""

from __future__ import annotations

import os
import platform
from pathlib import Path

UNKNOWN = "unknown"
_DECIDING = {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}


def cpu_name() -> str:
    """Return the board's name (Jetson and other device-tree machines), else the CPU's, else what the system reports."""
    board = _text(Path("/proc/device-tree/model"))
    if board:
        return board
    lines = _text(Path("/proc/cpuinfo")).splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or UNKNOWN


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def identity() -> tuple[object, ...]:
    """Return what decides a measurement on this CPU, for keys of caches: type, name, instruction sets, usable cores."""
    return platform.machine(), cpu_name(), instruction_sets(), len(os.sched_getaffinity(0))


def instruction_sets() -> tuple[str, ...]:
    """Return those of the CPU that decide how int8 is computed; empty where the system does not list them."""
    return tuple(sorted(_DECIDING & flags()))


def flags() -> frozenset[str]:
    """Return all features of the CPU, as the system names them; empty where it does not list them."""
    lines = _text(Path("/proc/cpuinfo")).splitlines()
    return frozenset(
        next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), ())
    )
