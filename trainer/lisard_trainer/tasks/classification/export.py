"""From a checkpoint to a model bundle: ONNX, PyTorch weights, reference images for the self test, training card.

The ONNX file is only written if ONNX Runtime and torch agree on real images.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors.torch import save
from torch import Tensor, nn

from lisard_ros import bundle as bundles
from lisard_ros import injection
from lisard_ros.bundle.arrays import dump_arrays
from lisard_ros.bundle.manifest import Architecture, InputSpec, Manifest, ModelFile, OutputSpec, SelfTest, SelfTestCase
from lisard_ros.errors import LisardError
from lisard_ros.evaluation import self_test_limits
from lisard_ros.evaluation.references import spread

from ... import backbones, data
from ...data import labels
from ...training.checkpoint import Checkpoint
from ..base import Exported
from ..exporting import FRAMES_FILE, INPUT, MODEL_FILE, WEIGHTS_FILE, card, round_filters, to_onnx
from . import network as networks

OUTPUT = "logits"
PARITY_IMAGES = 256
PARITY_LIMIT = 1e-4  # largest difference of a logit; measured 1e-6 to 1e-5
SELF_TEST_PER_CLASS = 2


def export(saved: Checkpoint, split: data.Split, folder: Path, name: str, command: str) -> Exported:
    """Writes the bundle `folder`; replaces a bundle that is there."""
    network = networks.trained(saved)
    weights = round_filters(network)
    model = to_onnx(network, saved.recipe.data.size_px, OUTPUT)
    parity = check_parity(network, model, data.to_unit(split.validation.images[:PARITY_IMAGES]))
    chosen = split.validation.take(reference_positions(split.validation, SELF_TEST_PER_CLASS))
    contents = {
        MODEL_FILE: model,
        WEIGHTS_FILE: save(weights),
        FRAMES_FILE: dump_arrays({"frames": chosen.images.permute(0, 2, 3, 1).contiguous().numpy()}),
    }
    manifest = describe(saved, split, name, command, network, chosen)
    return Exported(bundles.write(folder, manifest, contents, overwrite=True), f"{parity:.1e} at most")


def check_parity(network: nn.Module, model: bytes, dataset: Tensor) -> float:
    """Largest difference of a logit on real images [N,3,H,W] in [0,1], for batches of 1 and of N."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = network(dataset).numpy()
    whole = session.run([OUTPUT], {INPUT: dataset.numpy()})[0]
    single = session.run([OUTPUT], {INPUT: dataset[:1].numpy()})[0]
    worst = float(max(np.abs(whole - expected).max(), np.abs(single - expected[:1]).max()))
    if not worst <= PARITY_LIMIT:
        raise LisardError("ONNX file", found=f"logits that differ by {worst:.2g}", expected=f"at most {PARITY_LIMIT}")
    return worst


def reference_positions(dataset: data.ImageDataset, per_class: int) -> np.ndarray:
    """The middle frames of each class's images, spread evenly, if it has any: always the same ones."""
    labels = dataset.labels.numpy()
    by_class = [np.flatnonzero(labels == label) for label in range(len(dataset.classes))]
    return np.concatenate([spread(positions, per_class) for positions in by_class])


def describe(
    saved: Checkpoint,
    split: data.Split,
    name: str,
    command: str,
    network: backbones.Classifier,
    chosen: data.ImageDataset,
) -> Manifest:
    """Everything of bundle.json but the hashes."""
    size = saved.recipe.data.size_px
    measures = {"validation_accuracy": saved.history[-1].validation_accuracy}
    # Clean and noisy reference images; stored attacks are added by `lisard attack make`.
    x, suite = data.to_unit(chosen.images), []
    noisy = injection.NoiseInjection(injection.DEFAULT_NOISE_SIGMA_255, seed=0).apply(x.numpy(), ()).x
    for injected, view in ((injection.CLEAN, x), (injection.NOISE, torch.from_numpy(noisy))):
        limit = self_test_limits.limit(share(network, view, chosen.labels))
        suite.append(SelfTestCase(injection=injected, min_accuracy=limit))
    return Manifest(
        name=name,
        task="classification",
        labels=labels.of(saved.recipe.data.labels, split.validation),
        input=InputSpec(width=size, height=size),
        output=OutputSpec(name=OUTPUT, activation="softmax"),
        models=(ModelFile(file=MODEL_FILE),),
        roi_classes=tuple(labels.groups(saved.recipe.data.labels)),
        roi_groups=labels.groups(saved.recipe.data.labels),
        roi_margin=labels.margin(saved.recipe.data.labels),
        architecture=Architecture(name=saved.recipe.network, arguments=backbones.arguments(network.backbone)),
        twin=WEIGHTS_FILE,
        self_test=SelfTest(frames=FRAMES_FILE, labels=tuple(chosen.labels.tolist()), suite=tuple(suite)),
        card=card(saved, len(split.train), len(split.validation), measures, command),
    )


@torch.no_grad()
def share(network: nn.Module, dataset: Tensor, own: Tensor) -> float:
    """Share of images whose highest logit is their label."""
    return float((network(dataset).argmax(1) == own).float().mean())
