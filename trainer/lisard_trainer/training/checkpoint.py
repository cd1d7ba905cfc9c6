"""Checkpoints: one safetensors file with weights, the optimizer's state and the random state, and JSON for people.

What resuming needs is in the safetensors file alone (its metadata holds epoch, step, recipe and history), so the pair
cannot disagree. Files appear complete or not at all.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Generic, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lisard_ros.errors import DataError, LisardError

from .. import recipes, task_registry
from ..recipes import BaseRecipe
from .task import E, R

SCHEMA = 3
READABLE = (1, 2, 3)  # 1: without `raw` and `started_from`; 2: with SGD's momentum as `momentum.`
FILE_NAME, BEST_FILE_NAME = "last.safetensors", "best.safetensors"
# Prefixes of tensors in the file. They stay, so that older checkpoints are read.
NETWORK, RAW, OPTIMIZER, RANDOM = "network.", "raw.", "memory.", "random"
HASHES = ("data_sha256", "validation_sha256", "started_from")
OLD_MOMENTUM, MOMENTUM = "momentum.", "momentum_buffer/"


@dataclass(frozen=True)
class Checkpoint(Generic[R, E]):
    """State after `epoch` whole epochs. `precision` is the arithmetic the run was started with.

    recipe: a Recipe or DetectorRecipe; history: the records of that task (records.py).

    network: the weights for use, which are the average of the steps' weights if the recipe asks for that. raw: the
    weights of the last step, from which training goes on (empty: the same). optimizer_state: what the optimizer keeps
    of each parameter (optimizer.optimizer_state). started_from: sha256 of the file that the first weights came from
    (empty: drawn at random). validation_sha256: of the images that its epochs were judged by (empty: written before
    that was kept).
    """

    recipe: R
    classes: tuple[str, ...]
    data_sha256: str
    precision: str
    epoch: int
    step: int
    history: tuple[E, ...]
    network: dict[str, Tensor]
    optimizer_state: dict[str, Tensor]
    random: Tensor
    raw: dict[str, Tensor] = field(default_factory=dict)
    started_from: str = ""
    validation_sha256: str = ""

    @property
    def trained(self) -> dict[str, Tensor]:
        """The weights of the last step."""
        return self.raw or self.network


def write(folder: Path, state: Checkpoint, name: str = FILE_NAME) -> Path:
    """Writes a checkpoint into the folder, and its description beside it (last.json)."""
    tensors = _named(NETWORK, state.network) | _named(RAW, state.raw) | _named(OPTIMIZER, state.optimizer_state)
    plain = {key: value.detach().cpu().contiguous() for key, value in {**tensors, RANDOM: state.random}.items()}
    described = {
        "schema": SCHEMA,
        "recipe": json.loads(state.recipe.as_json()),
        "classes": state.classes,
        "data_sha256": state.data_sha256,
        "precision": state.precision,
        "epoch": state.epoch,
        "step": state.step,
        "history": [asdict(record) for record in state.history],
        "started_from": state.started_from,
        "validation_sha256": state.validation_sha256,
    }
    replace_file(folder / name, save(plain, metadata={"lisard": json.dumps(described)}))
    replace_file((folder / name).with_suffix(".json"), json.dumps(described, indent=1).encode())
    return folder / name


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in tensors.items()}


def replace_file(path: Path, content: bytes) -> None:
    """Puts `content` under `path` whole, or leaves what was there (full disk, power cut, kill -9) with an error."""
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if partial.is_file():
            partial.unlink()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        mend = "make room" if full else "choose another folder, or make this one writable"
        resumes = "goes on from the checkpoint that is there" if path.is_file() else "begins again"
        raise DataError(
            f"writing {path}",
            found=error.strerror or str(error),
            expected=f"room for {len(content) / 1e6:.1f} MB in a folder that can be written",
            cure=f"{mend}, then give the same command again: it {resumes}",
        ) from error


def find(path: Path, what: str = "checkpoint", cure: str = "run `lisard train` first") -> Path:
    """The checkpoint file of a run folder, or the file itself. what, cure: for the error that there is none."""
    file = path / FILE_NAME if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"{what} {path}", found="no such file", expected=f"a run folder with {FILE_NAME}", cure=cure)
    return file


def read(path: Path) -> Checkpoint:
    """The checkpoint for use: of a run folder the last one, or the best one if its recipe selects that; or a file."""
    saved = read_file(find(path))
    best = path / BEST_FILE_NAME
    return read_file(best) if saved.recipe.checkpoint_selection == "best" and best.is_file() else saved


def read_file(file: Path) -> Checkpoint:
    """Reads one checkpoint file, of this schema or an older one. Nothing is unpickled."""
    try:
        with safe_open(file, framework="pt") as opened:
            described = (opened.metadata() or {}).get("lisard")
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}
    except (SafetensorError, OSError) as error:
        cure = "take it away and train again, or choose another --out"
        raise _unreadable(file, f"an unreadable file ({error})", cure) from error
    if described is None:
        raise _unreadable(file, "weights without a recipe", cure="train with init: {weights: FILE} in the recipe")
    try:
        return _parse(file, json.loads(described), tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _unreadable(file, f"a damaged description ({type(error).__name__}: {error})") from error


def _parse(file: Path, about: dict[str, Any], tensors: dict[str, Tensor]) -> Checkpoint:
    if about["schema"] not in READABLE:
        raise _unreadable(file, f"schema {about['schema']}", cure="train again, or use the version that wrote it")
    try:
        recipe = recipes.from_mapping(about["recipe"])
    except LisardError as error:
        raise _unreadable(file, f"a recipe of another version ({error})") from error
    history = tuple(task_registry.of(recipe).records.epoch(**record) for record in about["history"])
    _check_description(about, recipe.optimizer.epochs, history)
    return Checkpoint(
        recipe=recipe,
        classes=tuple(about["classes"]),
        data_sha256=about["data_sha256"],
        precision=about["precision"],
        epoch=about["epoch"],
        step=about["step"],
        history=history,
        network=_part(tensors, NETWORK),
        optimizer_state=_part(tensors, OPTIMIZER) | _named(MOMENTUM, _part(tensors, OLD_MOMENTUM)),
        random=tensors[RANDOM].to(torch.uint8),
        raw=_part(tensors, RAW),
        started_from=about.get("started_from", ""),
        validation_sha256=about.get("validation_sha256", ""),
    )


def _check_description(about: Mapping[str, Any], epochs: int, history: Sequence[Any]) -> None:
    """ValueError unless types are right, and what is told twice agrees."""
    epoch, step, classes = about["epoch"], about["step"], about["classes"]
    figures = [value for record in history for value in asdict(record).values()]
    checks = {
        f"epoch {epoch!r}": type(epoch) is int and 1 <= epoch <= epochs and epoch == len(history),
        f"step {step!r}": type(step) is int and step >= 0,
        f"precision {about['precision']!r}": about["precision"] in get_args(recipes.Arithmetic),
        f"classes {classes!r}": isinstance(classes, list)
        and len(classes) > 0
        and all(isinstance(name, str) for name in classes),
        "a sha256 that is no text": all(isinstance(about.get(key, ""), str) for key in HASHES),
        "a history of other things than numbers": all(type(value) in (int, float) for value in figures),
    }
    wrong = [what for what, holds in checks.items() if not holds]
    if wrong:
        raise ValueError("; ".join(wrong))


def _unreadable(file: Path, found: str, cure: str | None = None) -> DataError:
    expected = f"one written by `lisard train`, schema {', '.join(map(str, READABLE[:-1]))} or {READABLE[-1]}"
    return DataError(f"checkpoint {file}", found=found, expected=expected, cure=cure)


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


# Resuming -------------------------------------------------------------------------------------------------------------


def check_same(saved: Checkpoint, recipe: BaseRecipe, data_sha256: str, validation_sha256: str, folder: Path) -> None:
    """Refuses to go on with another recipe (the difference is shown key by key) or with other images of a part."""
    differences = recipe_differences(saved.recipe, recipe)
    if differences:
        raise DataError(
            f"checkpoint in {folder}",
            found=f"another recipe ({'; '.join(differences)})",
            expected=f"the recipe {saved.recipe.name} that it was begun with",
            cure="choose another --out",
        )
    what, cure = f"checkpoint in {folder}", "check --data, or choose another --out"
    check_images(saved, data_sha256, what, cure)
    _check_part("validation", saved.validation_sha256 or validation_sha256, validation_sha256, what, cure)


def check_images(saved: Checkpoint, data_sha256: str, what: str, cure: str) -> None:
    """Refuses images that the training did not learn from: labels, split and figures are theirs."""
    _check_part("training", saved.data_sha256, data_sha256, what, cure)


def _check_part(part: str, saved_sha256: str, data_sha256: str, what: str, cure: str) -> None:
    if saved_sha256 != data_sha256:
        raise DataError(
            what,
            found=f"other {part} images ({data_sha256[:12]})",
            expected=f"those of the training ({saved_sha256[:12]})",
            cure=cure,
        )


def check_classes(saved: Checkpoint, classes: Sequence[str], what: str, cure: str) -> None:
    """Refuses images of other classes than the training's, or in another order: answers are numbers."""
    pairs = zip_longest(classes, saved.classes, fillvalue="nothing")
    first = next((pair for pair in pairs if pair[0] != pair[1]), None)
    if first:
        raise DataError(
            what,
            found=f"{len(classes)} classes, {first[0]!r} among them",
            expected=f"{len(saved.classes)} as in the training, {first[1]!r} in its place",
            cure=cure,
        )


def recipe_differences(saved: BaseRecipe, given: BaseRecipe) -> list[str]:
    """Every key whose values differ, dotted, with both values, in the recipe's order."""
    old, new = _flat(asdict(saved)), _flat(asdict(given))
    differing = [key for key in old | new if old.get(key) != new.get(key)]
    return [f"{key}: {old.get(key)!r} there, {new.get(key)!r} now" for key in differing]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return found
