"""The parameters of the node `perception`: one table with type, default, range, unit and description of each.

Declarations, docs/node.md and config/perception.yaml are made from this table; resolving overrides is pure Python.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from lisard_ros import naming, tracking
from lisard_ros.errors import UsageError, nearest, unknown_name
from lisard_ros.node import qos

Kind = Literal["bool", "integer", "double", "string", "string_array", "double_array"]
Value = bool | int | float | str | tuple[str, ...] | tuple[float, ...]

_SCALARS: dict[str, type] = {"bool": bool, "integer": int, "double": float, "string": str}
_ITEMS: dict[str, type] = {"string_array": str, "double_array": float}
_WORDS = {
    "bool": "true or false",
    "integer": "an integer",
    "double": "a number",
    "string": "a string",
    "string_array": "a list of strings",
    "double_array": "a list of numbers",
}


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """One parameter: how it is declared, checked and described."""

    name: str
    kind: Kind
    default: Value
    description: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = True

    @property
    def field(self) -> str:
        """Name of the field of `NodeSettings` that holds the value."""
        return self.name.replace(".", "_")

    @property
    def expected(self) -> str:
        """What a value of this parameter must be, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        limits = "" if self.low is None else f" in [{self.low:g}, {self.high:g}]"
        return _WORDS[self.kind] + limits


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """The values of all parameters, resolved and checked; field names are the parameter names with `_` for `.`."""

    bundle: str
    require_signature: bool
    trusted_keys: tuple[str, ...]
    image_topics: tuple[str, ...]
    camera_names: tuple[str, ...]
    boxes_topic: str
    boxes_buffer: int
    boxes_wait_ms: float
    regions: str
    detector: str
    fixed_boxes: tuple[float, ...]
    roi_classes: tuple[str, ...]
    backend: str
    precision: str
    plan_policy: str
    threads: int
    reliability: str
    queue_depth: int
    class_id_format: str
    tracking: str
    min_score: float
    nms_iou: float
    classes: tuple[str, ...]
    top_k: int
    max_detections: int
    max_age_ms: float
    batch_window_ms: float
    no_image_warn_s: float
    diagnostics_period_s: float
    backend_deadline_s: float
    on_stuck: str
    autostart: bool
    injection_enabled: bool
    injection_attacks: tuple[str, ...]
    injection_noise_sigma_255: float
    injection_seed: int
    injection_surrogate: str
    injection_max_share: float
    injection_fraction: float
    injection_cameras: tuple[str, ...]
    injection_max_memory_mb: int
    self_test_count: int
    self_test_suite: tuple[str, ...]
    self_test_seed: int
    self_test_min_interval_s: float
    self_test_max_share: float
    self_test_source: str
    self_test_live_wait_s: float
    self_test_block_s: float
    self_test_report: str
    self_test_on_start: str


