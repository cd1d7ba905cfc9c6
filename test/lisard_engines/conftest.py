"""Small real networks with convolutions, bundles around them with stored perturbations, and folders of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lisard_engines.image_sets import ImageSet, of_bundle
from lisard_ros import bundle as bundles
from lisard_ros.attacks import store
from lisard_ros.bundle import Bundle
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
)
from lisard_ros.frames import pixels_sha256

settings.register_profile(
    "engines",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("engines")
SIDE_PX = 16
LABELS = ("red", "green", "blue")


def network(*, batch: int | str = "n", weight: float = 1.0, offset: float = 0.0, operator: str = "Relu") -> bytes:
    """Two convolutions with a shortcut, mean and a layer that tells the strongest colour."""
    random = np.random.default_rng(3)
    first = random.normal(0, 0.05, (8, 3, 3, 3)).astype(np.float32)
    for channel in range(3):
        first[channel, channel, 1, 1] = weight
    second = random.normal(0, 0.02, (8, 8, 3, 3)).astype(np.float32)
    head = np.zeros((8, 3), np.float32)
    head[:3, :3] = np.eye(3) * 20
    weights = {
        "W1": first,
        "b1": np.zeros(8, np.float32),
        "W2": second,
        "b2": np.zeros(8, np.float32),
        "W3": head,
        "b3": np.full(3, offset, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["images", "W1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node(operator, ["c1"], ["r1"], name="bend"),
        helper.make_node("Conv", ["r1", "W2", "b2"], ["c2"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["sum"], name="shortcut"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"], name="mean"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flat"),
        helper.make_node("Gemm", ["flat", "W3", "b3"], ["out"], name="head"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, SIDE_PX, SIDE_PX])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def detector() -> bytes:
    """A convolution that gives [N, 5 + 3, cells]: boxes that are offset by constants, then transposed to rows."""
    random = np.random.default_rng(5)
    weights = {
        "W": random.normal(0, 0.5, (8, 3, 4, 4)).astype(np.float32),
        "b": np.array([2, 2, 12, 12, 4, 0, 0, 0], np.float32),
        "shape": np.array([0, 8, -1], np.int64),
        "offset": random.uniform(0, 2, (1, 16, 8)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["images", "W", "b"], ["cells"], name="head", strides=[4, 4]),
        helper.make_node("Reshape", ["cells", "shape"], ["columns"], name="columns"),
        helper.make_node("Transpose", ["columns"], ["rows"], name="rows", perm=[0, 2, 1]),
        helper.make_node("Add", ["rows", "offset"], ["out"], name="decode"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, SIDE_PX, SIDE_PX])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 16, 8])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


def images(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Noisy images uint8 [N, 16, 16, 3], each with one dominant colour, and their label indices."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    made = random.integers(20, 100, (count, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    for image, label in zip(made, labels, strict=True):
        image[..., label] += 100
    return made, labels


@dataclass(frozen=True)
class Small:
    """Writes small bundles below a folder."""

    folder: Path
    network: Callable[..., bytes] = staticmethod(network)
    labels: tuple[str, ...] = LABELS
    side_px: int = SIDE_PX

    def bundle(self, model: bytes | None = None, name: str = "small", count: int = 24, **changes: Any) -> Bundle:
        """A classifier with reference images and a stored gray-box perturbation."""
        references, labels = images(count)
        deltas = np.random.default_rng(1).integers(-8, 9, (count, 3, SIDE_PX, SIDE_PX)).astype(np.int16)
        files = {
            "model.onnx": model or network(),
            "frames.npz": dump_arrays({"frames": references}),
            "fgsm.npz": store.dump(deltas, [pixels_sha256(p) for p in references]),
        }
        values: dict[str, Any] = {
            "name": name,
            "task": "classification",
            "labels": LABELS,
            "models": (ModelFile(file="model.onnx"),),
            "input": InputSpec(width=SIDE_PX, height=SIDE_PX),
            "output": OutputSpec(name="out", activation="softmax"),
            "perturbations": (
                Perturbation(
                    name="fgsm",
                    file="fgsm.npz",
                    kind="stored",
                    attack="fgsm",
                    knowledge="gray-box",
                    eps_255=8.0,
                    steps=1,
                    seed=0,
                    count=count,
                    made_on="surrogate",
                ),
            ),
            "self_test": SelfTest(
                frames="frames.npz",
                labels=tuple(int(i) for i in labels),
                suite=(SelfTestCase(injection="clean", min_accuracy=0.9),),
            ),
        }
        return bundles.write(self.folder / name, Manifest(**{**values, **changes}), files, overwrite=True)

    def detector(self) -> Bundle:
        """A detector with one convolution; it has no reference images."""
        manifest = Manifest(
            name="detector",
            task="detection",
            labels=LABELS,
            models=(ModelFile(file="model.onnx"),),
            input=InputSpec(width=SIDE_PX, height=SIDE_PX),
            output=OutputSpec(name="out", activation="sigmoid"),
            decode=Decode(layout="xyxy_objectness_classes", score_threshold=0.05),
        )
        return bundles.write(self.folder / "detector", manifest, {"model.onnx": detector()}, overwrite=True)

    def images(self, name: str = "images", count: int = 36, seed: int = 7) -> Path:
        """A folder LABEL/TRACK_FRAME.png of images that are not among the references."""
        made, labels = images(count, seed)
        for number, (image, label) in enumerate(zip(made, labels, strict=True)):
            path = self.folder / name / LABELS[label] / f"{number // 6:05d}_{number:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), image[:, :, ::-1])
        return self.folder / name

    def references(self, bundle: Bundle) -> ImageSet:
        """The bundle's own images."""
        return of_bundle(bundle)


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """A maker of bundles below the test's own folder."""
    return Small(tmp_path)
