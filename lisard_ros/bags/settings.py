"""The settings of an injection, as reports name them: two replays compare only where they agree."""

from __future__ import annotations

from lisard_ros.attacks import registry
from lisard_ros.bags.report import InjectionSettings
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import ATTACK_PREFIX, DETECTOR_PREFIX
from lisard_ros.injection import CORRUPTIONS, NOISE, Injection


def injection_settings(
    bundle: Bundle, detector: Bundle | None, injection: Injection, *, sigma_255: float, seed: int
) -> InjectionSettings:
    """Describe an injection made by `injection.make_staged` with these values.

    Of stored perturbations seed, budget and steps are those of their making.
    """
    own = injection.name.removeprefix(DETECTOR_PREFIX)
    target = detector if detector is not None and own != injection.name else bundle
    about = next((p for p in target.manifest.perturbations if p.name == own), None)
    if about is not None:
        placed = seed if about.kind == "patch" else about.seed
        return InjectionSettings(
            injection.name, injection.knowledge, about.attack, about.eps_255, about.steps, seed=placed
        )
    if own in CORRUPTIONS:
        name, severity = CORRUPTIONS[own]
        return InjectionSettings(injection.name, injection.knowledge, name, strength=severity, seed=seed)
    if own.startswith(ATTACK_PREFIX):
        choice = registry.choose(own, target.manifest.task)
        attack = own.removeprefix(ATTACK_PREFIX).partition("/")[0]
        steps = choice.entry.gradients or choice.entry.queries
        return InjectionSettings(
            injection.name, injection.knowledge, attack, choice.eps_255, steps, strength=choice.area_percent, seed=seed
        )
    sigma = sigma_255 if own == NOISE else None
    return InjectionSettings(injection.name, injection.knowledge, own, sigma_255=sigma, seed=seed)
