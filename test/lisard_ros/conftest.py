"""What the tests of the runtime core share: tiny real networks, bundles around them, recordings, real road images.

The classifier averages each colour channel and multiplies: a red image is `red`. ONNX Runtime runs it for real.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lisard_ros import bundle as bundles
from lisard_ros.attacks import store
from lisard_ros.bags.messages import CLASSIFICATION, COMPRESSED_IMAGE, DETECTIONS, IMAGE, typestore
from lisard_ros.bags.reader import open_bag
from lisard_ros.bags.writer import BagWriter, JpegImage, LabelledBox, boxes_message, header
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.arrays import dump_arrays
from lisard_ros.bundle.manifest import (
    Decode,
    InputSpec,
    Layout,
    Manifest,
    ModelFile,
    OutputSpec,
    Perturbation,
    SelfTest,
    SelfTestCase,
    TrueBox,
)
from lisard_ros.frames import Frame, pixels_sha256
from lisard_ros.inference.pipeline import Pipeline, Settings, open_pipeline

ROOT = Path(__file__).resolve().parents[2]
LABELS = ("red", "green", "blue")
SIDE_PX = 16
GAIN = 20.0

settings.register_profile(
    "core",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("core")
cv2.setNumThreads(1)


def _model(nodes: list[Any], weights: dict[str, NDArray[Any]], batch: int | str, output: list[int | str]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, SIDE_PX, SIDE_PX])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, output)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def classifier_onnx(weights: NDArray[np.float32] | None = None, *, batch: int | str = "n") -> bytes:
    """ONNX bytes of mean colour [N, 3] @ weights [3, C]; NaN for an image that is white all over."""
    matrix = np.eye(3, dtype=np.float32) * GAIN if weights is None else np.asarray(weights, np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["mean"]),
        helper.make_node("MatMul", ["mean", "W"], ["logits"]),
        helper.make_node("ReduceMin", ["mean"], ["darkest"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["one", "darkest"], ["below_white"]),
        helper.make_node("Log", ["below_white"], ["log"]),
        helper.make_node("Mul", ["log", "zero"], ["nan_if_white"]),
        helper.make_node("Add", ["logits", "nan_if_white"], ["out"]),
    ]
    constants = {"W": matrix, "one": np.float32(1).reshape(1), "zero": np.float32(0).reshape(1)}
    return _model(nodes, constants, batch, [batch, matrix.shape[1]])


def detector_onnx(rows: NDArray[np.float32], slope: float | NDArray[np.float32] = 0.0) -> bytes:
    """ONNX bytes of a detector that gives `rows` [boxes, 5 + C] (or [4 + C, boxes]) for every image.

    slope: like `rows`; what the image's mean brightness adds.
    """
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "axes"], ["column"]),
        helper.make_node("Mul", ["column", "slope"], ["own"]),
        helper.make_node("Add", ["own", "rows"], ["out"]),
    ]
    constants = {
        "axes": np.array([1, 2], np.int64),
        "slope": np.broadcast_to(np.float32(slope), (1, *rows.shape)).copy(),
        "rows": np.asarray(rows, np.float32)[None],
    }
    return _model(nodes, constants, "n", ["n", *rows.shape])


@dataclass(frozen=True)
class Tiny:
    """Writes small bundles below a folder; each call makes a new one unless it is named."""

    folder: Path
    labels: tuple[str, ...] = LABELS
    side_px: int = SIDE_PX
    gain: float = GAIN
    classifier_onnx: Any = field(default=staticmethod(classifier_onnx))
    detector_onnx: Any = field(default=staticmethod(detector_onnx))

    def manifest(self, **changes: Any) -> Manifest:
        """The manifest of the plain classifier, with changes."""
        values: dict[str, Any] = {
            "name": "tiny",
            "task": "classification",
            "labels": self.labels,
            "input": InputSpec(width=SIDE_PX, height=SIDE_PX),
            "output": OutputSpec(name="out", activation="softmax"),
            "models": (ModelFile(file="model.onnx"),),
        }
        return Manifest(**{**values, **changes})

    def classifier(
        self,
        name: str = "classifier",
        model: bytes | None = None,
        files: dict[str, bytes] | None = None,
        **changes: Any,
    ) -> Bundle:
        """A classifier bundle on disk."""
        contents = {"model.onnx": classifier_onnx() if model is None else model, **(files or {})}
        return bundles.write(self.folder / name, self.manifest(**changes), contents, overwrite=True)

    def detector(
        self,
        rows: NDArray[np.float32],
        layout: Layout = "xyxy_objectness_classes",
        name: str = "detector",
        decode: dict[str, Any] | None = None,
        files: dict[str, bytes] | None = None,
        **changes: Any,
    ) -> Bundle:
        """A detector bundle that answers every image with the same rows; scores are given as they are."""
        values: dict[str, Any] = {
            "task": "detection",
            "decode": Decode(layout=layout, **(decode or {})),
            "output": OutputSpec(name="out", activation="none"),
        }
        return self.classifier(name, detector_onnx(rows), files, **{**values, **changes})

    def armed_detector(self, name: str = "armed_detector", **changes: Any) -> Bundle:
        """A detector of two boxes that grow faint in the dark, with four reference images and a self test.

        The stored perturbation darkens: the second box falls below the threshold. Boxes are in pixels of the images,
        which are twice as large as the input.
        """
        rows = np.array([[1, 2, 7, 14, 0, 0.9, 0, 0], [9, 2, 15, 14, 0, 0, 0.8, 0]], np.float32)
        slope = np.zeros_like(rows)
        slope[:, 4] = 1.0
        brightness = 100 + np.arange(4, dtype=np.uint8)
        images = np.broadcast_to(brightness[:, None, None, None], (4, 2 * SIDE_PX, 2 * SIDE_PX, 3)).copy()
        darker = np.full((4, 3, SIDE_PX, SIDE_PX), -8, np.int16)
        files = {
            "references.npz": dump_arrays({"frames": images}),
            "stored.npz": store.dump(darker, [pixels_sha256(image) for image in images]),
        }
        both = (TrueBox(label=0, box_xyxy_px=(2, 4, 14, 28)), TrueBox(label=1, box_xyxy_px=(18, 4, 30, 28)))
        limits = {"clean": 1.0, "noise": 0.9, "pgd": 0.5}
        values: dict[str, Any] = {
            "perturbations": (
                Perturbation(
                    name="pgd",
                    file="stored.npz",
                    kind="stored",
                    count=4,
                    attack="pgd",
                    knowledge="gray-box",
                    eps_255=8.0,
                    steps=10,
                    seed=0,
                    made_on="surrogate",
                ),
            ),
            "self_test": SelfTest(
                frames="references.npz",
                labels=(both,) * 4,
                suite=tuple(SelfTestCase(injection=name, min_accuracy=limit) for name, limit in limits.items()),
            ),
        }
        values["decode"] = Decode(layout="xyxy_objectness_classes", score_threshold=0.3)
        return self.classifier(
            name,
            detector_onnx(rows, slope),
            files,
            **{
                "task": "detection",
                "output": OutputSpec(name="out", activation="none"),
                **values,
                **changes,
            },
        )

    def armed(self, name: str = "armed", weights: NDArray[np.float32] | None = None, **changes: Any) -> Bundle:
        """A classifier with reference images, a stored and a universal perturbation, and a self test over them."""
        images, indices = reference_images()
        stored = np.full((len(images), 3, SIDE_PX, SIDE_PX), 8, np.int16)
        stored[:, 0] = -8
        keys = [pixels_sha256(image) for image in images]
        files = {
            "references.npz": dump_arrays({"frames": images}),
            "stored.npz": store.dump(stored, keys),
            "universal.npz": store.dump(stored[:1], None),
        }
        about: dict[str, Any] = {
            "attack": "fgsm",
            "knowledge": "gray-box",
            "eps_255": 8.0,
            "steps": 1,
            "seed": 0,
            "made_on": "surrogate",
        }
        suite = ("clean", "noise", "fgsm", "universal")
        values: dict[str, Any] = {
            "perturbations": (
                Perturbation(name="fgsm", file="stored.npz", kind="stored", count=len(images), **about),
                Perturbation(name="universal", file="universal.npz", kind="universal", count=1, **about),
            ),
            "self_test": SelfTest(
                frames="references.npz",
                labels=tuple(int(i) for i in indices),
                suite=tuple(SelfTestCase(injection=name, min_accuracy=0.9) for name in suite),
            ),
        }
        return self.classifier(name, classifier_onnx(weights), files, **{**values, **changes})

    def references(self) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
        """The reference images of `armed`, with their label indices."""
        return reference_images()

    def pipeline(self, bundle: Bundle, **settings_of_answer: Any) -> Pipeline:
        """The bundle on ONNX Runtime with one thread."""
        return open_pipeline(bundle.path, threads=1, settings=Settings(**settings_of_answer))

    def with_manifest(self, bundle: Bundle, **changes: Any) -> Path:
        """The bundle's folder after its bundle.json was edited by hand (dict keys of the top level)."""
        content = {**msgspec.json.decode(bundle.manifest_bytes), **changes}
        (bundle.path / "bundle.json").write_bytes(msgspec.json.encode(content))
        return bundle.path


