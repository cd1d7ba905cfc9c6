"""The areas of bench/fuzz.py: what is damaged, how, and which functions of the package must answer or refuse it.

Everything is drawn from the random numbers of a case, so that a case can be run again by its number.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import string
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import cv2
import numpy as np
import yaml
from rosbags.rosbag2 import StoragePlugin, Writer

from lisard_ros import backends, bundle, images, injection, naming
from lisard_ros.attacks import store
from lisard_ros.backends import Choice
from lisard_ros.bags.messages import CLASSIFICATION, COMPRESSED_IMAGE, DETECTIONS, IMAGE, typestore
from lisard_ros.bags.reader import open_bag
from lisard_ros.bundle import Bundle, signature
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
)
from lisard_ros.errors import LisardError
from lisard_ros.evaluation import references
from lisard_ros.frames import Frame
from lisard_ros.inference.pipeline import Pipeline, Settings
from lisard_ros.inference.preprocess import prepare
from lisard_ros.node import arguments, parameters

MOST_CHARACTERS = 20_000  # of a message for users
SIDE_PX = 16
_ODD_NUMBERS = (0, -1, 1, 2, 7, 255, 256, 8192, 8193, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63, -(2**63), 10**30)
_ODD_TEXTS = (
    "",
    " ",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "C:x",
    "\0",
    "\n",
    "ä€😀",
    "\x1b[31m",
    "<script>",
    "{{7*7}}",
    "%s%n",
    "a" * 5000,
    "nan",
    "1e999",
    "~",
    "/",
    "//",
    "detector/clean",
    "corruption/fog/9",
)


class Area(Protocol):
    """One area; a case returns True where the input was accepted, and raises LisardError where it was refused."""

    name: str

    def case(self, draw: random.Random) -> bool:
        """Make one input and hand it in."""


def odd_value(draw: random.Random, depth: int = 0) -> Any:
    """Any value that JSON and YAML know, odd ones often."""
    kind = draw.randrange(9 if depth < 3 else 7)
    if kind == 0:
        return draw.choice(_ODD_NUMBERS)
    if kind == 1:
        return draw.choice((0.0, -0.0, 0.5, 1.0, 1e-300, 1e300, -1e9, draw.uniform(-2, 300)))
    if kind == 2:
        return draw.choice(_ODD_TEXTS)
    if kind == 3:
        return "".join(draw.choices(string.printable, k=draw.randrange(12)))
    if kind == 4:
        return draw.choice((None, True, False))
    if kind == 5:
        return draw.randrange(-5, 300)
    if kind == 6:
        return draw.choice(("rgb", "clean", "fp32", "int8", "detection", "classification", "stored", "model.onnx"))
    if kind == 7:
        return [odd_value(draw, depth + 1) for _ in range(draw.randrange(4))]
    return {str(odd_value(draw, 3))[:50]: odd_value(draw, depth + 1) for _ in range(draw.randrange(3))}


def damaged(data: bytes, draw: random.Random) -> bytes:
    """The bytes with a few of them changed, removed, repeated, or the end cut off."""
    content = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4, 16))):
        if not content:
            break
        at = draw.randrange(len(content))
        kind = draw.randrange(7)
        if kind == 0:
            content[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            content[at] = draw.choice((0, 0xFF, draw.randrange(256)))
        elif kind == 2:
            del content[at : at + draw.randrange(1, 40)]
        elif kind == 3:
            content[at:at] = content[at : at + draw.randrange(1, 40)]
        elif kind == 4:
            content[at:at] = draw.randbytes(draw.randrange(1, 20))
        elif kind == 5:
            number = draw.choice((0, 1, 2**31 - 1, 2**32 - 1, draw.getrandbits(32)))
            content[at : at + 4] = struct.pack(draw.choice("<>") + "I", number)
        else:
            del content[at:]
    return bytes(content)


def with_odd_part(tree: Any, draw: random.Random) -> Any:
    """A copy of a tree of lists and dicts in which one part was replaced, removed, repeated or added."""
    if isinstance(tree, dict) and tree and draw.random() < 0.85:
        key = draw.choice(list(tree))
        kind = draw.randrange(8)
        if kind == 0:
            return {name: part for name, part in tree.items() if name != key}
        if kind == 1:
            return {**tree, str(odd_value(draw, 3)): odd_value(draw)}
        return {**tree, key: with_odd_part(tree[key], draw)}
    if isinstance(tree, list) and tree and draw.random() < 0.85:
        at = draw.randrange(len(tree))
        kind = draw.randrange(6)
        if kind == 0:
            return tree[:at] + tree[at + 1 :]
        if kind == 1:
            return [*tree, tree[at]]
        return [*tree[:at], with_odd_part(tree[at], draw), *tree[at + 1 :]]
    return odd_value(draw)


# --- bundles ----------------------------------------------------------------------------------------------------


class FixedBackend:
    """Stands for the network: outputs of the shape that task and labels promise, with odd numbers now and then."""

    name, description = "fuzz", "fuzz"
    warnings: tuple[str, ...] = ()

    def __init__(self, manifest: Manifest, seed: int) -> None:
        """Answer as this manifest promises."""
        self._manifest, self._random = manifest, np.random.default_rng(seed)

    def infer(self, x: np.ndarray) -> np.ndarray:
        """Outputs for N images."""
        classes, decode = len(self._manifest.labels), self._manifest.decode
        shape: tuple[int, ...] = (classes,)
        if decode is not None:
            columns = 6 if decode.layout == "xyxy_score_class" else 5 + classes
            shape = (4 + classes, 12) if decode.layout == "cxcywh_classes_first" else (12, columns)
        out = self._random.normal(0, 8, (len(x), *shape)).astype(np.float32)
        if self._random.random() < 0.2:
            out.flat[self._random.integers(out.size)] = self._random.choice([np.nan, np.inf, -np.inf, 1e38])
        return np.asarray(out, np.float32)

    def close(self) -> None:
        """Nothing to free."""


class Bundles:
    """bundle.json, signature.json and the zip around them, damaged; what is accepted answers two images."""

    name = "bundle"

    def __init__(self, folder: Path) -> None:
        """Make sound bundles to start from."""
        self._zip = folder / "fuzz.zip"
        self._folder = folder / "fuzz_bundle"
        self.sound_classifier = self._classifier(folder)
        self._sound = [self.sound_classifier, self._detector(folder)]
        self._images = [Frame(np.full((h, w, 3), 90, np.uint8), "rgb", 0, "", "c") for h, w in ((16, 16), (9, 30))]

    def case(self, draw: random.Random) -> bool:
        """Damage one thing, read, and use what was read."""
        made = draw.choice(self._sound)
        files = {**made.contents, "bundle.json": made.manifest_bytes, "signature.json": made.signature or b"{}"}
        kind = draw.randrange(5)
        if kind <= 1:
            files["bundle.json"] = json.dumps(with_odd_part(json.loads(files["bundle.json"]), draw)).encode()
        elif kind == 2:
            name = draw.choice(("bundle.json", "bundle.json", "signature.json"))
            files[name] = damaged(files[name], draw)
        elif kind == 3:
            return self._use(bundle.read(self._zipped(files, draw)), draw)
        else:
            self._replace_array(files, draw)
        if draw.random() < 0.5:
            return self._use(bundle.read(self._zipped(files, None)), draw)
        shutil.rmtree(self._folder, ignore_errors=True)
        for name, data in files.items():
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return self._use(bundle.read(self._folder), draw)

    def _replace_array(self, files: dict[str, bytes], draw: random.Random) -> None:
        """Damage a file and list its new hash, as a supplier of bad will would."""
        name = draw.choice([name for name in files if name.endswith(".npz")])
        before = hashlib.sha256(files[name]).hexdigest().encode()
        files[name] = damaged(files[name], draw)
        after = hashlib.sha256(files[name]).hexdigest().encode()
        files["bundle.json"] = files["bundle.json"].replace(before, after)

    def _zipped(self, files: dict[str, bytes], draw: random.Random | None) -> Path:
        """The files as a zip; with `draw` its members are odd or its bytes damaged."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                entry = zipfile.ZipInfo(name)
                if draw is not None and draw.random() < 0.1:
                    entry.filename = draw.choice((*_ODD_TEXTS[:9], name, "link"))
                    entry.external_attr = draw.choice((0o120777, 0o60777, 0o644, 0o40755)) << 16
                    entry.compress_type = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
                    data = data * draw.choice((0, 1, 2)) + bytes(draw.choice((0, 0, 3 << 20)))
                archive.writestr(entry, data)
        raw = buffer.getvalue()
        self._zip.write_bytes(damaged(raw, draw) if draw is not None and draw.random() < 0.7 else raw)
        return self._zip

    def _use(self, made: Bundle, draw: random.Random) -> bool:
        """What the runtime does with a bundle that it has read."""
        m = made.manifest
        if made.signature is not None:
            _tolerant(lambda: signature.parse(made.signature or b"", "fuzz"))
        if draw.random() < 0.05:
            _tolerant(lambda: backends.choose(made, "onnxruntime", 1))
        if max(m.input.width, m.input.height) > 64:  # what fits the limits may take a second
            return True
        if m.self_test is not None:
            _tolerant(lambda: references.load(made, m.self_test))  # type: ignore[arg-type]
        pipeline = Pipeline(made, Choice(FixedBackend(m, draw.getrandbits(32)), "fuzz"), Settings(top_k=3), None)
        for outcome in pipeline.run(self._images):
            str(outcome)
        for name in injection.names(made)[:4]:
            _tolerant(lambda name=name: pipeline.attack(self._images, injection.make(made, name)))
        return True

    def _classifier(self, folder: Path) -> Bundle:
        delta = np.zeros((1, 3, SIDE_PX, SIDE_PX), np.int16)
        frames = np.full((2, SIDE_PX, SIDE_PX, 3), 90, np.uint8)
        about: dict[str, Any] = {"attack": "pgd", "knowledge": "gray-box", "eps_255": 8.0, "steps": 1, "seed": 0}
        manifest = Manifest(
            name="fuzz",
            task="classification",
            labels=("red", "green", "blue"),
            input=InputSpec(width=SIDE_PX, height=SIDE_PX),
            output=OutputSpec(name="out", activation="softmax"),
            models=(ModelFile(file="model.onnx"),),
            perturbations=(
                Perturbation(name="universal", file="u.npz", kind="universal", count=1, made_on="x", **about),
                Perturbation(name="stored", file="s.npz", kind="stored", count=1, made_on="x", **about),
            ),
            roi_groups={"sign": ("red", "green")},
            self_test=SelfTest(
                frames="frames.npz", labels=(0, 1), suite=(SelfTestCase(injection="clean", min_accuracy=0.5),)
            ),
        )
        files = {
            "model.onnx": b"not a network",
            "u.npz": store.dump(delta, None),
            "s.npz": store.dump(delta, ["0" * 64]),
            "frames.npz": dump_arrays({"frames": frames}),
        }
        return self._signed(bundle.write(folder / "sound_classifier", manifest, files, overwrite=True))

    def _detector(self, folder: Path) -> Bundle:
        box = TrueBox(label=0, box_xyxy_px=(2, 2, 9, 9))
        manifest = Manifest(
            name="fuzz_detector",
            task="detection",
            labels=("sign", "person"),
            input=InputSpec(width=SIDE_PX, height=SIDE_PX, resize="letterbox"),
            output=OutputSpec(name="out", activation="sigmoid"),
            models=(ModelFile(file="model.onnx"),),
            decode=Decode(layout="xyxy_objectness_classes"),
            self_test=SelfTest(
                frames="frames.npz", labels=((box,), (box,)), suite=(SelfTestCase(injection="clean", min_accuracy=0.5),)
            ),
        )
        frames = dump_arrays({"frames": np.full((2, SIDE_PX, SIDE_PX, 3), 90, np.uint8)})
        files = {"model.onnx": b"not a network", "frames.npz": frames}
        return self._signed(bundle.write(folder / "sound_detector", manifest, files, overwrite=True))

    def _signed(self, made: Bundle) -> Bundle:
        text = {"version": 1, "algorithm": "ed25519", "key_id": "0" * 64, "signature": "A" * 86 + "=="}
        bundle.add_signature(made, json.dumps(text).encode())
        return bundle.read(made.path)


