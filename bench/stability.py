"""Is an attacked frame less stable under noise than a clean one? Thresholds of one drive, judged on another.

    lisard build models/traffic_signs --variants none --gradient          (and models/road_signs)
    python bench/stability.py classifier --data GTSRB --surrogate RUN
    python bench/stability.py detector --data ROAD_SIGNS --surrogate RUN
    python bench/stability.py page

A frame is answered a second time with Gaussian noise. Signals: how far the two answers differ, and for a classifier
whether their classes differ and how far its embeddings turn (1 - cosine). The control needs no copy: 1 - best score.
A classifier's drives are disjoint halves of the tracks that it was not trained on; a detector's are the two halves of
its validation images. The noise is chosen and the threshold (1 % of clean frames) is set on the first; the rest is
measured on the second. RUN: run folder of `lisard train trainer/recipes/..._surrogate.yaml --no-export`; of a detector
it may be left out, and then nothing is gray-box but a patch.
Attacked images are kept in --cache. A run ends after --seconds with status 3; run it again to go on.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lisard_ros import backends, injection
from lisard_ros import bundle as bundles
from lisard_ros.attacks import EOT, PGD, GaussianNoise, Untargeted, from_bundle, patch_store
from lisard_ros.attacks.model import Array, AttackModel, Criterion, ModelAnswer, pick
from lisard_ros.attacks.patch import noise
from lisard_ros.backends.pytorch import load_network
from lisard_ros.bundle import Bundle
from lisard_ros.evaluation.statistics import Proportion, clustered, resamples
from lisard_ros.inference.postprocess import detect, iou_matrix, scores_of
from lisard_ros.inference.preprocess import normalise
from lisard_ros.injection import NoiseInjection
from lisard_trainer import provenance, recipes, task_registry
from lisard_trainer.training import checkpoint

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "docs" / "results" / "stability.json"
BUNDLES = {"classifier": ROOT / "models" / "traffic_signs", "detector": ROOT / "models" / "road_signs"}
SIGMAS_255 = {"classifier": (4, 8, 16), "detector": (8, 16, 32)}
FALSE_POSITIVES = 0.01
SHIPS_AT = 0.5  # true-positive rate that some attack has to reach
EPS, COPIES, COSINE_WEIGHT = 8 / 255, 4, 5.0
CHUNK = 25
PRINT_SIDE = 32  # of random print, as `lisard attack make` makes them
ROUNDS = 500
# The attack on the first drive that decides between the strengths of noise: one that spoils enough answers.
CHOSEN_BY = {"classifier": "gray_pgd10", "detector": "white_pgd10"}
SEED = 0
UNFINISHED = 3
Images = NDArray[np.float32]
Floats = NDArray[np.float64]

CONDITIONS = {
    "gray_pgd10": ("PGD-10 on the surrogate", "gray-box"),
    "white_pgd10": ("PGD-10 on the model", "white-box"),
    "attack/patch_object": ("printed patch on a fifth of the object", "as it was made"),
    "noise_patch": ("random print in the places of that patch", "none"),
    "gray_knowing": ("PGD on the surrogate, knows the signal", "gray-box"),
    "white_knowing": ("PGD on the model, knows the signal", "white-box"),
    "corruption/fog/3": ("fog, severity 3", "none"),
    "corruption/motion_blur/3": ("motion blur, severity 3", "none"),
    "corruption/gaussian_noise/3": ("Gaussian noise, severity 3", "none"),
}
STEPS = 10
KNOWING_STEP = {"classifier": 3, "detector": 2}  # who knows the signal attacks every so many of the attacked frames
LEFT_OUT = {"classifier": (), "detector": ("gray_knowing",)}  # for its cost
PATCH = "attack/patch_object"
PATCHES = (PATCH, "noise_patch")  # of bundles that have one


@dataclass(frozen=True)
class Row:
    """One condition under one signal and strength of noise, on the second drive.

    frames: attacked ones; fooled: those whose answer the attack spoils, which `caught` counts. auc: of fooled against
    clean frames, with its interval; None where no answer is spoilt. every: the same rate over all attacked frames.
    """

    task: str
    condition: str
    signal: str
    sigma_255: int
    frames: int
    fooled: int
    auc: tuple[float, float, float] | None
    caught: Proportion
    every: Proportion


@dataclass(frozen=True)
class FalseAlarms:
    """A threshold of the first drive on the clean frames of the second; alarm above it."""

    task: str
    signal: str
    sigma_255: int
    threshold: float
    rate: Proportion


@dataclass(frozen=True, eq=False)
class Drive:
    """Clean frames x [N, 3, H, W] in [0, 1], what they show, and the track or scene of each."""

    x: Images
    criterion: Criterion
    groups: tuple[str, ...]

    def rows(self, chosen: NDArray[np.intp] | slice) -> Drive:
        """Some of the frames."""
        rows = np.arange(len(self.x))[chosen]
        return Drive(self.x[rows], pick(self.criterion, rows), tuple(self.groups[row] for row in rows))


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says about frames. right: of a classifier 1 or 0, of a detector F1 with the true boxes."""

    right: Floats
    confidence: Floats
    best: NDArray[np.int64] | None = None
    scores: Floats | None = None
    embedding: Floats | None = None
    boxes: tuple[Any, ...] = ()


