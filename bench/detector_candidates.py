"""Candidates for the shipped detector beside it: AP50 by class, time, and attacks, on the held-back images.

    python bench/detector_candidates.py --data ROAD_SIGNS --candidate NAME=BUNDLE --surrogate NAME=RUN
    python bench/detector_candidates.py --page        # docs/results/detector_candidates.md from its JSON file again

`lisard evaluate` compares detectors of one input size. Here each has its own. An attacker perturbs the image that a
model receives, in its size; a surrogate of another size sees it resized, and its gradient goes back through that.
Attacks and answers are kept: the command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lisard_ros import bundle as bundles
from lisard_ros import host_cpu
from lisard_ros.attacks import store
from lisard_ros.attacks.gradient import PGD, pgd, required
from lisard_ros.attacks.mifgsm import MIFGSM, GradientSmoothing, mifgsm
from lisard_ros.attacks.model import BoxCriterion, Criterion, ModelAnswer, Transform
from lisard_ros.backends.pytorch import load_network
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import ModelFile
from lisard_ros.evaluation.average_precision import Matches, ap50s_of_classes, mean_over_classes
from lisard_ros.evaluation.statistics import interval_of, resamples
from lisard_trainer import provenance, recipes, task_registry
from lisard_trainer.data.detection import DetectionData, Scenes
from lisard_trainer.data.detection.kinds import evaluation
from lisard_trainer.evaluation import cache, versions
from lisard_trainer.evaluation.cache import Cache, ResultKey
from lisard_trainer.evaluation.draws import RowsOfAll
from lisard_trainer.evaluation.models import weights_sha256
from lisard_trainer.evaluation.runner import ImageRange, batches_of
from lisard_trainer.tasks.detection.attack_model import DetectorAttackModel
from lisard_trainer.tasks.detection.evaluation import metrics
from lisard_trainer.tasks.detection.evaluation.measuring import ATTACK_CODE, BATCH_SIZE
from lisard_trainer.tasks.exporting import INPUT
from lisard_trainer.training import checkpoint

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = "shipped"
BUNDLE = ROOT / "models" / "road_signs"
RESULTS = ROOT / "docs" / "results" / "detector_candidates.json"
SCHEMA, SEED, DRAWS = 1, 0, 1000
EPS, STEPS, STEP = 8 / 255, 10, 2 / 255  # of both attacks, as in docs/results/detector.md
ATTACKS = {"pgd": "PGD-10", "ti_fgsm": "TI-FGSM"}
ALL = "all"
SIZES_PX = (0, 12, 16, 24, 32, 64)  # lower ends of the classes of size
SIZE_SIDE_PX = 320  # box sizes are those in an input of this side
ROUNDS, WARM_UP = 200, 20
ASKED = {"ap50": 0.88, "trafficlight": 0.65, "int8_time": 1.6}


class ResizedAttackModel:
    """White box to a detector that sees images of any size resized to its own input (bilinear, with antialiasing)."""

    def __init__(self, network: nn.Module, size_px: tuple[int, int]) -> None:
        """size_px: width and height of the input."""
        self._model, self._size_px = DetectorAttackModel(network), size_px

    def evaluate(
        self, x: Tensor, criterion: Criterion, transform: Transform | None = None, *, gradient: bool = True
    ) -> ModelAnswer:
        """Loss [N], share of true boxes found [N,1], and gradient like x [N,3,H,W] in [0,1]."""
        assert isinstance(criterion, BoxCriterion)
        x = x.detach().requires_grad_(gradient)
        width, height = self._size_px
        scale = np.array([width / x.shape[3], height / x.shape[2]] * 2)
        with torch.set_grad_enabled(gradient):
            seen = transform(x) if transform else x
            own = functional.interpolate(seen, (height, width), mode="bilinear", antialias=True, align_corners=False)
        aim = replace(criterion, boxes_xyxy_px=criterion.boxes_xyxy_px * scale)
        answer = self._model.evaluate(own.detach(), aim, gradient=gradient)
        if not gradient:
            return answer
        (slope,) = torch.autograd.grad(own, x, required(answer))
        return replace(answer, gradient=slope)


@dataclass(frozen=True, eq=False)
class Detector:
    """A detector of its own input size. sha256: of its ONNX file, or of the weights of a run; recipe: its training."""

    name: str
    network: nn.Module
    size_px: tuple[int, int]
    classes: tuple[str, ...]
    sha256: str
    recipe: Mapping[str, Any]
    bundle: Bundle | None = None


def of_bundle(name: str, folder: Path) -> Detector:
    """The detector of a bundle that `lisard train` exported."""
    bundle = bundles.read(folder)
    manifest = bundle.manifest
    assert manifest.card is not None
    recipe = recipes.from_mapping(json.loads(manifest.card.recipe), manifest.name)
    network, size_px = load_network(bundle).requires_grad_(False), (manifest.input.width, manifest.input.height)
    sha256 = _entry(bundle, "fp32").sha256 or ""
    return Detector(name, network, size_px, manifest.labels, sha256, as_json(recipe), bundle)


def of_run(name: str, folder: Path) -> Detector:
    """The detector of a run."""
    saved = checkpoint.read(folder)
    network, data = task_registry.of(saved.recipe).trained_network(saved), saved.recipe.data
    size_px = (data.width_px, data.height_px)
    return Detector(name, network, size_px, saved.classes, weights_sha256(saved), as_json(saved.recipe))


def as_json(recipe: Any) -> dict[str, Any]:
    """A recipe with every key, in the names of today."""
    found: dict[str, Any] = json.loads(recipe.as_json())
    return found


def _entry(bundle: Bundle, precision: str) -> ModelFile:
    return next(model for model in bundle.manifest.models if model.precision == precision)


# Measuring ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Bench:
    """Detectors to measure, surrogates that are only attacked, and where results are kept."""

    detectors: Mapping[str, Detector]
    surrogates: Mapping[str, Detector]
    folder: str
    cache: Cache

    def scenes(self, detector: Detector) -> Scenes:
        """The held-back images in the input of a detector."""
        width, height = detector.size_px
        settings = DetectionData(width_px=width, height_px=height, classes=", ".join(detector.classes))
        return evaluation(settings, self.folder, detector.classes)[0]

    def conditions(self, detector: Detector) -> Iterator[tuple[str, str, Detector | None]]:
        """Name, attack and attacked model of every condition: clean, white-box PGD-10, and both attacks of others."""
        yield "clean", "", None
        yield "white_pgd", "pgd", detector
        for other in (*self.detectors.values(), *self.surrogates.values()):
            if other is not detector:
                yield from ((f"gray_{attack}@{other.name}", attack, other) for attack in ATTACKS)

    def matches(self, detector: Detector, scenes: Scenes, attack: str, source: Detector | None) -> Matches:
        """What the detector finds in the images, attacked or clean, and how that meets the true boxes."""
        found = []
        for batch in batches_of(len(scenes), BATCH_SIZE):
            x = np.asarray(scenes.images[batch.rows].numpy() / np.float32(255), np.float32)
            if source is not None:
                x = store.add(x, self._deltas(scenes, batch, attack, source).astype(np.int16))
            found += metrics.detect(detector.network, torch.from_numpy(x))
        return metrics.match(found, scenes, self.threshold(detector))

    def threshold(self, detector: Detector) -> float:
        """Score from which the bundle shows a box."""
        decode = detector.bundle.manifest.decode if detector.bundle else None
        return decode.score_threshold if decode else 0.0

    def _deltas(self, scenes: Scenes, batch: ImageRange, attack: str, source: Detector) -> NDArray[np.int8]:
        settings = {"attack": attack, "eps": EPS, "steps": STEPS, "step": STEP, "seed": SEED, "resized": True}
        key = ResultKey(
            "attack", source.sha256, scenes.sha256(), batch.start, batch.total, settings, versions.of(*ATTACK_CODE)
        )
        return self.cache.remember(key, lambda: {"deltas": craft(scenes, batch, attack, source)})["deltas"]


def craft(scenes: Scenes, batch: ImageRange, attack: str, source: Detector) -> NDArray[np.int8]:
    """An attack on the joint loss of `source` in grey levels, int8 [n,3,H,W], in the size of the scenes."""
    size_px = (scenes.images.shape[3], scenes.images.shape[2])
    same = size_px == source.size_px
    model = DetectorAttackModel(source.network) if same else ResizedAttackModel(source.network, source.size_px)
    x = scenes.images[batch.rows].float().div(255).contiguous()
    aim = scenes.criterion("joint", batch.rows)
    random = RowsOfAll(SEED, batch.start, batch.stop, batch.total)
    if attack == "pgd":
        made = pgd(model, x, aim, PGD(EPS, STEP, STEPS), random)
    else:
        made = mifgsm(model, x, aim, MIFGSM(EPS, STEPS, step=STEP, smoothing=GradientSmoothing()), random)
    return store.quantise(x.numpy(), made.numpy(), 255 * EPS).astype(np.int8)


def int8_matches(bench: Bench, detector: Detector, scenes: Scenes) -> Matches:
    """The same of the bundle's int8 file, on clean images."""
    session = session_of(detector, "int8")
    x = scenes.images.contiguous().numpy() / np.float32(255)
    outputs = np.concatenate([session.run(None, {INPUT: x[at : at + 1]})[0] for at in range(len(x))])
    return metrics.match(metrics.boxes_of(outputs), scenes, bench.threshold(detector))


