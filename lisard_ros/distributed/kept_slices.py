"""Finished slices in a folder, so that a replay that was interrupted goes on where it was.

A file is named by the hash of all that decides its content: recording, bundles, attacks, labels, code, releases. What
has changed has another name and is answered anew. Nothing is unpickled: files are msgpack of known classes.
"""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import lisard_ros
from lisard_ros.distributed import codec
from lisard_ros.distributed.plan import FrameSlice, RecordingScan, ReplayJob, SliceResult
from lisard_ros.errors import UsageError
from lisard_ros.whole_file import write_whole

SUFFIX = ".slice"
# Releases of these can change an answer.
_DECIDING = ("numpy", "opencv-python-headless", "onnxruntime", "rosbags", "rosbags-image", "av")


class KeptSlices:
    """A folder of finished slices of one job."""

    def __init__(self, folder: Path, job: ReplayJob) -> None:
        """Make the folder.

        Raises:
            UsageError: It cannot be made.
        """
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error
        self._decided_by = codec.pack(
            [
                code_sha256(),
                [_release(name) for name in _DECIDING],
                platform.python_version_tuple()[:2],
                job.bundles_sha256,
                [_sha256_of(path) for path in (job.spec.detector, job.spec.surrogate, job.labels.file) if path],
                [str(one) for one in (job.spec.detector, job.spec.surrogate, job.labels.file)],
                job.spec.engines,
                job.spec.injections,
                job.spec.sigma_255,
                job.spec.seed,
                job.spec.threads,
                [job.topics.images, job.topics.labels, job.topics.boxes],
                sorted(job.labels.names.items()),
                job.labels.tolerance_ms,
                job.rule,
                job.tracking,
                job.labelled,
                job.examples,
            ]
        )

    def load(self, scan: RecordingScan, part: FrameSlice) -> SliceResult | None:
        """Return a slice that was finished before; None where it was not, or where its file is damaged."""
        try:
            found = codec.unpack(self._path(scan, part).read_bytes())
        except (OSError, *codec.DAMAGED):
            return None
        return found if isinstance(found, SliceResult) and found.part == part else None

    def save(self, scan: RecordingScan, result: SliceResult) -> None:
        """Write a slice; an interrupted write leaves nothing.

        Raises:
            UsageError: It cannot be written, such as on a full disk. Slices that were written stay.
        """
        try:
            write_whole(self._path(scan, result.part), codec.pack(result))
        except OSError as error:
            raise self._unwritable(error) from error

    def _path(self, scan: RecordingScan, part: FrameSlice) -> Path:
        # A file of labels is joined over all recordings, so labels depend on more than this one.
        truths = next((task.truths for task in scan.tasks if task.part == part), b"")
        decided_by = [self._decided_by, scan.info.sha256, part, truths]
        return self._folder / (hashlib.sha256(codec.pack(decided_by)).hexdigest() + SUFFIX)

    def _unwritable(self, error: OSError) -> UsageError:
        return UsageError(
            "cannot keep finished slices",
            found=f"{self._folder}: {error.strerror}",
            expected="a folder that can be written",
            cure="make room or choose another --slices folder; the same command then goes on behind the slices in it",
        )


def code_sha256() -> str:
    """Hash the Python files of this package."""
    digest, root = hashlib.sha256(), Path(lisard_ros.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _release(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"


def _sha256_of(path: Path) -> str:
    """Hash a file, or all files of a folder."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