class SignalAware:
    """A classifier under an attacker who knows the signal: mean loss over noisy copies, and embeddings kept alike."""

    def __init__(self, backbone: torch.nn.Module, sigma: float, seed: int) -> None:
        self._backbone, self._sigma = backbone, sigma
        self._random = torch.Generator().manual_seed(seed)

    def evaluate(
        self, x: Array, criterion: Criterion, transform: object = None, *, gradient: bool = True
    ) -> ModelAnswer:
        """Loss and gradient of each image."""
        assert transform is None and gradient and isinstance(criterion, Untargeted)
        images = torch.from_numpy(np.asarray(x, np.float32)).requires_grad_()
        labels = torch.from_numpy(criterion.labels)
        own, logits = self._backbone(images)
        loss = torch.nn.functional.cross_entropy(logits, labels, reduction="none") / (COPIES + 1)
        for _ in range(COPIES):
            noise = torch.randn(images.shape, generator=self._random)
            other, seen = self._backbone((images + self._sigma * noise).clamp(0, 1))
            loss = loss + torch.nn.functional.cross_entropy(seen, labels, reduction="none") / (COPIES + 1)
            loss = loss + COSINE_WEIGHT / COPIES * torch.nn.functional.cosine_similarity(own, other)
        (slope,) = torch.autograd.grad(loss.sum(), images)
        return ModelAnswer(loss.detach().numpy(), logits.detach().numpy(), slope.numpy(), COPIES + 1)


