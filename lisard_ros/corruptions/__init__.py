"""The 15 common corruptions at 5 severities: what weather, optics, sensors and encoders do to images.

Source of the benchmark: Hendrycks and Dietterich 2019 (arXiv 1903.12261). Written from its descriptions with NumPy and
OpenCV; the images are not those of CIFAR-10-C or ImageNet-C, so figures compare in kind, not digit by digit.
"""

from __future__ import annotations

import hashlib
import math
import zlib

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
    """Return the corruption of that name.

    Raises:
        AttackError: There is no such corruption; the message suggests the nearest name.
    """
    if not isinstance(name, str):
        raise AttackError(
            "the name of a corruption is not a string", found=repr(name), expected="one of " + ", ".join(NAMES)
        )
    if name not in BY_NAME:
        raise unknown_name("corruption", name, NAMES, AttackError)
    return BY_NAME[name]


def corrupt(x: NDArray[np.uint8], name: str, severity: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return corrupted copies of images.

    The draw depends on the image's own pixels, the corruption and `seed` alone, not on the rest of the batch. The
    severities of one image begin with the same draw.

    Args:
        x: Images, uint8 [N, H, W, 3] RGB. They are not changed.
        name: One of `NAMES`.
        severity: From 1 (mild) to 5 (severe).
        seed: 0 or more.

    Returns:
        The corrupted images, like `x`.

    Raises:
        AttackError: The name is unknown, severity or seed is out of range, or `x` is not such a batch.

    Examples:
        >>> images = np.full((1, 32, 32, 3), 128, np.uint8)
        >>> corrupt(images, "fog", 3).shape
        (1, 32, 32, 3)
    """
    corruption = find(name)
    require_severity(severity)
    is_array = isinstance(x, np.ndarray)
    if not is_array or x.dtype != np.uint8 or x.ndim != 4 or x.shape[3] != 3 or 0 in x.shape[1:]:
        found = f"{x.dtype} {list(x.shape)}" if is_array else type(x).__name__
        raise AttackError("no batch of images to corrupt", found=found, expected="uint8 [N, H, W, 3], RGB")
    require_seed(seed)
    strength = corruption.strength(severity, *x.shape[1:3])
    step = max(1, _CHUNK_VALUES // math.prod(x.shape[1:]))
    out = np.empty_like(x)
    for start in range(0, len(x), step):
        part = np.ascontiguousarray(x[start : start + step])
        randoms = [_random(corruption.name, image, seed) for image in part]
        changed = corruption.apply(np.asarray(part / np.float32(GREY_LEVELS), np.float32), strength, randoms)
        out[start : start + step] = np.rint(np.clip(changed, 0, 1) * np.float32(GREY_LEVELS)).astype(np.uint8)
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
    """Return the seed, or refuse what is not a whole number of 0 or more."""
    if not _is_whole(seed) or seed < 0:
        raise AttackError("the seed of a corruption is out of range", found=repr(seed), expected="a whole number >= 0")
    return seed


def prepare(name: str) -> None:
    """Prepare a corruption before the first image: frost draws its panes, which takes a second or two."""
    work = find(name).prepare
    if work is not None:
        work()


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _random(name: str, image: NDArray[np.uint8], seed: int) -> np.random.Generator:
    """The source of random numbers that belongs to an image: its pixels and size, the corruption and the seed."""
    digest = hashlib.blake2b(image.tobytes(), digest_size=8, person=b"%d" % image.shape[1]).digest()
    return np.random.default_rng([seed, zlib.crc32(name.encode()), int.from_bytes(digest, "little")])
