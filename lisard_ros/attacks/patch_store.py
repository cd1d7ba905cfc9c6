"""Patches in files: an .npz with the print and how it is placed, or a .png with the print alone, placed by default.

The .npz is read without pickle: `print` uint8 [3, S, S], RGB whatever the model's order of colours; `placement` float64
[5]: share_low, share_high, turn_deg, contrast, brightness of placement.Placement. On live topics the true boxes
are unknown, so a stored patch lies anywhere in the image.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lisard_ros.attacks.patch import MAX_SIDE
from lisard_ros.attacks.placement import Floats, Placement
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.arrays import dump_arrays, load_arrays
from lisard_ros.bundle.manifest import Perturbation
from lisard_ros.decoding import PNG_START, decode_image
from lisard_ros.errors import AttackError, BundleError, ImageError
from lisard_ros.frames import GREY_LEVELS

Levels = NDArray[np.uint8]
PLACEMENT = ("share_low", "share_high", "turn_deg", "contrast", "brightness")
_PNG_SIZE = slice(16, 24)  # width and height, big-endian, always there
_CURE = "make it again with `lisard attack make --patch`"


@dataclass(frozen=True, slots=True, eq=False)
class StoredPatch:
    """The print, [3, S, S] RGB in grey levels, and where it goes."""

    levels: Levels
    placement: Placement

    @property
    def patch(self) -> Floats:
        """The print in [0, 1]."""
        return np.asarray(self.levels / GREY_LEVELS, np.float64)


def quantise(patch: Floats) -> Levels:
    """Round a patch in [0, 1] to grey levels."""
    return np.rint(np.clip(patch, 0, 1) * GREY_LEVELS).astype(np.uint8)


def dump(stored: StoredPatch) -> bytes:
    """Serialise to the bytes of an .npz; equal patches give equal bytes."""
    how = [getattr(stored.placement, name) for name in PLACEMENT]
    return dump_arrays({"print": np.ascontiguousarray(stored.levels), "placement": np.array(how, np.float64)})


def find(bundle: Bundle) -> Perturbation:
    """Return the first patch that the bundle lists, or AttackError."""
    for about in bundle.manifest.perturbations:
        if about.kind == "patch":
            return about
    raise AttackError(
        f"bundle {bundle.manifest.name} has no printed patch",
        found=", ".join(p.name for p in bundle.manifest.perturbations) or "no perturbations",
        expected="a perturbation of kind patch",
        cure="make one with `lisard attack make BUNDLE --patch 0.1`",
    )


def load(bundle: Bundle, about: Perturbation) -> StoredPatch:
    """Read a patch of a bundle.

    Raises:
        BundleError: The manifest lists several, or the file holds no patch.
    """
    if about.count != 1:
        raise BundleError(f"{about.file} is not one patch", found=f"count {about.count}", expected=1, cure=_CURE)
    return read(bundle.data(about.file), about.file)


def read(data: bytes, name: str) -> StoredPatch:
    """Read the bytes of an .npz or .png; BundleError, naming the file, if they are no patch."""
    if data.startswith(PNG_START):
        return StoredPatch(_decoded(data, name), Placement())
    arrays = load_arrays(data, name)
    levels, how = arrays.get("print"), arrays.get("placement")
    if levels is None or levels.dtype != np.uint8 or not _is_print(levels.shape):
        raise BundleError(
            f"{name} holds no patch",
            found=_shape(levels),
            cure=_CURE,
            expected=f"`print` uint8 (3, S, S), S <= {MAX_SIDE}",
        )
    if how is None or how.dtype != np.float64 or how.shape != (len(PLACEMENT),):
        raise BundleError(
            f"{name} does not have the placement of the patch",
            found=_shape(how),
            cure=_CURE,
            expected=f"`placement` float64 ({len(PLACEMENT)},)",
        )
    try:
        values = np.asarray(how, np.float64).tolist()
        return StoredPatch(np.asarray(levels, np.uint8), Placement(**dict(zip(PLACEMENT, values, strict=True))))
    except AttackError as error:
        raise BundleError(f"{name}: {error.what}", found=error.found, expected=error.expected, cure=_CURE) from error


def _decoded(data: bytes, name: str) -> Levels:
    sides = np.frombuffer(data[_PNG_SIZE].ljust(8, b"\0"), ">u4")
    shape = (3, int(sides[1]), int(sides[0]))
    bgr = None
    if _is_print(shape):
        with contextlib.suppress(ImageError):
            bgr = decode_image(data)
    if bgr is None or bgr.transpose(2, 0, 1).shape != shape:
        found = f"{shape[2]}x{shape[1]} px" + " that cannot be read" * _is_print(shape)
        raise BundleError(
            f"{name} is no patch",
            found=found,
            expected=f"a square PNG of at most {MAX_SIDE} px",
            cure="save the print as a square PNG",
        )
    return np.ascontiguousarray(bgr[..., ::-1].transpose(2, 0, 1))


def _is_print(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[0] == 3 and shape[1] == shape[2] and 1 <= shape[1] <= MAX_SIDE


def _shape(array: NDArray[np.generic] | None) -> str:
    return "nothing" if array is None else f"{array.dtype} {array.shape}"