@dataclass(eq=False)
class Workshop:
    """A bundle with all that attacks it, and the kept images. until: when to stop."""

    task: str
    bundle: Bundle
    saved: Any | None
    cache: Path
    until: float

    @functools.cached_property
    def surrogate_sha256(self) -> str:
        """Hash of the surrogate's weights."""
        assert self.saved is not None
        return hashlib.sha256(b"".join(v.numpy().tobytes() for v in self.saved.network.values())).hexdigest()

    @functools.cached_property
    def surrogate(self) -> torch.nn.Module:
        """The surrogate's network."""
        assert self.saved is not None
        return task_registry.of(self.saved.recipe).trained_network(self.saved)

    @functools.cached_property
    def surrogate_model(self) -> AttackModel:
        """White box to the surrogate."""
        assert self.saved is not None
        return task_registry.of(self.saved.recipe).exact_attack_model(self.surrogate)

    @functools.cached_property
    def own_model(self) -> AttackModel:
        """White box to the bundle, by its gradient graph."""
        return from_bundle(self.bundle)

    @functools.cached_property
    def network(self) -> torch.nn.Module:
        """The bundle's PyTorch model, which gives embeddings."""
        return load_network(self.bundle).requires_grad_(False)

    @functools.cached_property
    def backend(self) -> backends.Backend:
        """What answers on the vehicle."""
        return backends.choose(self.bundle, precision="fp32").backend

    @property
    def conditions(self) -> tuple[str, ...]:
        """What the frames are attacked with."""
        patch = any(about.kind == "patch" for about in self.bundle.manifest.perturbations)
        left_out = (*LEFT_OUT[self.task], *(() if patch else PATCHES))
        known = [name for name in CONDITIONS if name not in left_out]
        return tuple(name for name in known if self.saved is not None or not name.startswith("gray"))

    def attacked(self, name: str, part: str, drive: Drive, sigma: float) -> Images:
        """The frames of a drive under a condition, on the 8-bit grid; kept in parts, so an interrupted run goes on."""
        parts = []
        for start in range(0, len(drive.x), CHUNK):
            file = self._file(name, part, start, len(drive.x), sigma)
            if not file.exists():
                if time.monotonic() > self.until:
                    print(f"not finished ({name} {part} {start}): run it again", file=sys.stderr)
                    raise SystemExit(UNFINISHED)
                file.parent.mkdir(parents=True, exist_ok=True)
                made = self._made(name, drive.rows(slice(start, start + CHUNK)), sigma, start)
                np.save(file, np.rint(made * 255).astype(np.uint8))
            parts.append(np.load(file).astype(np.float32) / np.float32(255))
        return np.concatenate(parts)

    def _file(self, name: str, part: str, start: int, count: int, sigma: float) -> Path:
        """Where a part of the images is kept, by all that decides it."""
        key = [onnx_sha256(self.bundle), name, part, start, count, EPS, COPIES, COSINE_WEIGHT]
        key += [self.surrogate_sha256] if name.startswith("gray") else []
        key += [sigma, STEPS] if name.endswith("knowing") else []
        key += [self.bundle.manifest.files[patch_store.find(self.bundle).file]] if "patch" in name else []
        return self.cache / (hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24] + ".npy")

    def _made(self, name: str, drive: Drive, sigma: float, start: int) -> Images:
        if name == "noise_patch":
            about = patch_store.find(self.bundle)
            random = patch_store.quantise(noise(PRINT_SIDE, SEED))
            stored = replace(patch_store.load(self.bundle, about), levels=random)
            blank = replace(self.bundle, contents={**self.bundle.contents, about.file: patch_store.dump(stored)})
            return injection.make(blank, "attack/patch_object", seed=SEED).apply(drive.x, [""] * len(drive.x)).x
        if "/" in name:
            return injection.make(self.bundle, name, seed=SEED).apply(drive.x, [""] * len(drive.x)).x
        settings = PGD(EPS, EPS / 4, STEPS)
        gray = name.startswith("gray")
        model = self.surrogate_model if gray else self.own_model
        if name.endswith("knowing"):
            if self.task == "classifier":
                network = self.surrogate if gray else self.network
                model = SignalAware(network.get_submodule("backbone"), sigma, SEED + start)
            else:
                model = EOT(model, 2, GaussianNoise(sigma, np.random.default_rng(SEED + start)))
        x = torch.from_numpy(drive.x) if gray and not isinstance(model, SignalAware) else drive.x
        return np.asarray(settings(model, x, drive.criterion, np.random.default_rng(SEED + start)), np.float32)

    def answers(self, x: Images, criterion: Criterion) -> Answers:
        """What the deployed model says about frames."""
        return self._classes(x, criterion) if self.task == "classifier" else self._boxes(x, criterion)

    def _classes(self, x: Images, criterion: Any) -> Answers:
        with torch.no_grad():
            parts = [
                self.network.get_submodule("backbone")(torch.from_numpy(x[at : at + 256]))
                for at in range(0, len(x), 256)
            ]
        embedding, logits = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
        scores = scores_of(logits, self.bundle.manifest.output.activation).astype(np.float64)
        best = scores.argmax(axis=1)
        right = (best == criterion.labels).astype(np.float64)
        return Answers(right, scores.max(axis=1), best, scores, embedding.astype(np.float64))

    def _boxes(self, x: Images, criterion: Any) -> Answers:
        manifest, found = self.bundle.manifest, []
        assert manifest.decode is not None
        size = (manifest.input.width, manifest.input.height)
        for at in range(0, len(x), 8):
            for output in self.backend.infer(normalise(x[at : at + 8], manifest.input)):
                found.append(
                    detect(
                        output,
                        manifest.decode,
                        manifest.output.activation,
                        0.0,
                        size_px=size,
                        classes=len(manifest.labels),
                    )
                )
        right, confidence = np.zeros(len(x)), np.zeros(len(x))
        for row, own in enumerate(found):
            true = criterion.labels[row] >= 0
            truth = criterion.boxes_xyxy_px[row][true], criterion.labels[row][true]
            right[row] = f1((own.boxes_xyxy_px, own.classes), truth)
            confidence[row] = own.scores.mean() if len(own.scores) else 0.0
        return Answers(right, confidence, boxes=tuple((own.boxes_xyxy_px, own.classes) for own in found))


