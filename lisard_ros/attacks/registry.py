"""The attacks that can be worked out on any image when it comes: what each knows, may change, costs and needs.

Names are `attack/NAME` or `attack/NAME/BUDGET`, e.g. attack/pgd10/4: NAME one of `names_of(task)`, BUDGET in whole grey
levels (8 where it is left out), of a patch in whole percent of an area. Steps, or queries on each image, are part of a
name, so that a report of one name compares. What a bundle stores is listed in its `bundle.json` with the same words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from lisard_ros.attacks.apgd import APGD, apgd
from lisard_ros.attacks.gradient import FGSM, PGD, fgsm, pgd, project
from lisard_ros.attacks.mifgsm import MIFGSM, mifgsm
from lisard_ros.attacks.model import Array, AttackModel, BoxLoss, Criterion, Loss, Randomness, like
from lisard_ros.attacks.perspective import Place
from lisard_ros.attacks.square import Square, square
from lisard_ros.attacks.threat_model import PRINT, ThreatModel, pixels, threat_model
from lisard_ros.bundle.manifest import ATTACK_PREFIX, TASKS, Knowledge, Task
from lisard_ros.errors import AttackError, nearest
from lisard_ros.frames import GREY_LEVELS

DEFAULT_EPS_255 = 8
PATTERN = f"{ATTACK_PREFIX}NAME or {ATTACK_PREFIX}NAME/BUDGET"
WHOLE_AREA_PERCENT = 100
Access = Literal["gradients", "queries", "scene", "nothing"]
Algorithm = Callable[[AttackModel | None, Array, Criterion, Randomness], Array]
_FAMILY = re.compile(r"([a-z-]*?)(\d*)(?:_([a-z]+))?")


@dataclass(frozen=True, slots=True)
class AttackEntry:
    """One attack of the registry.

    Attributes:
        name: Under which it is asked for, after `attack/`.
        source: Where it was published.
        access: What it asks of a model: gradients (white-box on the model itself, gray-box by transfer from a
            surrogate), queries (black-box: answers of the running engine alone), scene (nothing on the vehicle: a patch
            that was made before is put where the camera looks), or nothing.
        gradients: How often a network is differentiated for each image, at most.
        queries: How often it is only asked, at most.
        needs: What must be there.
        tasks: Which bundles it can attack.
        make: The algorithm, of a budget in (0, 1]; None of a patch, which is shown and not worked out.
        class_loss: What it raises at a classifier.
        box_loss: What it raises at a detector.
        place: Of a patch: on each object, or at a fixed place of the image; None of everything else.
        usual_budget: The budget where a name has none.
    """

    name: str
    source: str
    access: Access
    gradients: int
    queries: int
    needs: str
    tasks: tuple[Task, ...]
    make: Callable[[float], Algorithm] | None
    class_loss: Loss = "cross_entropy"
    box_loss: BoxLoss = "joint"
    place: Place | None = None
    usual_budget: int = DEFAULT_EPS_255

    @property
    def budget(self) -> str:
        """What its budget counts, for people."""
        if self.place is None:
            return "grey levels of each pixel"
        return f"percent of the {'area of an object' if self.place == 'object' else 'image'}, with any pixels"

    @property
    def most_budget(self) -> int:
        """The largest budget that can be asked for."""
        return GREY_LEVELS if self.place is None else WHOLE_AREA_PERCENT

    def knowledge(self, *, surrogate: bool) -> Knowledge:
        """Return what the attacker knows of the model, in the words of NIST AI 100-2; surrogate: by another model.

        A stored patch says itself how it was made.
        """
        if self.access in ("gradients", "scene"):
            return "gray-box" if surrogate else "white-box"
        return "query" if self.access == "queries" else "none"


@dataclass(frozen=True, slots=True)
class AttackChoice:
    """An attack and its budget: whole grey levels, 0 to 255, or of a patch whole percent of an area, 0 to 100."""

    entry: AttackEntry
    budget: int

    @property
    def name(self) -> str:
        """The full name; the usual budget is left out."""
        return ATTACK_PREFIX + self.entry.name + ("" if self.budget == self.entry.usual_budget else f"/{self.budget}")

    @property
    def eps_255(self) -> int:
        """The largest change of a pixel in whole grey levels of 255 (Linf); a patch may show anything."""
        return self.budget if self.entry.place is None else GREY_LEVELS

    @property
    def area_percent(self) -> int | None:
        """What a patch covers of an object or image at most; None of an attack that may change every pixel."""
        return None if self.entry.place is None else self.budget

    def attacker(self, task: Task, knowledge: Knowledge) -> ThreatModel:
        """Return the attacker that it stands for. knowledge: what is known of the model, as the entry or patch says."""
        box_loss = self.entry.box_loss if TASKS[task].finds_boxes else None
        if self.entry.place is None:
            return threat_model(knowledge, pixels(self.budget), box_loss)
        area = "each object" if self.entry.place == "object" else "the image"
        return threat_model(knowledge, f"{PRINT} over at most {self.budget} % of {area}", box_loss, printed=True)


def uniform(model: AttackModel | None, x: Array, criterion: Criterion, random: Randomness, *, eps: float) -> Array:
    """Return x moved by noise that is uniform over the whole grey levels within the budget."""
    del model, criterion
    most = round(eps * GREY_LEVELS)
    draws = np.floor(random.uniform(0.0, 2.0 * most + 1.0, tuple(int(n) for n in x.shape))) - most
    return project(x + like(draws / GREY_LEVELS, x), x, eps)


def _gradient(attack: Callable[..., Array], settings: object) -> Algorithm:
    return lambda model, x, criterion, random: attack(model, x, criterion, settings, random)


def _fgsm(eps: float) -> Algorithm:
    return lambda model, x, criterion, random: fgsm(_some(model), x, criterion, FGSM(eps).eps)


def _pgd(steps: int, eps: float) -> Algorithm:
    return _gradient(pgd, PGD(eps, eps / 4, steps))


def _mifgsm(steps: int, eps: float) -> Algorithm:
    return _gradient(mifgsm, MIFGSM(eps, steps))


def _apgd(steps: int, eps: float) -> Algorithm:
    return lambda model, x, criterion, random: apgd(_some(model), x, criterion, APGD(eps, steps), random).x


def _square(queries: int, eps: float) -> Algorithm:
    return lambda model, x, criterion, random: square(_some(model), x, criterion, Square(eps, queries), random).x


def _uniform(eps: float) -> Algorithm:
    return partial(uniform, eps=eps)


def _some(model: AttackModel | None) -> AttackModel:
    assert model is not None, "only noise does without a model"
    return model


BOX_LOSSES: tuple[BoxLoss, ...] = ("class", "location", "vanish", "fabricate", "mislabel")
BOTH: tuple[Task, ...] = ("classification", "detection")
_GRADIENT_NEEDS = "the gradient file of the bundle or of a surrogate (lisard build --gradient)"
_PGD = "Madry et al. 2018, arXiv 1706.06083"
_MIFGSM = "Dong et al. 2018, arXiv 1710.06081"
_APGD = "Croce and Hein 2020, arXiv 2003.01690"
_SQUARE = "Andriushchenko et al. 2020, arXiv 1912.00049"
_PATCH = "Brown et al. 2017, arXiv 1712.09665; Thys et al. 2019, arXiv 1904.08653"
_PATCH_NEEDS = "a printed patch in the bundle (lisard attack make --patch)"
PATCH_PERCENT: Mapping[Place, int] = {"object": 20, "fixed": 10}  # the usual budgets


def _by_gradient(
    name: str, source: str, steps: int, make: Callable[[float], Algorithm], queries: int = 0
) -> AttackEntry:
    return AttackEntry(name, source, "gradients", steps, queries, _GRADIENT_NEEDS, BOTH, make)


def _by_queries(queries: int) -> AttackEntry:
    make, needs = partial(_square, queries), "the running engine"
    return AttackEntry(f"square{queries}", _SQUARE, "queries", 0, queries, needs, BOTH, make, "margin", "class")


def _patch(place: Place, percent: int) -> AttackEntry:
    return AttackEntry(
        f"patch_{place}", _PATCH, "scene", 0, 0, _PATCH_NEEDS, BOTH, None, place=place, usual_budget=percent
    )


_BASE = (
    _by_gradient("fgsm", "Goodfellow et al. 2015, arXiv 1412.6572", 1, _fgsm),
    *(_by_gradient(f"pgd{n}", _PGD, n, partial(_pgd, n)) for n in (10, 40)),
    *(_by_gradient(f"mifgsm{n}", _MIFGSM, n, partial(_mifgsm, n)) for n in (10,)),
    *(_by_gradient(f"apgd{n}", _APGD, n, partial(_apgd, n), 1) for n in (20, 100)),
    *map(_by_queries, (100, 1000)),
    *(_patch(place, percent) for place, percent in PATCH_PERCENT.items()),
    AttackEntry("uniform", "", "nothing", 0, 0, "nothing", BOTH, _uniform),
)


def _with_losses(entries: Iterable[AttackEntry]) -> dict[str, AttackEntry]:
    """Every attack by its name, those with gradients once for each loss besides their usual one."""
    table = {}
    for entry in entries:
        table[entry.name] = entry
        if entry.access == "gradients":
            margin = replace(entry, name=f"{entry.name}_margin", class_loss="margin", tasks=("classification",))
            table[margin.name] = margin
            for loss in BOX_LOSSES:
                own = replace(entry, name=f"{entry.name}_{loss}", box_loss=loss, tasks=("detection",))
                table[own.name] = own
    return table


REGISTRY: Mapping[str, AttackEntry] = _with_losses(_BASE)


def names_of(task: Task) -> tuple[str, ...]:
    """Return the names that a bundle of that task can be attacked with, without the prefix."""
    return tuple(name for name, entry in REGISTRY.items() if task in entry.tasks)


def choose(name: str, task: Task) -> AttackChoice:
    """Read a name.

    Args:
        name: `attack/NAME`, `attack/NAME/BUDGET`, or the same without the prefix.
        task: Of the bundle that is attacked.

    Raises:
        AttackError: There is no such attack (the message lists all and suggests the nearest of its family), it is not
            of that task, or the budget is no whole number from 0 to 255, of a patch 100.
    """
    word, slash, budget = name.removeprefix(ATTACK_PREFIX).partition("/")
    if word not in names_of(task):
        guess = nearest_attack(word, task)
        steps = _FAMILY.fullmatch(word)
        nothing = bool(steps and steps[2] and not int(steps[2][:9]) and guess)
        raise AttackError(
            f"unknown attack on a bundle for {task}" + (", its number of steps or queries is 0" if nothing else ""),
            found=repr(name),
            expected=f"{PATTERN}, NAME one of {', '.join(names_of(task))}",
            cure=f"did you mean '{ATTACK_PREFIX}{guess}{slash}{budget}'?" if guess else None,
        )
    entry = REGISTRY[word]
    unit = "grey levels" if entry.place is None else "percent of the area"
    if slash and not (budget.isascii() and budget.isdigit() and int(budget[:9]) <= entry.most_budget):
        raise AttackError(
            f"the budget of attack {word}",
            found=repr(budget),
            expected=f"whole {unit} from 0 (changes nothing) to {entry.most_budget}",
            cure=f"{ATTACK_PREFIX}{word}/{entry.usual_budget} is the usual budget",
        )
    return AttackChoice(entry, int(budget) if slash else entry.usual_budget)


def nearest_attack(word: str, task: Task) -> str | None:
    """Return the attack of the same family with the nearest number, else the one spelt most alike, or None."""
    return of_family(word, task) or nearest(word, names_of(task))


def of_family(word: str, task: Task) -> str | None:
    """Return the attack whose name begins as the word does, with the nearest number: pgd9 is of the family of pgd10."""
    family, number, loss = _parts(word)
    alike = [name for name in names_of(task) if family and _parts(name)[0] == family]
    return min(alike, key=lambda name: (_parts(name)[2] != loss, abs(_parts(name)[1] - number)), default=None)


def _parts(name: str) -> tuple[str, int, str]:
    """Family, number and loss of a name: pgd10_margin is pgd, 10 and margin."""
    match = _FAMILY.fullmatch(name.lower())
    if match is None:
        return "", 0, ""
    return match[1], int(match[2][:9] or 0), match[3] or ""
