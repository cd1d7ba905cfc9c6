"""Accuracy of a bundle and its controls on the validation tracks: clean, gray-box and white-box, with 95 % intervals.

Gray-box pictures are made on a surrogate and rounded to grey levels; the same pictures meet every model. Whether the
attack is strong enough to mean anything is checked and reported with the numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import torch
from numpy.typing import NDArray

from lisard_ros import backends
from lisard_ros.backends.torch_twin import load_twin
from lisard_ros.bundle import Bundle
from lisard_ros.errors import LisardError
from lisard_ros.injection import store
from lisard_ros.injection.gradient import Pgd, fgsm, pgd
from lisard_ros.injection.oracle import Label
from lisard_ros.preprocess import Tensor
from lisard_ros.statistics import Interval, Proportion, paired_difference, proportion

from . import backbones, data, export, provenance
from .checkpoint import Checkpoint
from .oracle import TorchOracle

SCHEMA = 1
EPS_255 = 8
CLEAN, GRAY_FGSM, GRAY_PGD, WHITE_PGD = "clean", "gray_fgsm", "gray_pgd10", "white_pgd10"
GRAY = (GRAY_FGSM, GRAY_PGD)
BATCH = 256
SHIPPED, PLAIN = "lisard", "plain"

# When a gray-box attack counts (design of the project, section 7).
SURROGATE_MAY_BE_WORSE_BY = 0.01
SURROGATE_FALLS_BELOW = 0.30
CONTROL_LOSES_AT_LEAST = 0.20


@dataclass(frozen=True)
class Attack:
    """What an attacker knows and spends; eps and step in grey levels of 255 (Linf)."""

    name: str
    knowledge: str
    method: str
    eps_255: float
    step_255: float
    steps: int
    random_start: bool
    seed: int


@dataclass(frozen=True)
class Line:
    """Accuracy of one model on one backend under one condition."""

    model: str
    backend: str
    condition: str
    accuracy: Proportion


@dataclass(frozen=True)
class Difference:
    """Accuracy of `model` minus that of `control` on the same pictures, interval by bootstrap over tracks."""

    model: str
    control: str
    condition: str
    difference: Interval


@dataclass(frozen=True)
class Condition:
    """One requirement of a valid gray-box attack."""

    what: str
    found: float
    required: str
    holds: bool


@dataclass(frozen=True)
class Source:
    """A model that took part: its seed, its epochs and the hash of its weights or bundle."""

    model: str
    recipe: str
    seed: int
    epochs: int
    sha256: str


@dataclass(frozen=True)
class Report:
    """Everything that `lisard evaluate` writes."""

    schema: int
    command: str
    made_at: str
    commit: str
    device: str
    data_sha256: str
    pictures: int
    tracks: int
    attacks: tuple[Attack, ...]
    sources: tuple[Source, ...]
    lines: tuple[Line, ...]
    differences: tuple[Difference, ...]
    conditions: tuple[Condition, ...]

    @property
    def valid(self) -> bool:
        """True if every condition of a gray-box attack holds."""
        return all(condition.holds for condition in self.conditions)

    def accuracy(self, model: str, condition: str) -> float:
        """Share for one model in torch."""
        found = [x for x in self.lines if (x.model, x.condition, x.backend) == (model, condition, "torch")]
        return found[0].accuracy.share


@dataclass(frozen=True, eq=False)
class Views:
    """The pictures under each condition, float32 [N,3,H,W] on the 8-bit grid."""

    clean: Tensor
    own: NDArray[np.int64]
    tracks: tuple[str, ...]
    attacked: Mapping[str, Tensor]


def attacks(seed: int) -> tuple[Attack, ...]:
    """The attacks of the report: FGSM and PGD-10 at 8/255, as published."""
    return (
        Attack(GRAY_FGSM, "gray-box", "fgsm", EPS_255, EPS_255, 1, False, seed),
        Attack(GRAY_PGD, "gray-box", "pgd", EPS_255, EPS_255 / 4, 10, True, seed),
        Attack(WHITE_PGD, "white-box", "pgd", EPS_255, EPS_255 / 4, 10, True, seed),
    )


def evaluate(
    bundle: Bundle,
    surrogate: Checkpoint,
    controls: Mapping[str, Checkpoint],
    pictures: data.Pictures,
    seed: int,
    command: str = "",
) -> Report:
    """Measures the bundle (torch twin and ONNX), its controls and the surrogate; `command` is kept for the record."""
    networks = {SHIPPED: _twin(bundle), **{name: export.classifier(saved) for name, saved in controls.items()}}
    views = _views(export.classifier(surrogate), pictures, seed)
    hits = {name: _hits(network, views, white=True, seed=seed) for name, network in networks.items()}
    hits["surrogate"] = _hits(export.classifier(surrogate), views, white=False, seed=seed)
    lines = [_line(name, "torch", at, hit) for name, row in hits.items() for at, hit in row.items()]
    lines += [_line(SHIPPED, "onnxruntime", at, hit) for at, hit in _onnx_hits(bundle, views).items()]
    return Report(
        schema=SCHEMA,
        command=command,
        made_at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        commit=provenance.commit(),
        device=f"CPU, torch {torch.__version__}, float32",
        data_sha256=pictures.sha256(),
        pictures=len(pictures),
        tracks=len(set(pictures.tracks)),
        attacks=attacks(seed),
        sources=_sources(bundle, {"surrogate": surrogate, **controls}),
        lines=tuple(lines),
        differences=tuple(_differences(hits, list(controls), views.tracks, seed)),
        conditions=conditions(hits),
    )


def _twin(bundle: Bundle) -> torch.nn.Module:
    network: torch.nn.Module = load_twin(bundle)
    return network


def _views(surrogate: backbones.Classifier, pictures: data.Pictures, seed: int) -> Views:
    x = data.to_unit(pictures.images)
    own = pictures.labels.numpy()
    oracle = TorchOracle(surrogate)
    made = {
        GRAY_FGSM: fgsm(oracle, x, Label(own), EPS_255 / 255),
        GRAY_PGD: pgd(oracle, x, Label(own), Pgd(), np.random.default_rng(seed)),
    }
    return Views(x.numpy(), own, pictures.tracks, {name: on_grid(x.numpy(), y.numpy()) for name, y in made.items()})


def on_grid(x: Tensor, attacked: Tensor) -> Tensor:
    """The attacked pictures as 8-bit files would hold them, within the budget."""
    return store.add(x, store.quantise(x, attacked, EPS_255))


def _hits(network: torch.nn.Module, views: Views, *, white: bool, seed: int) -> dict[str, NDArray[np.bool_]]:
    """Which pictures are right under each condition."""
    rows = {CLEAN: views.clean, **views.attacked}
    if white:
        x = torch.from_numpy(views.clean)
        made = pgd(TorchOracle(network), x, Label(views.own), Pgd(), np.random.default_rng(seed))
        rows[WHITE_PGD] = on_grid(views.clean, made.numpy())
    return {name: _guess(network, x) == views.own for name, x in rows.items()}


@torch.no_grad()
def _guess(network: torch.nn.Module, x: Tensor) -> NDArray[np.int64]:
    parts = [network(part).argmax(1) for part in torch.from_numpy(x).split(BATCH)]
    return np.asarray(torch.cat(parts).numpy(), np.int64)


def _onnx_hits(bundle: Bundle, views: Views) -> dict[str, NDArray[np.bool_]]:
    backend = backends.choose(bundle, "onnxruntime").backend
    rows = {CLEAN: views.clean, **views.attacked}
    hits = {name: _onnx_guess(backend, x) == views.own for name, x in rows.items()}
    backend.close()
    return hits


def _onnx_guess(backend: backends.Backend, x: Tensor) -> NDArray[np.int64]:
    return np.concatenate([backend.infer(x[at : at + BATCH]).argmax(1) for at in range(0, len(x), BATCH)])


def _line(model: str, backend: str, condition: str, hits: NDArray[np.bool_]) -> Line:
    return Line(model, backend, condition, proportion(int(hits.sum()), len(hits)))


def _differences(
    hits: Mapping[str, Mapping[str, NDArray[np.bool_]]], controls: Sequence[str], tracks: Sequence[str], seed: int
) -> list[Difference]:
    ours = hits[SHIPPED]
    return [
        Difference(SHIPPED, control, at, paired_difference(ours[at], hits[control][at], tracks, seed))
        for control in controls
        for at in ours
    ]


def conditions(hits: Mapping[str, Mapping[str, NDArray[np.bool_]]]) -> tuple[Condition, ...]:
    """Whether the gray-box attack counts: a good surrogate that falls itself, and a hurt control of another seed."""
    if PLAIN not in hits:
        raise LisardError("gray-box evaluation", found="no plain control", cure="pass --control plain=RUN_FOLDER")
    accuracy = {model: {at: float(hit.mean()) for at, hit in row.items()} for model, row in hits.items()}
    behind = accuracy[PLAIN][CLEAN] - accuracy["surrogate"][CLEAN]
    found = [
        Condition(
            "the surrogate's clean accuracy is at most this much below the plain control's",
            behind,
            f"<= {SURROGATE_MAY_BE_WORSE_BY}",
            behind <= SURROGATE_MAY_BE_WORSE_BY,
        )
    ]
    for at in GRAY:
        own = accuracy["surrogate"][at]
        lost = accuracy[PLAIN][CLEAN] - accuracy[PLAIN][at]
        found += [
            Condition(
                f"surrogate accuracy under {at}", own, f"<= {SURROGATE_FALLS_BELOW}", own <= SURROGATE_FALLS_BELOW
            ),
            Condition(
                f"plain control loses under {at}", lost, f">= {CONTROL_LOSES_AT_LEAST}", lost >= CONTROL_LOSES_AT_LEAST
            ),
        ]
    return tuple(found)


def _sources(bundle: Bundle, saved: Mapping[str, Checkpoint]) -> tuple[Source, ...]:
    card = bundle.manifest.card
    epochs = int(card.metrics.get("epochs", 0)) if card else 0
    own = Source(SHIPPED, bundle.manifest.name, card.seed if card else 0, epochs, bundle.sha256)
    others = [Source(k, s.recipe.name, s.recipe.seed, s.epoch, weights_sha256(s)) for k, s in saved.items()]
    return (own, *others)


def spread(count: int, wanted: int) -> NDArray[np.int64]:
    """Positions of `wanted` of `count` pictures, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, max(1, wanted))).astype(np.int64))


def weights_sha256(saved: Checkpoint) -> str:
    """Hash of a checkpoint's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(saved.network.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
