"""Compares our attacks with other libraries on the shipped PyTorch model: the same images, verdicts and throughput.

    pip install --no-deps -c requirements/constraints.txt -r requirements/crosscheck.txt
    python bench/attack_peers.py agreement --images 8   (FGSM, PGD and APGD, image by image)
    python bench/attack_peers.py speed                    (PGD-10 of all that are installed)

    python bench/attack_peers.py speed --device cuda --images 2000 --batch 400

Each writes its part of docs/results/attack_peers.json and, from the whole, attack_peers.md. Times are processor seconds
of one thread, so that other work on the machine does not decide, on a GPU seconds of the clock; libraries take turns on
each batch.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lisard_ros import bundle, host_cpu
from lisard_ros.attacks.apgd import APGD, apgd
from lisard_ros.attacks.gradient import PGD, fgsm, pgd, random_start
from lisard_ros.attacks.model import Criterion, Targeted, Untargeted
from lisard_ros.attacks.objective import fooled
from lisard_ros.backends.pytorch import load_network
from lisard_ros.bundle import model_choice
from lisard_trainer import data, provenance
from lisard_trainer.tasks.classification.attack_model import FastAttackModel, TorchAttackModel, fastest

SCHEMA = 1
ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "data" / "gtsrb_tracks"
RESULTS = ROOT / "docs" / "results" / "attack_peers.json"
PGD10 = PGD()
APGD_STEPS = 100  # where both programs review the step at the same places
Attack = Callable[[Tensor, Tensor], Tensor]
PEERS = ("torchattacks", "foolbox", "art")
GPU_SPEED = "speed_cuda"
AS_EVALUATED = {"speed": "lisard_ros folded", GPU_SPEED: "lisard_ros folded, graphed"}  # by part of the results
CLOCK_WORDS = {"speed": "processor time", GPU_SPEED: "the clock"}  # by part of the results
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Agreement:
    """How two libraries compare. n: images; identical: share whose images are the same within `tolerance`."""

    attack: str
    peer: str
    eps_255: float
    n: int
    identical: float
    same_verdict: float
    robust_ours: float
    robust_peer: float
    largest_loss_gap: float


@dataclass(frozen=True)
class Speed:
    """PGD-10 of one library: images per second (median of the batches) and what it leaves robust."""

    library: str
    version: str
    pictures_per_s: float
    robust: float
    batches: int


def main() -> None:
    """Run one part and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["agreement", "speed"])
    parser.add_argument("--bundle", type=Path, default=ROOT / "models" / "traffic_signs")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--eps", type=float, default=2.0, help="budget in grey levels of 255")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where `speed` attacks")
    args = parser.parse_args()
    torch.set_num_threads(1)
    # Agreement is a share of images, so none may count twice; speed may take them again to fill its batches.
    count = args.dataset if args.part == "speed" else min(args.dataset, distinct())
    network, x, own = load(args.bundle, count)
    if args.part == "agreement":
        found = [asdict(line) for line in agreement(network, x, own, args.eps)]
    else:
        found = [asdict(line) for line in speed(network.to(args.device), x, own, args.eps, args.batch)]
    part = GPU_SPEED if args.part == "speed" and args.device == "cuda" else args.part
    about = {"eps_255": args.eps, "pictures": len(x), "batch": args.batch, "lines": found}
    store(part, {**about, **origin(args.bundle, args.device)})


def distinct() -> int:
    """How many images ship."""
    return len(list(IMAGES.rglob("*.png")))


def load(folder: Path, count: int) -> tuple[nn.Module, Tensor, np.ndarray]:
    """Return the network, and images [n, 3, H, W] with classes [n], spread evenly over IMAGES.

    Where more are asked for than there are, some come again.
    """
    shipped = bundle.read(folder)
    dataset = data.read(IMAGES, shipped.manifest.input.width)
    chosen = dataset.take(np.linspace(0, len(dataset) - 1, count).astype(int))
    own = np.array([int(chosen.classes[label]) for label in chosen.labels.tolist()])
    network = load_network(shipped).requires_grad_(False).to(memory_format=torch.channels_last)
    return network, data.to_unit(chosen.images), own


# --- agreement ------------------------------------------------------------------------------------------------------


