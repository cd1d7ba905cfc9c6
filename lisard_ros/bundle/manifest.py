"""The typed content of `bundle.json`: everything that node, bag replay, engines and trainer must agree on.

The structs are frozen and refuse unknown fields; `validate` checks what types alone cannot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import msgspec

from lisard_ros.errors import BundleError, NewerSchemaError

SCHEMA_VERSION = 1
MAX_SIDE_PX = 8192
# Injections that need no file, and words that mean several of them on a command line.
RESERVED_INJECTIONS = ("clean", "noise", "all", "none")
CORRUPTION_PREFIX = "corruption/"  # of injections that need no file of the bundle
ATTACK_PREFIX = "attack/"  # of attacks that are worked out when an image comes
DETECTOR_PREFIX = "detector/"  # with two stages: of what concerns the detector in front
RESERVED_PREFIXES = (CORRUPTION_PREFIX, ATTACK_PREFIX, DETECTOR_PREFIX)
_RESTORE = "restore the original file, or export the model again"

Task = Literal["classification", "detection"]
Counted = Literal["images", "boxes"]
Precision = Literal["fp32", "fp16", "int8"]
QuantizationScheme = Literal["plain", "u8s8", "s8s8"]
Activation = Literal["softmax", "sigmoid", "none"]
Layout = Literal[
    "xyxy_objectness_classes",
    "cxcywh_objectness_classes",
    "cxcywh_classes_first",
    "xyxy_score_class",
    "yolox_grid",
]
Knowledge = Literal["white-box", "gray-box", "query", "none"]


class InputSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How pixels become the model's input, float32 [N, 3, height, width].

    An image is resized on the 8-bit grid, scaled to [0, 1], attacked there if at all, and then normalised:
    (x - mean) / std per channel in `colour` order. A model that wants 0..255 has std = 1/255.
    resize: `stretch` ignores the aspect ratio; `letterbox` keeps it and pads with grey level `pad`.
    interpolation: `area` averages to shrink and is bilinear to enlarge; `linear` is bilinear in both, in one step.
    """

    width: int
    height: int
    colour: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    resize: Literal["stretch", "letterbox"] = "stretch"
    interpolation: Literal["area", "linear"] = "area"
    pad: int = 114


class OutputSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which ONNX output to read and what its numbers are.

    activation: what turns class outputs into scores in [0, 1] (`none` if the model did it already).
    """

    name: str
    activation: Activation


class Decode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a detection model's output becomes boxes in input pixels.

    Layouts: `xyxy_objectness_classes` is [N, boxes, 4 + 1 + C]; `cxcywh_objectness_classes` the same with centre and
    size; `cxcywh_classes_first` is [N, 4 + C, boxes] without objectness. `xyxy_score_class` is [N, boxes, 6]: corners,
    score and class index, as exports give them that have suppressed duplicates already (nms_iou 1 keeps all).
    `yolox_grid` is [N, cells, 4 + 1 + C] with one row for each cell of the grids of strides 8, 16 and 32, row by row:
    centre relative to the cell in units of the stride, and the logarithm of the size in these units.
    A release that does not know a layout refuses the bundle and names the layout; no other field has changed.
    """

    layout: Layout
    score_threshold: float = 0.05
    nms_iou: float = 0.65
    max_detections: int = 300


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The real images whose activations set the ranges of an int8 file.

    data: where they came from. sha256: over the hashes of their pixels, in the order they were used.
    """

    data: str
    pictures: int
    sha256: str
    method: Literal["minmax", "entropy", "percentile"]


class Verification(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a variant or an engine was found to lose against the model that was evaluated.

    against, backend: which model answered as the reference, and what ran the one that was judged.
    pictures, attacked: labelled images, and answers to stored perturbations. pictures_sha256: over their pixels.
    max_abs_difference: largest difference of an output; agreement: share of images with the same answer.
    clean_loss_points, robust_loss_points: percentage points lost, the worst attack counts; negative is a gain.
    forced: it lost more than its limits and was installed all the same.
    """

    against: str
    backend: str
    pictures: int
    attacked: int
    pictures_sha256: str
    max_abs_difference: float
    agreement: float
    clean_loss_points: float
    robust_loss_points: float
    clean_limit_points: float
    robust_limit_points: float
    passed: bool
    forced: bool = False


class ModelFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ONNX file: the same network at some precision. scheme (`flavour` in bundle.json): how int8 was quantised.

    calibration: of an int8 file that this package made. verification: of a file that was made from another one.
    """

    file: str
    precision: Precision = "fp32"
    scheme: QuantizationScheme = msgspec.field(name="flavour", default="plain")
    sha256: str = ""
    calibration: Calibration | None = None
    verification: Verification | None = None


class Architecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Name and arguments with which the trainer rebuilds the network (the PyTorch model)."""

    name: str
    arguments: dict[str, int | float | str | bool] = {}


class Perturbation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stored perturbation file: who could have made it, how, and within which budget.

    kind `stored`: one delta for each known image; `universal`: one delta for any image; `patch`: a print that lies
    somewhere in any image (attacks/patch_store.py).
    eps_255: the largest change of a pixel in grey levels of 255 (Linf).
    """

    name: str
    file: str
    kind: Literal["stored", "universal", "patch"]
    attack: str
    knowledge: Knowledge
    eps_255: float
    steps: int
    seed: int
    count: int
    made_on: str


class TrueBox(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An object of a reference image: its class (index into the labels) and its corners in pixels of the image."""

    label: int
    box_xyxy_px: tuple[float, float, float, float]


class SelfTestCase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of the self test: an injection by name and the lowest accuracy that still passes.

    The accuracy of a detector is the share of the true boxes that it finds (scoring.py).
    """

    injection: str
    min_accuracy: float


class SelfTest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reference images (an .npz with uint8 `frames` [N, H, W, 3] RGB), what they show, and the suite.

    labels: one entry for each image: the index of its class, or for a detector the list of its true boxes.
    """

    frames: str
    labels: tuple[int | tuple[TrueBox, ...], ...]
    suite: tuple[SelfTestCase, ...]

    @property
    def classes(self) -> tuple[int, ...]:
        """The entries that are class indices."""
        return tuple(entry for entry in self.labels if isinstance(entry, int))

    @property
    def boxes(self) -> tuple[tuple[TrueBox, ...], ...]:
        """The entries that are lists of true boxes."""
        return tuple(entry for entry in self.labels if not isinstance(entry, int))


class TrainingCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the model comes from: enough to make it again and to credit the data."""

    recipe: str = ""
    data: str = ""
    data_sha256: str = ""
    licence: str = ""
    attribution: str = ""
    commit: str = ""
    seed: int = 0
    command: str = ""
    metrics: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class RuntimeTask:
    """What the runtime and the engines ask of a task; they compare no names of tasks.

    finds_boxes: answers are boxes with classes, in whole images; else a class of each image or region. counted: what an
    accuracy counts.
    """

    name: Task
    finds_boxes: bool
    counted: Counted


TASKS: dict[Task, RuntimeTask] = {
    "classification": RuntimeTask("classification", finds_boxes=False, counted="images"),
    "detection": RuntimeTask("detection", finds_boxes=True, counted="boxes"),
}


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `bundle.json`. `files` maps every other file of the bundle to its sha256 (filled by `write`).

    roi_classes: which classes of a detector are worth classifying with this model; empty means all.
    roi_groups: for a detector's class the labels of this bundle that it may turn out to be, e.g. speedlimit ->
    speed_limit_30, ...; scores a fine answer where only the coarse truth is known.
    roi_margin: how much a box is widened on each side before it is cropped, as a share of its size.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    task: Task
    labels: tuple[str, ...]
    input: InputSpec
    output: OutputSpec
    models: tuple[ModelFile, ...]
    decode: Decode | None = None
    roi_classes: tuple[str, ...] = ()
    roi_groups: dict[str, tuple[str, ...]] = {}
    roi_margin: float = 0.0
    architecture: Architecture | None = None
    twin: str | None = None
    perturbations: tuple[Perturbation, ...] = ()
    self_test: SelfTest | None = None
    card: TrainingCard | None = None
    files: dict[str, str] = {}

    @property
    def runtime_task(self) -> RuntimeTask:
        """What the runtime must know of the task."""
        return TASKS[self.task]


def decode(data: bytes, where: str) -> Manifest:
    """Parse and validate the bytes of a `bundle.json`; `where` names it in errors."""
    _check_version(data, where)
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(
            f"{where} breaks the bundle schema",
            found=str(error),
            expected=f"schema_version {SCHEMA_VERSION}",
            cure="see ARCHITECTURE.md, or export the model again",
        ) from error
    validate(manifest, where)
    return manifest


def encode(manifest: Manifest) -> bytes:
    """Serialise to the bytes of `bundle.json`: indented, keys in a fixed order, so equal manifests are equal bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2) + b"\n"


