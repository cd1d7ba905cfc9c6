"""Tiny real bundles for the node's tests, run by ONNX Runtime.

Mean colour -> red, green or blue (white gives NaN), and a detector that sees the same two things in every image.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from lisard_ros import bundle as bundles
from lisard_ros.attacks import patch_store, store
from lisard_ros.attacks.placement import Placement
from lisard_ros.bundle.arrays import dump_arrays
from lisard_ros.bundle.manifest import (
    Decode,
    InputSpec,
    Manifest,
    ModelFile,
    OutputSpec,
    Perturbation,
    SelfTest,
    SelfTestCase,
    TrueBox,
    Verification,
)

LABELS = ("red", "green", "blue")
SIDE_PX = 16
COLOURS = np.array([(200, 20, 20), (20, 200, 20), (20, 20, 200)], np.uint8)


def network(sign: float = 1.0, idle_layers: int = 0) -> bytes:
    """ONNX bytes of logits = sign * 20 * mean colour; the logarithm of zero makes NaN of a white image.

    idle_layers: matrix products that take time (some 0.05 ms each) and change nothing.
    """
    names = ["widened", *(f"idle_{layer}" for layer in range(idle_layers))]
    idle = [helper.make_node("MatMul", ["mean", "widen"], ["widened"])]
    idle += [helper.make_node("MatMul", [a, "mix"], [b]) for a, b in itertools.pairwise(names)]
    idle += [
        helper.make_node("ReduceMean", [names[-1]], ["idle"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["idle", "zero"], ["nothing"]),
        helper.make_node("Add", ["out_of_colours", "nothing"], ["out"]),
    ]
    last = "out_of_colours" if idle_layers else "out"
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["mean"]),
        helper.make_node("Gemm", ["mean", "weights"], ["logits"]),
        helper.make_node("ReduceMin", ["mean"], ["darkest"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["one", "darkest"], ["below_white"]),
        helper.make_node("Log", ["below_white"], ["log"]),
        helper.make_node("Mul", ["log", "zero"], ["nan_if_white"]),
        helper.make_node("Add", ["logits", "nan_if_white"], [last]),
        *(idle if idle_layers else []),
    ]
    weights = {
        "weights": np.eye(3, dtype=np.float32) * 20 * sign,
        "one": np.ones(1, np.float32),
        "zero": np.zeros(1, np.float32),
    }
    if idle_layers:
        weights |= {"widen": np.ones((3, 512), np.float32), "mix": np.full((512, 512), 1 / 512, np.float32)}
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE_PX, SIDE_PX])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def write(folder: Path, sign: float = 1.0, images: int = 30, **changes: Any) -> Path:
    """Write the bundle with a self test and a universal perturbation; sign -1 makes a model that is always wrong."""
    labels = tuple(i % 3 for i in range(images))
    frames = np.repeat(np.repeat(COLOURS[list(labels)][:, None, None], SIDE_PX, 1), SIDE_PX, 2)
    delta = np.zeros((1, 3, SIDE_PX, SIDE_PX), np.int16)
    delta[:, 0], delta[:, 1:] = -8, 8
    values: dict[str, Any] = {
        "name": "colours",
        "task": "classification",
        "labels": LABELS,
        "input": InputSpec(width=SIDE_PX, height=SIDE_PX),
        "output": OutputSpec(name="out", activation="softmax"),
        "models": (ModelFile(file="model.onnx"),),
        "roi_classes": ("sign",),
        "self_test": SelfTest(
            frames="self_test.npz",
            labels=labels,
            suite=tuple(
                SelfTestCase(injection=name, min_accuracy=limit) for name, limit in (("clean", 0.9), ("noise", 0.5))
            ),
        ),
        "perturbations": (
            Perturbation(
                name="universal",
                file="universal.npz",
                kind="universal",
                attack="by hand",
                knowledge="white-box",
                eps_255=8,
                steps=1,
                seed=0,
                count=1,
                made_on="nothing",
            ),
        ),
    }
    files = {
        "model.onnx": network(sign),
        "self_test.npz": dump_arrays({"frames": frames}),
        "universal.npz": store.dump(delta, None),
    }
    bundles.write(folder, Manifest(**{**values, **changes}), files)
    return folder


def write_with_patch(folder: Path) -> Path:
    """The bundle with a printed patch beside its universal perturbation."""
    patch = patch_store.StoredPatch(np.stack([np.full((4, 4), level, np.uint8) for level in (0, 255, 0)]), Placement())
    bundle = bundles.read(write(folder))
    about = msgspec.structs.replace(
        bundle.manifest.perturbations[0], name="patch", kind="patch", file="patch.npz", eps_255=255
    )
    manifest = msgspec.structs.replace(bundle.manifest, perturbations=(*bundle.manifest.perturbations, about))
    bundles.write(folder, manifest, {**bundle.contents, "patch.npz": patch_store.dump(patch)}, overwrite=True)
    return folder


def write_with_int8(folder: Path) -> Path:
    """The bundle with an int8 file that was verified, and an fp32 file that is slower on every machine."""
    verified = Verification(
        against="fp32",
        backend="int8",
        pictures=30,
        attacked=30,
        pictures_sha256="",
        max_abs_difference=1e-3,
        agreement=1.0,
        clean_loss_points=0.0,
        robust_loss_points=0.0,
        clean_limit_points=1.0,
        robust_limit_points=1.5,
        passed=True,
    )
    bundle = bundles.read(write(folder))
    int8 = ModelFile(file="int8.onnx", precision="int8", scheme="u8s8", verification=verified)
    manifest = msgspec.structs.replace(bundle.manifest, models=(*bundle.manifest.models, int8))
    files = {**bundle.contents, "model.onnx": network(idle_layers=60), "int8.onnx": network()}
    bundles.write(folder, manifest, files, overwrite=True)
    return folder


def write_detector(folder: Path) -> Path:
    """A detector that sees a sign on the left and a person on the right of every image."""
    rows = np.array([[[1, 2, 7, 14, 1, 0.9, 0], [9, 2, 15, 14, 1, 0, 0.8]]], np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMean", ["mean"], ["one"], axes=[1], keepdims=1),
        helper.make_node("Unsqueeze", ["one", "axes"], ["column"]),
        helper.make_node("Mul", ["column", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "rows"], ["out"]),
    ]
    weights = {"axes": np.array([2], np.int64), "zero": np.zeros(1, np.float32), "rows": rows}
    graph = helper.make_graph(
        nodes,
        "street",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE_PX, SIDE_PX])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 2, 7])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    images = np.full((3, 32, 32, 3), 90, np.uint8)
    truth = (TrueBox(label=0, box_xyxy_px=(2, 4, 14, 28)), TrueBox(label=1, box_xyxy_px=(18, 4, 30, 28)))
    manifest = Manifest(
        name="street",
        task="detection",
        labels=("sign", "person"),
        input=InputSpec(width=SIDE_PX, height=SIDE_PX),
        output=OutputSpec(name="out", activation="none"),
        models=(ModelFile(file="model.onnx"),),
        decode=Decode(layout="xyxy_objectness_classes"),
        self_test=SelfTest(
            frames="frames.npz", labels=(truth,) * 3, suite=(SelfTestCase(injection="clean", min_accuracy=0.9),)
        ),
    )
    files = {"model.onnx": bytes(model.SerializeToString()), "frames.npz": dump_arrays({"frames": images})}
    bundles.write(folder, manifest, files)
    return folder
