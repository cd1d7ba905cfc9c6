"""What a bundle of a foreign ONNX file will hold: what the user states, what the file tells, and guesses for the rest.

Everything that the user did not state is listed as a `Conclusion`, with the option that changes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from lisard_ros.bundle.manifest import (
    TASKS,
    Activation,
    Decode,
    InputSpec,
    Layout,
    Manifest,
    ModelFile,
    Task,
    TrainingCard,
)
from lisard_ros.errors import UsageError
from lisard_ros.frames import Pixels
from lisard_ros.onnx_formats import InputFormat, OnnxFile, Recognition, input_format, recognise
from lisard_ros.onnx_import.metadata import FileFacts, read_facts, unique

MODEL_FILE = "model.onnx"
SCORE_THRESHOLD = 0.25  # below it most boxes of a detector are false ones
DEFAULT_SIDE_PX = {"classification": 224, "detection": 640}
Triple = tuple[float, float, float]
ZERO: Triple = (0.0, 0.0, 0.0)
ONE: Triple = (1.0, 1.0, 1.0)
STD_OF_GREY_LEVELS: Triple = (1 / 255,) * 3  # as std: leaves 0..255
_METADATA = "the metadata of the file"
_IMAGENET = "mean 0.485,0.456,0.406 and std 0.229,0.224,0.225"
_TASKS: dict[str, Task] = {"detect": "detection", "classify": "classification"}
# Formats of networks that see the image stretched to their input: transformers and SSD.
_STRETCHED = ("boxes_classes", "two_tables", "three_lists")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What the user states of a bundle; None leaves it to the file and to guesses. size_px: width and height."""

    name: str
    task: Task | None = None
    labels: tuple[str, ...] | None = None
    size_px: tuple[int, int] | None = None
    colour: Literal["rgb", "bgr"] | None = None
    mean: Triple | None = None
    std: Triple | None = None
    resize: Literal["stretch", "letterbox"] | None = None
    interpolation: Literal["area", "linear"] | None = None
    output: str | None = None
    activation: Activation | None = None
    layout: Layout | None = None
    score_threshold: float | None = None
    nms_iou: float | None = None
    roi_classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conclusion:
    """One thing that the user did not state: its value, where that comes from, and the option that changes it."""

    what: str
    value: str
    source: str
    option: str

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.what} {self.value}: {self.source}; {self.option} overrides it"


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """A bundle to be proved. data: the ONNX file to put into it. notes: what was changed in the file, or not read."""

    manifest: Manifest
    data: bytes
    conclusions: tuple[Conclusion, ...]
    notes: tuple[str, ...]


def propose(
    file: OnnxFile, stated: Stated, *, images: Sequence[Pixels] = (), folder_labels: tuple[str, ...] | None = None
) -> Proposal:
    """Decide what a bundle of a foreign file holds.

    Args:
        file: The file as `onnx_formats.read_file` gives it.
        stated: What the user states.
        images: Real images, uint8 RGB [h, w, 3] of any size, that help to recognise the format; may be empty.
        folder_labels: Classes of a folder of images, used where neither user nor file name the classes.

    Returns:
        The proposal.

    Raises:
        UsageError: The file's task is none that a bundle has, or nothing names its classes.
        BundleError: The file's format cannot be decoded, or contradicts what the user states.
    """
    facts, image_input = read_facts(file.metadata), input_format(file)
    task = stated.task or _task(facts)
    labels = stated.labels or (unique(facts.labels) if facts.labels else folder_labels)
    size_px = stated.size_px or _size(facts, image_input, task or _likely_task(file))

    def recognised(spec: InputSpec) -> Recognition:
        return recognise(
            file,
            spec,
            task=task,
            classes=len(labels) if labels else None,
            layout=stated.layout,
            activation=stated.activation,
            output=stated.output,
            images=images,
        )

    first = _input(stated, size_px, facts, image_input, None)
    result = recognised(first)
    spec = _input(stated, size_px, facts, image_input, result)
    if spec != first:
        result = recognised(spec)  # the format tells how images become input, so it is judged on such input
    named = labels or _numbered(result)
    decode = _decode(stated, result)
    manifest = Manifest(
        name=stated.name,
        task=result.task,
        labels=named,
        input=spec,
        output=result.output,
        models=(ModelFile(file=MODEL_FILE),),
        decode=decode,
        roi_classes=stated.roi_classes,
        card=TrainingCard(licence=facts.licence, attribution=facts.attribution) if facts.licence else None,
    )
    said = _conclusions(stated, facts, image_input, result, manifest, labels is folder_labels and labels is not None)
    return Proposal(manifest, result.data, said, (*_notes(facts, image_input), *result.notes))


