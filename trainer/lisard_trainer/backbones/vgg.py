"""VGG19 with batch norm (Simonyan and Zisserman 2014, arXiv 1409.1556); of its three linear layers only the head."""

from __future__ import annotations

from torch import nn

from .activations import Activation
from .base import Backbone
from .layers import conv_norm

WIDTHS = (64, 128, 256, 512, 512)
COUNTS = (2, 2, 4, 4, 4)
LEAST_PX = 32  # five halvings


def vgg19(classes: int, act: Activation, *, bias: bool = False) -> Backbone:
    """Five stages of 3x3 convolutions, each followed by max pooling.

    At 32 px the last map has one position, so its mean is the published flattening; larger images work as well.
    bias: convolutions with biases, as published; the batch norm behind each takes them away again.
    """
    stages, width_in = [], 3
    for width, count in zip(WIDTHS, COUNTS, strict=True):
        inputs = [width_in] + [width] * (count - 1)
        stages.append(nn.Sequential(*(conv_norm(w, width, 3, act=act, bias=bias) for w in inputs), nn.MaxPool2d(2)))
        width_in = width
    return Backbone(nn.Identity(), stages, WIDTHS, classes)