def reference_images() -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """Twelve noisy images uint8 [12, 20, 20, 3], each of one dominant colour, with their label indices."""
    random = np.random.default_rng(0)
    indices = np.arange(12) % 3
    images = random.integers(20, 100, (12, 20, 20, 3), dtype=np.uint8)
    for image, index in zip(images, indices, strict=True):
        image[..., index] += 120
    return images, indices


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    """A maker of bundles below the test's own folder."""
    return Tiny(tmp_path)


@pytest.fixture(scope="session")
def road_frames() -> tuple[Frame, ...]:
    """Eight real road images of data/road_signs (CC0), 300x400 or so, decoded to BGR."""
    with open_bag(ROOT / "data" / "road_signs") as bag:
        frames = [item.frame for item, _ in zip(bag.frames(), range(8), strict=False)]
    return tuple(frame for frame in frames if frame is not None)


@pytest.fixture
def coloured() -> tuple[Frame, ...]:
    """The reference images as frames."""
    return tuple(Frame(p, "rgb", n, "camera", "front") for n, p in enumerate(reference_images()[0]))


# --- small recordings, written with rosbags ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Recording:
    """Writes bags below a folder."""

    folder: Path

    def write(self, name: str, messages: Sequence[tuple[str, str, int, Any]], *, mcap: bool = True) -> Path:
        """messages: (topic, type, stamp in ns, message or serialised bytes)."""
        store = typestore()
        path = self.folder / name
        with BagWriter(path, store, mcap=mcap) as bag:
            for topic, kind, stamp_ns, message in messages:
                if isinstance(message, bytes):
                    bag.write_raw(topic, kind, stamp_ns, message)
                else:
                    bag.write(topic, kind, stamp_ns, message)
        return path

    @staticmethod
    def raw(rgb: NDArray[np.uint8], stamp_ns: int, topic: str = "/front/image_raw", missing_bytes: int = 0) -> Any:
        """An rgb8 image, possibly cut short."""
        store = typestore()
        height, width = rgb.shape[:2]
        data = rgb.reshape(-1)
        message = store.types[IMAGE](
            header=header(store, stamp_ns, "front"),
            height=height,
            width=width,
            encoding="rgb8",
            is_bigendian=0,
            step=3 * width,
            data=data[: len(data) - missing_bytes],
        )
        return topic, IMAGE, stamp_ns, message

    @staticmethod
    def png(rgb: NDArray[np.uint8], stamp_ns: int, topic: str = "/front/image_raw/compressed") -> Any:
        """A losslessly compressed image."""
        store = typestore()
        data = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))[1].reshape(-1)
        message = store.types[COMPRESSED_IMAGE](header=header(store, stamp_ns, "front"), format="png", data=data)
        return topic, COMPRESSED_IMAGE, stamp_ns, message

    @staticmethod
    def damaged_jpeg(rgb: NDArray[np.uint8], stamp_ns: int, topic: str = "/front/image_raw/compressed") -> Any:
        """A JPEG of which the second half is missing."""
        store = typestore()
        data = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]))[1].reshape(-1)
        half = data[: len(data) // 2]
        message = store.types[COMPRESSED_IMAGE](header=header(store, stamp_ns, "front"), format="jpeg", data=half)
        return topic, COMPRESSED_IMAGE, stamp_ns, message

    @staticmethod
    def label(stamp_ns: int, *names: str, topic: str = "/labels") -> Any:
        """The class of the whole frame; the last name has the highest score."""
        store = typestore()
        hypothesis = store.types["vision_msgs/msg/ObjectHypothesis"]
        results = [hypothesis(class_id=name, score=(n + 1) / len(names)) for n, name in enumerate(names)]
        message = store.types[CLASSIFICATION](header=header(store, stamp_ns, "front"), results=results)
        return topic, CLASSIFICATION, stamp_ns, message

    @staticmethod
    def boxes(stamp_ns: int, *boxes: tuple[str, float, float, float, float], topic: str = "/boxes") -> Any:
        """Boxes as (label, x, y, width, height)."""
        store = typestore()
        labelled = tuple(LabelledBox(str(n), *box) for n, box in enumerate(boxes))
        message = boxes_message(store, JpegImage(stamp_ns, "front", b"", labelled))
        return topic, DETECTIONS, stamp_ns, message


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    """A writer of bags below the test's own folder."""
    return Recording(tmp_path)


# --- recordings that are too large to ship --------------------------------------------------------------------------


def shared_archive() -> Path | None:
    """bags_dev.tar.xz where this machine has the development data: LISARD_SHARED, or beside the checkout."""
    folder = Path(os.environ.get("LISARD_SHARED", ROOT.parent / "shared"))
    archive = folder / "data" / "bags_dev.tar.xz"
    return archive if archive.is_file() else None


@pytest.fixture(scope="session")
def ros_tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """The unpacked folder ros_tiny (bags with deliberately short images), or None."""
    archive = shared_archive()
    if archive is None:
        yield None
        return
    target = tmp_path_factory.mktemp("bags")
    with tarfile.open(archive) as packed:
        for member in packed:
            if "ros_tiny/" in member.name:
                packed.extract(member, target, filter="data")
    yield next(target.rglob("ros_tiny"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which leg had no data."""
    if shared_archive() is None:
        where = "$LISARD_SHARED/data or ../shared/data"
        terminalreporter.write_line(f"ros_tiny leg: not run, no bags_dev.tar.xz in {where}")
