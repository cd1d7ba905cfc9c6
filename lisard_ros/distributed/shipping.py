"""A job with the files that it names, for machines that do not have them: bundles and keys. Recordings stay.

The labels of a file come with the slices.
"""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from lisard_ros import bundle as bundles
from lisard_ros.distributed.plan import ReplayJob, Task, TaskResult
from lisard_ros.distributed.work import perform
from lisard_ros.errors import LisardError


@dataclass(frozen=True, slots=True)
class ShippedFile:
    """A file of a job. path: as the job names it, or the folder around it; name: of the copy."""

    path: Path
    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class ShippedJob:
    """A job and its files. key: hash of the files."""

    job: ReplayJob
    files: tuple[ShippedFile, ...]
    key: str


def ship(job: ReplayJob) -> ShippedJob:
    """Read the files of a job: bundles as archives, and keys.

    Raises:
        LisardError: A bundle is missing or damaged.
    """
    spec = job.spec
    files: list[ShippedFile] = []
    with tempfile.TemporaryDirectory() as folder:
        for path in (*spec.bundles, *filter(None, (spec.detector, spec.surrogate))):
            packed = bundles.pack(bundles.locate(path), Path(folder) / "bundle.zip")
            files.append(ShippedFile(path, f"{len(files)}.zip", packed.read_bytes()))
    for path in spec.trusted_keys:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        files += [ShippedFile(path, f"{len(files) + n}{one.suffix}", one.read_bytes()) for n, one in enumerate(inside)]
    digest = hashlib.sha256()
    for one in files:
        digest.update(f"{one.path}\0{one.name}\0".encode() + hashlib.sha256(one.content).digest())
    return ShippedJob(job, tuple(files), digest.hexdigest())


_unpacked: dict[str, Path] = {}  # key of shipped files -> the folder in which this process has them


def perform_shipped(shipped: ShippedJob, task: Task) -> TaskResult | LisardError:
    """Do one task with the shipped files; `perform` on a machine that has only the recordings."""
    if shipped.key not in _unpacked:
        folder = Path(tempfile.mkdtemp(prefix="lisard_job_"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for one in shipped.files:
            (folder / one.name).write_bytes(one.content)
        _unpacked[shipped.key] = folder
    return perform(_moved(shipped, _unpacked[shipped.key]), task)


def _moved(shipped: ShippedJob, folder: Path) -> ReplayJob:
    """Return the job with the paths of the copies."""
    job, spec = shipped.job, shipped.job.spec

    def copies(paths: Iterable[Path]) -> tuple[Path, ...]:
        return tuple(folder / one.name for path in dict.fromkeys(paths) for one in shipped.files if one.path == path)

    def copy(path: Path | None) -> Path | None:
        return None if path is None else copies([path])[0]

    moved = replace(
        spec,
        bundles=copies(spec.bundles),
        detector=copy(spec.detector),
        surrogate=copy(spec.surrogate),
        trusted_keys=copies(spec.trusted_keys),
    )
    return replace(job, spec=moved)