def session_of(detector: Detector, precision: str) -> onnxruntime.InferenceSession:
    """ONNX Runtime with one thread on a file of the bundle."""
    assert detector.bundle is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    content = detector.bundle.data(_entry(detector.bundle, precision).file)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def surrogate_line(bench: Bench, surrogate: Detector) -> dict[str, Any]:
    """AP50 of a surrogate, clean and under its own attacks: one that does not fall to them proves nothing."""
    scenes = bench.scenes(surrogate)
    weights = np.concatenate([np.ones((1, len(scenes))), resamples(np.arange(len(scenes)), DRAWS, SEED)])
    found = {name: bench.matches(surrogate, scenes, name, surrogate if name else None) for name in ("", *ATTACKS)}
    own = {name or "clean": figures(matches, scenes.classes, weights)[ALL] for name, matches in found.items()}
    return {"model": surrogate.name, **{name: asdict(interval_of(values)) for name, values in own.items()}}


# Figures --------------------------------------------------------------------------------------------------------------


def figures(matches: Matches, classes: Sequence[str], weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """AP50 over all classes and of each, of all images and of every resample, [1 + DRAWS]."""
    each = ap50s_of_classes(matches, weights)
    return {ALL: mean_over_classes(each), **dict(zip(classes, each, strict=True))}


def lines(bench: Bench) -> Iterator[dict[str, Any]]:
    """AP50 of every detector, condition and class, and its paired difference to the shipped one's."""
    drawn: dict[tuple[str, str, str], NDArray[np.float64]] = {}
    for detector in bench.detectors.values():
        scenes = bench.scenes(detector)
        weights = np.concatenate([np.ones((1, len(scenes))), resamples(np.arange(len(scenes)), DRAWS, SEED)])
        found = {name: bench.matches(detector, scenes, *how) for name, *how in bench.conditions(detector)}
        if detector.name == SHIPPED:
            found |= dict(in_other_inputs(bench, detector))
        if any(model.precision == "int8" for model in _bundle(detector).manifest.models):
            found["clean_int8"] = int8_matches(bench, detector, scenes)
        for condition, matches in found.items():
            for label, values in figures(matches, scenes.classes, weights).items():
                drawn[detector.name, condition, label] = values
                line = {"model": detector.name, "condition": condition, "class": label}
                yield {**line, "ap50": asdict(interval_of(values)), **_minus_shipped(drawn, detector, line, values)}


def in_other_inputs(bench: Bench, detector: Detector) -> Iterator[tuple[str, Matches]]:
    """A detector on clean images in the inputs of the others: what the size brings without any training."""
    for size_px in dict.fromkeys(other.size_px for other in bench.detectors.values()):
        if size_px != detector.size_px:
            resized = replace(detector, size_px=size_px)
            yield input_condition(size_px), bench.matches(resized, bench.scenes(resized), "", None)


def input_condition(size_px: tuple[int, int]) -> str:
    """`clean_384x384`."""
    return f"clean_{size_px[0]}x{size_px[1]}"


def _bundle(detector: Detector) -> Bundle:
    assert detector.bundle is not None
    return detector.bundle


def _minus_shipped(
    drawn: Mapping[tuple[str, str, str], NDArray[np.float64]],
    detector: Detector,
    line: Mapping[str, str],
    values: NDArray[np.float64],
) -> dict[str, Any]:
    """Paired with the shipped detector in its condition; attacks on each other stand opposite each other.

    On clean images also with the shipped one in the same input.
    """
    condition, label = line["condition"].replace(f"@{SHIPPED}", f"@{line['model']}"), line["class"]
    if detector.name == SHIPPED:
        return {}
    pairs = {"difference": condition}
    if condition == "clean":
        pairs["difference_in_one_input"] = input_condition(detector.size_px)
    theirs = {key: drawn.get((SHIPPED, other, label)) for key, other in pairs.items()}
    return {key: asdict(interval_of(values - other)) for key, other in theirs.items() if other is not None}


def found_by_size(bench: Bench) -> Iterator[dict[str, Any]]:
    """How many true boxes of each class and size a detector finds in clean images, at the bundle's threshold."""
    for detector in bench.detectors.values():
        scenes = bench.scenes(detector)
        met = np.concatenate(bench.matches(detector, scenes, "", None).met)
        real = scenes.labels.numpy() >= 0
        labels, boxes = scenes.labels.numpy()[real], scenes.boxes.numpy()[real].astype(np.float64)
        sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)) * SIZE_SIDE_PX / max(detector.size_px)
        size = np.searchsorted(SIZES_PX, sides, side="right") - 1
        for number, label in enumerate(scenes.classes):
            for step, low in enumerate(SIZES_PX):
                own = (labels == number) & (size == step)
                about = {"model": detector.name, "class": label, "from_px": low}
                yield {**about, "boxes": int(own.sum()), "found": int(met[own].sum())}