TABLE: tuple[ParameterSpec, ...] = (
    ParameterSpec("bundle", "string", "", "Path of the model bundle: a folder or a .zip. Required."),
    ParameterSpec(
        "require_signature",
        "bool",
        False,
        "Only bundles that one of trusted_keys has signed are loaded, the detector too (lisard bundle sign).",
    ),
    ParameterSpec(
        "trusted_keys",
        "string_array",
        (),
        "Public Ed25519 keys: PEM files, or folders whose *.pem files are all read. With require_signature only.",
    ),
    ParameterSpec(
        "image_topics",
        "string_array",
        ("image_raw",),
        "Topics with images, one per camera. A name that ends in /compressed is read as CompressedImage.",
    ),
    ParameterSpec(
        "camera_names",
        "string_array",
        (),
        "Names used in the output topics, one per entry of image_topics; an empty entry keeps the name derived "
        "from the topic.",
    ),
    ParameterSpec(
        "boxes_topic",
        "string",
        "",
        "Topic with vision_msgs/Detection2DArray of any detector, joined to the images by stamp (with several cameras "
        "by stamp and frame_id).",
    ),
    ParameterSpec(
        "boxes_buffer",
        "integer",
        8,
        "Frames per camera that may wait for their boxes; the oldest is given up when one more comes.",
        unit="frames",
        low=1,
        high=1000,
    ),
    ParameterSpec(
        "boxes_wait_ms",
        "double",
        1000.0,
        "How long a frame waits for its boxes before it is given up and counted as failed (no_boxes).",
        unit="ms",
        low=1,
        high=60000,
    ),
    ParameterSpec(
        "regions",
        "string",
        "auto",
        "What is looked at: the whole frame, fixed_boxes, the boxes of boxes_topic, or those that `detector` "
        "finds. auto: topic when boxes_topic is set, else detector when that is set, else fixed when fixed_boxes is "
        "set, else whole.",
        choices=("auto", "whole", "fixed", "topic", "detector"),
    ),
    ParameterSpec(
        "detector",
        "string",
        "",
        "Path of a detection bundle, a folder or a .zip, whose boxes are classified by `bundle` (two stages).",
    ),
    ParameterSpec(
        "fixed_boxes",
        "double_array",
        (),
        "Boxes looked at in every frame, flat: x0 y0 x1 y1 of the first box, then of the next.",
        unit="px",
    ),
    ParameterSpec(
        "roi_classes",
        "string_array",
        (),
        "Only boxes of these classes are classified. Empty: the bundle's roi_classes; if it has none, every box.",
    ),
    ParameterSpec(
        "backend",
        "string",
        "auto",
        "Inference backend. The choice and its reason are logged and shown in /diagnostics.",
        choices=(
            "auto",
            "onnxruntime",
            "onnxruntime_cuda",
            "onnxruntime_tensorrt",
            "openvino",
            "tensorrt",
            "tensorrt_rtx",
            "torch",
        ),
    ),
    ParameterSpec(
        "precision",
        "string",
        "auto",
        "Which of the bundle's models runs. auto: int8 on a CPU where it was checked against fp32, else fp32. "
        "fp16 and int8 must be in the bundle (lisard build).",
        choices=("auto", "fp32", "fp16", "int8"),
    ),
    ParameterSpec(
        "plan_policy",
        "string",
        "require",
        "What to do about TensorRT plans: require one in the cache, build it if missing, rebuild it, or fall back to "
        "ONNX Runtime (with a WARN in /diagnostics).",
        choices=("require", "build", "rebuild", "fallback"),
    ),
    ParameterSpec("threads", "integer", 0, "Threads of the backend; 0: one for each core, at most 8.", low=0, high=256),
    ParameterSpec(
        "reliability",
        "string",
        "auto",
        "Reliability of the image subscriptions. auto: reliable while every publisher of the topic offers it, else "
        "best effort.",
        choices=("auto", "best_effort", "reliable"),
    ),
    ParameterSpec(
        "queue_depth",
        "integer",
        1,
        "Images the middleware keeps for this node while it is busy, per camera. 1: only the newest, which costs "
        "nothing when a camera is faster than the model; with boxes_topic at least boxes_buffer.",
        unit="frames",
        low=1,
        high=1000,
    ),
    ParameterSpec(
        "class_id_format",
        "string",
        "name",
        "What class_id of an answer holds: the label's name or its index in the bundle.",
        choices=("name", "index"),
    ),
    ParameterSpec(
        "tracking",
        "string",
        tracking.NONE,
        "Fills `id` of each box, so that an object of a camera keeps its id from frame to frame (ByteTrack). Needs "
        "boxes; see Tracks.",
        choices=tracking.TRACKERS,
    ),
    ParameterSpec(
        "min_score",
        "double",
        0.0,
        "Lowest score of a box or class, of every stage. 0: a detector's own threshold; any other value replaces it.",
        low=0,
        high=1,
        read_only=False,
    ),
    ParameterSpec(
        "nms_iou",
        "double",
        0.0,
        "Overlap above which the weaker of two boxes of one class is left out. 0: the detector's own.",
        low=0,
        high=1,
        read_only=False,
    ),
    ParameterSpec(
        "classes",
        "string_array",
        (),
        "Only these classes are reported, by name, of the detector or the classifier. Empty: all.",
        read_only=False,
    ),
    ParameterSpec("top_k", "integer", 5, "Hypotheses given per answer, best first.", low=1, high=1000, read_only=False),
    ParameterSpec(
        "max_detections",
        "integer",
        300,
        "Boxes looked at or reported per frame; those with the best scores are kept.",
        low=1,
        high=10000,
        read_only=False,
    ),
    ParameterSpec(
        "max_age_ms",
        "double",
        0.0,
        "Frames whose stamp is older when their turn comes are dropped and counted (too_old). 0: off.",
        unit="ms",
        low=0,
        high=3600000,
        read_only=False,
    ),
    ParameterSpec(
        "batch_window_ms",
        "double",
        0.0,
        "How long the first ready camera waits for the others, so that they share one batch; 0: see `batch` in "
        "/diagnostics.",
        unit="ms",
        low=0,
        high=1000,
        read_only=False,
    ),
    ParameterSpec(
        "no_image_warn_s",
        "double",
        5.0,
        "After this time without an image on a topic, /diagnostics and the log list the publishers.",
        unit="s",
        low=0.1,
        high=86400,
        read_only=False,
    ),
    ParameterSpec(
        "diagnostics_period_s",
        "double",
        1.0,
        "Period of /diagnostics on a steady clock.",
        unit="s",
        low=0.1,
        high=60,
    ),
    ParameterSpec(
        "backend_deadline_s",
        "double",
        10.0,
        "A batch that the backend has not returned after this time is given up: its frames are counted as failed "
        "(stuck), and on_stuck decides what follows. Deactivating waits no longer than this for the last batch. "
        "0: off, and deactivating waits for 10 s.",
        unit="s",
        low=0,
        high=3600,
    ),
    ParameterSpec(
        "on_stuck",
        "string",
        "exit",
        "What follows when the backend does not return. exit: the process ends with status 1, for a respawn. reload: "
        "the model is loaded again, once; the next time the process ends.",
        choices=("exit", "reload"),
    ),
    ParameterSpec(
        "autostart",
        "bool",
        True,
        "Configure and activate at start. false: wait for a lifecycle manager.",
    ),
    ParameterSpec(
        "injection.enabled",
        "bool",
        False,
        "Also answer attacked copies of the frames, on ~/CAMERA/attacked/...; the operational topics stay clean.",
        read_only=False,
    ),
    ParameterSpec(
        "injection.attacks",
        "string_array",
        ("noise",),
        "Attacks to inject: noise, perturbations of the bundle, corruption/NAME/SEVERITY (see docs/corruptions.md). "
        "With a detector in front these change the crops, and detector/NAME changes what the detector sees. "
        "One alone answers on ~/CAMERA/attacked/...; of several each answers on ~/CAMERA/attacked/NAME/...",
        read_only=False,
    ),
    ParameterSpec(
        "injection.noise_sigma_255",
        "double",
        16.0,
        "Standard deviation of the injected Gaussian noise.",
        unit="grey levels of 255",
        low=0.01,
        high=255,
        read_only=False,
    ),
    ParameterSpec(
        "injection.seed",
        "integer",
        0,
        "Seed of the injected noise and corruptions.",
        low=0,
        high=2**31 - 1,
        read_only=False,
    ),
    ParameterSpec(
        "injection.surrogate",
        "string",
        "",
        "Path of a bundle whose gradients attack/NAME follows, in injection and self test (gray-box by transfer). It "
        "has the same task, classes and input size, and a gradient (lisard build --gradient). Empty: the gradients of "
        "`bundle` itself. detector/NAME does not use it.",
    ),
    ParameterSpec(
        "injection.max_share",
        "double",
        0.1,
        "Most of one core's time that the injection process may use. It runs at the lowest priority besides, so on a "
        "busy machine it gets less.",
        low=0.01,
        high=1,
        read_only=False,
    ),
    ParameterSpec(
        "injection.fraction",
        "double",
        1.0,
        "Share of each camera's answered frames that may be attacked, evenly spread. Of these the newest one is taken "
        "whenever the injection process is free.",
        low=0.001,
        high=1,
        read_only=False,
    ),
    ParameterSpec(
        "injection.cameras",
        "string_array",
        (),
        "Cameras whose frames are attacked, by their names in the output topics. Empty: all.",
        read_only=False,
    ),
    ParameterSpec(
        "injection.max_memory_mb",
        "integer",
        2048,
        "Memory that the injection process may use; it is started again when it needs more. A self test has as much.",
        unit="MiB",
        low=64,
        high=1_000_000,
    ),
    ParameterSpec(
        "self_test.count",
        "integer",
        0,
        "Reference frames of the bundle used by ~/self_test; 0: all. Of live frames how many are collected; 0: 50.",
        unit="frames",
        low=0,
        high=1000000,
        read_only=False,
    ),
    ParameterSpec(
        "self_test.suite",
        "string_array",
        (),
        "Attacks run by ~/self_test. Empty: the bundle's suite. NAME=LIMIT gives one a limit of its own, which the "
        "lower bound of its interval must reach, also one that is not in the suite: corruption/fog/3=0.8. p50_ms=, "
        "p95_ms=, p99_ms= and max_ms=LIMIT limit the latency of the self test's process, failed=LIMIT the share of "
        "images without an answer; they choose no case. With a detector in front empty means the suites of both "
        "bundles; detector/NAME is a case of the detector.",
        read_only=False,
    ),
    ParameterSpec("self_test.seed", "integer", 0, "Seed of ~/self_test.", low=0, high=2**31 - 1, read_only=False),
    ParameterSpec(
        "self_test.min_interval_s",
        "double",
        5.0,
        "Time from the end of a self test to the next; a call before that is refused and told when to come back. "
        "0: no limit.",
        unit="s",
        low=0,
        high=86400,
        read_only=False,
    ),
    ParameterSpec(
        "self_test.max_share",
        "double",
        1.0,
        "Most of one core's time that the process of the self test may use. It runs at the lowest priority besides. On "
        "a GPU, which has no such priority, less than 1 protects the answers.",
        low=0.01,
        high=1,
        read_only=False,
    ),
    ParameterSpec(
        "self_test.source",
        "string",
        "references",
        "What ~/self_test attacks. references: the bundle's reference images, whose truth is known. live: frames that "
        "the node answers; counted is agreement with the clean answer, and only NAME=LIMIT of self_test.suite has a "
        "limit.",
        choices=("references", "live"),
        read_only=False,
    ),
    ParameterSpec(
        "self_test.live_wait_s",
        "double",
        60.0,
        "How long ~/self_test collects live frames. It goes on with those that came; without any it has not passed.",
        unit="s",
        low=0.1,
        high=3600,
        read_only=False,
    ),
    ParameterSpec(
        "self_test.block_s",
        "double",
        10.0,
        "Live frames of so many seconds are one block of evidence, since they show the same scene. NAME=LIMIT needs 5 "
        "blocks: frames are then collected over so much time. 0: each frame is a block.",
        unit="s",
        low=0,
        high=3600,
        read_only=False,
    ),
    ParameterSpec(
        "self_test.report",
        "string",
        "",
        "Folder into which each self test writes self_test.json, .csv and .html. Empty: no report.",
    ),
    ParameterSpec(
        "self_test.on_start",
        "string",
        "off",
        "A self test of the reference images at activation. warn: beside the first frames; /diagnostics has the "
        "result. require: before them; the node is not activated if a case fails, and the report is left behind.",
        choices=("off", "warn", "require"),
    ),
)

