"""`lisard train --smoke`: a training of seconds on shipped images, to see that everything the trainer needs works.

Images, two epochs, checkpoint, ONNX export checked against torch, one attack. Its accuracies mean nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lisard_ros.attacks.gradient import fgsm
from lisard_ros.attacks.model import Untargeted
from lisard_ros.attacks.torch_model import TorchAttackModel
from lisard_ros.errors import DataError, LisardError
from lisard_ros.evaluation.references import spread

from .. import backbones, data, recipes
from ..losses import lisard
from ..tasks.classification import export, network
from ..training import checkpoint, loop

IMAGES = Path(__file__).resolve().parents[3] / "data" / "gtsrb_tracks"
SIZE_PX = 32
USED, HELD = 2, 5  # each second image is used, and each fifth of those held back: tracks are on both sides
BATCH, MOST = 30, 600  # images
EPS = 8 / 255
SETTINGS = {
    "name": "smoke",
    "network": "resnet14n",
    "precision": "float32",
    "similarity": {"form": "normalised", "weight": 1.0, "features": 16},
    "data": {"source": "a smoke test", "size_px": SIZE_PX},
}

Say = Callable[[str], None]


def run(folder: Path, dataset: str | None, device: str, say: Say = print) -> None:
    """Does it all in the folder and tells what it does; an error names what does not work."""
    begun = time.monotonic()
    if dataset:
        # Without tracks: no figure is made, and a folder may have one track of each class, as the shipped one does.
        whole = data.load(data.Data(size_px=SIZE_PX, tracks="none"), dataset)
        split = data.Split(*(part.take(spread(np.arange(len(part)), MOST)) for part in (whole.train, whole.validation)))
    else:
        split = _shipped()
    # A batch that few images fill too.
    optimizer = {"epochs": 2, "batch_size": min(BATCH, max(2, len(split.train))), "max_lr": 0.05}
    recipe = recipes.from_mapping({**SETTINGS, "optimizer": optimizer})
    with _timed(f"2 epochs of {recipe.network} on {len(split.train)} images", say):
        made = loop.fit(recipe, split, folder, device=device, show=False)
    with _timed("checkpoint written, read back and compared", say):
        saved = _same(checkpoint.read(folder), made)
    with _timed("exported: ONNX Runtime and torch agree", say):
        export.export(saved, split, folder / "bundle", recipe.name, "lisard train --smoke")
    with _timed("FGSM at 8/255 raises the loss of the exported network", say):
        _attack(network.trained(saved), split.validation)
    say(f"smoke test passed in {time.monotonic() - begun:.0f} s; accuracy after two epochs means nothing")


@contextmanager
def _timed(what: str, say: Say) -> Iterator[None]:
    begun = time.monotonic()
    yield
    say(f"  ok {time.monotonic() - begun:5.1f} s  {what}")


def _shipped() -> data.Split:
    if not IMAGES.is_dir():
        raise DataError(
            "images of the smoke test",
            found=f"no folder {IMAGES}",
            expected="<class>/<track>_<frame>.png",
            cure="run it in a checkout, or give --data",
        )
    found = data.read(IMAGES, SIZE_PX)
    used = np.arange(0, len(found), USED)
    return data.Split(found.take(used[np.arange(len(used)) % HELD != 0]), found.take(used[::HELD]))


def _same(saved: checkpoint.Checkpoint, run: loop.Run) -> checkpoint.Checkpoint:
    own = run.for_use.state_dict()
    differing = [key for key, value in saved.network.items() if not torch.equal(value, own[key].cpu())]
    if differing or saved.epoch != run.epoch:
        raise LisardError("checkpoint", found=f"other weights than were written ({', '.join(differing)})")
    return saved


def _attack(network: backbones.Classifier, dataset: data.ImageDataset) -> None:
    x, labels = data.to_unit(dataset.images), dataset.labels
    attacked = torch.as_tensor(fgsm(TorchAttackModel(network), x, Untargeted(labels.numpy()), EPS))
    before, after = _loss(network, x, labels), _loss(network, attacked, labels)
    moved = float((attacked - x).abs().max())
    if not (after > before and moved <= EPS + 1e-6):
        raise LisardError(
            "attack", found=f"loss {before:.3f} -> {after:.3f}, moved by {moved:.4f}", expected="a higher loss"
        )


@torch.no_grad()
def _loss(network: backbones.Classifier, x: Tensor, labels: Tensor) -> float:
    return lisard.cross_entropy(network(x), labels).item()
