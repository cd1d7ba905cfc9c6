"""The registry of networks: name -> how to make it, its native activation and the smallest images it takes.

`build` turns the architecture of a classification bundle into a torch module that gives logits (for pytorch_model.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch
from torch import nn

from lisard_ros.errors import BundleError, LisardError, UsageError, unknown_name

from . import mobile, vgg
from .activations import ACTIVATIONS, NATIVE, Activation, resolve
from .base import Backbone, Classifier, Spec
from .resnet import Block, Bottleneck, resnet
from .wide_resnet import wide_resnet

MOST_CLASSES = 100_000
LEAST_PX, MOST_PX = 8, 4096
SIZE_PX = 32  # what bundles without the argument were made for
ARGUMENTS = tuple(field.name for field in fields(Spec) if field.name != "name")


@dataclass(frozen=True)
class Entry:
    """One network of the registry; `make` takes classes and activation."""

    make: Callable[[int, Activation], Backbone]
    native: str = "relu"
    least_px: int = LEAST_PX


def _resnet(
    *widths: int, counts: tuple[int, ...], block: type[Block | Bottleneck] = Block, quarter: bool = False
) -> Entry:
    return Entry(partial(resnet, widths=widths, counts=counts, block=block, quarter=quarter))


BACKBONES: dict[str, Entry] = {
    "resnet8": _resnet(16, 32, 64, counts=(1, 1, 1)),
    "resnet14n": _resnet(16, 32, 64, counts=(2, 2, 2)),
    "resnet14w": _resnet(32, 64, 128, counts=(2, 2, 2)),
    "resnet20": _resnet(16, 32, 64, counts=(3, 3, 3)),
    "resnet18": _resnet(64, 128, 256, 512, counts=(2, 2, 2, 2)),
    "resnet10q": _resnet(32, 64, 128, 192, counts=(1, 1, 1, 1), quarter=True),
    "resnet18q": _resnet(32, 64, 128, 192, counts=(2, 2, 2, 2), quarter=True),
    "resnet50": _resnet(64, 128, 256, 512, counts=(3, 4, 6, 3), block=Bottleneck),
    "resnet101": _resnet(64, 128, 256, 512, counts=(3, 4, 23, 3), block=Bottleneck),
    "wrn28_10": Entry(partial(wide_resnet, depth=28, factor=10)),
    "wrn28_10_published": Entry(partial(wide_resnet, depth=28, factor=10, unused_stage=True)),
    "vgg19_bn": Entry(vgg.vgg19, least_px=vgg.LEAST_PX),
    "vgg19_bn_published": Entry(partial(vgg.vgg19, bias=True), least_px=vgg.LEAST_PX),
    "mobilenet_v2": Entry(mobile.mobilenet_v2, native="relu6"),
    "mobilenet_v2_published": Entry(partial(mobile.mobilenet_v2, published=True)),
    "efficientnet_b2": Entry(mobile.efficientnet_b2, native="silu"),
    "efficientnet_b2_fine": Entry(partial(mobile.efficientnet_b2, fine=True), native="silu"),
    "efficientnet_b2_published": Entry(mobile.published_b2, native="silu"),
    "efficientnet_lite0": Entry(mobile.efficientnet_lite0, native="relu6"),
    "efficientnet_lite0_fine": Entry(partial(mobile.efficientnet_lite0, fine=True), native="relu6"),
}


def create(name: str, classes: int, size_px: int = SIZE_PX, activation: str = NATIVE) -> Backbone:
    """A fresh network for square images of size_px; `native` is the activation of the network's own paper.

    The size only decides whether the network can be used: its weights fit any size. UsageError says what is wrong.
    """
    if name not in BACKBONES:
        raise unknown_name("network", name, BACKBONES, UsageError)
    entry = BACKBONES[name]
    _check_whole(f"classes of {name}", classes, 1, MOST_CLASSES)
    _check_whole(f"size_px of {name}", size_px, entry.least_px, MOST_PX)
    chosen = resolve(activation, entry.native)
    network = entry.make(classes, ACTIVATIONS[chosen])
    network.spec = Spec(name, classes, size_px, chosen)
    return network


def _check_whole(what: str, found: object, least: int, most: int) -> None:
    if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
        raise UsageError(what, found=repr(found), expected=f"a whole number from {least} to {most}")


def arguments(network: Backbone) -> dict[str, int | float | str | bool]:
    """What `build` needs besides the name, for a bundle's architecture; the activation is spelt out, never `native`."""
    return {key: getattr(network.spec, key) for key in ARGUMENTS}


def build(architecture: Any) -> nn.Module:
    """PyTorch model of a bundle: classifier in float32 and eval mode, from a name of the registry and its arguments.

    Arguments are those of `create`; a bundle with `classes` alone means 32 px and the native activation. BundleError.
    """
    given = dict(architecture.arguments)
    for key in sorted(given.keys() - set(ARGUMENTS)):
        raise unknown_name(f"argument of {architecture.name}", key, ARGUMENTS, BundleError)
    if "classes" not in given:
        found = ", ".join(sorted(given)) or "none"
        raise BundleError(f"arguments of {architecture.name}", found=found, expected="classes")
    try:
        network = create(architecture.name, **given)
    except LisardError as error:
        what = f"architecture of the bundle: {error.what}"
        raise BundleError(what, found=error.found, expected=error.expected, cure=error.cure) from error
    return Classifier(network).to(torch.float32).eval()
