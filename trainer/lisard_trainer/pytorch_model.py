"""The target of the entry-point group `lisard_ros.twin`: from a bundle's architecture to a torch module.

A classifier gives logits [N,K], a detector [N,P,4+1+C] (tasks/detection/network.py).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from . import backbones
from .tasks.detection import network


def build(architecture: Any) -> nn.Module:
    """The network of a bundle, in float32 and eval mode; BundleError says what is wrong with name or arguments."""
    return network.build(architecture) if architecture.name == network.NAME else backbones.build(architecture)