def speed(bench: Bench) -> Iterator[dict[str, Any]]:
    """Time of one image in ONNX Runtime with one thread, all files in turns; ratio: median over rounds to shipped."""
    names = [
        (detector, model.precision)
        for detector in bench.detectors.values()
        for model in _bundle(detector).manifest.models
        if model.precision in ("fp32", "int8")
    ]
    sessions = [session_of(detector, precision) for detector, precision in names]
    random = np.random.default_rng(SEED)
    inputs = [random.random((1, 3, *reversed(detector.size_px)), np.float32) for detector, _ in names]
    times: list[list[float]] = [[] for _ in names]
    for number in range(WARM_UP + ROUNDS):
        for session, x, own in zip(sessions, inputs, times, strict=True):
            begun = time.process_time()
            session.run(None, {INPUT: x})
            if number >= WARM_UP:
                own.append((time.process_time() - begun) * 1e3)
    kept = {(detector.name, precision): own for (detector, precision), own in zip(names, times, strict=True)}
    for (name, precision), own in kept.items():
        ratio = statistics.median(mine / base for mine, base in zip(own, kept[SHIPPED, precision], strict=True))
        about = {"model": name, "precision": precision, "p50_ms": round(statistics.median(own), 3)}
        yield {**about, "ratio": round(ratio, 3)}