def _task(facts: FileFacts) -> Task | None:
    """The task that the metadata name; UsageError for one that no bundle has."""
    if facts.task is None or facts.task in _TASKS:
        return _TASKS[facts.task] if facts.task else None
    raise UsageError(
        "the metadata of the file name a task that no bundle has",
        found=f"task {facts.task}",
        expected=" or ".join(_TASKS),
        cure="export a model that classifies or detects, or state --task if its outputs are those of one",
    )


def _likely_task(file: OnnxFile) -> Task:
    """Judged by the axes of the first output, to propose a size before the file can be run."""
    axes = [side for side in file.outputs[0].shape[1:] if side != 1] if file.outputs else []
    return "classification" if len(axes) <= 1 and len(file.outputs) == 1 else "detection"


def _size(facts: FileFacts, image_input: InputFormat, task: Task) -> tuple[int, int]:
    told = facts.size_px or (DEFAULT_SIDE_PX[task],) * 2
    return image_input.width_px or told[0], image_input.height_px or told[1]


def _input(
    stated: Stated, size_px: tuple[int, int], facts: FileFacts, image_input: InputFormat, result: Recognition | None
) -> InputSpec:
    """How images become input. result: None as long as nobody knows the format."""
    yolox = result is not None and result.format == "yolox_grid"
    wants_255 = image_input.dtype == "uint8" or yolox
    detects = result is not None and TASKS[result.task].finds_boxes
    boxed = result is not None and detects and result.format not in _STRETCHED
    linear = boxed and (yolox or facts.package == "ultralytics")
    return InputSpec(
        width=size_px[0],
        height=size_px[1],
        colour=stated.colour or ("bgr" if yolox else "rgb"),
        mean=stated.mean or ZERO,
        std=stated.std or (STD_OF_GREY_LEVELS if wants_255 else ONE),
        resize=stated.resize or ("letterbox" if boxed else "stretch"),
        interpolation=stated.interpolation or ("linear" if linear else "area"),
    )


def _decode(stated: Stated, result: Recognition) -> Decode | None:
    if result.decode is None:
        return None
    threshold = SCORE_THRESHOLD if stated.score_threshold is None else stated.score_threshold
    iou = result.decode.nms_iou if stated.nms_iou is None else stated.nms_iou
    return msgspec.structs.replace(result.decode, score_threshold=threshold, nms_iou=iou)


def _numbered(result: Recognition) -> tuple[str, ...]:
    if result.classes is None:
        raise UsageError(
            "the number of classes is unknown",
            found="no names in the file, and outputs that do not show it",
            expected="the labels in the order of the model's classes",
            cure="give --labels",
        )
    return tuple(f"class_{number}" for number in range(result.classes))


def _notes(facts: FileFacts, image_input: InputFormat) -> tuple[str, ...]:
    notes = [f"the metadata `{key}` of the file cannot be read and are not used" for key in facts.unread]
    if facts.labels and unique(facts.labels) != facts.labels:
        repeated = sorted({label for label in facts.labels if facts.labels.count(label) > 1})
        notes.append(f"labels that repeat in the file are numbered: {', '.join(repeated)}")
    if image_input.batch is not None:
        notes.append(
            f"the batch of the file is fixed to {image_input.batch}: images are answered in batches of that size"
        )
    return tuple(notes)


