"""A recipe says everything that decides a training: typed, frozen, read from YAML. An unknown key is an error."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from lisard_ros.errors import UsageError, unknown_name

from .. import backbones, task_registry
from ..bounds import NOT_NEGATIVE, POSITIVE, SHARE, SHARE_BELOW_ONE, Bounds, RecipeSection, bounded, check
from ..data.settings import Data
from ..losses import lisard
from ..losses.augment import Augment, Noise
from ..losses.detail_mixing import DetailMixing
from . import aliases, file

DEFAULT_TASK = "classification"  # of a recipe that names none
MOST_SEED = 2**63 - 1  # what torch's generators take

Arithmetic = Literal["float32", "bfloat16", "float64"]
Precision = Literal["auto", Arithmetic]


@dataclass(frozen=True)
class Similarity(RecipeSection, section="similarity"):
    """The similarity term: `none` is the baseline, `official` Barlow Twins over the temperature, `normalised` means.

    layers: the embedding alone, or the mean over it and the pooled stages before the last. features: only so many,
    drawn anew each step (0: all). projector: an MLP between the embedding and its correlation; `dead` builds it and
    never calls it, as the published code does.
    divisor: the rows of the batch, or optimizer.batch_size (published: a last, smaller batch can't reach the target).
    precision: `autocast` correlates in the arithmetic of the run (published), float32 never below 32 bit.
    """

    form: Literal["none", "official", "normalised"] = "none"
    weight: float = bounded(1.0, NOT_NEGATIVE)
    off_weight: float = bounded(lisard.BARLOW_OFF_WEIGHT, NOT_NEGATIVE)
    temperature: float = bounded(lisard.OFFICIAL_TEMPERATURE, POSITIVE)
    layers: Literal["embedding", "stages"] = "embedding"
    features: int = bounded(0, NOT_NEGATIVE)
    projector: Literal["none", "used", "dead"] = "none"
    projector_width: int = bounded(512, Bounds(1))
    divisor: Literal["rows", "batch"] = "rows"
    precision: Literal["float32", "autocast"] = "float32"


@dataclass(frozen=True)
class Consistency(RecipeSection, section="consistency"):
    """Pulls the noisy view towards the clean one: cosine of the embeddings, or KL of the predictions."""

    form: Literal["none", "cosine", "kl"] = "none"
    weight: float = bounded(1.0, NOT_NEGATIVE)
    temperature: float = bounded(1.0, POSITIVE)


@dataclass(frozen=True)
class Gradient(RecipeSection, section="gradient"):
    """Penalty on the loss's gradient with respect to the pixels.

    l1: its L1 norm on both views by double backward; slope: the same on the first view by a finite difference of
    distance_255 grey levels along the gradient's sign; logit_extrapolation: cross entropy of the logits that such a
    step, carried on in a straight line, would give at target_eps_255; views: squared distance between the gradients of
    the two views; curvature: that between x and x + distance_255 along the gradient's sign (CURE). share: of the batch.
    after: so many epochs without it come first. precision: of the passes of slope, logit_extrapolation and curvature;
    in bfloat16 (`autocast`, where the training's precision is that) the first layer sees bright pixels moved by a whole
    grey level or not at all. statistics: `running`: logit_extrapolation's passes are those of the deployed network,
    with the running statistics of batch norm (CURE computes its term so).
    """

    form: Literal["none", "l1", "slope", "logit_extrapolation", "views", "curvature"] = "none"
    weight: float = bounded(0.03, NOT_NEGATIVE)
    distance_255: float = bounded(0.1, POSITIVE)
    share: float = bounded(1.0, Bounds(high=1, open_low=True))
    after: int = bounded(0, NOT_NEGATIVE)
    target_eps_255: float = bounded(8.0, POSITIVE)
    precision: Literal["float32", "autocast"] = "autocast"
    statistics: Literal["batch", "running"] = "batch"


@dataclass(frozen=True)
class Cross(RecipeSection, section="cross"):
    """The linear term along the gradient of another network, which stays as it is: against attacks made on such a one.

    weights: run folder or checkpoint of that network (empty: no such term). share: of the batch, from its end, so that
    gradient.share and this one can divide a batch. weight: of the term beside that along the own gradient. Step and
    reach are those of `gradient`.
    """

    weights: str = ""
    share: float = bounded(0.5, Bounds(high=1, open_low=True))
    weight: float = bounded(1.0, NOT_NEGATIVE)


@dataclass(frozen=True)
class Adversarial(RecipeSection, section="adversarial"):
    """Adversarial training, the reference: PGD as published, or FGSM from a random start (Wong et al. 2020)."""

    form: Literal["none", "pgd", "fgsm_rs"] = "none"
    eps_255: float = bounded(8.0, POSITIVE)
    step_255: float = bounded(2.0, POSITIVE)
    steps: int = bounded(10, Bounds(1))


@dataclass(frozen=True)
class Loss(RecipeSection, section="loss"):
    """alpha (CE clean + CE noisy) + (1 - alpha) weight similarity; alpha `constant`, or `rising` from 0.5 to 1.

    `official` is the published alpha with its zero-based epoch over 200 epochs, whatever the run's length.
    """

    alpha: Literal["constant", "rising", "official"] = "constant"
    alpha_value: float = bounded(0.5, SHARE)
    label_smoothing: float = bounded(0.0, SHARE_BELOW_ONE)


@dataclass(frozen=True)
class Optimizer(RecipeSection, section="optimizer"):
    """SGD with Nesterov momentum, or AdamW; linear warm-up and cosine, or the published schedule.

    restart_epochs: so many of the last epochs are a second cycle like the first (warm restart, Loshchilov & Hutter
    2017, arXiv 1608.03983). official_warmup_epochs: epochs of warm-up of the published schedule. shuffle: false keeps
    the same batches, of one random order, in every epoch (published on CIFAR). drop_last: false keeps a last, smaller
    batch. ema_decay: above 0, the moving average of the weights is validated and exported in place of the last step's
    (0.999 averages over about 1000 steps). momentum: of AdamW, the memory of its first moment (the second's is 0.999).
    """

    kind: Literal["sgd", "adamw"] = "sgd"
    epochs: int = bounded(20, Bounds(1))
    batch_size: int = bounded(160, Bounds(1))
    max_lr: float = bounded(0.15, POSITIVE)
    schedule: Literal["one_cycle", "official"] = "one_cycle"
    warmup_fraction: float = bounded(0.15, SHARE)
    restart_epochs: int = 0
    official_warmup_epochs: int = bounded(lisard.OFFICIAL_WARM_UP_EPOCHS, NOT_NEGATIVE)
    momentum: float = bounded(0.9, SHARE_BELOW_ONE)
    weight_decay: float = bounded(0.0005, NOT_NEGATIVE)
    decay_norm_and_bias: bool = False
    shuffle: bool = True
    drop_last: bool = True
    ema_decay: float = bounded(0.0, SHARE_BELOW_ONE)

    def __post_init__(self) -> None:
        """Refuse rates, cycles and averages that cannot be."""
        super().__post_init__()
        second = self.restart_epochs
        if not 0 <= second < max(1, self.epochs) or (second and self.schedule == "official"):
            raise UsageError(
                "recipe key optimizer.restart_epochs",
                found=second,
                expected="0, or fewer epochs than there are, with schedule: one_cycle",
            )
        if self.kind == "adamw" and self.schedule == "official":
            raise UsageError("recipe key optimizer.kind", found="adamw", expected="sgd, with schedule: official")


@dataclass(frozen=True)
class Init:
    """Where the first weights come from: a checkpoint or weights file (empty: drawn from the seed).

    `imagenet`: the published weights of EfficientNet-Lite0, all but a head of other classes. exclude: weights whose
    names begin with this are drawn all the same (`head`, where the file has other classes).
    """

    weights: str = ""
    exclude: str = ""


@dataclass(frozen=True)
class BaseRecipe(RecipeSection, ABC):
    """What the recipe of every task has. `views` 1 trains on the clean view alone (then noise has no part).

    name: of the run; run and bundle folders are called by it. precision: `auto` times float32 against bfloat16 and
    takes the faster; float64 is for checks. checkpoint_selection: export and evaluate the last epoch, or the `best` on
    the held-back images (whose figure is then a little too good), of those that every term took part in.
    """

    name: str
    seed: int = 1
    activation: Literal["native", "relu", "silu", "gelu", "softplus"] = "native"
    views: Literal[1, 2] = 2
    precision: Precision = "auto"
    checkpoint_selection: Literal["last", "best"] = "last"
    init: Init = field(default_factory=Init)
    noise: Noise = field(default_factory=Noise)
    detail_mixing: DetailMixing = field(default_factory=DetailMixing)
    optimizer: Optimizer = field(default_factory=Optimizer)

    def __post_init__(self) -> None:
        """Refuse a name that is no file name (a checkpoint from elsewhere has one too), and a seed out of range."""
        super().__post_init__()
        name = self.name
        if not name or name != Path(name).name or name in (".", "..") or not name.isprintable():
            raise UsageError("recipe key name", found=repr(name), expected="a name for a folder, without slashes")
        if not 0 <= self.seed <= MOST_SEED:
            raise UsageError("recipe key seed", found=self.seed, expected=f"0 to {MOST_SEED}")

    @property
    @abstractmethod
    def task(self) -> str:
        """Name of the task: a folder of lisard_trainer.tasks."""

    @property
    def incomplete_epochs(self) -> int:
        """How many epochs pass before every term is in force; `checkpoint_selection: best` chooses from the rest."""
        return 0

    def as_json(self) -> str:
        """The resolved recipe as one line of JSON; it names its task as the task wants to be named."""
        named = task_registry.of(self).recipe_keys
        return json.dumps({**dataclasses.asdict(self), **named}, sort_keys=True)

    def as_yaml(self) -> str:
        """The resolved recipe as YAML, every default written out."""
        return yaml.safe_dump(json.loads(self.as_json()), sort_keys=False)


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """One training of a classifier. `views` 1: similarity has no part either.

    batch_norm `frozen`: the running statistics of the weights that the training starts from, as they are; scales and
    shifts are trained.
    """

    network: str = "resnet14w"
    batch_norm: Literal["shared", "dual", "frozen"] = "shared"
    forward: Literal["joined", "separate"] = "joined"
    data: Data = field(default_factory=Data)
    augment: Augment = field(default_factory=Augment)
    similarity: Similarity = field(default_factory=Similarity)
    consistency: Consistency = field(default_factory=Consistency)
    gradient: Gradient = field(default_factory=Gradient)
    cross: Cross = field(default_factory=Cross)
    adversarial: Adversarial = field(default_factory=Adversarial)
    loss: Loss = field(default_factory=Loss)

    def __post_init__(self) -> None:
        """Refuse combinations that would train something else than they say."""
        super().__post_init__()
        self._check_sizes()
        if self.batch_norm == "dual" and (self.forward == "joined" or self.views == 1):
            raise UsageError("recipe key batch_norm", found="dual", expected="views: 2 and forward: separate with it")
        if self.batch_norm == "frozen" and not self.init.weights:
            raise UsageError(
                "recipe key batch_norm",
                found="frozen, with weights drawn at random",
                expected="init.weights with it: their statistics are kept",
            )
        if self.gradient.statistics == "running" and self.gradient.form != "logit_extrapolation":
            raise UsageError(
                "recipe key gradient.statistics", found="running", expected="form: logit_extrapolation with it"
            )
        if self.data.balance and not self.optimizer.shuffle:
            raise UsageError(
                "recipe key data.balance", found=self.data.balance, expected="optimizer.shuffle: true with it"
            )
        if self.cross.weights and self.gradient.form != "logit_extrapolation":
            raise UsageError(
                "recipe key cross.weights", found=self.cross.weights, expected="gradient.form: logit_extrapolation"
            )
        if self.views == 1 and self.uses_two_views:
            raise UsageError("recipe key views", found=1, expected="2, for similarity, consistency or gradient: views")
        if self.loss.alpha == "official" and self.optimizer.epochs > lisard.OFFICIAL_EPOCHS:
            raise UsageError(
                "recipe key loss.alpha",
                found=f"official with {self.optimizer.epochs} epochs",
                expected=f"at most {lisard.OFFICIAL_EPOCHS}, after which alpha would pass 1",
                cure="alpha: rising fits any length",
            )
        if self.gradient.form != "none" and self.gradient.after >= self.optimizer.epochs:
            raise UsageError(
                "recipe key gradient.after",
                found=self.gradient.after,
                expected=f"fewer than the {self.optimizer.epochs} epochs of the training",
                cure="with other epochs, set it too: --set gradient.after=N",
            )

    def _check_sizes(self) -> None:
        """Refuse images that the network cannot take, before any is read."""
        if self.network not in backbones.BACKBONES:
            raise unknown_name("network", self.network, backbones.BACKBONES)
        least = backbones.BACKBONES[self.network].least_px
        check("data", "size_px", self.data.size_px, Bounds(least))
        if self.augment.early_px:
            check("augment", "early_px", self.augment.early_px, Bounds(least))
        if self.augment.crop_padding_px > self.data.size_px:
            raise UsageError(
                "recipe key augment.crop_padding_px",
                found=self.augment.crop_padding_px,
                expected=f"at most data.size_px, {self.data.size_px}",
            )

    @property
    def task(self) -> str:
        """What is trained: here a classifier."""
        return DEFAULT_TASK

    @property
    def uses_two_views(self) -> bool:
        """Whether a term compares the views."""
        return (self.similarity.form, self.consistency.form) != ("none", "none") or self.gradient.form == "views"

    @property
    def incomplete_epochs(self) -> int:
        """Those before the gradient term sets in."""
        return self.gradient.after if self.gradient.form != "none" else 0


def read(path: Path, changes: Iterable[str] = ()) -> Any:
    """Reads a recipe, a Recipe or with `task: detection` a DetectorRecipe; every problem names file or key.

    Args:
        path: YAML file. Former names of keys and values are read too (aliases.py).
        changes: SECTION.KEY=VALUE, each in place of what the file says.
    """
    return from_mapping(file.content(path), path.stem, changes)


def from_mapping(content: Any, name: str = "recipe", changes: Iterable[str] = ()) -> Any:
    """A recipe from parsed YAML or JSON; its name defaults to the file's. changes: as in `read`."""
    if not isinstance(content, dict):
        raise UsageError(f"recipe {name}", found=type(content).__name__, expected="a mapping of keys")
    replaced = [file.read_change(change) for change in changes]
    task = {"task": content.get("task", DEFAULT_TASK)} | {".".join(one.keys): one.value for one in replaced}
    if task["task"] not in task_registry.names():
        raise unknown_name("recipe key task", str(task["task"]), task_registry.names())
    recipe_type = task_registry.find(task["task"]).recipe_type
    given = file.with_changes(aliases.with_current_names({"name": name, **content}, recipe_type), replaced, recipe_type)
    if "task" not in {field.name for field in dataclasses.fields(recipe_type)}:
        given.pop("task", None)
    return file.fill(recipe_type, given)