def validate(manifest: Manifest, where: str, cure: str = _RESTORE) -> None:
    """Check what types cannot: ranges, duplicates and references between the parts; BundleError with that cure."""
    for broken, what, found, expected in _findings(manifest):
        if broken:
            raise BundleError(f"{where}: {what}", found=found, expected=expected, cure=cure)


def referenced_files(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of all files that the manifest's parts point to."""
    names = [model.file for model in manifest.models] + [p.file for p in manifest.perturbations]
    names += [manifest.twin] if manifest.twin else []
    names += [manifest.self_test.frames] if manifest.self_test else []
    return tuple(dict.fromkeys(names))


def _check_version(data: bytes, where: str) -> None:
    try:
        head = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{where} is not JSON", found=str(error), expected="UTF-8 JSON", cure=_RESTORE) from error
    version = head.get("schema_version") if isinstance(head, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"{where} is of a newer schema",
            found=f"schema_version {version}",
            expected=f"at most {SCHEMA_VERSION}",
            cure="a newer lisard_ros wrote it: install that release",
        )
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{where} is of another schema",
            found=f"schema_version {version!r}",
            expected=SCHEMA_VERSION,
            cure="read it with the lisard_ros release that wrote it, or export the model again",
        )


def _findings(m: Manifest) -> list[tuple[bool, str, object, object]]:
    return [*_input_findings(m.input), *_label_findings(m), *_reference_findings(m), *_self_test_findings(m)]


def _input_findings(spec: InputSpec) -> list[tuple[bool, str, object, object]]:
    size = (spec.width, spec.height)
    numbers = (*spec.mean, *spec.std)
    return [
        (not all(1 <= side <= MAX_SIDE_PX for side in size), "input size out of range", size, f"1..{MAX_SIDE_PX} px"),
        (not all(map(math.isfinite, numbers)), "input mean or std not finite", numbers, "finite numbers"),
        (min(spec.std) <= 0, "input std not positive", spec.std, "> 0"),
        (not 0 <= spec.pad <= 255, "input pad out of range", spec.pad, "0..255"),
    ]


def _label_findings(m: Manifest) -> list[tuple[bool, str, object, object]]:
    blank = [label for label in m.labels if not label.strip()]
    strays = sorted({label for group in m.roi_groups.values() for label in group} - set(m.labels))
    return [
        (not m.name, "name is empty", repr(m.name), "a name"),
        (not m.labels, "no labels", "an empty list", "one label per class"),
        (len(set(m.labels)) != len(m.labels), "labels repeat", _repeated(m.labels), "each label once"),
        (bool(blank), "blank label", blank, "names"),
        (bool(strays), "roi_groups names labels that the bundle does not have", strays, "labels of the bundle"),
        (not 0 <= m.roi_margin <= 2, "roi_margin out of range", m.roi_margin, "0..2"),
        (m.runtime_task.finds_boxes and m.decode is None, "detection without `decode`", "none", "the output's layout"),
        (not m.runtime_task.finds_boxes and m.decode is not None, "classification with `decode`", m.decode, "none"),
        (m.decode is not None and not _decode_is_sane(m.decode), "decode out of range", m.decode, "thresholds 0..1"),
    ]


