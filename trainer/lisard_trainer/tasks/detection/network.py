"""The detector: a backbone of the registry, a light feature pyramid and one anchor-free head per level.

Every position of every level predicts one box by an offset of its centre and a log size, both in units of the level's
stride, an objectness and a score per class (YOLOX, Ge et al. 2021, arXiv 2107.08430; pyramid: Lin et al. 2017, arXiv
1612.03144). The output [N, P, 4 + 1 + C] has corners in input pixels, then logits; suppression of duplicates stays
outside (lisard_ros/inference/postprocess.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from lisard_ros.errors import BundleError, LisardError, UsageError, unknown_name

from ... import backbones
from ...backbones import state_dict
from ...backbones.activations import ACTIVATIONS, Activation, resolve
from ...backbones.layers import conv_norm
from ...training.checkpoint import Checkpoint
from . import geometry
from .balance import RatioWeights
from .geometry import BOX, OBJECTNESS
from .recipe import DetectorRecipe

BALANCE = "balance"  # name of the weights of the loss terms, which only training has
NAME = "anchor_free"  # the name in a bundle's architecture
STRIDES = (8, 16, 32)
PROBE_PX = 64
PRIOR = 0.01  # score of every position before training (Lin et al. 2017, arXiv 1708.02002, section 4.1)
FIRST_SIZE = 4.0  # of a box before training, in strides: 32, 64, 128 px, so that each level begins with its share
LARGEST_LOG_SIZE = 5.0  # of a box in strides, so that no box overflows: e^5 = 148


@dataclass(frozen=True)
class DetectorSpec:
    """What a detector is made from. neck: channels of the pyramid; depth: convolutions of each branch of a head."""

    backbone: str
    classes: int
    width_px: int = 320
    height_px: int = 320
    activation: str = "native"
    neck: int = 64
    depth: int = 2


class Parts(NamedTuple):
    """Everything the training's terms look at.

    maps: pyramid maps [N,C,h,w], fine to coarse. class_features, box_features: what the last layers of the heads see,
    [N,P,C]. output: [N,P,5+C], boxes in input pixels and logits.
    """

    maps: tuple[Tensor, ...]
    class_features: Tensor
    box_features: Tensor
    output: Tensor


class Pyramid(nn.Module):
    """1x1 convolutions to one width, added from coarse to fine, each level smoothed by a 3x3 convolution."""

    def __init__(self, widths: Sequence[int], width: int, act: Activation) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv_norm(own, width, 1) for own in widths)
        self.smooth = nn.ModuleList(conv_norm(width, width, 3, act=act) for _ in widths)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        sides = [lateral(x) for lateral, x in zip(self.lateral, maps, strict=True)]
        for level in range(len(sides) - 2, -1, -1):
            sides[level] = sides[level] + functional.interpolate(sides[level + 1], scale_factor=2.0, mode="nearest")
        return tuple(smooth(x) for smooth, x in zip(self.smooth, sides, strict=True))


class Head(nn.Module):
    """Two branches over one level: classes, and boxes with objectness."""

    def __init__(self, width: int, depth: int, classes: int, act: Activation) -> None:
        super().__init__()
        self.class_branch, self.box_branch = (
            nn.Sequential(*(conv_norm(width, width, 3, act=act) for _ in range(depth))) for _ in range(2)
        )
        self.classes = nn.Conv2d(width, classes, 1)
        self.boxes = nn.Conv2d(width, 4, 1)
        self.objectness = nn.Conv2d(width, 1, 1)
        # Weights as torch draws them: small ones (0.01, as in RetinaNet) hold back the first hundreds of steps.
        for layer in (self.classes, self.objectness):
            nn.init.constant_(layer.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]
        first = torch.tensor([0.0, 0.0, math.log(FIRST_SIZE), math.log(FIRST_SIZE)])
        self.boxes.bias = nn.Parameter(first)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features of both branches [N,p,C] and raw predictions [N,p,5+classes]."""
        of_classes, of_boxes = self.class_branch(x), self.box_branch(x)
        raw = torch.cat([self.boxes(of_boxes), self.objectness(of_boxes), self.classes(of_classes)], 1)
        return _rows(of_classes), _rows(of_boxes), _rows(raw)


class Detector(nn.Module):
    """Images RGB [N,3,H,W] in [0,1], sides multiples of 32 -> [N,P,4+1+C]: corners in input pixels, then logits."""

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = backbones.create(spec.backbone, 1, min(spec.width_px, spec.height_px), spec.activation)
        self.backbone.head, self.backbone.last = nn.Identity(), nn.Identity()  # type: ignore[assignment]
        self.stages = stages_of(self.backbone)
        act = ACTIVATIONS[self.backbone.spec.activation]
        widths = [self.backbone.stage_widths[stage] for stage in self.stages]
        self.neck = Pyramid(widths, spec.neck, act)
        self.heads = nn.ModuleList(Head(spec.neck, spec.depth, spec.classes, act) for _ in STRIDES)

    def forward(self, x: Tensor) -> Tensor:
        """The output alone."""
        return self.forward_parts(x).output

    def forward_parts(self, x: Tensor) -> Parts:
        """The output and what it was made from."""
        found = self.backbone.features(x)
        maps = self.neck([found[stage] for stage in self.stages])
        heads = [head(level) for head, level in zip(self.heads, maps, strict=True)]
        of_classes, of_boxes, raw = (torch.cat(list(rows), 1) for rows in zip(*heads, strict=True))
        raw = raw if raw.dtype == torch.float64 else raw.float()
        boxes = decode(raw[..., BOX], [(m.shape[2], m.shape[3]) for m in maps])
        return Parts(maps, of_classes, of_boxes, torch.cat([boxes, raw[..., OBJECTNESS:]], 2))


