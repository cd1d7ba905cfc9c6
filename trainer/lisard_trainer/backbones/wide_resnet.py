"""Wide residual networks (Zagoruyko and Komodakis 2016, arXiv 1605.07146): norm and activation before convolution."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from .activations import Activation
from .base import Backbone
from .layers import conv3x3

STEM_WIDTH = 16


class WideBlock(nn.Module):
    """Two pre-activated 3x3 convolutions; a shortcut that changes shape starts behind the first activation."""

    def __init__(self, width_in: int, width: int, stride: int, act: Activation) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width_in)
        self.conv1 = conv3x3(width_in, width, stride)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.shortcut = None if width_in == width else nn.Conv2d(width_in, width, 1, stride, bias=False)
        self.act = act()

    def forward(self, x: Tensor) -> Tensor:
        activated = self.act(self.norm1(x))
        y = self.conv2(self.act(self.norm2(self.conv1(activated))))
        return y + (x if self.shortcut is None else self.shortcut(activated))


def wide_resnet(classes: int, act: Activation, *, depth: int, factor: int, unused_stage: bool = False) -> Backbone:
    """WRN-depth-factor for images of 32 px.

    unused_stage: adds a copy of the first stage that nothing calls, as the published code has it. It changes no output;
    it is regularised like the rest, and PyTorch's DDP needs to be told of parameters without gradients.
    """
    count = (depth - 4) // 6
    widths = [STEM_WIDTH, *(STEM_WIDTH * factor * multiple for multiple in (1, 2, 4))]
    stem = conv3x3(3, STEM_WIDTH)
    shapes = zip(pairwise(widths), (1, 2, 2), strict=True)
    stages = [_stage(before, after, count, stride, act) for (before, after), stride in shapes]
    last = nn.Sequential(nn.BatchNorm2d(widths[-1]), act())
    network = Backbone(stem, stages, widths[1:], classes, last)
    if unused_stage:
        network.add_module("unused_stage", _stage(widths[0], widths[1], count, 1, act))
    return network.apply(_he_normal)


def _stage(width_in: int, width: int, count: int, stride: int, act: Activation) -> nn.Sequential:
    first = WideBlock(width_in, width, stride, act)
    return nn.Sequential(first, *(WideBlock(width, width, 1, act) for _ in range(count - 1)))


def _he_normal(module: nn.Module) -> None:
    """Start of the paper: convolutions normal with variance 2 / (kernel area x outputs), a head without bias."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0, math.sqrt(2 / (math.prod(module.kernel_size) * module.out_channels)))
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
