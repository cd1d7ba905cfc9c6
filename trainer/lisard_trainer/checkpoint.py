"""Checkpoints: one safetensors file with weights, momentum and the random state, and a JSON file beside it for people.

What resuming needs is in the safetensors file alone (its metadata holds epoch, step, recipe and history), so the pair
cannot disagree. Files appear complete or not at all.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lisard_ros.errors import DataError

from . import recipes

SCHEMA = 1
FILE_NAME = "last.safetensors"
NETWORK, MOMENTUM, RANDOM = "network.", "momentum.", "random"


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch came to: means over its steps, accuracy in [0,1] on the validation tracks."""

    epoch: int
    loss: float
    cross_entropy: float
    similarity: float
    validation_accuracy: float
    seconds: float
    consistency: float = 0.0
    gradient: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """State after `epoch` whole epochs. `precision` is the arithmetic the run was started with."""

    recipe: recipes.Recipe
    classes: tuple[str, ...]
    data_sha256: str
    precision: str
    epoch: int
    step: int
    history: tuple[EpochRecord, ...]
    network: dict[str, Tensor]
    momentum: dict[str, Tensor]
    random: Tensor

    def load_into(self, network: nn.Module) -> None:
        """Strict: a missing or unexpected weight is an error."""
        network.load_state_dict(self.network, strict=True)


def write(folder: Path, state: Checkpoint) -> Path:
    """Writes last.safetensors and last.json into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    described = _describe(state)
    tensors = {NETWORK + key: value for key, value in state.network.items()}
    tensors |= {MOMENTUM + key: value for key, value in state.momentum.items()}
    tensors[RANDOM] = state.random
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    _replace(folder / FILE_NAME, save(plain, metadata={"lisard": json.dumps(described)}))
    _replace(folder / "last.json", json.dumps(described, indent=1).encode())
    return folder / FILE_NAME


def _describe(state: Checkpoint) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "recipe": json.loads(state.recipe.as_json()),
        "classes": state.classes,
        "data_sha256": state.data_sha256,
        "precision": state.precision,
        "epoch": state.epoch,
        "step": state.step,
        "history": [asdict(record) for record in state.history],
    }


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def find(path: Path) -> Path:
    """The checkpoint file of a run folder, or the file itself."""
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise DataError(
            f"checkpoint {path}",
            found="no such file",
            expected=f"a run folder with {FILE_NAME}",
            cure="run `lisard train` first",
        )
    return file


def read(path: Path) -> Checkpoint:
    """Reads a run folder or a checkpoint file. Nothing is unpickled."""
    file = find(path)
    try:
        with safe_open(file, framework="pt") as opened:
            about = json.loads((opened.metadata() or {})["lisard"])
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}
    except (SafetensorError, KeyError, ValueError) as error:
        raise DataError(
            f"checkpoint {file}", found=f"an unreadable file ({error})", expected="one written by `lisard train`"
        ) from error
    if about["schema"] != SCHEMA:
        raise DataError(
            f"checkpoint {file}", found=f"schema {about['schema']}", expected=f"schema {SCHEMA}", cure="train again"
        )
    return Checkpoint(
        recipe=recipes.from_mapping(about["recipe"]),
        classes=tuple(about["classes"]),
        data_sha256=about["data_sha256"],
        precision=about["precision"],
        epoch=about["epoch"],
        step=about["step"],
        history=tuple(EpochRecord(**record) for record in about["history"]),
        network=_part(tensors, NETWORK),
        momentum=_part(tensors, MOMENTUM),
        random=tensors[RANDOM].to(torch.uint8),
    )


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