def _decode_is_sane(decode: Decode) -> bool:
    return 0 <= decode.score_threshold <= 1 and 0 < decode.nms_iou <= 1 and decode.max_detections >= 1


def _reference_findings(m: Manifest) -> list[tuple[bool, str, object, object]]:
    variants = [(model.precision, model.scheme) for model in m.models]
    names = [p.name for p in m.perturbations]
    budgets = [p.eps_255 for p in m.perturbations]
    odd = [name for name in names if _means_something_else(name)]
    return [
        (not m.models, "no models", "an empty list", "at least one ONNX file"),
        (len(set(variants)) != len(variants), "two models of one precision and flavour", variants, "each once"),
        (len(set(names)) != len(names), "perturbation names repeat", _repeated(names), "each name once"),
        (
            bool(odd),
            "perturbation names that mean something else",
            odd,
            f"not {RESERVED_INJECTIONS}, not {'..., not '.join(RESERVED_PREFIXES)}..., no comma",
        ),
        (not all(0 < eps <= 255 for eps in budgets), "perturbation budget out of range", budgets, "0 < eps_255 <= 255"),
        (m.twin is not None and m.architecture is None, "twin without `architecture`", m.twin, "name and arguments"),
    ]


def _means_something_else(name: str) -> bool:
    return name in RESERVED_INJECTIONS or name.startswith(RESERVED_PREFIXES) or "," in name or not name.strip()


def _self_test_findings(m: Manifest) -> list[tuple[bool, str, object, object]]:
    if m.self_test is None:
        return []
    test, classes = m.self_test, len(m.labels)
    limits = [case.min_accuracy for case in test.suite]
    cases = [case.injection for case in test.suite]
    labels = [*test.classes, *(box.label for boxes in test.boxes for box in boxes)]
    return [
        (not test.labels, "self test without images", "no labels", "one entry per image"),
        *_kind_findings(m.task, test),
        (not set(labels) <= set(range(classes)), "self-test label out of range", labels, f"0..{classes - 1}"),
        (not test.suite, "self test without a suite", "no cases", "at least `clean`"),
        (len(set(cases)) != len(cases), "self-test cases repeat", _repeated(cases), "each case once"),
        (not all(0 <= limit <= 1 for limit in limits), "self-test limit out of range", limits, "0..1"),
    ]


def _kind_findings(task: Task, test: SelfTest) -> list[tuple[bool, str, object, object]]:
    """Whether the labels are those of the task, and the boxes are boxes."""
    if not TASKS[task].finds_boxes:
        lists = f"{len(test.boxes)} lists of boxes"
        return [(bool(test.boxes), "self-test labels of a classifier", lists, "a class index for each image")]
    boxes = [box.box_xyxy_px for each in test.boxes for box in each]
    flat = [box for box in boxes if not _has_area(box)]
    return [
        (
            bool(test.classes),
            "self-test labels of a detector",
            f"{len(test.classes)} class indices",
            "a list of true boxes for each image",
        ),
        (not boxes, "self test without a true box", "only images without objects", "at least one true box"),
        (bool(flat), "self-test boxes without an area", flat, "x0 < x1 and y0 < y1, none negative"),
    ]


def _has_area(box: tuple[float, float, float, float]) -> bool:
    x0, y0, x1, y1 = box
    return all(map(math.isfinite, box)) and 0 <= x0 < x1 and 0 <= y0 < y1


def _repeated(names: tuple[str, ...] | list[str]) -> list[str]:
    return sorted({name for name in names if list(names).count(name) > 1})