BY_NAME: dict[str, ParameterSpec] = {spec.name: spec for spec in TABLE}

# Parameters that rclpy declares itself.
_RCLPY_NAMES = ("use_sim_time", "start_type_description_service")
# How alike two names must be (difflib) for one to be taken for a slip of the pen.
_SLIP = 0.8


def resolve(overrides: Mapping[str, object]) -> NodeSettings:
    """Return the settings for `overrides` (name -> value as rclpy gives it); names outside the table are ignored."""
    values = {spec.field: coerce(spec, overrides.get(spec.name)) for spec in TABLE}
    settings = NodeSettings(**values)  # type: ignore[arg-type]
    _check_together(settings)
    return settings


def updated(settings: NodeSettings, changes: Mapping[str, object]) -> NodeSettings:
    """Return `settings` with `changes` (parameter name -> value) checked and put in."""
    values: dict[str, object] = {field.name: getattr(settings, field.name) for field in fields(settings)}
    for name, value in changes.items():
        spec = BY_NAME[name]
        values[spec.field] = coerce(spec, value)
    settings = NodeSettings(**values)  # type: ignore[arg-type]
    _check_together(settings)
    return settings


def coerce(spec: ParameterSpec, value: object) -> Value:
    """Turn `value` into the type of `spec` where that is safe (1 -> 1.0, "a,b" -> [a, b]), else say what is wrong."""
    if value is None:
        return spec.default
    typed = _coerce_list(spec, value) if spec.kind in _ITEMS else _coerce_scalar(spec, value)
    _check_limits(spec, typed)
    return typed