def agreement(network: nn.Module, x: Tensor, own: np.ndarray, eps_255: float) -> list[Agreement]:
    """Compare FGSM and PGD with torchattacks and APGD with pyautoattack, all from the same start."""
    attack_model, eps = TorchAttackModel(network), eps_255 / 255
    right = ~fooled(attack_model.evaluate(x, Untargeted(own), gradient=False).scores, Untargeted(own))
    x, own = x[torch.from_numpy(right)], own[right]
    compare = Comparison(attack_model, x, own, eps_255)
    lines = (
        []
        if not installed("torchattacks")
        else [
            compare.of(
                "FGSM",
                "torchattacks",
                fgsm(attack_model, x, Untargeted(own), eps),
                torchattacks_fgsm(network, eps)(x, long(own)),
            ),
            compare.of(
                "PGD-10 without random start",
                "torchattacks",
                pgd(attack_model, x, Untargeted(own), PGD(eps, eps / 4, 10, False), np.random.default_rng(0)),
                torchattacks_pgd(network, PGD(eps, eps / 4, 10, False))(x, long(own)),
            ),
        ]
    )
    if installed("pyautoattack"):
        lines += [compare_apgd(compare, name, criterion) for name, criterion in criteria(attack_model, x, own).items()]
    return lines


@dataclass(frozen=True)
class Comparison:
    """Images that the network gets right, and the budget."""

    attack_model: TorchAttackModel
    x: Tensor
    own: np.ndarray
    eps_255: float

    def of(self, attack: str, peer: str, ours: Tensor, theirs: Tensor, criterion: Criterion | None = None) -> Agreement:
        """Compare two sets of attacked images, judged by the same network; the loss is the criterion's."""
        apart = (ours - theirs).abs().flatten(1).max(dim=1).values.numpy()
        one, two = (
            self.attack_model.evaluate(made, criterion or Untargeted(self.own), gradient=False)
            for made in (ours, theirs)
        )
        held = [~fooled(answer.scores, Untargeted(self.own)) for answer in (one, two)]
        return Agreement(
            attack,
            peer,
            self.eps_255,
            len(ours),
            float((apart <= TOLERANCE).mean()),
            float((held[0] == held[1]).mean()),
            float(held[0].mean()),
            float(held[1].mean()),
            float((one.loss - two.loss).abs().max()),
        )


def criteria(attack_model: TorchAttackModel, x: Tensor, own: np.ndarray) -> dict[str, Criterion]:
    """The losses under which APGD is compared; the target is the likeliest other class."""
    scores = attack_model.evaluate(x, Untargeted(own), gradient=False).scores.numpy().copy()
    scores[np.arange(len(own)), own] = -1
    return {
        "APGD-CE": Untargeted(own),
        "APGD-DLR": Untargeted(own, "dlr"),
        "APGD-T, likeliest target": Targeted(scores.argmax(axis=1), "dlr_targeted", own),
    }


def compare_apgd(compare: Comparison, name: str, criterion: Criterion) -> Agreement:
    """Ours against pyautoattack's single run from our own random start."""
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    eps = compare.eps_255 / 255
    network = compare.attack_model._network
    ours = apgd(compare.attack_model, compare.x, criterion, APGD(eps, APGD_STEPS), np.random.default_rng(0))
    start = random_start(compare.x, eps, np.random.default_rng(0))
    options = {"n_iter": APGD_STEPS, "eps": eps, "device": "cpu"}
    if isinstance(criterion, Targeted):
        peer = APGDAttack_targeted(network, **options)
        peer.y_target = long(criterion.targets)
    else:
        peer = APGDAttack(network, loss="ce" if criterion.loss == "cross_entropy" else criterion.loss, **options)
    peer.init_hyperparam(compare.x)
    highest = peer.attack_single_run(compare.x, long(compare.own), x_init=start)[0]
    return compare.of(name, "pyautoattack", ours.x, highest, criterion)


# --- speed ----------------------------------------------------------------------------------------------------------


def speed(network: nn.Module, x: Tensor, own: np.ndarray, eps_255: float, batch: int) -> list[Speed]:
    """Let every library attack every batch in turn; the plain network for the others, as their users hand it over."""
    settings = PGD(eps_255 / 255, eps_255 / 255 / 4, PGD10.steps)
    judge, attacks = TorchAttackModel(network), contenders(network, settings)
    device = next(network.parameters()).device
    x, clock = x.to(device), CLOCKS[device.type]
    for attack in attacks.values():
        attack(x[:batch], long(own[:batch]).to(device))  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in attacks}
    held: dict[str, list[np.ndarray]] = {name: [] for name in attacks}
    for start in range(0, len(x) - batch + 1, batch):
        part, classes = x[start : start + batch], own[start : start + batch]
        for name, attack in attacks.items():
            labels, begin = long(classes).to(device), clock()
            made = attack(part, labels)
            seconds[name].append(clock() - begin)
            held[name].append(
                ~fooled(judge.evaluate(made, Untargeted(classes), gradient=False).scores, Untargeted(classes))
            )
    return [
        Speed(
            name, version(name), batch / statistics.median(times), float(np.concatenate(held[name]).mean()), len(times)
        )
        for name, times in seconds.items()
    ]