def matched(answer: tuple[Any, Any], other: tuple[Any, Any]) -> int:
    """How many boxes of an answer, the best first, meet one of the same class in another, each once (IoU of 0.5)."""
    if not len(answer[0]) or not len(other[0]):
        return 0
    fits = (iou_matrix(np.asarray(answer[0], np.float64), np.asarray(other[0], np.float64)) >= 0.5) & (
        np.asarray(answer[1])[:, None] == np.asarray(other[1])[None]
    )
    free, count = np.ones(len(other[0]), bool), 0
    for row in fits:
        taken = np.flatnonzero(row & free)[:1]
        free[taken] = False
        count += len(taken)
    return count


def f1(answer: tuple[Any, Any], other: tuple[Any, Any]) -> float:
    """How alike two answers of a detector are, 0 to 1; 1 where neither has a box."""
    boxes = len(answer[0]) + len(other[0])
    return 2 * matched(answer, other) / boxes if boxes else 1.0


def noisy(x: Images, sigma_255: int) -> Images:
    """One noisy copy of each frame, as the node would make it."""
    return NoiseInjection(sigma_255, SEED).apply(x, ()).x


def signals(own: Answers, copy: Answers) -> dict[str, Floats]:
    """How unstable each frame is, by each signal: the higher, the more suspicious."""
    if own.boxes:
        pairs = zip(own.boxes, copy.boxes, strict=True)
        return {"answers": np.array([1 - f1(one, other) for one, other in pairs]), "control": 1 - own.confidence}
    assert own.scores is not None and copy.scores is not None and own.best is not None and copy.best is not None
    assert own.embedding is not None and copy.embedding is not None
    lengths = np.linalg.norm(own.embedding, axis=1) * np.linalg.norm(copy.embedding, axis=1)
    return {
        "class": (own.best != copy.best).astype(np.float64),
        "answers": np.abs(own.scores - copy.scores).sum(axis=1) / 2,
        "embedding": 1 - (own.embedding * copy.embedding).sum(axis=1) / np.maximum(lengths, 1e-12),
        "control": 1 - own.confidence,
    }


def threshold_of(clean: Floats) -> float:
    """The lowest value that at most 1 % of the clean frames exceed."""
    order = np.sort(clean)
    return float(order[len(order) - 1 - int(FALSE_POSITIVES * len(order))])


def auc_of(attacked: Floats, clean: Floats, weights: tuple[Floats, Floats] | None = None) -> float:
    """Probability that an attacked frame has the higher signal than a clean one; ties count half. weights: of each."""
    ours, theirs = weights or (np.ones(len(attacked)), np.ones(len(clean)))
    values, place = np.unique(np.concatenate([attacked, clean]), return_inverse=True)
    hit = np.bincount(place[: len(attacked)], ours, len(values))
    miss = np.bincount(place[len(attacked) :], theirs, len(values))
    total = hit.sum() * miss.sum()
    return float((hit * (np.cumsum(miss) - miss / 2)).sum() / total) if total else float("nan")


def auc_interval(
    attacked: Floats, clean: Floats, groups: Sequence[str], clean_groups: Sequence[str]
) -> tuple[float, float, float]:
    """The same with its 95 % interval, by resampling tracks."""
    drawn = resamples([*groups, *clean_groups], ROUNDS, SEED)
    values = [auc_of(attacked, clean, (row[: len(attacked)], row[len(attacked) :])) for row in drawn]
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return auc_of(attacked, clean), float(low), float(high)