def _coerce_scalar(spec: ParameterSpec, value: object) -> Value:
    wanted = _SCALARS[spec.kind]
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise _wrong(spec, value)
    return value  # type: ignore[return-value]


def _coerce_list(spec: ParameterSpec, value: object) -> Value:
    wanted = _ITEMS[spec.kind]
    if isinstance(value, str) and wanted is str:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise _wrong(spec, value)
    items = list(value)
    if wanted is float and all(type(item) in (int, float) for item in items):
        return tuple(float(item) for item in items)
    if not all(type(item) is wanted for item in items):
        raise _wrong(spec, items)
    return tuple(items) if any(items) or wanted is float else ()


def _check_limits(spec: ParameterSpec, value: Value) -> None:
    if spec.choices and value not in spec.choices:
        guess = nearest(str(value), spec.choices)
        raise _wrong(spec, value, f"did you mean '{guess}'?" if guess else None)
    numbers = value if spec.kind == "double_array" else (value,) if spec.kind in ("integer", "double") else ()
    for number in numbers:  # type: ignore[union-attr]
        low, high = (-math.inf, math.inf) if spec.low is None else (spec.low, spec.high or 0.0)
        if not math.isfinite(number) or not low <= number <= high:  # type: ignore[arg-type, operator]
            raise _wrong(spec, value)