def _tolerant(call: Callable[[], object]) -> None:
    """Call; a refusal is fine here, since what follows does not need the answer."""
    try:
        call()
    except LisardError:
        return


# --- camera messages --------------------------------------------------------------------------------------------


class Images:
    """Image and CompressedImage messages whose fields do not fit each other, damaged JPEG and PNG data, odd boxes."""

    name = "images"

    def __init__(self, folder: Path) -> None:
        """Encode the images that are damaged."""
        noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        grey = np.full((33, 17), 128, np.uint8)
        self._files = [
            cv2.imencode(suffix, image)[1].tobytes() for suffix in (".jpg", ".png") for image in (noise, grey)
        ]
        self._spec = InputSpec(width=SIDE_PX, height=SIDE_PX)
        self._classifier = Bundles(folder).sound_classifier

    def case(self, draw: random.Random) -> bool:
        """Make a message, turn it into a frame, and prepare the frame for a network."""
        message = self._compressed(draw) if draw.random() < 0.4 else self._raw(draw)
        frame = images.to_frame(message, "camera")
        x = prepare([frame.image], self._spec, [frame.colour])
        if x.shape != (1, 3, SIDE_PX, SIDE_PX) or not (np.isfinite(x).all() and x.min() >= 0 and x.max() <= 1):
            raise AssertionError(f"not an input of a network: {x.shape}")
        if draw.random() < 0.3:
            self._answer_boxes(frame, draw)
        return True

    def _answer_boxes(self, frame: Frame, draw: random.Random) -> None:
        """Classify the boxes that another detector claims to have found; each gives an answer or a failure."""
        regions = [images.to_region(self._detection(draw)) for _ in range(draw.randrange(4))]
        backend = FixedBackend(self._classifier.manifest, draw.getrandbits(32))
        pipeline = Pipeline(self._classifier, Choice(backend, "fuzz"), Settings(), None)
        for outcome in pipeline.run([frame], [[region for region in regions if region is not None]]):
            str(outcome)

    def _detection(self, draw: random.Random) -> Any:
        numbers = (0.0, -1.0, 3.5, 20.0, 1e9, -1e308, 1e308, float("nan"), float("inf"), draw.uniform(-50, 700))
        x, y, width, height = (draw.choice(numbers) for _ in range(4))
        results = [
            SimpleNamespace(hypothesis=SimpleNamespace(class_id=draw.choice(_ODD_TEXTS), score=draw.choice(numbers)))
            for _ in range(draw.randrange(3))
        ]
        centre = SimpleNamespace(position=SimpleNamespace(x=x, y=y), theta=0.0)
        box = SimpleNamespace(center=centre, size_x=width, size_y=height)
        return SimpleNamespace(bbox=box, results=results, id=draw.choice(_ODD_TEXTS))

    def _raw(self, draw: random.Random) -> Any:
        known = list(images.ENCODINGS)
        name = draw.choice(known) if draw.random() < 0.9 else draw.choice((*_ODD_TEXTS, "16UC1", "RGB8", "32FC1"))
        width, height = (draw.choice((1, 2, 3, 4, 16, 31, 64, 640)) for _ in range(2))
        row = width * (images.ENCODINGS[name].row_bytes_per_px if name in images.ENCODINGS else 3)
        step = row + draw.choice((0, 0, 0, 1, 5))
        size = step * (height * 3 // 2 if name in ("nv12", "nv21") else height)
        for _ in range(draw.choice((0, 0, 1, 2))):
            field = draw.randrange(4)
            odd = draw.choice([n for n in _ODD_NUMBERS if 0 <= n < 2**32])
            width, height = (odd if field == 0 else width), (odd if field == 1 else height)
            step = odd if field == 2 else step
            size = min(odd, 5000) if field == 3 else size
        data = draw.randbytes(min(size, 1 << 21))
        return SimpleNamespace(
            header=self._header(draw),
            encoding=name,
            width=width,
            height=height,
            step=step,
            is_bigendian=draw.choice((0, 1, 255)),
            data=draw.choice((data, bytearray(data), memoryview(data), np.frombuffer(data, np.uint8))),
        )

    def _compressed(self, draw: random.Random) -> Any:
        data = damaged(draw.choice(self._files), draw)
        if draw.random() < 0.1:
            data = draw.choice((b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", draw.randbytes(200)))
        if draw.random() < 0.2 and len(data) > 24 and data[1:4] == b"PNG":
            data = data[:16] + struct.pack(">II", draw.getrandbits(32), draw.getrandbits(16)) + data[24:]
        words = ("jpeg", "png", "rgb8; jpeg compressed bgr8", "bgr8; png compressed rgb8", "16UC1; compressedDepth")
        return SimpleNamespace(header=self._header(draw), format=draw.choice((*words, *_ODD_TEXTS)), data=data)

    def _header(self, draw: random.Random) -> Any:
        stamp = SimpleNamespace(sec=draw.choice((0, 1, -1, 2**31 - 1)), nanosec=draw.choice((0, 10**9, 2**32 - 1)))
        return SimpleNamespace(stamp=stamp, frame_id=draw.choice(("camera", *_ODD_TEXTS)))


# --- recordings -------------------------------------------------------------------------------------------------


class Bags:
    """Small recordings (mcap and sqlite3) with one file damaged, read to their end."""

    name = "bags"

    def __init__(self, folder: Path) -> None:
        """Record three kinds of message in both formats."""
        self._copy = folder / "fuzz_bag"
        self._sound = []
        for plugin in (StoragePlugin.MCAP, StoragePlugin.SQLITE3):
            path = folder / f"sound_{plugin.name.lower()}"
            _record(path, plugin)
            self._sound.append({file.name: file.read_bytes() for file in sorted(path.iterdir())})

    def case(self, draw: random.Random) -> bool:
        """Damage, read."""
        files = dict(draw.choice(self._sound))
        name = draw.choice(list(files))
        if name.endswith(".yaml") and draw.random() < 0.6:
            files[name] = yaml.safe_dump(with_odd_part(yaml.safe_load(files[name]), draw)).encode()
        elif draw.random() < 0.02:
            del files[name]
        else:
            files[name] = damaged(files[name], draw)
        shutil.rmtree(self._copy, ignore_errors=True)
        self._copy.mkdir()
        for file, data in files.items():
            (self._copy / file).write_bytes(data)
        with open_bag(self._copy) as bag:
            return bag.count() >= 0 and all(item.frame is not None or item.error is not None for item in bag.frames())


def _record(path: Path, plugin: StoragePlugin) -> None:
    """Write a recording of two images of 4x3 pixels, their class and their boxes."""
    types = typestore()
    made = types.types
    ok, jpeg = cv2.imencode(".jpg", np.full((3, 4, 3), 90, np.uint8))
    assert ok
    stamp = made["builtin_interfaces/msg/Time"](sec=1, nanosec=2)
    header = made["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")
    pixels = np.zeros(36, np.uint8)
    hypothesis = made["vision_msgs/msg/ObjectHypothesis"](class_id="red", score=1.0)
    messages = {
        ("/a/image_raw", IMAGE): made[IMAGE](
            header=header, height=3, width=4, encoding="rgb8", is_bigendian=0, step=12, data=pixels
        ),
        ("/b/compressed", COMPRESSED_IMAGE): made[COMPRESSED_IMAGE](header=header, format="jpeg", data=jpeg.ravel()),
        ("/label", CLASSIFICATION): made[CLASSIFICATION](header=header, results=[hypothesis]),
        ("/boxes", DETECTIONS): made[DETECTIONS](header=header, detections=[]),
    }
    with Writer(path, version=8, storage_plugin=plugin) as writer:
        for (topic, kind), message in messages.items():
            connection = writer.add_connection(topic, kind, typestore=types)
            writer.write(connection, 10**9, types.serialize_cdr(message, kind))


# --- parameters -------------------------------------------------------------------------------------------------


class Parameters:
    """Overrides of the node's parameters, parameter files, topics and launch arguments with odd names and values."""

    name = "parameters"

    def __init__(self, folder: Path) -> None:
        """Nothing to prepare."""
        self._settings = parameters.resolve({})

    def case(self, draw: random.Random) -> bool:
        """Hand odd values to everything that reads parameters."""
        overrides = {self._name(draw): self._value(draw) for _ in range(draw.randrange(1, 5))}
        aimed = frozenset(draw.sample(sorted(overrides), draw.randrange(len(overrides) + 1)))
        for unknown in parameters.find_unknown(overrides, aimed):
            str(unknown.message)
        qos = {f"qos_overrides.{draw.choice(('/a', *_ODD_TEXTS))}.subscription.depth": self._value(draw)}
        for unknown in parameters.find_unknown_qos({**overrides, **qos}, ["/a", "/b"], aimed):
            str(unknown.message)
        document = with_odd_part({"/**": {"ros__parameters": dict(overrides)}, "perception": {}}, draw)
        sorted(parameters.names_in_own_sections(document))
        parameters.stray_section(document, "/perception")
        words = [str(odd_value(draw)) for _ in range(draw.randrange(6))]
        parameters.names_on_command_line(["x", "--ros-args", *words])
        texts = {spec.field: str(self._value(draw)) for spec in draw.sample(parameters.TABLE, 2)}
        _tolerant(lambda: arguments.parameters_given(texts))
        arguments.misspelt({str(name)[:40]: "x" for name in overrides})
        changes = {name: value for name, value in overrides.items() if name in parameters.BY_NAME}
        _tolerant(lambda: parameters.updated(self._settings, changes))
        settings = parameters.resolve(overrides)
        naming.camera_topics(settings.image_topics, settings.camera_names)
        parameters.fixed_boxes(settings)
        parameters.regions_mode(settings)
        return True

    def _name(self, draw: random.Random) -> str:
        if draw.random() < 0.8:
            return draw.choice(parameters.TABLE).name
        name = draw.choice(parameters.TABLE).name
        return draw.choice((*_ODD_TEXTS, name[:-1], name.upper(), f"{name}.x"))

    def _value(self, draw: random.Random) -> Any:
        kind = draw.randrange(4)
        if kind == 0:
            return [draw.choice((odd_value(draw, 3), 1.0, "a")) for _ in range(draw.randrange(6))]
        if kind == 1:
            return draw.choice((float("nan"), float("inf"), -float("inf"), b"bytes", bytearray(b"x"), ()))
        if kind == 2:
            spec = draw.choice(parameters.TABLE)
            return draw.choice((spec.default, *(spec.choices or (1,)), spec.low, spec.high))
        return odd_value(draw)


AREAS: dict[str, Callable[[Path], Area]] = {
    "bundle": Bundles,
    "images": Images,
    "bags": Bags,
    "parameters": Parameters,
}
# How the cases of a run are shared out; a recording takes much longer than the others.
SHARES = {"bundle": 3, "images": 3, "bags": 1, "parameters": 3}
