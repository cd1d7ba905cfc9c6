"""What the bundles of every task have in common: names of files, the ONNX export, the training card."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxslim
import torch
from torch import nn

from lisard_ros.bundle.manifest import TrainingCard
from lisard_ros.errors import LisardError

from .. import provenance
from ..training.checkpoint import Checkpoint

OPSET = 18
MODEL_FILE, WEIGHTS_FILE, FRAMES_FILE = "model.onnx", "twin.safetensors", "self_test.npz"
INPUT = "pictures"  # name of the input of every exported file


def to_onnx(network: nn.Module, width_px: int, output: str, height_px: int | None = None) -> bytes:
    """One ONNX file with a free batch size, constants folded. Without a height, images are square."""
    example = torch.zeros(2, 3, height_px or width_px, width_px)
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[output],
            dynamic_shapes=({0: batch},),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise LisardError("ONNX export", found="no program", cure="check the installed torch and onnxscript")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL_FILE
        program.save(str(path), external_data=False)
        slim = onnxslim.slim(str(path))
    onnx.checker.check_model(slim, full_check=True)
    content: bytes = slim.SerializeToString()
    return content


def card(saved: Checkpoint, training: int, validation: int, found: Mapping[str, float], command: str) -> TrainingCard:
    """The training card; training, validation: numbers of images. found: measures of the last epoch by name."""
    recipe = saved.recipe
    return TrainingCard(
        recipe=recipe.as_json(),
        data=recipe.data.source,
        data_sha256=saved.data_sha256,
        licence=recipe.data.licence,
        attribution=recipe.data.attribution,
        commit=provenance.commit(),
        seed=recipe.seed,
        command=command,
        metrics={
            "epochs": float(saved.epoch),
            "training_pictures": float(training),
            "validation_pictures": float(validation),
            **found,
            "training_seconds": sum(record.seconds for record in saved.history),
        },
    )