def _wrong(spec: ParameterSpec, value: object, cure: str | None = None) -> UsageError:
    found = f"{value!r} ({type(value).__name__})"
    return UsageError(f"parameter '{spec.name}'", found=found, expected=spec.expected, cure=cure or _cure(spec, value))


def _cure(spec: ParameterSpec, value: object) -> str:
    """Name the usual cause: YAML 1.1 reads y, n, on, off, yes, no as booleans and 30 as a number."""
    if spec.kind in ("string", "string_array"):
        return "quote it in YAML: unquoted y, n, on, off, yes, no are booleans and 30 is a number"
    default = list(spec.default) if isinstance(spec.default, tuple) else spec.default
    return f"the default is {default!r}; see docs/node.md"


def _check_together(settings: NodeSettings) -> None:
    """Refuse combinations that cannot work."""
    if len(settings.fixed_boxes) % 4:
        raise UsageError(
            "parameter 'fixed_boxes'",
            found=f"{len(settings.fixed_boxes)} numbers",
            expected="four for each box: x0 y0 x1 y1",
            cure="add or remove numbers",
        )
    for x0, y0, x1, y1 in fixed_boxes(settings):
        if x1 <= x0 or y1 <= y0:
            raise UsageError(
                "parameter 'fixed_boxes'", found=f"{x0:g} {y0:g} {x1:g} {y1:g}", expected="x0 < x1 and y0 < y1"
            )
    if settings.regions == "fixed" and not settings.fixed_boxes:
        raise UsageError("parameter 'regions'", found="fixed without fixed_boxes", cure="set fixed_boxes")
    if settings.regions == "topic" and not settings.boxes_topic:
        raise UsageError("parameter 'regions'", found="topic without boxes_topic", cure="set boxes_topic")
    if settings.regions == "detector" and not settings.detector:
        raise UsageError("parameter 'regions'", found="detector without a bundle", cure="set detector")
    if settings.require_signature and not settings.trusted_keys:
        cure = "set trusted_keys to the public key of who signs your bundles"
        raise UsageError("parameter 'require_signature'", found="true without trusted_keys", cure=cure)
    if settings.trusted_keys and not settings.require_signature:
        # Keys that nobody asks for would look like a protection.
        cure = "set require_signature to true, or leave trusted_keys out"
        raise UsageError("parameter 'trusted_keys'", found="keys without require_signature", cure=cure)
    if settings.injection_cameras:
        cameras = [topic.camera for topic in naming.camera_topics(settings.image_topics, settings.camera_names)]
        for name in settings.injection_cameras:
            if name not in cameras:
                raise unknown_name("camera of parameter 'injection.cameras'", name, cameras)


def fixed_boxes(settings: NodeSettings) -> list[tuple[float, float, float, float]]:
    """Group the flat list `fixed_boxes` into boxes (x0, y0, x1, y1) in pixels."""
    flat = settings.fixed_boxes
    return [(flat[i], flat[i + 1], flat[i + 2], flat[i + 3]) for i in range(0, len(flat), 4)]


def regions_mode(settings: NodeSettings) -> Literal["whole", "fixed", "topic", "detector"]:
    """Resolve `regions: auto` for these settings."""
    if settings.regions != "auto":
        return settings.regions  # type: ignore[return-value]
    if settings.boxes_topic:
        return "topic"
    if settings.detector:
        return "detector"
    return "fixed" if settings.fixed_boxes else "whole"


