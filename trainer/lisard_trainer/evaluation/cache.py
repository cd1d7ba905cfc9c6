"""Results kept as they are made: one file for each key, found again by the hash of everything that decides it.

A file holds the sha256 of its own content; one that does not match (a torn or altered file) is reported and made again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lisard_ros.backends.engine_cache import CACHE_VARIABLE, cache_root
from lisard_ros.errors import UsageError

Arrays = dict[str, NDArray[Any]]
MAGIC = b"lisard evaluation 1\n"
ABOUT = "about"
log = logging.getLogger(__name__)


def default_folder() -> Path:
    """`evaluations` in the cache folder of the project."""
    return cache_root() / "evaluations"


@dataclass(frozen=True)
class ResultKey:
    """What decides a kept result.

    kind: attack, view, answers, certificate, probe or patch. model, images: hashes of what takes part; of answers,
    images is the digest of the view. start, total: rows of the images, where draws depend on them. settings: plain
    values. code: version of the modules that work it out (versions.py). device: where.
    """

    kind: str
    model: str = ""
    images: str = ""
    start: int = 0
    total: int = 0
    settings: Mapping[str, object] = field(default_factory=dict)
    code: str = ""
    device: str = ""


def digest(key: Any) -> str:
    """Hash of a key: a frozen dataclass of plain values, its type's name included."""
    return hashlib.sha256(_about(key)).hexdigest()


def _about(key: Any) -> bytes:
    return json.dumps({"kind": type(key).__name__, **dataclasses.asdict(key)}, sort_keys=True).encode()


class Cache:
    """A folder of results. `made` and `found` count what was worked out and what was there already."""

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        """fresh: use nothing that is there, and replace it."""
        self.folder, self._fresh = folder, fresh
        self.made = self.found = self.damaged = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                "folder for intermediate results",
                found=f"{folder}: {error.strerror}",
                expected="a writable folder",
                cure=f"use --cache or set {CACHE_VARIABLE}",
            ) from error

    def remember(self, key: Any, make: Callable[[], Arrays]) -> Arrays:
        """The arrays of this key: from the folder, or made now and kept."""
        known = None if self._fresh else self.get(key)
        if known is not None:
            self.found += 1
            return known
        arrays = make()
        self.put(key, arrays)
        self.made += 1
        return arrays

    def get(self, key: Any) -> Arrays | None:
        """What is kept under this key; None when there is nothing, or nothing that can be trusted."""
        path = self.path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        arrays = _read(content, _about(key))
        if arrays is None:
            self.damaged += 1
            log.warning("%s is damaged and will be made again", path)
        return arrays

    def put(self, key: Any, arrays: Arrays) -> None:
        """Keeps arrays; the file appears whole or not at all."""
        path = self.path(key)
        buffer = io.BytesIO()
        content: dict[str, Any] = {ABOUT: np.frombuffer(_about(key), np.uint8), **arrays}
        np.savez_compressed(buffer, **content)
        body = buffer.getvalue()
        try:
            path.parent.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
                try:
                    file.write(MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
                    file.flush()
                    os.fsync(file.fileno())
                except BaseException:
                    Path(file.name).unlink()
                    raise
            os.replace(file.name, path)
        except OSError as error:
            raise UsageError(
                "an intermediate result cannot be kept",
                found=f"{path}: {error.strerror}",
                expected="space to write",
                cure="make room, or use --cache; what was measured before is kept",
            ) from error

    def path(self, key: Any) -> Path:
        """Where a key's file lies."""
        name = digest(key)
        return self.folder / name[:2] / f"{name[2:]}.npz"


def _read(content: bytes, about: bytes) -> Arrays | None:
    head = len(MAGIC) + 65
    body = content[head:]
    if content[:head] != MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n":
        return None
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as opened:
            arrays = {name: opened[name] for name in opened.files}
    except (ValueError, OSError, zipfile.BadZipFile, KeyError):
        return None
    found = arrays.pop(ABOUT, None)
    return arrays if found is not None and found.tobytes() == about else None
