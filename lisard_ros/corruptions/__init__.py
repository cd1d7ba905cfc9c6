"""The 15 common corruptions at 5 severities: what weather, optics, sensors and encoders do to images.

Source of the benchmark: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Written from its descriptions with NumPy and
OpenCV; the images are not those of CIFAR-10-C or ImageNet-C, so figures compare in kind, not digit by digit.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lisard_ros.corruptions.table import BY_NAME, NAMES, SEVERITIES, TABLE, Corruption
from lisard_ros.errors import AttackError, unknown_name
from lisard_ros.frames import GREY_LEVELS

__all__ = [
    "BY_NAME",
    "NAMES",
    "SEVERITIES",
    "TABLE",
    "Corruption",
    "corrupt",
    "find",
    "prepare",
    "require_seed",
    "require_severity",
]

_CHUNK_VALUES = 4_000_000  # of float32 worked on at a time, so that a large batch needs little memory


def find(name: str) -> Corruption:
    """Return the corruption of that name; AttackError names the nearest one when there is none such."""
    if not isinstance(name, str):
        raise AttackError(
            "the name of a corruption is no text", found=repr(name), expected="one of " + ", ".join(NAMES)
        )
    if name not in BY_NAME:
        raise unknown_name("corruption", name, NAMES, AttackError)
    return BY_NAME[name]


def corrupt(x: NDArray[np.uint8], name: str, severity: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return corrupted copies of the images `x`, uint8 [N, H, W, 3] RGB, like `x`.

    severity: 1 to 5. The draw depends on the image's own pixels, the corruption and `seed` alone: neither the batch
    around an image nor its place in it matter, and the severities of one image begin with the same draw. AttackError
    for an unknown name, a severity or seed out of range, and anything that is no such batch.
    """
    corruption = find(name)
    require_severity(severity)
    _require_batch(x)
    require_seed(seed)
    out = np.empty_like(x)
    for rows in _chunks(x.shape):
        out[rows] = _apply(corruption, np.ascontiguousarray(x[rows]), severity, seed)
    return out


def require_severity(severity: int) -> None:
    """Refuse a severity that is not one of 1 to 5."""
    if not _is_whole(severity) or severity not in SEVERITIES:
        raise AttackError(
            "severity of a corruption out of range",
            found=repr(severity),
            expected="a whole number from 1 (mild) to 5 (severe)",
        )


def require_seed(seed: int) -> int:
    """Return the seed, or refuse what is none."""
    if not _is_whole(seed) or seed < 0:
        raise AttackError("the seed of a corruption is none", found=repr(seed), expected="a whole number >= 0")
    return seed


def prepare(name: str) -> None:
    """Do what the first images would otherwise wait for: frost draws its panes (a second or two)."""
    work = find(name).prepare
    if work is not None:
        work()


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _apply(corruption: Corruption, x: NDArray[np.uint8], severity: int, seed: int) -> NDArray[np.uint8]:
    strength = corruption.strength(severity, *x.shape[1:3])
    randoms = [_random(corruption.name, image, seed) for image in x]
    changed = corruption.apply(np.asarray(x / np.float32(GREY_LEVELS), np.float32), strength, randoms)
    return np.rint(np.clip(changed, 0, 1) * np.float32(GREY_LEVELS)).astype(np.uint8)


def _random(name: str, image: NDArray[np.uint8], seed: int) -> np.random.Generator:
    """The source of random numbers that belongs to an image: its pixels and size, the corruption and the seed."""
    digest = hashlib.blake2b(image.tobytes(), digest_size=8, person=b"%d" % image.shape[1]).digest()
    return np.random.default_rng([seed, zlib.crc32(name.encode()), int.from_bytes(digest, "little")])


def _chunks(shape: tuple[int, ...]) -> Iterator[slice]:
    count, values = shape[0], shape[1] * shape[2] * shape[3]
    step = max(1, _CHUNK_VALUES // values)
    return (slice(start, start + step) for start in range(0, count, step))


def _require_batch(x: NDArray[np.uint8]) -> None:
    known = isinstance(x, np.ndarray)
    if not known or x.dtype != np.uint8 or x.ndim != 4 or x.shape[3] != 3 or 0 in x.shape[1:]:
        found = f"{x.dtype} {list(x.shape)}" if known else type(x).__name__
        raise AttackError("no batch of images to corrupt", found=found, expected="uint8 [N, H, W, 3], RGB")
