"""Residual networks with the small-image stem (one 3x3 convolution of stride 1, no pooling before the stages), or
for large images with a stem that quarters their size.

He et al. 2015 (arXiv 1512.03385); every shortcut that changes shape is a 1x1 convolution with batch norm.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .activations import Activation
from .base import Backbone
from .layers import conv3x3


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut (basic block)."""

    expansion = 1

    def __init__(self, width_in: int, width: int, stride: int, act: Activation) -> None:
        super().__init__()
        self.conv1 = conv3x3(width_in, width, stride)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(width_in, width, stride)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm1(self.conv1(x)))
        return self.act(self.norm2(self.conv2(y)) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with batch norm and a shortcut; the 3x3 has the stride (known as v1.5)."""

    expansion = 4

    def __init__(self, width_in: int, width: int, stride: int, act: Activation) -> None:
        super().__init__()
        wide = self.expansion * width
        self.conv1 = nn.Conv2d(width_in, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, wide, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(wide)
        self.shortcut = _shortcut(width_in, wide, stride)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm1(self.conv1(x)))
        y = self.act(self.norm2(self.conv2(y)))
        return self.act(self.norm3(self.conv3(y)) + self.shortcut(x))


def _shortcut(width_in: int, width: int, stride: int) -> nn.Module:
    if width_in == width and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))


def _stem(width_in: int, width: int, stride: int, act: Activation) -> nn.Sequential:
    return nn.Sequential(conv3x3(width_in, width, stride), nn.BatchNorm2d(width), act())


def resnet(
    classes: int,
    act: Activation,
    *,
    widths: Sequence[int],
    counts: Sequence[int],
    block: type[Block | Bottleneck] = Block,
    quarter: bool = False,
) -> Backbone:
    """`counts` blocks of `widths` in each stage; every stage but the first halves the size. quarter: so does the stem,
    twice.
    """
    if quarter:  # two convolutions of stride 2, the first of half the width
        half = widths[0] // 2
        stem = nn.Sequential(*_stem(3, half, 2, act), *_stem(half, widths[0], 2, act))
    else:
        stem = _stem(3, widths[0], 1, act)
    stages, width_in = [], widths[0]
    for position, (width, count) in enumerate(zip(widths, counts, strict=True)):
        blocks = []
        for stride in [1 if position == 0 else 2] + [1] * (count - 1):
            blocks.append(block(width_in, width, stride, act))
            width_in = width * block.expansion
        stages.append(nn.Sequential(*blocks))
    return Backbone(stem, stages, [width * block.expansion for width in widths], classes)