# --- what is said of it ---------------------------------------------------------------------------------------------


def _conclusions(
    stated: Stated,
    facts: FileFacts,
    image_input: InputFormat,
    result: Recognition,
    manifest: Manifest,
    from_folder: bool,
) -> tuple[Conclusion, ...]:
    """List what the user did not state."""
    yolox, ultralytics = result.format == "yolox_grid", facts.package == "ultralytics"
    known = "as YOLOX does" if yolox else "as ultralytics does" if ultralytics else "a guess"
    outputs = "from the outputs of the file"
    spec, decode = manifest.input, manifest.decode
    size = f"{spec.width}x{spec.height}"
    names = manifest.labels
    listed = ", ".join(names) if len(names) <= 3 else f"{names[0]} to {names[-1]} ({len(names)})"
    std = "1/255 (pixels in 0..255)" if spec.std == STD_OF_GREY_LEVELS else _short(spec.std)
    lines: list[tuple[object, str, str, str, str]] = [
        (stated.task, "task", manifest.task, f"from {_METADATA}" if facts.task else outputs, "--task"),
        (stated.labels, "labels", listed, _of_labels(facts, from_folder), "--labels"),
        (stated.size_px, "input", size, _of_size(facts, image_input), "--input"),
        (stated.colour, "colour", spec.colour, known, "--colour"),
        (stated.mean, "mean", _short(spec.mean), _of_mean(known, manifest.task, image_input), "--mean"),
        (stated.std, "std", std, _of_mean(known, manifest.task, image_input), "--std"),
        (stated.resize, "resize", spec.resize, _of_resize(known, manifest.task, ultralytics), "--resize"),
        (stated.interpolation, "interpolation", spec.interpolation, known, "--interpolation"),
        (stated.activation, "activation", manifest.output.activation, outputs, "--activation"),
    ]
    if decode is not None:
        nms = outputs if decode.nms_iou == 1.0 else "a guess"
        lines += [
            (stated.layout, "layout", decode.layout, outputs, "--layout"),
            (stated.score_threshold, "score threshold", f"{decode.score_threshold:g}", "a guess", "--score-threshold"),
            (stated.nms_iou, "NMS IoU", f"{decode.nms_iou:g}", nms, "--nms-iou"),
        ]
    return tuple(Conclusion(what, value, source, option) for said, what, value, source, option in lines if said is None)


def _of_labels(facts: FileFacts, from_folder: bool) -> str:
    if facts.labels:
        return f"from {_METADATA}"
    return "the classes of --images, in their order" if from_folder else "numbered, because the file names no classes"


def _of_size(facts: FileFacts, image_input: InputFormat) -> str:
    if image_input.width_px and image_input.height_px:
        return "from the input of the file"
    return f"from {_METADATA}" if facts.size_px else "a guess, because the file takes any size"


def _of_mean(known: str, task: Task, image_input: InputFormat) -> str:
    """A classifier without metadata is the one case in which another value is common."""
    if image_input.dtype == "uint8":
        return "because the file takes 8-bit images"
    if known != "a guess":
        return known
    if TASKS[task].finds_boxes:
        return "a guess (pixels in 0..1)"
    return f"a guess (pixels in 0..1; networks trained on ImageNet mostly have {_IMAGENET})"


def _of_resize(known: str, task: Task, ultralytics: bool) -> str:
    if ultralytics and not TASKS[task].finds_boxes:
        return "a guess (ultralytics crops the middle of the image instead)"
    return known


def _short(numbers: Triple) -> str:
    return f"{numbers[0]:g}" if len(set(numbers)) == 1 else ",".join(f"{number:g}" for number in numbers)
