"""Layers that several networks use: convolution with norm, TensorFlow's padding, squeeze-excitation, dropped paths."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from .activations import Activation


def conv3x3(width_in: int, width: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution without bias that keeps the size at stride 1."""
    return nn.Conv2d(width_in, width, 3, stride, 1, bias=False)


def conv_norm(
    width_in: int,
    width: int,
    kernel: int,
    stride: int = 1,
    *,
    act: Activation | None = None,
    groups: int = 1,
    bias: bool = False,
    same: bool = False,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Convolution (padded by half its kernel; `same`: as TensorFlow does), batch norm, and the activation if given."""
    if same and stride > 1:
        conv: nn.Conv2d = SameConv2d(width_in, width, kernel, stride, groups=groups, bias=bias)
    else:
        conv = nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups, bias=bias)
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv, norm=nn.BatchNorm2d(width, eps=eps))
    if act is not None:
        layers["act"] = act()
    return nn.Sequential(layers)


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's `SAME` padding: ceil(size/stride) positions, an odd row of zeros goes last."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (_same(x.shape[2 + i], self.kernel_size[i], self.stride[i]) for i in range(2))
        padded = functional.pad(x, (*columns, *rows))
        return functional.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and behind; never negative, as the kernel is no smaller than the stride."""
    total = (-(-size // stride) - 1) * stride + kernel - size
    return total // 2, total - total // 2


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate in (0,1) computed from the channels' means (Hu et al. 2018)."""

    def __init__(self, width: int, squeezed: int, act: Activation) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, squeezed, 1)
        self.act = act()
        self.excite = nn.Conv2d(squeezed, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3), keepdim=True)
        return x * self.excite(self.act(self.squeeze(means))).sigmoid()


class DropPath(nn.Module):
    """Leaves out a residual branch for a share `rate` of the images while training (Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.rate
        return x * (kept / (1 - self.rate)).to(x.dtype)


class Normalise(nn.Module):
    """(x - mean) / deviation with fixed numbers: for weights that were trained on such inputs."""

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation
