"""Stored perturbations: whole grey levels on the model's input grid, each bound to the pixels it was made for.

File format: .npz read without pickle. `deltas` int16 [N, 3, H, W] in grey levels of 255 (channels in the order of the
bundle's `input.colour`); for kind `stored` also `keys`, N times the 64 hex characters of a sha256 (frames.pixels_sha256
of the crop before it is resized). A universal file has N = 1 and no keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lisard_ros.bundle import Bundle
from lisard_ros.bundle.arrays import dump_arrays, load_arrays
from lisard_ros.bundle.manifest import Perturbation
from lisard_ros.errors import AttackError, BundleError
from lisard_ros.frames import GREY_LEVELS

Deltas = NDArray[np.int16]
_ROUNDING = 1e-9  # by which a budget reckoned from a fraction of 255 may fall short of a whole level


@dataclass(frozen=True, slots=True, eq=False)
class StoredSet:
    """The deltas of one perturbation file; `rows` maps an image's sha256 to its row (empty when universal)."""

    about: Perturbation
    deltas: Deltas
    rows: Mapping[str, int]


def quantise(x: NDArray[np.floating], attacked: NDArray[np.floating], eps_255: float) -> Deltas:
    """Round an attack to whole grey levels without leaving the budget or the image.

    Rounds first, then clamps to the whole part of `eps_255`, then to what keeps x + delta within 0..255.

    Args:
        x: Clean images [N, 3, H, W] in [0, 1], on the 8-bit grid.
        attacked: The same images, perturbed.
        eps_255: Budget in grey levels of 255 (Linf).

    Returns:
        The perturbation of each image in grey levels, int16 [N, 3, H, W].

    Raises:
        AttackError: The attack holds NaN or infinity, as of a network without a usable gradient.
    """
    if not np.isfinite(attacked).all():
        raise AttackError(
            "the attack gave images that are not finite",
            found="NaN or infinity",
            expected="numbers in [0, 1]",
            cure="look at the network's outputs and gradients",
        )
    clean = np.rint(np.asarray(x, np.float64) * GREY_LEVELS)
    levels = np.rint(np.asarray(attacked, np.float64) * GREY_LEVELS) - clean
    budget = np.floor(eps_255 + _ROUNDING)
    levels = np.clip(levels, -budget, budget)
    return np.asarray(np.clip(clean + levels, 0, GREY_LEVELS) - clean, np.int16)


def add(x: NDArray[np.float32], deltas: Deltas) -> NDArray[np.float32]:
    """Return clip(x + delta) in [0, 1], computed on grey levels so that nothing is lost to rounding."""
    levels = np.rint(x * np.float32(GREY_LEVELS)) + deltas
    return np.asarray(np.clip(levels, 0, GREY_LEVELS) / np.float32(GREY_LEVELS), np.float32)


def dump(deltas: Deltas, keys: Sequence[str] | None) -> bytes:
    """Serialise deltas and, for a stored set, their keys to the bytes of an .npz file; equal input, equal bytes."""
    arrays = {"deltas": np.ascontiguousarray(deltas, np.int16)}
    if keys is not None:
        arrays["keys"] = np.array([key.encode() for key in keys], "S64")
    return dump_arrays(arrays)


def load(bundle: Bundle, about: Perturbation) -> StoredSet:
    """Read one perturbation of a bundle and check it against the manifest.

    Raises:
        BundleError: Shape, type, budget or keys differ from the manifest's, or the file is no plain .npz.
    """
    arrays = load_arrays(bundle.data(about.file), about.file)
    deltas = arrays.get("deltas")
    spec = bundle.manifest.input
    shape = (about.count, 3, spec.height, spec.width)
    if deltas is None or deltas.dtype != np.int16 or deltas.shape != shape:
        raise BundleError(f"{about.file} is not the perturbation", found=_shape(deltas), expected=f"int16 {shape}")
    levels = np.asarray(deltas, np.int16)
    largest = int(np.abs(levels.astype(np.int32)).max(initial=0))
    if largest > about.eps_255 + _ROUNDING:
        raise BundleError(f"{about.file} leaves its budget", found=f"{largest}/255", expected=f"<= {about.eps_255}/255")
    return StoredSet(about, levels, _rows(about, arrays.get("keys")))


def find(bundle: Bundle, name: str) -> Perturbation:
    """Return the perturbation of that name, or AttackError naming those that the bundle has."""
    for about in bundle.manifest.perturbations:
        if about.name == name:
            return about
    names = ", ".join(p.name for p in bundle.manifest.perturbations) or "none"
    raise AttackError(
        f"bundle {bundle.manifest.name} has no perturbation '{name}'",
        found=names,
        cure="make one with `lisard attack make`",
    )


def _rows(about: Perturbation, keys: NDArray[np.generic] | None) -> dict[str, int]:
    if about.kind == "universal":
        if about.count != 1:
            raise BundleError(f"{about.file} is not universal", found=f"{about.count} deltas", expected=1)
        return {}
    if keys is None or keys.dtype.kind != "S" or keys.shape != (about.count,):
        raise BundleError(f"{about.file} has no image hashes", found=_shape(keys), expected=f"{about.count} keys")
    return {bytes(key).decode("ascii", "replace"): row for row, key in enumerate(keys)}


def _shape(array: NDArray[np.generic] | None) -> str:
    return "nothing" if array is None else f"{array.dtype} {array.shape}"
