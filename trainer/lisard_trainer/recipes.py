"""A recipe says everything that decides a training: typed, frozen, read from YAML. An unknown key is an error."""

from __future__ import annotations

import dataclasses
import importlib
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from lisard_ros.errors import UsageError, unknown_name

from .augment import Augment, Noise
from .data.settings import Data
from .overlay import Overlay

# Task -> where the type of its recipes is.
KINDS = {
    "classification": ("lisard_trainer.recipes", "Recipe"),
    "detection": ("lisard_trainer.detector.recipe", "DetectorRecipe"),
}


@dataclass(frozen=True)
class Similarity:
    """The similarity term: `none` is the control, `official` Barlow Twins over the temperature, `normalised` means.

    layers: the embedding alone, or the mean over it and the pooled stages before the last. features: only so many,
    drawn anew each step (0: all). projector: an MLP before the correlation; `dead` builds it and never calls it, as the
    published code does.
    divisor: the rows of the batch, or the configured `batch` (published: a last, smaller batch can't reach the target).
    precision: `autocast` correlates in the arithmetic of the run (published), float32 never below 32 bit.
    """

    form: Literal["none", "official", "normalised"] = "none"
    weight: float = 1.0
    off_weight: float = 0.0051
    temperature: float = 9000.0
    layers: Literal["embedding", "stages"] = "embedding"
    features: int = 0
    projector: Literal["none", "used", "dead"] = "none"
    projector_width: int = 512
    divisor: Literal["rows", "batch"] = "rows"
    precision: Literal["float32", "autocast"] = "float32"


@dataclass(frozen=True)
class Consistency:
    """Pulls the noisy view towards the clean one: cosine of the embeddings, or KL of the predictions."""

    form: Literal["none", "cosine", "kl"] = "none"
    weight: float = 1.0
    temperature: float = 1.0


@dataclass(frozen=True)
class Gradient:
    """Penalty on the loss's gradient with respect to the pixels.

    l1: its L1 norm on both views by double backward; slope: the same on the first view by a finite difference of
    distance_255 grey levels along the gradient's sign; linear: cross entropy of the logits that such a step, carried on
    in a straight line, would give at reach_255; views: squared distance between the gradients of the two views;
    curvature: that between x and x + distance_255 along the gradient's sign (CURE). share: of the batch. after: so many
    epochs without it come first.
    """

    form: Literal["none", "l1", "slope", "linear", "views", "curvature"] = "none"
    weight: float = 0.03
    distance_255: float = 0.1
    share: float = 1.0
    after: int = 0
    reach_255: float = 8.0

    def __post_init__(self) -> None:
        """Refuse shares, distances and epochs that cannot be."""
        if not 0 < self.share <= 1:
            raise UsageError("recipe key gradient.share", found=self.share, expected="above 0, at most 1")
        for name in ("distance_255", "reach_255"):
            if not getattr(self, name) > 0:
                raise UsageError(f"recipe key gradient.{name}", found=getattr(self, name), expected="above 0")
        if self.after < 0:
            raise UsageError("recipe key gradient.after", found=self.after, expected="0 or more epochs")


@dataclass(frozen=True)
class Adversarial:
    """Adversarial training, a reference arm: PGD as published, or FGSM from a random start (Wong et al. 2020)."""

    form: Literal["none", "pgd", "fgsm_rs"] = "none"
    eps_255: float = 8.0
    step_255: float = 2.0
    steps: int = 10


@dataclass(frozen=True)
class Loss:
    """alpha (CE clean + CE noisy) + (1 - alpha) weight similarity; alpha `constant`, or `rising` from 0.5 to 1.

    `official` is the published alpha with its zero-based epoch over 200 epochs, whatever the run's length.
    """

    alpha: Literal["constant", "rising", "official"] = "constant"
    alpha_value: float = 0.5
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class Optimiser:
    """SGD with Nesterov momentum, or AdamW; linear warm-up and cosine, or the published schedule.

    second_cycle: so many of the last epochs are a second cycle like the first (warm restart, Loshchilov & Hutter 2017,
    arXiv 1608.03983). official_warm_up: epochs of warm-up of the published schedule. shuffle: false keeps the same
    batches, of one random order, in every epoch (published on CIFAR). drop_last: false keeps a last, smaller batch.
    ema_decay: above 0, the moving average of the weights is validated and exported in place of the last step's (0.999
    averages over about 1000 steps). momentum: of AdamW, the memory of its first moment (the second's is 0.999).
    """

    kind: Literal["sgd", "adamw"] = "sgd"
    epochs: int = 20
    batch: int = 160
    peak_rate: float = 0.15
    schedule: Literal["one_cycle", "official"] = "one_cycle"
    warm_up_share: float = 0.15
    second_cycle: int = 0
    official_warm_up: int = 10
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_one_dim: bool = False
    shuffle: bool = True
    drop_last: bool = True
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        """Refuse cycles and averages that cannot be."""
        second = self.second_cycle
        if not 0 <= second < max(1, self.epochs) or (second and self.schedule == "official"):
            raise UsageError("recipe key optimiser.second_cycle", found=second,
                             expected="0, or fewer epochs than there are, with schedule: one_cycle")  # fmt: skip
        if self.kind == "adamw" and self.schedule == "official":
            raise UsageError("recipe key optimiser.kind", found="adamw", expected="sgd, with schedule: official")
        if not 0 <= self.ema_decay < 1:
            raise UsageError("recipe key optimiser.ema_decay", found=self.ema_decay, expected="0 to below 1")