def measure(shop: Workshop, first: Drive, second: Drive, step: int) -> tuple[int, list[Row], list[FalseAlarms]]:
    """Every condition on every `step`-th frame of the second drive; first the noise and the thresholds on the first."""
    sigmas, key = SIGMAS_255[shop.task], "embedding" if shop.task == "classifier" else "answers"
    part, clean = first.rows(slice(None, None, step)), shop.answers(first.x, first.criterion)
    deciding = shop.attacked(CHOSEN_BY[shop.task], "first", part, 0.0)
    thresholds, aucs = dict[int, dict[str, float]](), dict[int, float]()
    hit = shop.answers(deciding, part.criterion)
    fooled = hit.right < clean.right[::step]
    for sigma in sigmas:
        still = signals(clean, shop.answers(noisy(first.x, sigma), first.criterion))
        thresholds[sigma] = {name: threshold_of(values) for name, values in still.items()}
        moved = signals(hit, shop.answers(noisy(deciding, sigma), part.criterion))
        aucs[sigma] = auc_of(moved[key][fooled], still[key])
    chosen = max(aucs, key=aucs.__getitem__)
    own = shop.answers(second.x, second.criterion)
    still = {s: signals(own, shop.answers(noisy(second.x, s), second.criterion)) for s in sigmas}
    alarms = [
        FalseAlarms(shop.task, name, sigma, limit, clustered(still[sigma][name] > limit, second.groups))
        for sigma in sigmas
        for name, limit in thresholds[sigma].items()
    ]
    rows = []
    for condition in shop.conditions:
        each = step * (KNOWING_STEP[shop.task] if condition.endswith("knowing") else 1)
        attacked = second.rows(slice(None, None, each))
        x = shop.attacked(condition, "second", attacked, chosen / 255)
        hit = shop.answers(x, attacked.criterion)
        spoilt = np.flatnonzero(hit.right < own.right[::each])
        groups = [attacked.groups[row] for row in spoilt]
        for sigma in sigmas:
            for name, values in signals(hit, shop.answers(noisy(x, sigma), attacked.criterion)).items():
                over = values > thresholds[sigma][name]
                auc = auc_interval(values[spoilt], still[sigma][name], groups, second.groups) if groups else None
                caught, every = clustered(over[spoilt], groups), clustered(over, attacked.groups)
                rows.append(Row(shop.task, condition, name, sigma, len(x), len(spoilt), auc, caught, every))
        print(condition, len(spoilt), "of", len(x), file=sys.stderr)
    return chosen, rows, alarms


def drives(task: str, recipe: Any, folder: str) -> tuple[Drive, Drive, str]:
    """Both drives, and the hash of their images: halves by track of a classifier's, the order of a detector's."""
    kind = task_registry.of(recipe)
    held_back = kind.load(recipe, folder).validation
    targets = kind.training_targets(held_back)
    x = np.asarray(targets.x.numpy(), np.float32)
    if task == "classifier":
        tracks = {name: number for number, name in enumerate(sorted(set(held_back.tracks)))}
        second, groups = np.array([tracks[name] % 2 for name in held_back.tracks]) == 1, held_back.tracks
    else:
        second, groups = np.arange(len(x)) >= len(x) // 2, tuple(map(str, range(len(x))))
    whole = Drive(x, targets.criterion, tuple(groups))
    return whole.rows(np.flatnonzero(~second)), whole.rows(np.flatnonzero(second)), held_back.sha256()


def onnx_sha256(bundle: Bundle) -> str:
    """Hash of the fp32 ONNX file, by which results are named."""
    return next(model.sha256 for model in bundle.manifest.models if model.precision == "fp32")


def run(args: argparse.Namespace) -> None:
    """Measure one task and write its part of the result file."""
    torch.set_num_threads(args.threads)
    saved = checkpoint.read(args.surrogate) if args.surrogate else None
    shop = Workshop(args.task, bundles.read(BUNDLES[args.task]), saved, args.cache, time.monotonic() + args.seconds)
    recipe = recipes.read(ROOT / "trainer" / "recipes" / f"{shop.bundle.manifest.name}.yaml")
    first, second, images_sha256 = drives(args.task, recipe, args.data)
    chosen, rows, alarms = measure(shop, first, second, args.step)
    result = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "commit": provenance.commit(),
        "onnx_sha256": onnx_sha256(shop.bundle),
        "pictures_sha256": images_sha256,
        **_about_surrogate(shop, second),
        "clean": [len(first.x), len(second.x)],
        "tracks": [len(set(first.groups)), len(set(second.groups))],
        "patch": _about_patch(shop.bundle),
        "step": args.step,
        "chosen_sigma_255": chosen,
        "rows": [asdict(row) for row in rows],
        "false_alarms": [asdict(alarm) for alarm in alarms],
    }
    kept = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {"schema_version": 1, "tasks": {}}
    kept["tasks"][args.task] = _finite(result)
    RESULT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    write_page()