# --- overrides that the node does not declare -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unknown:
    """An override with a name that no parameter of this node has."""

    name: str
    from_wildcard: bool
    complaint: str = ""

    @property
    def message(self) -> str:
        """The sentence that a user reads."""
        if self.complaint:
            return self.complaint
        guess = nearest(self.name, BY_NAME)
        hint = f"did you mean '{guess}'?" if guess else "see docs/node.md for the parameters"
        return f"unknown parameter '{self.name}': this node does not declare it; {hint}"


def find_unknown(names: Iterable[str], aimed_at_node: frozenset[str]) -> tuple[Unknown, ...]:
    """Return the overrides among `names` that nobody declares.

    aimed_at_node: names that were given for this very node (command line, its own section of a file); the others came
    from a wildcard section such as `/**`, which other nodes share.
    """
    known = (*BY_NAME, *_RCLPY_NAMES)
    undeclared = (name for name in names if name not in known and not name.startswith(qos.OVERRIDE_PREFIX))
    return tuple(Unknown(name, name not in aimed_at_node) for name in sorted(undeclared))


def find_unknown_qos(
    overrides: Mapping[str, object], topics: Sequence[str], aimed_at_node: frozenset[str]
) -> tuple[Unknown, ...]:
    """Return the QoS overrides that this node cannot honour.

    topics: what the node subscribes to, fully resolved. aimed_at_node: as for `find_unknown`.
    """
    complaints = {name: qos.complaint(name, value, topics) for name, value in sorted(overrides.items())}
    return tuple(Unknown(name, name not in aimed_at_node, text) for name, text in complaints.items() if text)


def names_on_command_line(argv: Sequence[str]) -> frozenset[str]:
    """Return the parameter names given by `-p name:=value` or `--param name:=value` after `--ros-args`."""
    words = _ros_words(argv)
    pairs = itertools.pairwise(words)
    assignments = [value for flag, value in pairs if flag in ("-p", "--param") and ":=" in value]
    return frozenset(assignment.split(":=", 1)[0].rsplit(":", 1)[-1] for assignment in assignments)


def params_files(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the files given by `--params-file` after `--ros-args`."""
    words = _ros_words(argv)
    return tuple(value for flag, value in itertools.pairwise(words) if flag == "--params-file")


def names_in_own_sections(document: object) -> frozenset[str]:
    """Return the parameter names of all sections of a parsed parameter file that name a node without wildcards."""
    own = (values for section, values in _sections(document) if "*" not in section)
    return frozenset(name for values in own for name in _flatten(values))


def stray_section(document: object, node: str) -> str:
    """Report that a parsed parameter file seems to mean `node` (full name) under another name, or return ''.

    Sections for other nodes are normal in a shared file, and nothing is said where one is for this very node.
    """
    sections = [section for section, _ in _sections(document)]
    mine = [section for section in sections if _applies(section, node)]
    if not sections or any("*" not in section for section in mine):
        return ""
    own_name = node.rsplit("/", 1)[-1]
    others = {name: section for section in sections if (name := section.rsplit("/", 1)[-1]) != own_name}
    close = difflib.get_close_matches(own_name, others, n=1, cutoff=_SLIP)
    if close:
        return f"the section '{others[close[0]]}' is for another node and ignored: did you mean '{node}'?"
    if mine:
        return ""
    return f"no section is for this node: found {', '.join(sections)}, expected '{node}' or '/**'"


def _sections(document: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield the full name of the node, or the pattern, that each section is for, and its parameters."""
    if not isinstance(document, Mapping):
        return
    for key, value in document.items():
        if key == "ros__parameters":
            yield path, value
        else:
            yield from _sections(value, re.sub("/+", "/", f"{path}/{key}"))


def _applies(section: str, node: str) -> bool:
    """Tell whether rcl takes a section for `node`: * stands for one part of the name, ** for any number of them."""
    pattern = re.escape(section).replace(r"/\*\*", "(/[^/]+)*").replace(r"\*", "[^/]+")
    return re.fullmatch(pattern, node) is not None


def _flatten(tree: object, prefix: str = "") -> Iterable[str]:
    if not isinstance(tree, Mapping):
        return
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flatten(value, name + ".")
        else:
            yield name


def _ros_words(argv: Sequence[str]) -> list[str]:
    """Return the words between `--ros-args` and `--` (or the end)."""
    words: list[str] = []
    inside = False
    for word in argv:
        if word == "--ros-args":
            inside = True
        elif inside and re.fullmatch("--", word):
            inside = False
        elif inside:
            words.append(word)
    return words
