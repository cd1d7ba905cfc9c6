"""Short trainings of the narrow network that compare recipes against gray-box images of the trained surrogate.

    python bench/recipe_trials.py --data DATA --surrogate runs/traffic_signs_surrogate white slight

Five epochs and one seed decide little: the figures only choose what is trained in full.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lisard_ros.attacks import store
from lisard_ros.attacks.gradient import PGD, fgsm, pgd
from lisard_ros.attacks.model import Untargeted
from lisard_ros.attacks.torch_model import TorchAttackModel
from lisard_trainer import backbones, data, recipes, task_registry
from lisard_trainer.tasks.classification import export
from lisard_trainer.training import checkpoint, loop

EPS_255 = 8
STRONG: dict[str, Any] = {"sigma_low": 0.25, "sigma_high": 0.25}
TERM = {"form": "normalised", "weight": 2.0, "off_weight": 0.0}
MIXED = {"sigma_low": 0.0, "sigma_high": 0.3, "cell_px": [1, 2, 4], "sign_share": 0.3, "grey_share": 0.3}
TRIALS: dict[str, dict[str, Any]] = {
    "plain": {"views": 1},
    "published": {},
    "white": {"noise": STRONG},
    "mixed": {"noise": MIXED},
    "slight": {"noise": {**STRONG, "first_view_high": 0.1}},
    "slight_and_term": {"noise": {**STRONG, "first_view_high": 0.1}, "similarity": TERM},
}
COMMON: dict[str, Any] = {
    "network": "resnet14n",
    "augment": {"early_px": 24, "early_share": 0.5},
    "optimizer": {"epochs": 5, "batch_size": 64, "max_lr": 0.1, "warmup_fraction": 0.1},
}


def main() -> None:
    """Prints accuracy in percent: clean, gray-box FGSM, gray-box PGD-10."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--surrogate", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/trials"))
    parser.add_argument("trials", nargs="+", choices=sorted(TRIALS))
    args = parser.parse_args()
    surrogate = checkpoint.read(args.surrogate)
    split = task_registry.of(surrogate.recipe).load(surrogate.recipe, args.data)
    views = attacked(surrogate, split.validation)
    for name in args.trials:
        recipe = recipes.from_mapping({"name": name, **COMMON, **TRIALS[name]})
        network = backbones.Classifier(loop.fit(recipe, split, args.out / name).network).eval()
        shares = [100 * export.share(network, x, split.validation.labels) for x in views]
        print(name, " ".join(f"{share:.1f}" for share in shares), flush=True)


def attacked(surrogate: checkpoint.Checkpoint, dataset: data.ImageDataset) -> list[torch.Tensor]:
    """The images clean, after FGSM and after PGD-10, on the 8-bit grid."""
    x, criterion = data.to_unit(dataset.images), Untargeted(dataset.labels.numpy())
    model = TorchAttackModel(export.classifier(surrogate))
    made = [fgsm(model, x, criterion, EPS_255 / 255), pgd(model, x, criterion, PGD(), np.random.default_rng(0))]
    clean = x.numpy()
    return [x] + [torch.from_numpy(store.add(clean, store.quantise(clean, y.numpy(), EPS_255))) for y in made]


if __name__ == "__main__":
    main()
