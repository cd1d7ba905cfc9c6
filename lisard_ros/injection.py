"""The injection stage: attacks applied to a prepared batch on the vehicle, between preprocessing and the network.

An image that an injection was not made for counts as `not applicable`, never as robust.

Names: what `names(bundle)` lists, and for every bundle `corruption/NAME/SEVERITY`, e.g. corruption/fog/3 (NAME of
`corruptions.NAMES`, SEVERITY 1 to 5). With a detector in front, `detector/NAME` is the detector's own injection NAME.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lisard_ros import corruptions
from lisard_ros.attacks import patch_store, store
from lisard_ros.attacks.placement import PatchRenderer, draw, randoms_of, regions_of
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import CORRUPTION_PREFIX, DETECTOR_PREFIX, InputSpec, Perturbation
from lisard_ros.errors import AttackError, nearest
from lisard_ros.frames import GREY_LEVELS
from lisard_ros.inference.injected import AtDetector, Injected, Injection, Tensor

CLEAN = "clean"
NOISE = "noise"
DEFAULT_NOISE_SIGMA_255 = 16.0
CORRUPTION_PATTERN = f"{CORRUPTION_PREFIX}NAME/SEVERITY"
# Every name of that pattern -> the corruption and its severity.
CORRUPTIONS: Mapping[str, tuple[str, int]] = {
    f"{CORRUPTION_PREFIX}{name}/{severity}": (name, severity)
    for name in corruptions.NAMES
    for severity in corruptions.SEVERITIES
}


class Clean:
    """Changes nothing: the reference line of every suite."""

    name, knowledge, needs_keys = CLEAN, "none", False

    def apply(self, x: Tensor, keys: Sequence[str]) -> Injected:
        """Return the batch as it is."""
        return Injected(x, np.ones(len(x), bool))


class NoiseInjection:
    """Gaussian noise of a fixed standard deviation, clipped to [0, 1]; no knowledge of the model."""

    name, knowledge, needs_keys = NOISE, "none", False

    def __init__(self, sigma_255: float, seed: int) -> None:
        """sigma_255: standard deviation in grey levels of 255."""
        if not 0 < sigma_255 <= GREY_LEVELS:
            raise AttackError("noise out of range", found=sigma_255, expected="0 < sigma_255 <= 255")
        if seed < 0:
            raise AttackError("the seed of the noise is negative", found=seed, expected=">= 0")
        self._sigma = np.float32(sigma_255 / GREY_LEVELS)
        self._random = np.random.default_rng(seed)

    def apply(self, x: Tensor, keys: Sequence[str]) -> Injected:
        """Return x + noise."""
        noise = self._random.standard_normal(x.shape, np.float32) * self._sigma
        return Injected(np.clip(x + noise, 0, 1, dtype=np.float32), np.ones(len(x), bool))


class Corrupted:
    """A common corruption on the model's input grid; the same image gets the same whenever it comes."""

    knowledge, needs_keys = "none", False

    def __init__(self, name: str, spec: InputSpec, seed: int) -> None:
        """name: one of CORRUPTIONS; spec: of the images that will come."""
        self.name = name
        self._corruption, self._severity = CORRUPTIONS[name]
        self._channels = slice(None, None, 1 if spec.colour == "rgb" else -1)
        self._seed = corruptions.require_seed(seed)
        corruptions.prepare(self._corruption)

    def apply(self, x: Tensor, keys: Sequence[str]) -> Injected:
        """Return x corrupted, in whole grey levels."""
        levels = np.rint(x * np.float32(GREY_LEVELS)).astype(np.uint8)
        rgb = np.ascontiguousarray(levels[:, self._channels].transpose(0, 2, 3, 1))
        changed = corruptions.corrupt(rgb, self._corruption, self._severity, self._seed)
        planes = changed.transpose(0, 3, 1, 2)[:, self._channels]
        attacked = np.ascontiguousarray(planes, np.float32) / np.float32(GREY_LEVELS)
        return Injected(np.asarray(attacked, np.float32), np.ones(len(x), bool))


class Stored:
    """Perturbations made for known images: applied to those alone, recognised by the hash of their pixels."""

    needs_keys = True

    def __init__(self, stored: store.StoredSet) -> None:
        """Take a loaded set of kind `stored`."""
        self.name, self.knowledge = stored.about.name, stored.about.knowledge
        self._stored = stored

    def apply(self, x: Tensor, keys: Sequence[str]) -> Injected:
        """Return x with the deltas of the images that are known."""
        rows = np.array([self._stored.rows.get(key, -1) for key in keys], np.intp)
        applied = rows >= 0
        attacked = x.copy()
        attacked[applied] = store.add(x[applied], self._stored.deltas[rows[applied]])
        return Injected(attacked, applied)