def measure(bench: Bench) -> dict[str, Any]:
    """Everything that the page shows."""
    scenes = bench.scenes(bench.detectors[SHIPPED])
    return {
        "schema": SCHEMA,
        "commit": provenance.commit(),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "device": f"{host_cpu.cpu_name()}, torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}",
        "images": len(scenes),
        "boxes": dict(zip(scenes.classes, scenes.counts(), strict=True)),
        "images_sha256": scenes.sha256(),
        "models": [
            {
                "name": detector.name,
                "role": "surrogate" if detector.name in bench.surrogates else "detector",
                "sha256": detector.sha256,
                "recipe": detector.recipe,
            }
            for detector in (*bench.detectors.values(), *bench.surrogates.values())
        ],
        "surrogates": [surrogate_line(bench, surrogate) for surrogate in bench.surrogates.values()],
        "lines": list(lines(bench)),
        "sizes": list(found_by_size(bench)),
        "speed": list(speed(bench)),
    }


# The page -------------------------------------------------------------------------------------------------------------


def page(report: Mapping[str, Any]) -> str:
    """The page of the JSON file."""
    lines_ = {(one["model"], one["condition"], one["class"]): one for one in report["lines"]}
    names = [one["name"] for one in report["models"] if one["role"] == "detector"]
    labels = [ALL, *report["boxes"]]
    blocks = [
        "# Candidates for the shipped detector",
        f"{report['images']} held-back images with {sum(report['boxes'].values())} boxes. `{SHIPPED}` is "
        "`models/road_signs`. AP50 in %, 95 % bootstrap intervals over images; differences are paired image by image. "
        "One seed each.",
        "This page is generated by `bench/detector_candidates.py` from `detector_candidates.json`. "
        f"{report['device']}, commit `{report['commit'][:12]}`, {report['date']}.",
        "## What the issue asked",
        _table(["what", "asked", *(f"`{name}`" for name in names)], _asked(report, lines_, names)),
        "## AP50 of clean images",
        _table(["model", *labels], _clean(lines_, names, labels)),
        "## True boxes that are found, by size",
        f"Size: the square root of the area in an input of {SIZE_SIDE_PX}x{SIZE_SIDE_PX} px. Found: an answer of the "
        "class at the bundle's threshold. An input rounds the sides of an image, so a box near a bound can lie on "
        "either side of it.",
        _table(["class", "model", *(f"from {low} px" for low in SIZES_PX)], _sizes(report, names)),
        "## AP50 under attack",
        "Budget 8/255 on the joint loss, 10 steps of 2/255. White-box: on the model itself. Gray-box: on another "
        "detector, through a resize where its input has another size. Two detectors that attack each other stand "
        "opposite each other: the difference is between what each keeps under the attack made on the other.",
        _table(["model", "attack", "AP50", f"minus `{SHIPPED}`, points"], _attacks(report, lines_, names)),
        *_surrogates(report),
        "## Time of one image",
        "ONNX Runtime, one thread, all files in turns; the ratio is the median over rounds.",
        _table(["model", "file", "ms", f"times `{SHIPPED}`"], _speed(report)),
        "## What was trained",
        _table(["model", "role", "input", "activation", "seed", "epochs", "first weights", "sha256"], _models(report)),
    ]
    return "\n\n".join(blocks) + "\n"


