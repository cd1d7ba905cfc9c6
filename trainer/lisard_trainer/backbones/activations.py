"""Activations by name. Smooth ones matter where the input gradient itself is trained: its own gradient is then not zero
almost everywhere (Xie et al. 2020, arXiv 2006.14536; Rodriguez-Munoz et al. 2024, arXiv 2409.20139).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from lisard_ros.errors import UsageError, unknown_name

# Makes one activation module; none of them has weights, so the choice leaves the names of a network's weights alone.
Activation = Callable[[], nn.Module]

NATIVE = "native"  # the activation of the paper that the network comes from
SOFTPLUS_SHARPNESS = 10.0  # softplus(10 x)/10 is at most 0.07 above ReLU; with sharpness 1 it would be 0.69 at 0

ACTIVATIONS: dict[str, Activation] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": partial(nn.Softplus, beta=SOFTPLUS_SHARPNESS),
}


def resolve(name: str, native: str) -> str:
    """The activation's own name; UsageError for an unknown one."""
    if name == NATIVE:
        return native
    if name not in ACTIVATIONS:
        raise unknown_name("activation", str(name), [NATIVE, *ACTIVATIONS], UsageError)
    return name
