"""What reports say of an injection: its settings, by which two replays compare, and the attacker behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from lisard_ros.attacks import registry
from lisard_ros.attacks.model import BoxLoss
from lisard_ros.attacks.threat_model import NOBODY, PRINT, ThreatModel, pixels, threat_model
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import ATTACK_PREFIX, DETECTOR_PREFIX, Knowledge
from lisard_ros.injection import CORRUPTIONS, NOISE, Injection


@dataclass(frozen=True, slots=True)
class InjectionSettings:
    """How an injection was made. strength: severity of a corruption, or percent of the area that a patch covers; steps:
    gradients, or queries of an attack that only asks. None where a setting does not apply. surrogate: whose gradients
    were followed instead of the model's, its name and the beginning of its sha256. bundle: what was attacked.
    """

    name: str
    knowledge: str
    attack: str
    eps_255: float | None = None
    steps: int | None = None
    sigma_255: float | None = None
    strength: int | None = None
    seed: int | None = None
    surrogate: str | None = None
    bundle: str = ""


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


def attacker_of(bundle: Bundle, injection: Injection) -> ThreatModel:
    """Return the attacker behind an injection that `injection.make` has made for this bundle."""
    task, name = bundle.manifest.task, injection.name
    about = next((p for p in bundle.manifest.perturbations if p.name == name), None)
    if about is not None:
        same = "every image by the same perturbation, " if about.kind == "universal" else ""
        change = PRINT if about.kind == "patch" else same + pixels(about.eps_255)
        box_loss: BoxLoss | None = "joint" if bundle.manifest.runtime_task.finds_boxes else None
        return threat_model(about.knowledge, change, box_loss, printed=about.kind == "patch")
    if name.startswith(ATTACK_PREFIX):
        return registry.choose(name, task).attacker(task, cast("Knowledge", injection.knowledge))
    return NOBODY
