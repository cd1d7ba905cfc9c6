"""What the outputs of a foreign ONNX file are, judged by their shapes and by the numbers that they hold for images.

Shapes alone do not tell: the grid of YOLOX has as many rows as the decoded boxes of YOLOv8, and probabilities have the
shape of logits. So the file is run, and what is concluded is what numbers of another kind would not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lisard_ros.backends.onnx_runtime import load_session
from lisard_ros.bundle.manifest import TASKS, Activation, Decode, InputSpec, Layout, OutputSpec, Task
from lisard_ros.errors import BackendError, BundleError, one_line
from lisard_ros.frames import Pixels
from lisard_ros.inference.postprocess import grid_cells, grid_rows
from lisard_ros.inference.preprocess import normalise, prepare
from lisard_ros.onnx_formats import rewriting
from lisard_ros.onnx_formats.files import InputFormat, OnnxFile, input_format
from lisard_ros.onnx_formats.rewriting import BoxSource, ListSource, ScoreSource

Values = NDArray[np.float64]
SUM_SLACK = 5e-3  # of the probabilities of one row; half precision rounds each by up to 5e-4
SCORE_SLACK = 1e-3
ALMOST_ALL = 0.99  # share of rows that must look like boxes of a kind; some rows of a random image hold absurd boxes
MOST = 0.8  # share of rows in which "no object" is the best class of a network that says so
OVERHANG = 0.1  # how far boxes reach over the border of the image, as a share of its side
LARGEST_FRACTION = 2.0  # boxes whose numbers are below it are fractions of the image; the smallest input has 16 px
MOST_QUERIES = 1000  # published transformers have 100 to 900
_NO_NMS = 1.0  # an IoU that no pair exceeds
_PROBE_IMAGES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Recognition:
    """A foreign file as a bundle can hold it, and what was concluded on the way.

    format: the row of docs/onnx.md. classes: how many the file has, or None where it does not say.
    output, decode: for the manifest; thresholds are the defaults. data: the file for the bundle, with one float32 input
    [N, 3, H, W] and one output. notes: sentences for the user. wants_255: it takes 8-bit images, so std must be 1/255.
    """

    format: str
    task: Task
    classes: int | None
    output: OutputSpec
    decode: Decode | None
    data: bytes
    notes: tuple[str, ...]
    wants_255: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Output:
    """One output for several images. values: [images, ...] without the batch axis; whole: of an integer type."""

    name: str
    values: Values
    whole: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image's part."""
        return self.values.shape[1:]

    @property
    def flat(self) -> Values:
        """The rows of all images together, for an output [Q, D] of each: [images * Q, D]."""
        return self.values.reshape(-1, self.values.shape[-1])


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the caller knows or insists on."""

    task: Task | None
    classes: int | None
    layout: Layout | None
    activation: Activation | None
    size_px: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Found:
    """A format. data: the rewritten file, or None where its output can stay as it is."""

    format: str
    name: str
    activation: Activation
    layout: Layout | None = None
    classes: int | None = None
    nms_iou: float | None = None
    data: bytes | None = None
    notes: tuple[str, ...] = ()


def recognise(
    file: OnnxFile,
    spec: InputSpec,
    *,
    task: Task | None = None,
    classes: int | None = None,
    layout: Layout | None = None,
    activation: Activation | None = None,
    output: str | None = None,
    images: Sequence[Pixels] = (),
) -> Recognition:
    """Run a foreign file on images and find out what its outputs are.

    Args:
        file: what `read_file` gives.
        spec: how images become its input; width and height as it takes them.
        task, classes, layout, activation: what is known; None leaves it to the file. classes: number of labels.
        output: name of the output to read, for a file with several.
        images: real images, uint8 RGB [h, w, 3] of any size. A few made ones are used where there are none; these can
            leave a format undecided that real ones decide.

    Returns:
        The format, and the file as a bundle can hold it.

    Raises:
        BundleError: a format that cannot be decoded, or one that contradicts what the caller insists on.
    """
    image_input = input_format(file)
    _require_spec(image_input, spec)
    data = rewriting.with_usual_input(file.data, image_input, spec)
    outputs = _run(data, image_input, spec, images, output)
    wanted = _Wanted(task, classes, layout, activation, (spec.width, spec.height))
    answer = _recognise(data, outputs, wanted)
    decode = None
    if answer.layout is not None:
        decode = (
            Decode(layout=answer.layout)
            if answer.nms_iou is None
            else Decode(layout=answer.layout, nms_iou=answer.nms_iou)
        )
    logits = answer.activation == "sigmoid" and activation is None
    judged = ("scores lie outside 0..1: they are taken for logits (activation sigmoid)",) if logits else ()
    free = image_input.is_usual and data is not file.data
    fixed = (f"the file takes images of any size: its input is fixed to {spec.width}x{spec.height}",) if free else ()
    return Recognition(
        format=answer.format,
        task="classification" if answer.layout is None else "detection",
        classes=answer.classes,
        output=OutputSpec(name=answer.name, activation=answer.activation),
        decode=decode,
        data=data if answer.data is None else answer.data,
        notes=(*_input_notes(image_input), *fixed, *answer.notes, *judged),
        wants_255=image_input.dtype == "uint8",
    )


# --- input ----------------------------------------------------------------------------------------------------------


def _require_spec(image_input: InputFormat, spec: InputSpec) -> None:
    """BundleError when images made as `spec` says do not fit the input that was found."""
    size_px = (image_input.width_px or spec.width, image_input.height_px or spec.height)
    if size_px != (spec.width, spec.height):
        raise BundleError(
            "input size is not the model's",
            found=f"{spec.width}x{spec.height}",
            expected=f"{size_px[0]}x{size_px[1]} (width x height)",
            cure=f"give --input {size_px[0]}x{size_px[1]}",
        )
    if image_input.dtype == "uint8" and not np.allclose((spec.mean, spec.std), ((0,) * 3, (1 / 255,) * 3), atol=1e-6):
        raise BundleError(
            "the model takes 8-bit images as they are",
            found=f"mean {spec.mean}, std {spec.std}",
            expected="mean 0 and std 1/255, which leave grey levels 0..255",
            cure="leave out --mean, and give --std 0.00392156862745098",
        )
    if image_input.channels == 1 and (len(set(spec.mean)), len(set(spec.std))) != (1, 1):
        raise BundleError(
            "the model takes gray images",
            found=f"mean {spec.mean}, std {spec.std}",
            expected="one mean and one std",
            cure="give one number each",
        )


def _input_notes(image_input: InputFormat) -> tuple[str, ...]:
    changes = [
        (image_input.axes == "nhwc", "takes [N, H, W, C]: a transpose is put in front"),
        (image_input.dtype != "float32", f"takes {image_input.dtype}: a cast is put in front"),
        (image_input.channels == 1, "takes gray images: color is weighted in front as in ITU-R BT.601"),
        (
            image_input.size_input is not None,
            f"input {image_input.size_input} is fixed to the size of the model's input",
        ),
    ]
    return tuple(f"the file {what}" if not what.startswith("input ") else what for holds, what in changes if holds)


# --- running --------------------------------------------------------------------------------------------------------


def _run(
    data: bytes, image_input: InputFormat, spec: InputSpec, images: Sequence[Pixels], only: str | None
) -> tuple[_Output, ...]:
    """Run the file on each image and return its arrays that hold finite numbers, or the one that is asked for."""
    session = load_session(data, "the model", 1)
    declared = {value.name: value.type for value in session.get_outputs()}
    if only is not None and only not in declared:
        raise BundleError(
            "the model does not have the bundle's output",
            found=", ".join(declared),
            expected=only,
            cure="name one of them with --output",
        )
    names = [only] if only else [name for name, kind in declared.items() if kind.startswith("tensor(")]
    if not names:
        raise BundleError(
            "the model's outputs are no arrays",
            found=", ".join(f"{name}: {kind}" for name, kind in declared.items()),
            expected="tensor(float)",
            cure="export it without maps and sequences (ZipMap)",
        )
    x = normalise(prepare(list(images) or _made_images(spec), spec), spec)
    batch = image_input.batch or 1
    (name,) = [value.name for value in session.get_inputs()]
    answers: list[list[NDArray[np.generic]]] = []
    for image in x:
        try:
            answers.append(session.run(names, {name: np.repeat(image[None], batch, axis=0)}))
        except Exception as error:  # ONNX Runtime's own untyped family
            raise BackendError(
                "ONNX Runtime failed on an image",
                found=one_line(error),
                cure="check the size of the input, and export the model again",
            ) from error
    return tuple(_collected(name, [answer[n] for answer in answers], batch) for n, name in enumerate(names))


def _collected(name: str, arrays: Sequence[NDArray[np.generic]], batch: int) -> _Output:
    first = arrays[0]
    if first.ndim == 0 or len(first) != batch:
        raise BundleError(
            f"the model's output {name} has no batch axis",
            found=list(first.shape),
            expected=f"[{batch}, ...] for a batch of {batch}",
            cure="export it with a batch axis; for a list of all boxes found, without suppression of duplicates inside",
        )
    same = [np.asarray(array[0]) for array in arrays if array[0].shape == first[0].shape]
    finite = [array for array in same if np.isfinite(array.astype(np.float64)).all()]
    kept = np.stack(finite or same[:1]).astype(np.float64)
    return _Output(name, np.nan_to_num(kept), np.issubdtype(first.dtype, np.integer))


def _made_images(spec: InputSpec) -> list[Pixels]:
    """A few images without any source: slow and fast changes of color, so that a network sees something."""
    random = np.random.default_rng(0)
    size = (spec.width, spec.height)
    small = [random.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in (3, 6, 12, 24)[:_PROBE_IMAGES]]
    return [np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), np.uint8) for image in small]


# --- outputs --------------------------------------------------------------------------------------------------------


def _recognise(data: bytes, outputs: tuple[_Output, ...], wanted: _Wanted) -> _Found:
    if wanted.layout is not None:
        return _as_asked(outputs, wanted, wanted.layout)
    flat = [one for one in outputs if max(one.shape, default=1) == np.prod(one.shape, dtype=int)]
    finds_boxes = TASKS[wanted.task].finds_boxes if wanted.task else None
    if not finds_boxes and len(outputs) == 1 and flat:
        return _classes(data, outputs[0], wanted)
    if finds_boxes is False:
        raise _unlike_labels(outputs, wanted, f"[{wanted.classes or 'classes'}]")
    tables = [one for one in outputs if len(one.shape) >= 2]
    boxes = [one for one in tables if one.shape[-1] == 4 and np.prod(one.shape[:-1]) == max(one.shape[:-1])]
    if len(outputs) == 1 and tables and len(tables[0].shape) == 2:
        return _one_table(data, tables[0], wanted)
    named = [one for one in boxes if "box" in one.name.lower()]  # the scores of four classes have four columns too
    boxes = named if len(boxes) > 1 else boxes
    if len(boxes) == 1:
        return _beside_boxes(data, boxes[0], outputs, wanted)
    raise _unknown(outputs)


def _unknown(outputs: Sequence[_Output]) -> BundleError:
    masks = any(len(one.shape) == 3 and min(one.shape) > 4 for one in outputs)
    return BundleError(
        "the model's outputs are of no format that is decoded" + (" (masks, or maps of features)" if masks else ""),
        found="; ".join(f"{one.name} {['N', *one.shape]}" for one in outputs),
        expected="a row of the table in docs/onnx.md",
        cure="export the model with its decoding, for classes or boxes alone; --output names one of several outputs",
    )


def _unlike_labels(outputs: Sequence[_Output], wanted: _Wanted, expected: str) -> BundleError:
    return BundleError(
        "the model's output does not fit task and labels",
        found=", ".join(str(list(one.shape)) for one in outputs),
        expected=expected,
        cure="check --labels, --task and --output" + ("" if wanted.classes else ", and give --labels"),
    )


def _classes(data: bytes, output: _Output, wanted: _Wanted) -> _Found:
    count = int(np.prod(output.shape, dtype=int))
    if wanted.classes not in (None, count):
        raise _unlike_labels([output], wanted, f"[{wanted.classes}]")
    rows = output.values.reshape(-1, count)
    activation, notes = _class_activation(rows, wanted)
    name, changed = output.name, None
    if len(output.shape) != 1 or output.whole:
        name, changed = rewriting.CLASSES, rewriting.with_flat_classes(data, output.name)
        notes = (*notes, f"output {output.name} {['N', *output.shape]} is made [N, {count}]")
    form = "classes" if activation != "none" else "classes, probabilities"
    return _Found(form, name, activation, classes=count, data=changed, notes=notes)


def _class_activation(rows: Values, wanted: _Wanted) -> tuple[Activation, tuple[str, ...]]:
    if _sum_to_one(rows):
        said = f" although {wanted.activation} was asked for" if wanted.activation == "softmax" else ""
        if wanted.activation in (None, "none", "softmax"):
            return "none", (f"the file applies softmax itself (rows >= 0 with sum 1): activation none is taken{said}",)
    if wanted.activation is not None:
        return wanted.activation, ()
    if rows.shape[1] > 1 and len(rows) > 1 and _within_one(rows):
        return "none", ("all outputs lie in 0..1: they are taken for scores (activation none)",)
    return "softmax", ()


def _sum_to_one(rows: Values) -> bool:
    """Whether rows [M, C] are probabilities. One column alone, or one answer to all images, shows nothing."""
    if rows.shape[1] < 2 or rows.min(initial=0) < -SCORE_SLACK:
        return False
    return bool(np.abs(rows.sum(axis=1) - 1).max(initial=0) <= SUM_SLACK) and len(rows) > 0


def _within_one(values: Values) -> bool:
    return bool(values.size and values.min() >= -SCORE_SLACK and values.max() <= 1 + SCORE_SLACK)


# --- one table ------------------------------------------------------------------------------------------------------


def _as_asked(outputs: tuple[_Output, ...], wanted: _Wanted, layout: Layout) -> _Found:
    """Take the layout that was asked for, unless the numbers show that it is another."""
    if len(outputs) != 1 or len(outputs[0].shape) != 2:
        raise BundleError(
            f"layout {layout} is one table of numbers for each image",
            found="; ".join(f"{one.name} {['N', *one.shape]}" for one in outputs),
            expected="one output with three axes",
            cure="name it with --output, or leave out --layout, so that the format is recognised",
        )
    (output,) = outputs
    shown = _certain(output, wanted)
    if shown not in (None, layout):
        raise BundleError(
            f"the model's output is not of layout {layout}",
            found=f"numbers of layout {shown} {['N', *output.shape]}",
            expected=layout,
            cure=f"give --layout {shown}, or leave it out",
        )
    first = 4 if layout in ("cxcywh_classes_first", "xyxy_score_class") else 5
    table = output.values.transpose(0, 2, 1) if layout == "cxcywh_classes_first" else output.values
    scores = table[..., 4:5] if layout == "xyxy_score_class" else table[..., 4:]
    count = None if layout == "xyxy_score_class" else table.shape[-1] - first
    if wanted.classes not in (None, count) and count is not None:
        raise _unlike_labels(outputs, wanted, _expected_of(layout, wanted.classes or 0))
    if layout != "yolox_grid" and _are_fractions(table[..., :4].reshape(-1, 4)):
        raise BundleError(
            f"the boxes of the model's output {output.name} are fractions of the image",
            found=f"largest number {table[..., :4].max():.3g}",
            expected=f"pixels of the input, as layout {layout} has them",
            cure="leave out --layout, so that the format is recognised",
        )
    activation: Activation = wanted.activation or ("none" if _within_one(scores) or not scores.size else "sigmoid")
    nms_iou = _NO_NMS if layout == "xyxy_score_class" else None
    return _Found(layout, output.name, activation, layout, count, nms_iou)


def _expected_of(layout: Layout, classes: int) -> str:
    return f"[{4 + classes}, boxes]" if layout == "cxcywh_classes_first" else f"[boxes, {5 + classes}]"


def _certain(output: _Output, wanted: _Wanted) -> Layout | None:
    """The layout that the numbers show beyond doubt, or None."""
    if _is_list(output.values, wanted):
        return "xyxy_score_class"
    return "yolox_grid" if _is_raw_grid(output.values, wanted) else None


def _one_table(data: bytes, output: _Output, wanted: _Wanted) -> _Found:
    shown = _certain(output, wanted)
    if shown == "xyxy_score_class":
        return _table_list(data, output, wanted)
    if shown == "yolox_grid":
        count = output.shape[1] - 5
        activation = _score_activation(output.values[..., 4:], wanted)
        note = "raw grid of strides 8, 16 and 32, decoded by the layout yolox_grid"
        return _Found("yolox_grid", output.name, activation, "yolox_grid", count, notes=(note,))
    rows, columns = output.shape
    classes = wanted.classes
    first = rows - 4 if rows < columns else 0
    if first > 0 and classes in (None, first):
        return _classes_first(data, output, wanted, first)
    behind = _columns_before_classes(output, wanted)
    if classes not in (None, columns - behind) or columns <= behind or (rows < columns and classes is None):
        raise _unlike_labels(
            [output],
            wanted,
            f"[{4 + (classes or 0)}, boxes], [boxes, {5 + (classes or 0)}] or [boxes, {4 + (classes or 0)}]",
        )
    return _classes_last(data, output, wanted, behind)


def _columns_before_classes(output: _Output, wanted: _Wanted) -> int:
    """Four for boxes, or five with objectness: by the number of labels, else by the number of rows."""
    rows, columns = output.shape
    if wanted.classes is not None:
        return columns - wanted.classes if columns - wanted.classes in (4, 5) else 5
    cells = grid_rows(wanted.size_px)
    if rows == cells:
        raise BundleError(
            "the columns of the model's output have two readings",
            found=f"{['N', *output.shape]}",
            expected=f"{columns - 4} classes, or an objectness and {columns - 5} classes",
            cure="give --labels",
        )
    return 5 if rows % cells == 0 else 4


def _classes_first(data: bytes, output: _Output, wanted: _Wanted, count: int) -> _Found:
    table = output.values.transpose(0, 2, 1)
    activation = _score_activation(table[..., 4:], wanted)
    kind = _box_kind(table[..., :4].reshape(-1, 4), wanted, output)
    if kind.matrix is None:
        return _Found("cxcywh_classes_first", output.name, activation, "cxcywh_classes_first", count)
    raise BundleError(
        f"the boxes of the model's output {output.name} are {kind.words}",
        found=f"{['N', *output.shape]}",
        expected="centre and size in pixels of the input in [N, 4 + classes, boxes]",
        cure="export the model with boxes in pixels",
    )


def _classes_last(data: bytes, output: _Output, wanted: _Wanted, behind: int) -> _Found:
    activation = _score_activation(output.values[..., 4:], wanted)
    kind = _box_kind(output.flat[:, :4], wanted, output)
    count = output.shape[1] - behind
    if behind == 5 and not kind.fraction:
        layout: Layout = "xyxy_objectness_classes" if kind.corners else "cxcywh_objectness_classes"
        return _Found(layout, output.name, activation, layout, count)
    if behind == 5:
        raise BundleError(
            f"the boxes of the model's output {output.name} are {kind.words}",
            found=f"{['N', *output.shape]} with an objectness",
            expected="pixels of the input",
            cure="export the model with boxes in pixels",
        )
    boxes = BoxSource(output.name, (0, 1, 2, 3), kind.matrix)
    scores = ScoreSource(output.name, tuple(range(4, 4 + count)))
    changed = rewriting.with_classes_first(data, boxes, scores)
    note = f"[N, boxes, 4 + {count}], boxes {kind.words}: turned into [N, 4 + {count}, boxes], in pixels"
    form = "boxes_classes"
    once = _are_queries(output.shape[0], wanted)
    return _Found(
        form,
        rewriting.DETECTIONS,
        activation,
        "cxcywh_classes_first",
        count,
        _NO_NMS if once else None,
        changed,
        (note,),
    )


def _are_queries(rows: int, wanted: _Wanted) -> bool:
    """Whether rows are queries of a transformer, each of which finds another object, and not cells of a grid."""
    cells = grid_rows(wanted.size_px)
    return rows <= MOST_QUERIES and rows not in (cells, 3 * cells)


def _score_activation(values: Values, wanted: _Wanted) -> Activation:
    return wanted.activation or ("none" if _within_one(values) or not values.size else "sigmoid")


def _is_list(values: Values, wanted: _Wanted) -> bool:
    """Whether a table [images, M, 6] is a list of corners, score and class, or of corners, class and score.

    A table with a row for each cell is none, even where all its scores are whole numbers.
    """
    rows, columns = values.shape[1:]
    if columns != 6 or rows in (grid_rows(wanted.size_px), 3 * grid_rows(wanted.size_px)):
        return False
    return _scores_then_classes(values) or (_within_one(values[..., 5]) and _are_classes(values[..., 4]))


def _scores_then_classes(values: Values) -> bool:
    return _within_one(values[..., 4]) and _are_classes(values[..., 5])


def _are_classes(values: Values) -> bool:
    """Whole numbers from -1, which stands for a row without a box."""
    return bool((values == np.rint(values)).all() and values.min(initial=0) >= -1)


def _table_list(data: bytes, output: _Output, wanted: _Wanted) -> _Found:
    score, kind = (4, 5) if _scores_then_classes(output.values) else (5, 4)
    boxes = output.flat[output.flat[:, score] > 0, :4]
    place = _listed_kind(boxes, wanted, output)
    corners = _corners_matrix(place)
    notes: tuple[str, ...] = (
        "the file suppresses duplicates itself (corners, score, class): they are kept as they are",
    )
    activation: Activation = wanted.activation if wanted.activation == "sigmoid" else "none"
    if corners is None and score == 4:
        return _Found("xyxy_score_class", output.name, activation, "xyxy_score_class", None, _NO_NMS, None, notes)
    source = ListSource(output.name, output.name, score, kind)
    changed = rewriting.with_list(data, BoxSource(output.name, (0, 1, 2, 3), corners), source)
    notes = (*notes, f"boxes {place.words}: turned into corners in pixels")
    return _Found("xyxy_score_class", rewriting.DETECTIONS, "none", "xyxy_score_class", None, _NO_NMS, changed, notes)


def _is_raw_grid(values: Values, wanted: _Wanted) -> bool:
    """Whether a table [images, P, 5 + C] is YOLOX's grid before decoding.

    YOLOX decoded, and YOLOv8 transposed, have as many rows. Raw centres are near 0, decoded ones near their cells; of
    decoded corners the first is near its cell too.
    """
    rows, columns = values.shape[1:]
    if rows != grid_rows(wanted.size_px) or columns < 6 or wanted.classes not in (None, columns - 5):
        return False
    cells, strides = grid_cells(wanted.size_px)
    centres = values[..., :2]
    decoded = np.median(np.abs(centres / strides - cells))
    return bool(centres.any() and np.median(np.abs(centres)) < decoded)


# --- boxes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _BoxKind:
    """What four numbers of a box are. corners: or centre and size. fraction: of the image, or pixels of the input."""

    corners: bool
    fraction: bool
    size_px: tuple[int, int]

    @property
    def words(self) -> str:
        """Write it for a note."""
        return f"{'corners' if self.corners else 'centre and size'} {'as fractions' if self.fraction else 'in pixels'}"

    @property
    def scale(self) -> NDArray[np.float32]:
        """What makes pixels of the four numbers, on the diagonal of [4, 4]."""
        return np.diag(np.array(self.size_px * 2 if self.fraction else (1, 1, 1, 1), np.float32))

    @property
    def matrix(self) -> NDArray[np.float32] | None:
        """What makes centre and size in pixels of a row, [4, 4]; None where it is that already."""
        if not self.corners:
            return self.scale if self.fraction else None
        centred = np.array([[0.5, 0, -1, 0], [0, 0.5, 0, -1], [0.5, 0, 1, 0], [0, 0.5, 0, 1]], np.float32)
        return np.asarray(self.scale @ centred, np.float32)


def _corners_matrix(kind: _BoxKind) -> NDArray[np.float32] | None:
    """What makes corners in pixels of a row, [4, 4]; None where it is that already."""
    if kind.corners:
        return kind.scale if kind.fraction else None
    corners = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [-0.5, 0, 0.5, 0], [0, -0.5, 0, 0.5]], np.float32)
    return np.asarray(kind.scale @ corners, np.float32)


def _box_kind(rows: Values, wanted: _Wanted, output: _Output) -> _BoxKind:
    """Judge boxes [M, 4] of all images, of which most show no object and lie anywhere.

    A table of large boxes alone, in which each width is above its centre, looks like corners too; so corners are taken
    only where they would not make sense as centre and size. Corners in the right half of an image do not: with half
    of x1 beside it, x0 leaves the image.
    """
    rows = rows[rows.any(axis=1)] if rows.any() else rows
    fraction = _are_fractions(rows)
    ordered = (rows[:, 2:] >= rows[:, :2]).all(axis=1).mean()
    sized = (rows[:, 2:] >= 0).all(axis=1).mean()
    if ordered < ALMOST_ALL and sized < ALMOST_ALL:
        raise BundleError(
            f"the boxes of the model's output {output.name} are neither corners nor centre and size",
            found=f"{100 * ordered:.0f} % of the rows with x0 <= x1 and y0 <= y1, {100 * sized:.0f} % with a size >= 0",
            expected="boxes of one kind, decoded by the file",
            cure="export the model with its decoding; offsets to anchors mean nothing without the anchors",
        )
    size = np.array((1, 1) if fraction else wanted.size_px)
    inside = (rows[:, :2] - rows[:, 2:] / 2 >= -OVERHANG * size) & (
        rows[:, :2] + rows[:, 2:] / 2 <= (1 + OVERHANG) * size
    )
    corners = bool(ordered >= ALMOST_ALL and inside.all(axis=1).mean() < ALMOST_ALL)
    return _BoxKind(corners, fraction, wanted.size_px)


def _listed_kind(rows: Values, wanted: _Wanted, output: _Output) -> _BoxKind:
    """Judge the boxes [M, 4] of a list of objects that were found: corners, if they can be."""
    if (rows[:, 2:] >= rows[:, :2]).all():
        return _BoxKind(True, _are_fractions(rows), wanted.size_px)
    return _box_kind(rows, wanted, output)


def _are_fractions(rows: Values) -> bool:
    return bool(rows.any() and np.quantile(np.abs(rows), ALMOST_ALL) <= LARGEST_FRACTION)


# --- boxes beside scores --------------------------------------------------------------------------------------------


def _beside_boxes(data: bytes, boxes: _Output, outputs: tuple[_Output, ...], wanted: _Wanted) -> _Found:
    queries = max(boxes.shape[:-1])
    tables = [one for one in outputs if one is not boxes and len(one.shape) == 2 and one.shape[0] == queries]
    lists = [one for one in outputs if one is not boxes and one.shape in ((queries,), (queries, 1))]
    whole = [one for one in lists if one.whole or _are_classes(one.values)]
    scores = [one for one in lists if one not in whole and _within_one(one.values)]
    if len(whole) == 1 and len(scores) == 1:
        return _three_lists(data, boxes, scores[0], whole[0], wanted)
    tables = [one for one in tables if one.shape[1] > 1] or tables
    if wanted.classes is not None and len(tables) > 1:
        tables = [one for one in tables if one.shape[1] - wanted.classes in (0, 1)]
    if len(tables) != 1:
        raise _unknown(outputs)
    return _two_tables(data, boxes, tables[0], wanted)


def _three_lists(data: bytes, boxes: _Output, scores: _Output, classes: _Output, wanted: _Wanted) -> _Found:
    chosen = boxes.flat[scores.values.reshape(-1) > 0]
    kind = _listed_kind(chosen, wanted, boxes)
    if boxes.name.startswith("detection_boxes") and kind.fraction:
        raise BundleError(
            "boxes of TensorFlow's object detection are not decoded",
            found=f"{boxes.name}: y0, x0, y1, x1 as fractions, with classes from 1",
            expected="x0, y0, x1, y1 and classes from 0",
            cure="export the model with decoded boxes and scores of all classes",
        )
    box = BoxSource(boxes.name, (), _corners_matrix(kind))
    changed = rewriting.with_list(data, box, ListSource(scores.name, classes.name))
    note = f"outputs {boxes.name} ({kind.words}), {scores.name} and {classes.name} are joined as corners, score, class"
    return _Found("three_lists", rewriting.DETECTIONS, "none", "xyxy_score_class", None, _NO_NMS, changed, (note,))


def _two_tables(data: bytes, boxes: _Output, scores: _Output, wanted: _Wanted) -> _Found:
    kind = _box_kind(boxes.flat, wanted, boxes)
    ground = _background(boxes, scores, wanted)
    columns = scores.shape[1]
    chosen = tuple(n for n in range(columns) if n != ground)
    inside: Activation = "softmax" if ground is not None and not _within_one(scores.values) else "none"
    activation: Activation = "none" if ground is not None else _score_activation(scores.values, wanted)
    source = ScoreSource(scores.name, chosen, inside)
    changed = rewriting.with_classes_first(data, BoxSource(boxes.name, (), kind.matrix), source)
    said = f"without column {ground} (no object)" if ground is not None else "of all columns"
    note = f"outputs {boxes.name} ({kind.words}) and {scores.name} ({said}) are joined as [N, 4 + classes, boxes]"
    once = ground != 0 and _are_queries(max(boxes.shape[:-1]), wanted)  # SSD, with "no object" first, has anchors
    return _Found(
        "two_tables",
        rewriting.DETECTIONS,
        activation,
        "cxcywh_classes_first",
        len(chosen),
        _NO_NMS if once else None,
        changed,
        (note,),
    )


def _background(boxes: _Output, scores: _Output, wanted: _Wanted) -> int | None:
    """The column that says "no object", or None without one: the first (SSD) or the last (DETR).

    DETR calls its boxes pred_boxes. Elsewhere it is the end that is larger on average.
    """
    columns, rows = scores.shape[1], scores.flat
    first = "pred_boxes" not in boxes.name and rows[:, 0].mean() > rows[:, -1].mean()
    end = 0 if first else columns - 1
    if wanted.classes == columns:
        return None
    if wanted.classes == columns - 1:
        return end
    if wanted.classes is not None:
        raise _unlike_labels([scores], wanted, f"[boxes, {wanted.classes}] or [boxes, {wanted.classes + 1}]")
    certain = _sum_to_one(rows) or (rows.argmax(axis=1) == end).mean() >= MOST
    return end if certain and columns > 1 else None
