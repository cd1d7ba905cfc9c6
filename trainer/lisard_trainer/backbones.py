"""Networks that the trainer knows, by name. Each takes pictures [N,3,H,W] in [0,1] and gives (embedding, logits).

`build` is the target of the entry-point group lisard_ros.twin: it turns a bundle's architecture into a torch module
that gives logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lisard_ros.errors import BundleError


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut (He et al. 2015, basic block)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(width_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


def _shortcut(width_in: int, width: int, stride: int) -> nn.Module:
    if width_in == width and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))


class ResNet(nn.Module):
    """Residual network with the small-picture stem: one 3x3 convolution of stride 1, no pooling before the stages."""

    def __init__(self, widths: Sequence[int], blocks: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, widths[0], 3, 1, 1, bias=False), nn.BatchNorm2d(widths[0]))
        stages, width_in = [], widths[0]
        for position, width in enumerate(widths):
            strides = [1 if position == 0 else 2] + [1] * (blocks - 1)
            stages.append(_stage(width_in, width, strides))
            width_in = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width_in, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [N,3,H,W] in [0,1] -> embedding [N,d] (mean over the last feature map) and logits [N,classes]."""
        features = self.stages(functional.relu(self.stem(x)))
        embedding = features.mean(dim=(2, 3))
        return embedding, self.head(embedding)


def _stage(width_in: int, width: int, strides: Sequence[int]) -> nn.Sequential:
    widths_in = [width_in] + [width] * (len(strides) - 1)
    return nn.Sequential(*(Block(w, width, stride) for w, stride in zip(widths_in, strides, strict=True)))


def resnet14w(classes: int) -> ResNet:
    """ResNet-14 with widths 32-64-128: 0.70 M parameters, the network that trains on two processor cores."""
    return ResNet((32, 64, 128), 2, classes)


def resnet14n(classes: int) -> ResNet:
    """ResNet-14 with widths 16-32-64: a quarter of the work, for trying recipes."""
    return ResNet((16, 32, 64), 2, classes)


def resnet18(classes: int) -> ResNet:
    """ResNet-18 with the small-picture stem (11.2 M parameters): the network of the paper, for a GPU."""
    return ResNet((64, 128, 256, 512), 2, classes)


BACKBONES: dict[str, Callable[[int], ResNet]] = {"resnet14w": resnet14w, "resnet14n": resnet14n, "resnet18": resnet18}


def create(name: str, classes: int) -> ResNet:
    """A fresh network of the registry."""
    if name not in BACKBONES:
        raise BundleError(
            "unknown network", found=name, expected=" or ".join(sorted(BACKBONES)), cure="use one of these names"
        )
    return BACKBONES[name](classes)


class Classifier(nn.Module):
    """A backbone that gives its logits alone: what a bundle's ONNX file computes, and its twin in torch."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)[1]


def build(architecture: Any) -> nn.Module:
    """Twin of a bundle: `architecture` has a name of the registry and arguments {"classes": int}."""
    given = dict(architecture.arguments)
    if set(given) != {"classes"}:
        raise BundleError(
            f"arguments of {architecture.name}", found=", ".join(sorted(given)) or "none", expected="classes"
        )
    return Classifier(create(architecture.name, int(given["classes"]))).to(torch.float32).eval()
