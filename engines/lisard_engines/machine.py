"""The machine that a measurement was made on: CPU, GPU, clocks, power mode and load, as far as it reports them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lisard_ros import cuda_driver, host_cpu
from lisard_ros.errors import LisardError

_SMI_FIELDS = "name,driver_version,clocks.sm,clocks.mem,power.limit,temperature.gpu,persistence_mode"
_UNKNOWN = "not reported by this machine"


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides a time. clocks: CPU now, lowest and highest in MHz, and the governor; gpu_clocks: by NVML."""

    cpu: str
    cores: int
    system: str
    clocks: str
    gpu: str
    gpu_clocks: str
    power_mode: str
    load_1min: float


def describe() -> Machine:
    """Look at this machine."""
    return Machine(
        cpu=host_cpu.cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        system=f"{platform.system()} {platform.machine()}",
        clocks=_clocks(Path("/sys/devices/system/cpu/cpu0/cpufreq")),
        gpu=_gpu(),
        gpu_clocks=_answer("nvidia-smi", f"--query-gpu={_SMI_FIELDS}", "--format=csv,noheader") or _UNKNOWN,
        power_mode=" ".join(_answer("nvpmodel", "-q").split()) or _UNKNOWN,
        load_1min=round(os.getloadavg()[0], 2),
    )


def _clocks(folder: Path) -> str:
    names = ("scaling_cur_freq", "cpuinfo_min_freq", "cpuinfo_max_freq")
    numbers = [_read(folder / name) for name in names]
    if not all(number.isdecimal() for number in numbers):
        return _UNKNOWN
    now, low, high = (int(number) // 1000 for number in numbers)
    return f"{now} MHz of {low} to {high}, governor {_read(folder / 'scaling_governor') or 'unknown'}"


def _gpu() -> str:
    try:
        device = cuda_driver.find()
    except LisardError as error:
        return f"none ({error.what})"
    return f"{device.name}, compute capability {device.compute_capability}, CUDA {device.driver}"


def _answer(program: str, *words: str) -> str:
    if shutil.which(program) is None:
        return ""
    try:
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if not done.returncode else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip().strip("\0")
    except OSError:
        return ""


def resident_mib() -> float:
    """Return the memory that this process holds now, in MiB."""
    pages = _read(Path("/proc/self/statm")).split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if len(pages) > 1 else 0.0