def _about_patch(bundle: Bundle) -> dict[str, str] | None:
    """The bundle's patch: the hash of its file, and what its maker knew."""
    for about in bundle.manifest.perturbations:
        if about.kind == "patch":
            return {"sha256": bundle.manifest.files[about.file], "knowledge": about.knowledge}
    return None


def _about_surrogate(shop: Workshop, second: Drive) -> dict[str, Any]:
    """The surrogate in words, and its accuracy on the clean frames of the second drive."""
    if shop.saved is None:
        return {"surrogate": "none", "surrogate_accuracy": None}
    answer = shop.surrogate_model.evaluate(torch.from_numpy(second.x), second.criterion, gradient=False)
    scores = np.asarray(answer.scores)
    right = scores.argmax(axis=1) == second.criterion.labels if shop.task == "classifier" else scores
    recipe = shop.saved.recipe
    words = f"{recipe.name} (seed {recipe.seed}, {shop.saved.epoch} epochs)"
    return {"surrogate": words, "surrogate_accuracy": float(right.mean())}


def _finite(value: Any) -> Any:
    """The same with None for NaN, which JSON does not have: shares of nothing."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def write_page() -> None:
    """Write the page of the result file."""
    RESULT.with_suffix(".md").write_text(page(json.loads(RESULT.read_text(encoding="utf-8"))), encoding="utf-8")


def best_rates(result: dict[str, Any]) -> dict[str, float]:
    """The highest true-positive rate over the signals of each attack (no corruption), at the chosen noise."""
    chosen = [row for row in result["rows"] if row["sigma_255"] == result["chosen_sigma_255"] and row["fooled"]]
    rows = [row for row in chosen if row["signal"] != "control"]
    attacks = [name for name, (_, knowledge) in CONDITIONS.items() if knowledge != "none"]
    rates = {name: [row["caught"]["share"] for row in rows if row["condition"] == name] for name in attacks}
    return {name: max(shares) for name, shares in rates.items() if shares}


INTRODUCTION = """\
# Does a second, noisy look reveal an attack?

`python bench/stability.py classifier --data GTSRB --surrogate RUN`, the same with `detector` and road_signs

A frame is answered again with Gaussian noise. Signals:

- `answers`: how far the two answers differ (total variation of a classifier's scores, 1 - F1 of a detector's boxes)
- `class`: the two classes differ
- `embedding`: 1 - cosine of the two embeddings
- `control`: 1 - the best score of the clean answer, of a detector the mean score; it needs no second look

The drives are the halves of one held-back set: tracks of even and of odd number, of the detector the first and the last
images. Noise and thresholds are set on the first, all figures are of the second one. The noise is the one whose main
signal (`embedding`, of a detector `answers`) has the best AUC there against PGD-10 (gray-box, of a detector white-box).
The threshold is exceeded by at most 1 % of the clean frames. Attacks have a budget of 8/255, but for the patch. An
attacker who knows the signal raises the loss over noisy copies as well, and at a classifier keeps the embeddings of an
image and its noisy copy alike.

