"""Weights from elsewhere: run folders, safetensors and torch files (weights only), fitted to a network or refused.

A name that is missing or left over is an error that lists it: a network that silently kept its random weights is the
worst outcome (the published evaluation scripts do that, specification 1.7 B1).
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lisard_ros.errors import DataError, unknown_name

from ..backbones import PROJECTOR, state_dict
from ..recipes import Init
from . import checkpoint

# Names under which training programs keep the weights inside a larger dictionary.
WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "weights")
# What wrappers of modules put before every name.
PREFIXES = ("", "module.", "_orig_mod.", "backbone.", "model.", "network.", "module.backbone.", "backbone.module.")
COUNTER = "num_batches_tracked"  # absent from files of old torch versions, and nothing depends on it
SHOWN = 6  # entries of a file without tensors


@dataclass(frozen=True, eq=False)
class Weights:
    """Tensors by name, and the file they came from with its sha256."""

    tensors: dict[str, Tensor]
    source: Path
    sha256: str


def find(path: Path) -> Path:
    """The file of the weights that a recipe starts from; DataError if there is none."""
    cure = "train that first, or give the path of another run folder or of a file of weights"
    return checkpoint.find(path, "recipe key init.weights:", cure)


def read(path: Path) -> Weights:
    """Reads the weights that a recipe starts from; nothing but tensors is ever unpickled."""
    file = find(path)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with file.open("rb") as opened:
        is_safetensors = opened.read(9)[8:9] == b"{"  # eight bytes of length, then JSON
    return Weights(_safetensors(path, file) if is_safetensors else _torch_file(file), file, digest)


def _safetensors(path: Path, file: Path) -> dict[str, Tensor]:
    try:
        with safe_open(file, framework="pt") as opened:
            if "lisard" not in (opened.metadata() or {}):
                return {key: opened.get_tensor(key) for key in opened.keys()}
    except SafetensorError as error:
        raise _refused(file, f"a damaged file ({error})") from error
    return checkpoint.read(path).network if path.is_dir() else checkpoint.read_file(file).network


def _torch_file(file: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(file, "objects other than tensors, or no torch file") from error
    except Exception as error:  # the reader of torch fails in as many ways as files can be damaged
        raise _refused(file, f"a damaged file ({type(error).__name__})") from error
    return _unwrapped(file, content)


def _unwrapped(file: Path, content: Any) -> dict[str, Tensor]:
    """The dictionary of tensors, or the one inside it under a usual name."""
    inside = [content.get(name) for name in WRAPPERS] if isinstance(content, Mapping) else []
    for candidate in (content, *inside):
        if isinstance(candidate, Mapping) and candidate and all(isinstance(t, Tensor) for t in candidate.values()):
            return {str(key): tensor for key, tensor in candidate.items()}
    names = ", ".join(map(str, list(content)[:SHOWN])) if isinstance(content, Mapping) else type(content).__name__
    raise _refused(file, f"no tensors by name ({names})")


def _refused(file: Path, found: str) -> DataError:
    return DataError(
        f"weights {file}",
        found=found,
        expected="safetensors, or what torch.save(network.state_dict(), FILE) writes",
        cure="save the weights alone",
    )


def load(network: nn.Module, weights: Weights, init: Init) -> None:
    """Puts the weights into the network. `init.exclude`: names that begin with it keep what was drawn.

    A projector, which only serves a training's similarity term, is passed over where the network has none.
    """
    own = network.state_dict()
    left_out = [key for key in own if _is_left_out(key, init)]
    if init.exclude and not left_out:
        heads = list(dict.fromkeys(key.partition(".")[0] for key in own))
        raise unknown_name("recipe key init.exclude: beginning of a weight's name", init.exclude, heads)
    wanted = [key for key in own if not _is_left_out(key, init)]
    given = {
        key: value
        for key, value in _renamed(weights.tensors, wanted).items()
        if not _is_left_out(key, init) and (key in own or not key.startswith(f"{PROJECTOR}."))
    }
    counters = [key for key in wanted if key.endswith(COUNTER)]
    cure = "check network: in the recipe; init: {exclude: head} leaves the last layer out"
    state_dict.load(network, given, f"weights {weights.source}", cure, [*left_out, *counters])


def _is_left_out(key: str, init: Init) -> bool:
    return bool(init.exclude) and key.startswith(init.exclude)


def _renamed(tensors: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
    """The tensors without the prefix whose removal makes most names fit."""
    names = set(wanted)
    best = max(PREFIXES, key=lambda prefix: sum(key.removeprefix(prefix) in names for key in tensors))
    return {key.removeprefix(best): tensor for key, tensor in tensors.items()}