def decode(raw: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Raw offsets and log sizes [N,P,4] in strides -> corners in input pixels."""
    centres, strides = geometry.positions(sizes, STRIDES, raw)
    middle = centres + raw[..., :2] * strides[:, None]
    half = raw[..., 2:].clamp(max=LARGEST_LOG_SIZE).exp() * strides[:, None] / 2
    return torch.cat([middle - half, middle + half], -1)


def _rows(x: Tensor) -> Tensor:
    """[N,C,h,w] -> [N,h*w,C]."""
    return x.flatten(2).transpose(1, 2)


def stages_of(backbone: backbones.Backbone) -> tuple[int, ...]:
    """The deepest stage at each stride of the pyramid; UsageError where a backbone has none."""
    was = backbone.training
    backbone.eval()
    with torch.no_grad():
        maps = backbone.features(torch.zeros(1, 3, PROBE_PX, PROBE_PX))
    backbone.train(was)
    strides = [PROBE_PX // found.shape[2] for found in maps]
    if not set(STRIDES) <= set(strides):
        found = f"{backbone.spec.name} with strides {strides}"
        raise UsageError(
            "backbone of a detector",
            found=found,
            expected=f"stages of stride {STRIDES}",
            cure="use resnet18q or efficientnet_lite0",
        )
    return tuple(max(n for n, own in enumerate(strides) if own == stride) for stride in STRIDES)


def level_sizes(width_px: int, height_px: int) -> list[tuple[int, int]]:
    """Height and width of each level for an input of this size."""
    return [(height_px // stride, width_px // stride) for stride in STRIDES]


def create(spec: DetectorSpec) -> Detector:
    """A fresh detector; the activation is spelt out in its spec."""
    if spec.backbone not in backbones.BACKBONES:
        raise unknown_name("network", spec.backbone, backbones.BACKBONES, UsageError)
    chosen = resolve(spec.activation, backbones.BACKBONES[spec.backbone].native)
    return Detector(DetectorSpec(**{**asdict(spec), "activation": chosen}))


def build(architecture: Any) -> nn.Module:
    """PyTorch model of a detection bundle, in float32 and eval mode; BundleError for arguments that make none."""
    known = {field.name: {"int": int, "str": str}[str(field.type)] for field in fields(DetectorSpec)}
    given = dict(architecture.arguments)
    for key, value in given.items():
        if key not in known:
            raise unknown_name(f"argument of {architecture.name}", key, known, BundleError)
        if not isinstance(value, known[key]) or isinstance(value, bool):
            raise BundleError(f"argument {key} of {architecture.name}", found=repr(value), expected=known[key].__name__)
    missing = sorted({"backbone", "classes"} - given.keys())
    if missing:
        raise BundleError(f"arguments of {architecture.name}", found=", ".join(given), expected=", ".join(missing))
    try:
        return create(DetectorSpec(**given)).to(torch.float32).eval()
    except LisardError as error:
        what = f"architecture of the bundle: {error.what}"
        raise BundleError(what, found=error.found, expected=error.expected, cure=error.cure) from error


def spec_of(recipe: DetectorRecipe, classes: int) -> DetectorSpec:
    """What the recipe's network is made from."""
    size = recipe.data
    return DetectorSpec(
        recipe.network, classes, size.width_px, size.height_px, recipe.activation, recipe.neck, recipe.depth
    )


def training(recipe: DetectorRecipe, classes: int) -> nn.Module:
    """A fresh detector with the weights of its training's terms."""
    made = create(spec_of(recipe, classes))
    made.add_module(BALANCE, RatioWeights(recipe.ratios, recipe.balance.ema_decay))
    return made


def deployable(recipe: DetectorRecipe, classes: int, weights: Mapping[str, Tensor]) -> Detector:
    """The detector as a bundle holds it, with the weights of a training."""
    made = create(spec_of(recipe, classes))
    own = {key: value for key, value in weights.items() if not key.startswith(BALANCE + ".")}
    state_dict.load(made, own, f"checkpoint of {recipe.name}", state_dict.OTHERS_WEIGHTS)
    return made.eval()


def trained(saved: Checkpoint) -> Detector:
    """The deployed detector of a checkpoint, in float32 and eval mode."""
    return deployable(saved.recipe, len(saved.classes), saved.network).requires_grad_(False)


def start_from_imagenet(network: nn.Module) -> str:
    """Gives the backbone ImageNet weights; returns their sha256."""
    assert isinstance(network, Detector)
    spec = network.backbone.spec
    whole = backbones.create(spec.name, spec.classes, spec.size_px, spec.activation)
    sha256 = backbones.start_from_imagenet(whole)
    own = network.backbone.state_dict()
    network.backbone.load_state_dict({k: v for k, v in whole.state_dict().items() if k in own}, strict=True)
    return sha256