def _asked(report: Mapping[str, Any], lines_: Mapping[Any, Any], names: Sequence[str]) -> list[list[str]]:
    times = {one["model"]: one["ratio"] for one in report["speed"] if one["precision"] == "int8"}
    rows = [
        [f"AP50, {label}", f"{100 * ASKED[key]:.0f}", *(_share(lines_[name, "clean", label]["ap50"]) for name in names)]
        for key, label in (("ap50", ALL), ("trafficlight", "trafficlight"))
    ]
    ratios = [f"{times[name]:.2f}" if name in times else "–" for name in names]
    return [*rows, ["int8 time", f"{ASKED['int8_time']:.1f}", *ratios]]


def _clean(lines_: Mapping[Any, Any], names: Sequence[str], labels: Sequence[str]) -> list[list[str]]:
    rows = []
    for name in names:
        conditions = dict.fromkeys(condition for model, condition, _ in lines_ if model == name)
        for condition in conditions:
            if condition.startswith("clean"):
                what = {"clean": "", "clean_int8": ", int8"}.get(condition, f" in {condition.removeprefix('clean_')}")
                cells = [_share(lines_[name, condition, label]["ap50"]) for label in labels]
                rows.append([f"`{name}`{what}", *cells])
        for key, what in (("difference", ""), ("difference_in_one_input", " in the same input")):
            own = [lines_[name, "clean", label].get(key) for label in labels]
            if own[0]:
                rows.append([f"`{name}` minus `{SHIPPED}`{what}", *(_points(one) for one in own)])
    return rows


