"""The injection stage: attacks applied to a prepared batch on the vehicle, between preprocessing and the network.

An image that an injection was not made for counts as `not applicable`, never as robust.

Names: what `names(bundle)` lists, and for every bundle `corruption/NAME/SEVERITY`, e.g. corruption/fog/3 (NAME of
`corruptions.NAMES`, SEVERITY 1 to 5) and `attack/NAME/BUDGET`, e.g. attack/pgd10/8 (`attacks/registry.py`), which is
worked out when the image comes. With a detector in front, `detector/NAME` is the detector's own injection NAME.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lisard_ros import backends, corruptions
from lisard_ros.attacks import patch_store, perspective, registry, store
from lisard_ros.attacks.aims import AnsweringModel, KnownTruths, criterion_for, truths_of
from lisard_ros.attacks.counting_model import CountingModel
from lisard_ros.attacks.model import BoxCriterion
from lisard_ros.attacks.onnx_model import OnnxAttackModel, from_bundle, require_surrogate
from lisard_ros.attacks.placement import Floats, PatchRenderer, draw, randoms_of, regions_of
from lisard_ros.attacks.query_model import Engine, QueryModel
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import ATTACK_PREFIX, CORRUPTION_PREFIX, DETECTOR_PREFIX, InputSpec, Perturbation
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


_INWARDS = np.array([1.0, 1.0, -1.0, -1.0])  # of the corners of a box


@dataclass(frozen=True, slots=True, eq=False)
class AttackSources:
    """Where an attack that is worked out on the vehicle gets its answers and gradients.

    Attributes:
        surrogate: Another bundle of the same classes and input, whose gradients are followed (gray-box); None: the
            bundle's own (white-box). With a detector in front it stands for the bundle behind it.
        engine: The running engine, for attacks by queries; None: an own one is started.
        threads: For gradients, and for an engine that is started; 0: every core, at most 8.
    """

    surrogate: Bundle | None = None
    engine: Engine | None = None
    threads: int = 0


OWN = AttackSources()


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
        self._sigma, self._seed = np.float32(sigma_255 / GREY_LEVELS), seed
        self._random = np.random.default_rng(seed)

    def redraw(self, image: int) -> None:
        """Draw what comes next by the seed and this number of an image alone."""
        self._random = np.random.default_rng((self._seed, image))

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


class Computed:
    """An attack that is worked out on each image when it comes: away from its true answer, or from the clean one.

    surrogate: whose gradients are followed instead of the bundle's, or None. gradient_sha256: of the gradient file, ''
    where none is used. truths: what images show, where that is known.
    """

    needs_keys = True

    def __init__(self, bundle: Bundle, choice: registry.AttackChoice, sources: AttackSources, seed: int) -> None:
        """Make ready what the attack needs."""
        if seed < 0:
            raise AttackError("the seed of an attack is negative", found=seed, expected=">= 0")
        surrogate = sources.surrogate if choice.entry.access == "gradients" else None
        self.name, self.knowledge = choice.name, choice.entry.knowledge(surrogate=surrogate is not None)
        self.surrogate = surrogate
        self._choice, self._seed, self._random = choice, seed, np.random.default_rng(seed)
        model = _attacked_model(bundle, choice.entry, sources)
        self.gradient_sha256 = model.file_sha256 if isinstance(model, OnnxAttackModel) else ""
        self._model = CountingModel(model)
        self.truths = KnownTruths(truths_of(bundle))

    @property
    def gradients(self) -> int:
        """How many gradients of an image it has taken so far."""
        return self._model.gradients

    @property
    def queries(self) -> int:
        """How often it has asked for the answer to an image so far."""
        return self._model.queries

    def redraw(self, image: int) -> None:
        """Draw what comes next by the seed and this number of an image alone."""
        self._random = np.random.default_rng((self._seed, image))

    def apply(self, x: Tensor, keys: Sequence[str]) -> Injected:
        """Return x attacked, in whole grey levels within the budget."""
        eps_255, everything = self._choice.eps_255, np.ones(len(x), bool)
        if eps_255 == 0 or not len(x):
            return Injected(x, everything)
        criterion = criterion_for(self._choice.entry, self._model, x, self.truths.of(keys))
        make = self._choice.entry.make
        assert make is not None, "a patch is shown by PatchAttack"
        attack = make(eps_255 / GREY_LEVELS)
        attacked = np.asarray(attack(self._model, x, criterion, self._random), np.float32)
        levels, clean = (np.rint(each * np.float32(GREY_LEVELS)) for each in (attacked, x))
        levels = np.clip(levels, np.maximum(clean - eps_255, 0), np.minimum(clean + eps_255, GREY_LEVELS))
        return Injected(np.asarray(levels / np.float32(GREY_LEVELS), np.float32), everything)


class PatchAttack:
    """The printed patch of the bundle on each object, or at a fixed place, as a camera sees it from some side.

    made_on: the model that it was made on, in words. truths: what images show, where that is known.
    """

    def __init__(self, bundle: Bundle, choice: registry.AttackChoice, sources: AttackSources, seed: int) -> None:
        """Load the patch; a detector's objects are the true boxes, or those that its running engine finds."""
        if seed < 0:
            raise AttackError("the seed of a patch is negative", found=seed, expected=">= 0")
        assert choice.entry.place is not None, "other attacks are computed"
        about = patch_store.find(bundle)
        stored = patch_store.load(bundle, about)
        self.name, self.knowledge, self.made_on = choice.name, about.knowledge, about.made_on
        self._choice, self._bundle, self._seed = choice, bundle, seed
        self._patch = stored.patch[:: 1 if bundle.manifest.input.colour == "rgb" else -1]
        share = choice.budget / registry.WHOLE_AREA_PERCENT
        self._view = perspective.view_of(choice.entry.place, share, stored.placement) if choice.budget else None
        on_boxes = choice.entry.place == "object" and bundle.manifest.runtime_task.finds_boxes
        self.needs_keys = on_boxes
        self._model = _attacked_model(bundle, choice.entry, sources) if on_boxes else None
        self.truths = KnownTruths(truths_of(bundle) if on_boxes else {})

    def apply(self, x: Tensor, keys: Sequence[str]) -> Injected:
        """Return x with the patch in it, in whole grey levels; an image whose objects are too small does not count."""
        if self._view is None or not len(x):
            return Injected(x, np.ones(len(x), bool))
        areas, attacked = self._areas(x, keys), x.copy()
        applied = np.zeros(len(x), bool)
        for row, (own, random) in enumerate(zip(areas, randoms_of(x, self._seed), strict=True)):
            seen = perspective.draw_views(self._view, own, random, np.random.default_rng(self._seed))
            if seen:
                applied[row] = True
                levels = np.rint(perspective.lay(x[row], self._patch, seen) * GREY_LEVELS)
                attacked[row] = levels.astype(np.float32) / np.float32(GREY_LEVELS)
        return Injected(attacked, applied, np.array([not len(own) for own in areas], bool))

    def _areas(self, x: Tensor, keys: Sequence[str]) -> list[Floats]:
        """Corners [M, 4] of what gets a patch in each image: its objects, or the image within its padding.

        What a classifier sees is its object with `roi_margin` around it.
        """
        spec, margin = self._bundle.manifest.input, self._bundle.manifest.roi_margin
        contents = [np.array([0.0, 0.0, spec.width, spec.height])] * len(x)
        if spec.resize != "stretch":
            contents = [perspective.content_of(image, spec.pad / GREY_LEVELS) for image in x]
        if self._choice.entry.place == "fixed":
            return [content[None] for content in contents]
        if self._model is None:
            inset = margin / (1 + 2 * margin)
            return [content[None] + inset * np.tile(content[2:] - content[:2], 2) * _INWARDS for content in contents]
        criterion = criterion_for(self._choice.entry, self._model, x, self.truths.of(keys))
        assert isinstance(criterion, BoxCriterion)
        boxes = zip(criterion.boxes_xyxy_px, criterion.labels, contents, strict=True)
        return [np.clip(own[known >= 0], np.tile(area[:2], 2), np.tile(area[2:], 2)) for own, known, area in boxes]


