"""Networks of inverted residual blocks: MobileNetV2, EfficientNet-B2 and EfficientNet-Lite0.

Sandler et al. 2018 (arXiv 1801.04381); Tan and Le 2019 (arXiv 1905.11946). Lite0 is B0 for integer hardware: clipped
activations, no squeeze-excitation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from .activations import Activation
from .base import Backbone
from .layers import DropPath, Normalise, SqueezeExcite, conv_norm

STEM_WIDTH, LAST_WIDTH = 32, 1280
TENSORFLOW_EPS = 1e-3
SQUEEZE = 0.25  # width of the squeezed layer over the width of the block's input


@dataclass(frozen=True)
class StageLayout:
    """One stage: `count` blocks of `width` channels; the first has the stride."""

    expansion: int
    width: int
    count: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class Style:
    """What the blocks of one network have in common.

    same, eps: padding as in TensorFlow, and the constant of the batch norms. squeeze: squeeze-excitation.
    always_expand: a 1x1 convolution before the depthwise one even where it does not widen. project: a stride-1 block
    that changes its width has a shortcut too, with a 1x1 convolution. Both are oddities of published code.
    """

    act: Activation
    same: bool = False
    eps: float = 1e-5
    squeeze: bool = False
    always_expand: bool = False
    project: bool = False

    def conv(
        self, width_in: int, width: int, kernel: int, stride: int = 1, groups: int = 1, linear: bool = False
    ) -> nn.Sequential:
        """Convolution, norm and (unless linear) activation in this style."""
        act = None if linear else self.act
        return conv_norm(width_in, width, kernel, stride, act=act, groups=groups, same=self.same, eps=self.eps)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, maybe squeeze-excitation, 1x1 projection; shortcut if shapes agree."""

    def __init__(self, width_in: int, row: StageLayout, stride: int, style: Style, drop_rate: float = 0.0) -> None:
        super().__init__()
        wide = width_in * row.expansion
        expands = row.expansion > 1 or style.always_expand
        self.expand = style.conv(width_in, wide, 1) if expands else nn.Identity()
        self.depthwise = style.conv(wide, wide, row.kernel, stride, groups=wide)
        squeezed = max(1, int(width_in * SQUEEZE))
        self.squeeze = SqueezeExcite(wide, squeezed, style.act) if style.squeeze else nn.Identity()
        self.project = style.conv(wide, row.width, 1, linear=True)
        self.drop = DropPath(drop_rate)
        self.shortcut: nn.Module | None = None
        if stride == 1 and width_in == row.width:
            self.shortcut = nn.Identity()
        elif stride == 1 and style.project:
            self.shortcut = style.conv(width_in, row.width, 1, linear=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return y if self.shortcut is None else self.drop(y) + self.shortcut(x)


def _stages(rows: Sequence[StageLayout], style: Style, stem_width: int, drop_rate: float = 0.0) -> list[nn.Sequential]:
    """Stages of the rows; the share of dropped paths grows with depth from 0 to almost `drop_rate`."""
    stages, width_in, done = [], stem_width, 0
    total = sum(row.count for row in rows)
    for row in rows:
        blocks = []
        for stride in [row.stride] + [1] * (row.count - 1):
            blocks.append(InvertedResidual(width_in, row, stride, style, drop_rate * done / total))
            width_in, done = row.width, done + 1
        stages.append(nn.Sequential(*blocks))
    return stages


MOBILENET_ROWS = (
    StageLayout(1, 16, 1, 3, 1),
    StageLayout(6, 24, 2, 3, 1),  # stride 2 in the paper, where images have 224 px
    StageLayout(6, 32, 3, 3, 2),
    StageLayout(6, 64, 4, 3, 2),
    StageLayout(6, 96, 3, 3, 1),
    StageLayout(6, 160, 3, 3, 2),
    StageLayout(6, 320, 1, 3, 1),
)


def mobilenet_v2(classes: int, act: Activation, *, published: bool = False) -> Backbone:
    """MobileNetV2 with strides for images of 32 px; `published` adds the expansion and shortcuts of Style."""
    style = Style(act, always_expand=published, project=published)
    return _network(classes, style, MOBILENET_ROWS, stem_stride=1, last_width=LAST_WIDTH)


EFFICIENTNET_ROWS = (
    StageLayout(1, 16, 1, 3, 1),
    StageLayout(6, 24, 2, 3, 2),
    StageLayout(6, 40, 2, 5, 2),
    StageLayout(6, 80, 3, 3, 2),
    StageLayout(6, 112, 3, 5, 1),
    StageLayout(6, 192, 4, 5, 2),
    StageLayout(6, 320, 1, 3, 1),
)
B2_WIDER, B2_DEEPER, B2_DROPOUT = 1.1, 1.2, 0.3
LITE_DROPOUT = 0.2
DROPPED_PATHS = 0.2

# Block counts, expansion and strides of the published code's `EfficientNetB2`; the widths are those of B0.
PUBLISHED_B2_ROWS = tuple(
    replace(row, expansion=6, count=count, stride=stride)
    for row, count, stride in zip(EFFICIENTNET_ROWS, (2, 2, 3, 4, 1, 2, 1), (2, 1, 2, 1, 1, 2, 1), strict=True)
)


def efficientnet_b2(classes: int, act: Activation, *, fine: bool = False) -> Backbone:
    """EfficientNet-B2: B0 scaled by 1.1 in width and 1.2 in depth. fine: see `_fine`."""
    rows = tuple(
        replace(row, width=rounded(row.width * B2_WIDER), count=math.ceil(row.count * B2_DEEPER))
        for row in EFFICIENTNET_ROWS
    )
    style = Style(act, same=True, eps=TENSORFLOW_EPS, squeeze=True)
    return _network(
        classes,
        style,
        _fine(rows) if fine else rows,
        stem_stride=1 if fine else 2,
        stem_width=rounded(STEM_WIDTH * B2_WIDER),
        last_width=rounded(LAST_WIDTH * B2_WIDER),
        dropout=B2_DROPOUT,
        drop_rate=DROPPED_PATHS,
    )


def published_b2(classes: int, act: Activation) -> Backbone:
    """The net that the published code calls EfficientNet-B2: its own block table, no last convolution.

    Its drop-connect of 0.2 never acts (the counter that scales it stays 0), so it has none here.
    """
    style = Style(act, squeeze=True)
    return _network(classes, style, PUBLISHED_B2_ROWS, stem_stride=2, dropout=B2_DROPOUT)


def efficientnet_lite0(classes: int, act: Activation, *, fine: bool = False) -> Backbone:
    """EfficientNet-Lite0; scales images from [0,1] to what its ImageNet weights saw. fine: see `_fine`."""
    style = Style(act, same=True, eps=TENSORFLOW_EPS)
    rows = _fine(EFFICIENTNET_ROWS) if fine else EFFICIENTNET_ROWS
    scale = Normalise(127 / 255, 128 / 255)
    return _network(
        classes,
        style,
        rows,
        stem_stride=1 if fine else 2,
        last_width=LAST_WIDTH,
        dropout=LITE_DROPOUT,
        drop_rate=DROPPED_PATHS,
        scale=scale,
    )


def _fine(rows: Sequence[StageLayout]) -> tuple[StageLayout, ...]:
    """For small images: with a stem of stride 1 the last map is size/8, not size/32. The same weights fit."""
    return (rows[0], replace(rows[1], stride=1), *rows[2:])


def rounded(width: float, divisor: int = 8) -> int:
    """The multiple of 8 nearest to a scaled width, never less than 90 % of it (Sandler et al. 2018)."""
    nearest = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * width else nearest + divisor


def _network(
    classes: int,
    style: Style,
    rows: Sequence[StageLayout],
    *,
    stem_stride: int,
    stem_width: int = STEM_WIDTH,
    last_width: int | None = None,
    dropout: float = 0.0,
    drop_rate: float = 0.0,
    scale: nn.Module | None = None,
) -> Backbone:
    stem = nn.Sequential(scale or nn.Identity(), style.conv(3, stem_width, 3, stem_stride))
    stages = _stages(rows, style, stem_width, drop_rate)
    widths = [row.width for row in rows]
    last = style.conv(widths[-1], last_width, 1) if last_width else None
    return Backbone(stem, stages, widths, classes, last, last_width, dropout)
