"""One training step of several variants, alone or as one of two gloo processes: `two_processes.py RANK SIZE FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, distributed

from lisard_trainer import data, recipes
from lisard_trainer.tasks.classification.evaluation import metrics
from lisard_trainer.training import loop
from lisard_trainer.training.distributed import Team

IMAGES = Path(__file__).resolve().parents[2] / "data" / "gtsrb_tracks"
BATCH, SIZE_PX = 32, 8
LISARD = {"similarity": {"form": "official", "temperature": 10.0}, "loss": {"alpha": "constant", "alpha_value": 0.5}}
VARIANTS = {
    "ce": {"views": 1},
    "lisard_joined": {**LISARD, "forward": "joined"},
    "lisard_separate": {**LISARD, "forward": "separate"},
    "lisard_normalised_projector": {"similarity": {"form": "normalised", "projector": "used", "projector_width": 32}},
    "lisard_dead_projector": {"similarity": {**LISARD["similarity"], "projector": "dead", "projector_width": 32}},
    "dual_batch_norm": {**LISARD, "forward": "separate", "batch_norm": "dual"},
    "double_backward": {"views": 1, "gradient": {"form": "l1", "weight": 0.1}},
    "linear": {"forward": "separate", "gradient": {"form": "logit_extrapolation", "share": 0.5, "distance_255": 0.5}},
    "slope": {"gradient": {"form": "slope", "share": 0.25, "distance_255": 0.5}},
    "curvature": {"views": 1, "gradient": {"form": "curvature", "share": 0.5, "weight": 0.1}},
    "stages": {"similarity": {"form": "normalised", "layers": "stages", "features": 8}},
    "kl": {"consistency": {"form": "kl"}},
}


def split() -> data.Split:
    """Shipped images, small; those held back have no part in a step."""
    found = data.read(IMAGES, SIZE_PX)
    return data.Split(found.take(np.arange(0, 2 * BATCH)), found.take(np.arange(256, len(found))))


def one_step(images: data.Split, variant: str, team: Team) -> dict[str, Tensor]:
    """Losses, parameter gradients and the state after one step, the same on every process."""
    settings = {"name": variant, "network": "resnet14n", "precision": "float64", "data": {"size_px": SIZE_PX}}
    optimizer = {"batch_size": BATCH, "epochs": 2, "max_lr": 0.1}
    recipe = recipes.from_mapping({**settings, "optimizer": optimizer, **VARIANTS[variant]})
    run = loop.start(recipe, images, Path("no run folder"), team=team)
    run.network.train()
    loss = loop.step(run, torch.arange(BATCH))
    found = {"loss": team.mean(loss.total), "parts": team.mean(loss.parts)}
    found |= {f"gradient.{n}": p.grad for n, p in run.network.named_parameters() if p.grad is not None}
    found |= {f"after.{n}": value.double() for n, value in run.network.state_dict().items()}
    share = metrics.accuracy(run.network, images.validation, run.device, run.precision, team=team)
    found["accuracy"] = torch.tensor(share, dtype=torch.float64)
    return {
        f"{variant}/{name}": value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in found.items()
    }


def every_variant(team: Team) -> dict[str, Tensor]:
    """All variants, one after the other."""
    images = split()
    return {name: value for variant in VARIANTS for name, value in one_step(images, variant, team).items()}


def main() -> None:
    """Meets the other process over a file, and leaves what each found."""
    rank, size, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size)
    save_file(every_variant(Team(rank, size)), folder / f"{rank}.safetensors")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