def redraw(injection: Injection, image: int) -> None:
    """Let an injection that draws at random draw by its seed and the image alone, whatever came before.

    Corruptions and places of patches always do. image: a number of 0 or more, the same for the same image.
    """
    inner = injection.inner if isinstance(injection, AtDetector) else injection
    if isinstance(inner, (NoiseInjection, Computed)):
        inner.redraw(image)


def truths_for(injection: Injection) -> KnownTruths | None:
    """Return what an attack knows of images, to be told more; None of an injection that does not ask what they show."""
    return injection.truths if isinstance(injection, (Computed, PatchAttack)) else None


def is_quick(injection: Injection) -> bool:
    """Whether an injection asks no model, so that another thread may apply it while a network runs."""
    return isinstance(injection, (NoiseInjection, Corrupted, Stored, Universal, Patched))


def _attacked_model(bundle: Bundle, entry: registry.AttackEntry, sources: AttackSources) -> AnsweringModel:
    if entry.access == "gradients":
        if sources.surrogate is not None:
            require_surrogate(bundle, sources.surrogate)
        return from_bundle(sources.surrogate or bundle, threads=sources.threads)
    return QueryModel(bundle, sources.engine or backends.choose(bundle, threads=sources.threads).backend)


def names(bundle: Bundle) -> tuple[str, ...]:
    """Return the injections that this bundle offers: `clean`, `noise` and its perturbations.

    The corruptions (`CORRUPTIONS`) and the attacks of `attacks/registry.py` can be made for every bundle besides.
    """
    return (CLEAN, NOISE, *(p.name for p in bundle.manifest.perturbations))