Rates are true-positive rates among the frames whose answer the attack spoils, in % with 95 % intervals (by track).
"""


def page(kept: dict[str, Any]) -> str:
    """The Markdown page."""
    lines = [INTRODUCTION]
    for task, result in kept["tasks"].items():
        lines += [f"## {task.capitalize()}", "", *_about(task, result), "", *_table(result), "", *_alarms(result), ""]
        if task == "classifier":
            lines += [*_by_strength(result), ""]
    return "\n".join(lines)


def _about(task: str, result: dict[str, Any]) -> list[str]:
    units, best = "tracks" if task == "classifier" else "images", best_rates(result)
    name = max(best, key=best.__getitem__)
    verdict = "reached" if best[name] >= SHIPS_AT else "not reached"
    head = (
        f"{result['date']}, commit {result['commit'][:10]}",
        f"model {result['onnx_sha256'][:12]}, images {result['pictures_sha256'][:12]}",
        "no surrogate"
        if result["surrogate_accuracy"] is None
        else f"surrogate {result['surrogate']}, right on {100 * result['surrogate_accuracy']:.1f} %",
        "{} and {} clean frames of {} and {} ".format(*result["clean"], *result["tracks"]) + units,
        f"noise {result['chosen_sigma_255']}/255",
        "no patch" if result["patch"] is None else f"patch {result['patch']['sha256'][:12]}",
    )
    return [
        *(f"- {line}" for line in head),
        "",
        f"The highest rate of an attack is {100 * best[name]:.1f} % ({CONDITIONS[name][0]}). "
        f"The bar of {100 * SHIPS_AT:.0f} % is **{verdict}**.",
    ]


def _table(result: dict[str, Any]) -> list[str]:
    rows = [row for row in result["rows"] if row["sigma_255"] == result["chosen_sigma_255"]]
    names = list(dict.fromkeys(row["signal"] for row in rows))
    lines = [
        "| frames | knowledge | spoilt | " + " | ".join(f"`{name}`" for name in names) + " |",
        "|---|---|---|" + "---|" * len(names),
    ]
    for condition, (about, knowledge) in CONDITIONS.items():
        cells = {row["signal"]: row for row in rows if row["condition"] == condition}
        if cells:
            one = next(iter(cells.values()))
            if condition == PATCH:
                knowledge = result["patch"]["knowledge"]
            shown = [_share(cells[name]["caught"], cells[name]["auc"]) for name in names]
            lines.append(f"| {about} | {knowledge} | {one['fooled']} of {one['frames']} | " + " | ".join(shown) + " |")
    return lines


def _alarms(result: dict[str, Any]) -> list[str]:
    rows = [row for row in result["false_alarms"] if row["sigma_255"] == result["chosen_sigma_255"]]
    shown = [f"`{row['signal']}` {_share(row['rate'])}" for row in rows]
    return ["False alarms on clean frames of the second drive, in %: " + ", ".join(shown) + "."]


def _by_strength(result: dict[str, Any]) -> list[str]:
    lines = ["`embedding` at other strengths of noise, true-positive rate in %:", ""]
    sigmas = sorted({row["sigma_255"] for row in result["rows"]})
    lines += ["| frames | " + " | ".join(f"{sigma}/255" for sigma in sigmas) + " |", "|---|" + "---|" * len(sigmas)]
    for condition, (about, _) in CONDITIONS.items():
        cells = [row for row in result["rows"] if row["condition"] == condition and row["signal"] == "embedding"]
        lines.append(f"| {about} | " + " | ".join(_share(row["caught"]) for row in sorted(cells, key=_sigma)) + " |")
    return lines


def _sigma(row: dict[str, Any]) -> int:
    return int(row["sigma_255"])


def _share(share: dict[str, Any], auc: list[float] | None = None) -> str:
    if not share["n"]:
        return "-"
    shown = f"{100 * share['share']:.1f} [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"
    return shown + (f", AUC {auc[0]:.2f}" if auc else "")


def main() -> None:
    """Measure, or write the page again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("classifier", "detector", "page"))
    parser.add_argument("--data", help="data set of the surrogate's training")
    parser.add_argument("--surrogate", type=Path, help="run folder of the surrogate")
    parser.add_argument("--cache", type=Path, default=ROOT / "out" / "stability", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=540, help="time after which to stop (default: %(default)s)")
    parser.add_argument("--step", type=int, default=2, help="attack every STEP-th frame (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default: %(default)s)")
    args = parser.parse_args()
    if args.task == "page":
        write_page()
    elif not args.data or (not args.surrogate and args.task == "classifier"):
        parser.error("--data is needed, and of a classifier --surrogate")
    else:
        run(args)


if __name__ == "__main__":
    main()