def _sizes(report: Mapping[str, Any], names: Sequence[str]) -> list[list[str]]:
    counts = {(one["class"], one["model"], one["from_px"]): one for one in report["sizes"]}
    rows = []
    for label in report["boxes"]:
        for name in names:
            own = [counts[label, name, low] for low in SIZES_PX]
            cells = [f"{one['found']} of {one['boxes']}" if one["boxes"] else "–" for one in own]
            rows.append([label, f"`{name}`", *cells])
    return rows


def _attacks(report: Mapping[str, Any], lines_: Mapping[Any, Any], names: Sequence[str]) -> list[list[str]]:
    rows = []
    conditions = dict.fromkeys(one["condition"] for one in report["lines"])
    for condition in conditions:
        if condition.startswith("clean"):
            continue
        for name in names:
            line = lines_.get((name, condition, ALL))
            if line:
                minus = _points(line["difference"]) if "difference" in line else "–"
                rows.append([f"`{name}`", title(condition), _share(line["ap50"]), minus])
    return rows


def title(condition: str) -> str:
    """`gray-box TI-FGSM of NAME` for `gray_ti_fgsm@NAME`."""
    kind, _, rest = condition.partition("_")
    attack, _, source = rest.partition("@")
    return f"{kind}-box {ATTACKS[attack]}" + (f" of `{source}`" if source else "")


def _surrogates(report: Mapping[str, Any]) -> list[str]:
    if not report["surrogates"]:
        return []
    rows = [[f"`{one['model']}`", *(_share(one[name]) for name in ("clean", *ATTACKS))] for one in report["surrogates"]]
    heads = ["model", "clean", *ATTACKS.values()]
    return ["Surrogates, and what their own attacks leave of them:", _table(heads, rows)]


def _speed(report: Mapping[str, Any]) -> list[list[str]]:
    return [
        [f"`{one['model']}`", one["precision"], f"{one['p50_ms']:.2f}", f"{one['ratio']:.2f}"]
        for one in report["speed"]
    ]


def _models(report: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for one in report["models"]:
        recipe = one["recipe"]
        size = f"{recipe['data']['width_px']}x{recipe['data']['height_px']}"
        first = recipe["init"]["weights"] or "random"
        about = [recipe["activation"], str(recipe["seed"]), str(recipe["optimizer"]["epochs"]), f"`{first}`"]
        rows.append([f"`{one['name']}`", one["role"], size, *about, one["sha256"][:12]])
    return rows


def _share(found: Mapping[str, float]) -> str:
    return f"{100 * found['value']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def _points(found: Mapping[str, float]) -> str:
    return f"{100 * found['value']:+.1f} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def main() -> int:
    """Measures and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of road_signs")
    parser.add_argument("--candidate", action="append", default=[], metavar="NAME=BUNDLE", help="a bundle to compare")
    parser.add_argument("--surrogate", action="append", default=[], metavar="NAME=RUN", help="an attacker's network")
    parser.add_argument("--page", action="store_true", help="write the page from its JSON file alone")
    args = parser.parse_args()
    if not args.page:
        if args.data is None:
            parser.error("--data is needed")
        pairs, runs = ([word.split("=", 1) for word in words] for words in (args.candidate, args.surrogate))
        detectors = {SHIPPED: of_bundle(SHIPPED, BUNDLE), **{name: of_bundle(name, Path(at)) for name, at in pairs}}
        surrogates = {name: of_run(name, Path(at)) for name, at in runs}
        report = measure(Bench(detectors, surrogates, args.data, Cache(cache.default_folder())))
        RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