class Universal:
    """One perturbation added to every image."""

    needs_keys = False

    def __init__(self, stored: store.StoredSet) -> None:
        """Take a loaded set of kind `universal`."""
        self.name, self.knowledge = stored.about.name, stored.about.knowledge
        self._delta = stored.deltas

    def apply(self, x: Tensor, keys: Sequence[str]) -> Injected:
        """Return x + delta."""
        return Injected(store.add(x, self._delta), np.ones(len(x), bool))


class Patched:
    """A printed patch somewhere in each image; the same image gets it at the same place whenever it comes."""

    needs_keys = False

    def __init__(self, about: Perturbation, stored: patch_store.StoredPatch, spec: InputSpec, seed: int) -> None:
        """about: its entry of the manifest; spec: of the images that will come; seed: of the places."""
        if seed < 0:
            raise AttackError("the seed of a patch is negative", found=seed, expected=">= 0")
        self.name, self.knowledge = about.name, about.knowledge
        self._placement, self._seed = stored.placement, seed
        self._patch = stored.patch[:: 1 if spec.colour == "rgb" else -1]

    def apply(self, x: Tensor, keys: Sequence[str]) -> Injected:
        """Return x with the patch in it, in whole grey levels; an image too small for it does not count."""
        placements = draw(self._placement, regions_of(x), randoms_of(x, self._seed))
        laid = PatchRenderer(placements, self._patch.shape[1], (x.shape[3], x.shape[2])).render(x, self._patch)
        applied = np.isin(np.arange(len(x)), [placed.row for placed in placements])
        levels = np.rint(laid * np.float32(GREY_LEVELS))
        return Injected(np.asarray(levels / np.float32(GREY_LEVELS), np.float32), applied)


def names(bundle: Bundle) -> tuple[str, ...]:
    """Return the injections that this bundle offers: `clean`, `noise` and its perturbations.

    The corruptions (`CORRUPTIONS`) can be made for every bundle besides.
    """
    return (CLEAN, NOISE, *(p.name for p in bundle.manifest.perturbations))


def make(bundle: Bundle, name: str, *, sigma_255: float = DEFAULT_NOISE_SIGMA_255, seed: int = 0) -> Injection:
    """Make the injection of that name ready.

    Args:
        bundle: The bundle whose input is attacked.
        name: One of `names(bundle)` or of `CORRUPTIONS`.
        sigma_255: Standard deviation of `noise` in grey levels of 255, above 0 and at most 255.
        seed: Of noise, corruptions and the places of patches, 0 or more.

    Raises:
        AttackError: There is no such injection (the message suggests the nearest name), or a number is out of range.
        BundleError: The perturbation's file is damaged.
    """
    if name == CLEAN:
        return Clean()
    if name == NOISE:
        return NoiseInjection(sigma_255, seed)
    if name in CORRUPTIONS:
        return Corrupted(name, bundle.manifest.input, seed)
    require_known(bundle, name)
    about = store.find(bundle, name)
    if about.kind == "patch":
        return Patched(about, patch_store.load(bundle, about), bundle.manifest.input, seed)
    stored = store.load(bundle, about)
    return Universal(stored) if about.kind == "universal" else Stored(stored)


def make_staged(
    bundle: Bundle, detector: Bundle | None, name: str, *, sigma_255: float = DEFAULT_NOISE_SIGMA_255, seed: int = 0
) -> Injection:
    """Make an injection of the bundle, or with `detector/NAME` one of the detector's bundle in front of it.

    Args:
        bundle: The bundle that answers.
        detector: The bundle in front, None without one.
        name: As for `make`, or `detector/NAME`.
        sigma_255: As for `make`.
        seed: As for `make`.

    Raises:
        AttackError: As for `make`, or `detector/NAME` without a detector.
        BundleError: The perturbation's file is damaged.
    """
    if not name.startswith(DETECTOR_PREFIX):
        return make(bundle, name, sigma_255=sigma_255, seed=seed)
    if detector is None:
        raise AttackError(
            "an injection for a detector",
            found=repr(name),
            expected=f"one of {', '.join(names(bundle))}",
            cure=f"there is no detector in front; did you mean '{name.removeprefix(DETECTOR_PREFIX)}'?",
        )
    return AtDetector(make(detector, name.removeprefix(DETECTOR_PREFIX), sigma_255=sigma_255, seed=seed))


def require_known(bundle: Bundle, name: str) -> None:
    """Refuse a name that `make` does not know, with the nearest one."""
    if name in names(bundle) or name in CORRUPTIONS:
        return
    guess = nearest(name, (*names(bundle), *CORRUPTIONS)) or nearest(CORRUPTION_PREFIX + name, CORRUPTIONS)
    raise AttackError(
        f"unknown injection of bundle {bundle.manifest.name}",
        found=repr(name),
        expected=f"one of {', '.join(names(bundle))}, or {CORRUPTION_PATTERN}",
        cure=f"did you mean '{guess}'?" if guess else None,
    )