@dataclass(frozen=True)
class Start:
    """Where the first weights come from: a checkpoint or weights file (empty: drawn from the seed).

    `imagenet`: the published weights of EfficientNet-Lite0, all but a head of other classes. without: weights whose
    names begin with this are drawn all the same (`head`, where the file has other classes).
    """

    weights: str = ""
    without: str = ""


@dataclass(frozen=True)
class Recipe:
    """One training. `views` 1 trains on the clean view alone (then noise and similarity have no part).

    precision: `auto` times float32 against bfloat16 and takes the faster; float64 is for checks. select: export and
    evaluate the last epoch, or the `best` on the held-back pictures (whose accuracy is then a little too good).
    """

    name: str
    seed: int = 1
    network: str = "resnet14w"
    activation: Literal["native", "relu", "silu", "gelu", "softplus"] = "native"
    batch_norm: Literal["shared", "dual"] = "shared"
    views: Literal[1, 2] = 2
    forward: Literal["joined", "separate"] = "joined"
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    select: Literal["last", "best"] = "last"
    start: Start = field(default_factory=Start)
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    noise: Noise = field(default_factory=Noise)
    overlay: Overlay = field(default_factory=Overlay)
    similarity: Similarity = field(default_factory=Similarity)
    consistency: Consistency = field(default_factory=Consistency)
    gradient: Gradient = field(default_factory=Gradient)
    adversarial: Adversarial = field(default_factory=Adversarial)
    loss: Loss = field(default_factory=Loss)
    optimiser: Optimiser = field(default_factory=Optimiser)

    def __post_init__(self) -> None:
        """Refuse combinations that would train something else than they say."""
        if self.batch_norm == "dual" and (self.forward == "joined" or self.views == 1):
            raise UsageError("recipe key batch_norm", found="dual", expected="views: 2 and forward: separate with it")
        if self.views == 1 and self.uses_two_views:
            raise UsageError("recipe key views", found=1, expected="2, for similarity, consistency or gradient: views")
        if self.gradient.form != "none" and self.gradient.after >= self.optimiser.epochs:
            raise UsageError("recipe key gradient.after", found=self.gradient.after,
                             expected=f"fewer than the {self.optimiser.epochs} epochs of the training")  # fmt: skip

    @property
    def task(self) -> str:
        """What is trained: here a classifier."""
        return "classification"

    @property
    def uses_two_views(self) -> bool:
        """Whether a term compares the views."""
        return (self.similarity.form, self.consistency.form) != ("none", "none") or self.gradient.form == "views"

    def as_json(self) -> str:
        """The resolved recipe as one line of JSON."""
        return as_json(self)

    def as_yaml(self) -> str:
        """The resolved recipe as YAML, every default written out."""
        return as_yaml(self)


def as_json(recipe: Any) -> str:
    """A resolved recipe as one line of JSON."""
    return json.dumps(dataclasses.asdict(recipe), sort_keys=True)


def as_yaml(recipe: Any) -> str:
    """A resolved recipe as YAML, every default written out."""
    return yaml.safe_dump(json.loads(as_json(recipe)), sort_keys=False)


def read(path: Path) -> Any:
    """Reads a recipe, a Recipe or with `task: detection` a DetectorRecipe; every problem names the file."""
    if not path.is_file():
        raise UsageError(f"recipe {path}", found="no such file", expected="a YAML file", cure="see trainer/recipes")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"recipe {path}", found=f"broken YAML ({error})", expected="YAML") from error
    return from_mapping(content, path.stem)


def from_mapping(content: Any, name: str = "recipe") -> Any:
    """A recipe from parsed YAML or JSON; its name defaults to the file's."""
    if not isinstance(content, dict):
        raise UsageError(f"recipe {name}", found=type(content).__name__, expected="a mapping of keys")
    given = {"name": name, **content}
    task = given.get("task", "classification")
    if task not in KINDS:
        raise unknown_name("recipe key task", str(task), KINDS)
    if task == "classification":
        given.pop("task", None)
    module, kind = KINDS[task]
    return _fill(getattr(importlib.import_module(module), kind), given, "")


def _fill(kind: type, content: dict[str, Any], prefix: str) -> Any:
    """A frozen dataclass from a mapping, every key and type checked."""
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in content.items():
        if key not in hints:
            raise unknown_name("recipe key", prefix + str(key), [prefix + name for name in hints])
        values[key] = _convert(hints[key], value, prefix + key)
    return kind(**values)


def _convert(hint: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise _wrong(key, value, "a mapping of keys")
        return _fill(hint, value, key + ".")
    if typing.get_origin(hint) is Literal:
        return _one_of(typing.get_args(hint), value, key)
    if isinstance(hint, types.GenericAlias) and typing.get_origin(hint) is tuple:
        return _integers(value, key)
    return _scalar(hint, value, key)


def _one_of(options: tuple[Any, ...], value: Any, key: str) -> Any:
    if value not in options or isinstance(value, bool):
        raise _wrong(key, value, "one of " + ", ".join(str(option) for option in options))
    return value


def _integers(value: Any, key: str) -> tuple[int, ...]:
    if (
        not isinstance(value, list | tuple)
        or not value
        or not all(isinstance(item, int) and item > 0 for item in value)
    ):
        raise _wrong(key, value, "a list of positive integers")
    return tuple(value)


def _scalar(hint: type, value: Any, key: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise _wrong(key, value, hint.__name__)
    return value


def _wrong(key: str, value: Any, expected: str) -> UsageError:
    return UsageError(f"recipe key {key}", found=repr(value), expected=expected)