def _gpu_clock() -> float:
    """Seconds, once the GPU has done all that it was asked."""
    torch.cuda.synchronize()
    return time.perf_counter()


CLOCKS: dict[str, Callable[[], float]] = {"cpu": time.process_time, "cuda": _gpu_clock}


def contenders(network: nn.Module, settings: PGD) -> dict[str, Attack]:
    """Return ours and every library that is installed; the last line tells what the network's layout gives."""
    gpu = next(network.parameters()).is_cuda
    plain: Any = copy.deepcopy(network)
    plain = plain.to(memory_format=torch.contiguous_format).requires_grad_(True)
    found: dict[str, Attack] = {
        "lisard_ros": ours(TorchAttackModel(network), settings),
        AS_EVALUATED[GPU_SPEED if gpu else "speed"]: ours(fastest(network), settings),
        "lisard_ros folded, bf16": ours(FastAttackModel(network, folded=True, bf16=True), settings),
    }
    if gpu:
        both = FastAttackModel(network, folded=True, bf16=True, graphed=True)
        found["lisard_ros folded"] = ours(FastAttackModel(network, folded=True), settings)
        found["lisard_ros folded, bf16, graphed"] = ours(both, settings)
    makers = dict(zip(PEERS, (torchattacks_pgd, foolbox_pgd, art_pgd), strict=True))
    found |= {name: make(plain, settings) for name, make in makers.items() if installed(name)}
    if installed("torchattacks"):
        found["torchattacks on our frozen network"] = torchattacks_pgd(network, settings)
    return found


def ours(attack_model: TorchAttackModel, settings: PGD) -> Attack:
    """PGD of this package."""
    return lambda x, own: pgd(attack_model, x, Untargeted(own.cpu().numpy()), settings, np.random.default_rng(0))


def torchattacks_fgsm(network: nn.Module, eps: float) -> Attack:
    """FGSM of torchattacks."""
    import torchattacks

    attack: Attack = torchattacks.FGSM(network, eps=eps)
    return attack


def torchattacks_pgd(network: nn.Module, settings: PGD) -> Attack:
    """PGD of torchattacks."""
    import torchattacks

    attack: Attack = torchattacks.PGD(network, settings.eps, settings.step, settings.steps, settings.random_start)
    return attack