def make(
    bundle: Bundle,
    name: str,
    *,
    sigma_255: float = DEFAULT_NOISE_SIGMA_255,
    seed: int = 0,
    sources: AttackSources = OWN,
) -> Injection:
    """Make the injection of that name ready.

    Args:
        bundle: The bundle whose input is attacked.
        name: One of `names(bundle)`, of `CORRUPTIONS`, or an attack of the registry.
        sigma_255: Standard deviation of `noise` in grey levels of 255, above 0 and at most 255.
        seed: Of noise, corruptions, attacks and the places of patches, 0 or more.
        sources: Where an attack of the registry gets its answers and gradients.

    Raises:
        AttackError: There is no such injection (the message suggests the nearest name), a number is out of range, or
            an attack's gradient file, surrogate or patch is missing or does not fit.
        BundleError: The perturbation's file is damaged, or the gradient is of another model.
    """
    if name == CLEAN:
        return Clean()
    if name == NOISE:
        return NoiseInjection(sigma_255, seed)
    if name in CORRUPTIONS:
        return Corrupted(name, bundle.manifest.input, seed)
    if name.startswith(ATTACK_PREFIX):
        choice = registry.choose(name, bundle.manifest.task)
        made = Computed if choice.entry.place is None else PatchAttack
        return made(bundle, choice, sources, seed)
    require_known(bundle, name)
    about = store.find(bundle, name)
    if about.kind == "patch":
        return Patched(about, patch_store.load(bundle, about), bundle.manifest.input, seed)
    stored = store.load(bundle, about)
    return Universal(stored) if about.kind == "universal" else Stored(stored)


def make_staged(
    bundle: Bundle,
    detector: Bundle | None,
    name: str,
    *,
    sigma_255: float = DEFAULT_NOISE_SIGMA_255,
    seed: int = 0,
    sources: AttackSources = OWN,
) -> Injection:
    """Make an injection of the bundle, or with `detector/NAME` one of the detector's bundle in front of it.

    Args:
        bundle: The bundle that answers.
        detector: The bundle in front, None without one.
        name: As for `make`, or `detector/NAME`.
        sigma_255: As for `make`.
        seed: As for `make`.
        sources: As for `make`, of the bundle that is attacked.

    Raises:
        AttackError: As for `make`, or `detector/NAME` without a detector.
        BundleError: The perturbation's file is damaged.
    """
    if not name.startswith(DETECTOR_PREFIX):
        return make(bundle, name, sigma_255=sigma_255, seed=seed, sources=sources)
    if detector is None:
        raise AttackError(
            "an injection for a detector",
            found=repr(name),
            expected=f"one of {', '.join(names(bundle))}",
            cure=f"there is no detector in front; did you mean '{name.removeprefix(DETECTOR_PREFIX)}'?",
        )
    own = replace(sources, surrogate=None)
    return AtDetector(make(detector, name.removeprefix(DETECTOR_PREFIX), sigma_255=sigma_255, seed=seed, sources=own))


def require_known(bundle: Bundle, name: str) -> None:
    """Refuse a name that `make` does not know, with the nearest one."""
    if name in names(bundle) or name in CORRUPTIONS:
        return
    if name.startswith(ATTACK_PREFIX):
        registry.choose(name, bundle.manifest.task)
        return
    guess = _nearest(bundle, name)
    raise AttackError(
        f"unknown injection of bundle {bundle.manifest.name}",
        found=repr(name),
        expected=f"one of {', '.join(names(bundle))}, {CORRUPTION_PATTERN}, or {registry.PATTERN}",
        cure=f"did you mean '{guess}'?" if guess else None,
    )


def _nearest(bundle: Bundle, name: str) -> str | None:
    """What was probably meant: an attack of the same family first, since one letter changes much in a short name."""
    task = bundle.manifest.task
    attack = registry.of_family(name, task)
    known = None if attack else nearest(name, (*names(bundle), *CORRUPTIONS))
    if known is None and attack is None:
        bare = nearest(name, (*corruptions.NAMES, *registry.names_of(task)))
        attack = bare if bare in registry.names_of(task) else None
    return ATTACK_PREFIX + attack if attack else known or nearest(CORRUPTION_PREFIX + name, CORRUPTIONS)
