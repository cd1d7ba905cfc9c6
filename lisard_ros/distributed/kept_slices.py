"""Finished slices in a folder, so that a replay that was interrupted goes on where it was.

A file is named by the hash of all that decides its content: recording, bundles, attacks, labels, code, releases. What
has changed has another name and is answered anew. Nothing is unpickled: files are msgpack of known classes.
"""

from __future__ import annotations

import hashlib
import os
import platform
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

import lisard_ros
from lisard_ros.bags.blocks import BlockRule, FrameLog
from lisard_ros.bags.evaluation_state import (
    CameraState,
    Cell,
    Condition,
    EvaluationState,
    MatrixModelInfo,
    Numbering,
    ThingAnswers,
    Things,
)
from lisard_ros.bags.labels import LabelJoin
from lisard_ros.bags.report import FrameFailure
from lisard_ros.bags.tracks import Track, TrackedBox
from lisard_ros.distributed.plan import FrameSlice, RecordingScan, ReplayJob, SliceResult
from lisard_ros.errors import UsageError
from lisard_ros.evaluation.average_precision import Ranked
from lisard_ros.evaluation.latency_histogram import LatencyHistogram
from lisard_ros.reporting.album import Example
from lisard_ros.reporting.display import FrameImage, Overlay

SUFFIX = ".slice"
_KNOWN: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        BlockRule,
        CameraState,
        Cell,
        Condition,
        EvaluationState,
        Example,
        FrameFailure,
        FrameImage,
        FrameLog,
        FrameSlice,
        LabelJoin,
        LatencyHistogram,
        MatrixModelInfo,
        Numbering,
        Overlay,
        Ranked,
        SliceResult,
        ThingAnswers,
        Things,
        Track,
        TrackedBox,
    )
}
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
        self._decided_by = _plain(
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
            found = _restored(msgspec.msgpack.decode(self._path(scan, part).read_bytes()))
        except (OSError, msgspec.DecodeError, LookupError, TypeError, ValueError, RecursionError):
            return None
        return found if isinstance(found, SliceResult) and found.part == part else None

    def save(self, scan: RecordingScan, result: SliceResult) -> None:
        """Write a slice; an interrupted write leaves nothing.

        Raises:
            UsageError: It cannot be written, such as on a full disk. Slices that were written stay.
        """
        path = self._path(scan, result.part)
        temporary = path.with_suffix(f".{os.getpid()}.partial")
        try:
            temporary.write_bytes(msgspec.msgpack.encode(_plain(result)))
            os.replace(temporary, path)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _path(self, scan: RecordingScan, part: FrameSlice) -> Path:
        decided_by = [self._decided_by, scan.info.sha256, _plain(part)]
        return self._folder / (hashlib.sha256(msgspec.msgpack.encode(decided_by)).hexdigest() + SUFFIX)

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


def _plain(value: Any) -> Any:
    """Turn a value into what msgpack knows; lists that begin with a tag stand for everything else."""
    if isinstance(value, array):
        return ["array", value.typecode, value.tobytes()]
    if isinstance(value, Counter):
        return ["counter", [[_plain(key), count] for key, count in value.items()]]
    if isinstance(value, Mapping):
        return ["dict", [[_plain(key), _plain(one)] for key, one in value.items()]]
    if isinstance(value, tuple):
        return ["tuple", [_plain(one) for one in value]]
    if isinstance(value, list):
        return ["list", [_plain(one) for one in value]]
    if is_dataclass(value):
        name = type(value).__name__
        return ["object", name, [[one.name, _plain(getattr(value, one.name))] for one in fields(value)]]
    return value


def _restored(value: Any) -> Any:
    """Return the value that `_plain` was given; LookupError, TypeError or ValueError for anything else."""
    if not isinstance(value, list):
        return value
    tag, *content = value
    if tag == "array":
        made: array[Any] = array(content[0])
        made.frombytes(content[1])
        return made
    if tag == "counter":
        return Counter({_restored(key): count for key, count in content[0]})
    if tag == "dict":
        return {_restored(key): _restored(one) for key, one in content[0]}
    if tag in ("tuple", "list"):
        items = [_restored(one) for one in content[0]]
        return tuple(items) if tag == "tuple" else items
    if tag != "object":
        raise ValueError(f"unknown tag {tag!r}")
    values = {name: _restored(one) for name, one in content[1]}
    return _KNOWN[content[0]](**values)