def foolbox_pgd(network: nn.Module, settings: PGD) -> Attack:
    """PGD of foolbox."""
    import foolbox

    model = foolbox.PyTorchModel(network, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(abs_stepsize=settings.step, steps=settings.steps, random_start=True)
    return lambda x, own: attack(model, x, own, epsilons=settings.eps)[1]


def art_pgd(network: nn.Module, settings: PGD) -> Attack:
    """PGD of the adversarial robustness toolbox, which takes and gives NumPy arrays."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    device = next(network.parameters()).device
    classes = int(network(torch.zeros(1, 3, 32, 32, device=device)).shape[1])
    model = PyTorchClassifier(
        network,
        nn.CrossEntropyLoss(),
        (3, 32, 32),
        classes,
        clip_values=(0.0, 1.0),
        device_type="cpu" if device.type == "cpu" else "gpu",
    )
    attack = ProjectedGradientDescentPyTorch(
        model,
        np.inf,
        settings.eps,
        settings.step,
        max_iter=settings.steps,
        num_random_init=1,
        batch_size=1024,
        verbose=False,
    )
    return lambda x, own: torch.from_numpy(attack.generate(x.cpu().numpy(), own.cpu().numpy())).to(x.device)


def long(classes: np.ndarray) -> Tensor:
    """Class indices as torch wants them."""
    return torch.from_numpy(np.asarray(classes, np.int64))


# --- results --------------------------------------------------------------------------------------------------------


def installed(library: str) -> bool:
    """Tell whether a library can be imported, and say so if it cannot."""
    try:
        importlib.import_module(library)
    except ImportError as error:
        print(f"left out: {library} ({error})", file=sys.stderr)
        return False
    return True


def version(name: str) -> str:
    """Version of the library behind a line."""
    word = name.split()[0]
    if word == "lisard_ros":
        return provenance.commit()
    return importlib.metadata.version({"art": "adversarial-robustness-toolbox"}.get(word, word))


def origin(folder: Path, on: str) -> dict[str, Any]:
    """Where the figures come from."""
    return {
        "command": "python bench/attack_peers.py " + " ".join(sys.argv[1:]),
        "commit": provenance.commit(),
        "fp32_sha256": model_choice.pick(bundle.read(folder).manifest).sha256,
        "load": os.getloadavg()[0],
        "utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "device": device(on),
        "torch": torch.__version__,
    }


def device(on: str) -> str:
    """Name of the GPU, or of the processor and whether it multiplies bfloat16 itself."""
    if on == "cuda":
        return torch.cuda.get_device_name()
    fast = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in host_cpu.flags()]
    return f"{host_cpu.cpu_name()}, one thread, {' and '.join(fast) or 'no'} bfloat16 unit"


def store(part: str, found: Mapping[str, Any]) -> None:
    """Put one part beside what other runs wrote, and render all of it."""
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"schema": SCHEMA}
    results[part] = found
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(render(results), encoding="utf-8")


def render(results: Mapping[str, Any]) -> str:
    """Return the Markdown page."""
    parts = ["# Our attacks beside other libraries\n\nGenerated from attack_peers.json by bench/attack_peers.py.\n"]
    if "agreement" in results:
        parts.append(render_agreement(results["agreement"]))
    parts += [render_speed(part, results[part], clock) for part, clock in CLOCK_WORDS.items() if part in results]
    return "\n".join(parts)


def render_agreement(part: Mapping[str, Any]) -> str:
    """Return the table of agreement."""
    head = (
        f"## Agreement\n\nImages that the network gets right, Linf {part['eps_255']:g}/255, the same start. "
        f"Identical: no pixel differs by more than {TOLERANCE:g}. The gap is that of the loss attacked.\n\n"
        "| attack | beside | images | identical, % | same verdict, % | robust, ours, % | robust, theirs, % | "
        "largest gap |\n" + "|---" * 8 + "|\n"
    )
    rows = [
        f"| {r['attack']} | {r['peer']} | {r['n']} | {100 * r['identical']:.1f} | {100 * r['same_verdict']:.1f} | "
        f"{100 * r['robust_ours']:.1f} | {100 * r['robust_peer']:.1f} | {r['largest_loss_gap']:.2g} |\n"
        for r in part["lines"]
    ]
    return head + "".join(rows) + render_origin(part)


def render_speed(name: str, part: Mapping[str, Any], clock: str) -> str:
    """Return the table of throughput; name: of the part of the results."""
    peers = [r["pictures_per_s"] for r in part["lines"] if r["library"] in PEERS]
    on = part["device"].partition(",")[0]
    again = f", {distinct()} different ones" if part["pictures"] > distinct() else ""
    head = (
        f"## Speed of PGD-{PGD10.steps} on {on}\n\n{part['pictures']} images{again}, Linf "
        f"{part['eps_255']:g}/255; images per second of {clock}, median of the batches. Others get the network "
        f"as their users hand it over; `lisard evaluate` attacks as `{AS_EVALUATED[name]}` does.\n\n"
        "| library | version | images/s | of the fastest other | robust, % |\n|---|---|---|---|---|\n"
    )
    rows = [
        f"| {r['library']} | {provenance.short(r['version'])} | {r['pictures_per_s']:.2f} | "
        f"{r['pictures_per_s'] / max(peers, default=float('nan')):.2f} | {100 * r['robust']:.1f} |\n"
        for r in part["lines"]
    ]
    return head + "".join(rows) + _about_bf16(part) + render_origin(part)


def _about_bf16(part: Mapping[str, Any]) -> str:
    rate = {r["library"]: r["pictures_per_s"] for r in part["lines"]}
    gain = rate["lisard_ros folded"] / rate["lisard_ros"]
    graphed = ", graphed" if "lisard_ros folded, graphed" in rate else ""
    share = rate[f"lisard_ros folded, bf16{graphed}"] / rate[f"lisard_ros folded{graphed}"]
    return (
        f"\nFolding batch norms into convolutions gives {gain:.2f} times the speed of the same network unfolded; "
        f"bfloat16 gives {share:.2f} times that of float32{' when both are graphed' if graphed else ''}.\n"
    )


def render_origin(part: Mapping[str, Any]) -> str:
    """Return the line of provenance."""
    return (
        f"\n`{part['command']}` · {part['utc'][:10]} · commit {provenance.short(part['commit'])} · fp32 file "
        f"{part['fp32_sha256'][:12]} · {part['device']}, load {part['load']:.1f} · torch {part['torch']}\n"
    )


if __name__ == "__main__":
    main()
