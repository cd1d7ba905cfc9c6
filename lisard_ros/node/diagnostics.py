"""The content of /diagnostics: pure functions from the state of the node to statuses, and their message form.

Published on a steady clock, also with use_sim_time and no /clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from lisard_ros.evaluation.self_test_report import SelfTestProgress
from lisard_ros.evaluation.statistics import Percentiles
from lisard_ros.injection_process import supervisor
from lisard_ros.injection_process.counters import InjectionCounts
from lisard_ros.injection_process.supervisor import InjectionStatus
from lisard_ros.node.frame_counters import BACKEND, BAD_OUTPUT, INTERNAL, PAUSED, STUCK, Counts
from lisard_ros.node.operational_load import Load
from lisard_ros.node.qos import LOSS_WARN_SHARE, loss_warning

OK, WARN, ERROR = 0, 1, 2
_LEVELS = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)

# Causes that mean that the model or the package is at fault, not a single frame.
_ERROR_CAUSES = (BAD_OUTPUT, BACKEND, INTERNAL, STUCK)


@dataclass(frozen=True, slots=True)
class Remark:
    """One finding: its level and its sentence."""

    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Status:
    """One DiagnosticStatus: its name, what was found, and the values shown below."""

    name: str
    remarks: tuple[Remark, ...]
    values: tuple[tuple[str, str], ...] = ()
    good: str = "ok"

    @property
    def level(self) -> int:
        """The worst level among the remarks."""
        return max((remark.level for remark in self.remarks), default=OK)

    @property
    def message(self) -> str:
        """All remarks, the worst first; `good` without any."""
        ordered = sorted(self.remarks, key=lambda remark: -remark.level)
        return "; ".join(remark.text for remark in ordered) or self.good


@dataclass(frozen=True, slots=True)
class CameraView:
    """The state of one camera at one moment. lost_recently and new_failures: since some seconds, not for ever."""

    camera: str
    topic: str
    reliability: str
    counts: Counts
    percentiles: Mapping[str, Percentiles]
    rate_hz: float
    silence: str = ""
    lost_recently: int = 0
    loss_share: float = 0.0
    new_failures: Mapping[str, int] = field(default_factory=dict)
    last_failure: str = ""


@dataclass(frozen=True, slots=True)
class ModelView:
    """The loaded model, the detector in front ('' if there is none), and the state of the node as a whole."""

    phase: str
    bundle: str = ""
    sha256: str = ""
    backend: str = ""
    reason: str = ""
    batch: str = ""
    paused: bool = False
    reloaded: bool = False
    threads_left_behind: int = 0
    conversion: str = ""
    failure: str = ""
    namesakes: int = 0
    clock_stands: bool = False
    backend_warnings: tuple[str, ...] = ()
    detector: str = ""
    detector_sha256: str = ""
    detector_backend: str = ""


@dataclass(frozen=True, slots=True)
class InjectionView:
    """What is injected, the process that does it, what became of the copies, and the operational answers meanwhile.

    load_with, load_without: of the operational answers while attacks ran, and while none did. surrogate: name and hash
    of the bundle whose gradients are followed, '' without one.
    """

    enabled: bool
    names: tuple[str, ...]
    process: InjectionStatus
    counts: InjectionCounts
    load_with: Load
    load_without: Load
    surrogate: str = ""


def camera_status(view: CameraView) -> Status:
    """Return the status of one camera."""
    remarks = []
    if view.silence:
        remarks.append(Remark(WARN, view.silence))
    if view.lost_recently and view.loss_share > LOSS_WARN_SHARE:
        remarks.append(Remark(WARN, loss_warning(view.topic, view.lost_recently, view.loss_share)))
    for cause, frames in sorted(view.new_failures.items()):
        if cause == PAUSED:  # wanted; the model's status reports it
            continue
        level = ERROR if cause in _ERROR_CAUSES else WARN
        remarks.append(Remark(level, f"{frames} frames failed ({cause}), the last: {view.last_failure}"))
    good = f"{view.rate_hz:.1f} Hz"
    return Status(f"camera {view.camera}", tuple(remarks), _camera_values(view), good)


def model_status(view: ModelView) -> Status:
    """Return the status of the model and the node."""
    remarks = []
    if view.failure:
        remarks.append(Remark(ERROR, view.failure))
    remarks += [Remark(WARN, warning) for warning in view.backend_warnings]
    if view.paused:
        remarks.append(Remark(WARN, "paused by ~/enable: frames are counted and not answered"))
    if view.reloaded:
        text = "the backend did not return and the model was loaded again; the next time the node exits"
        remarks.append(Remark(WARN, text))
    if view.threads_left_behind:
        text = f"threads left behind in a backend that does not return: {view.threads_left_behind}"
        remarks.append(Remark(WARN, text))
    if view.namesakes:
        text = f"{view.namesakes + 1} nodes have this name: answers and services mix; start each under its own name"
        remarks.append(Remark(WARN, text))
    if view.clock_stands:
        remarks.append(Remark(WARN, "use_sim_time is set but /clock is silent: ages are unknown, max_age_ms is off"))
    detector = (
        ("detector", view.detector),
        ("detector_sha256", view.detector_sha256),
        ("detector_backend", view.detector_backend),
    )
    values = (
        ("state", view.phase),
        ("bundle", view.bundle),
        ("bundle_sha256", view.sha256),
        ("backend", view.backend),
        ("backend_reason", view.reason),
        ("batch", view.batch),
        ("paused", str(view.paused).lower()),
        ("threads_left_behind", str(view.threads_left_behind)),
        ("image_conversion", view.conversion),
        *(detector if view.detector else ()),
    )
    return Status("model", tuple(remarks), values, view.phase)


def injection_status(view: InjectionView) -> Status:
    """Return the state of the injection and its process; switched on it is a WARN, so that it is not forgotten."""
    remarks, process, counts = [], view.process, view.counts
    if view.enabled:
        remarks.append(Remark(WARN, "injection is on: " + ", ".join(view.names)))
    if process.state == supervisor.WAITING:
        remarks.append(Remark(WARN, f"the injection process is started again: {process.cause}"))
    if process.state == supervisor.GIVEN_UP:
        text = f"the injection process ended {process.failures} times in a row and is given up: {process.cause}"
        remarks.append(Remark(ERROR, f"{text}; ~/injection with data: true tries again"))
    values = [
        ("enabled", str(view.enabled).lower()),
        ("attacks", ", ".join(view.names)),
        *((("surrogate", view.surrogate),) if view.surrogate else ()),
        ("process", process.state),
        ("process_id", str(process.pid) if process.pid else ""),
        ("process_starts", str(process.starts)),
        ("process_last_end", process.cause),
        ("process_memory_mb", f"{process.resident_mb:.0f}"),
        ("priority", process.priority),
        ("backend", process.engine),
        ("share", f"{process.share:.3f}"),
        ("offered", str(counts.offered)),
        ("replaced", str(counts.replaced)),
        ("answered", str(counts.answered)),
        *((f"answered_{name}", str(copies)) for name, copies in sorted(counts.answered_by.items())),
        ("not_applicable", str(counts.not_applicable)),
        ("no_regions", str(counts.no_regions)),
        ("failed", str(counts.failed_total)),
        *((f"failed_{cause}", str(copies)) for cause, copies in sorted(counts.failed.items())),
        ("pending", str(counts.pending)),
    ]
    for name, load in (("with", view.load_with), ("without", view.load_without)):
        values += [
            (f"operational_{name}_frames", str(load.frames)),
            (f"operational_{name}_rate_hz", f"{load.rate_hz:.2f}"),
            (f"operational_{name}_p50_ms", f"{load.p50_ms:.2f}"),
            (f"operational_{name}_p99_ms", f"{load.p99_ms:.2f}"),
        ]
    return Status("injection", tuple(remarks), tuple(values), "off")


def boxes_status(topic: str, received: int, unmatched: int) -> Status:
    """Return the state of `boxes_topic`."""
    values = (("topic", topic), ("received", str(received)), ("unmatched", str(unmatched)))
    return Status("boxes", (), values, f"{received} received, {unmatched} without a frame")


@dataclass(frozen=True, slots=True)
class SelfTestView:
    """A self test that is under way. progress: None before its first image."""

    progress: SelfTestProgress | None
    elapsed_s: float


def self_test_status(
    passed: bool | None,
    summary: str,
    lines: Sequence[tuple[str, str]] = (),
    running: SelfTestView | None = None,
    *,
    unwritten: bool = False,
) -> Status:
    """Return how far the self test is that is under way, and the outcome of the last one.

    Args:
        passed: Whether the last one has passed; None: none has been run.
        summary: Its outcome in words.
        lines: Each of its cases and the result.
        running: The test under way.
        unwritten: Whether the last one has a result, and no report although it was to have one.
    """
    values = [("passed", {None: "", True: "1", False: "0"}[passed])]
    good = summary
    if running is not None:
        step = running.progress
        good = f"under way: {'starting' if step is None else step}, {running.elapsed_s:.0f} s"
        values += [
            ("case", "" if step is None else f"{step.case} of {step.cases}"),
            ("case_name", "" if step is None else step.name),
            ("images", "" if step is None else f"{step.done} of {step.images}"),
            ("elapsed_s", f"{running.elapsed_s:.1f}"),
            ("last", summary),
        ]
        summary = f"{good}; the last: {summary}"
    remarks = (Remark(ERROR, summary),) if passed is False else (Remark(WARN, summary),) if unwritten else ()
    return Status("self_test", remarks, (*values, *lines), good)


def to_message(statuses: Sequence[Status], node: str, hardware_id: str, stamp: Time) -> DiagnosticArray:
    """Fill a DiagnosticArray; names get the node's full name in front, as aggregators expect."""
    array = DiagnosticArray()
    array.header.stamp = stamp
    array.status = [
        DiagnosticStatus(
            level=_LEVELS[status.level],
            name=f"{node}: {status.name}",
            message=status.message,
            hardware_id=hardware_id,
            values=[KeyValue(key=key, value=value) for key, value in status.values],
        )
        for status in statuses
    ]
    return array


def _camera_values(view: CameraView) -> tuple[tuple[str, str], ...]:
    counts = view.counts
    values = [
        ("topic", view.topic),
        ("reliability", view.reliability),
        ("rate_hz", f"{view.rate_hz:.2f}"),
        ("received", str(counts.received)),
        ("answered", str(counts.answered)),
        ("replaced", str(counts.replaced)),
        ("too_old", str(counts.too_old)),
        ("failed", str(counts.failed_total)),
        *((f"failed_{cause}", str(frames)) for cause, frames in sorted(counts.failed.items())),
        ("pending", str(counts.pending)),
        ("lost_in_transport", str(counts.lost_in_transport)),
        ("time_jumps_back", str(counts.jumps_back)),
        ("last_failure", view.last_failure),
    ]
    for stage, p in view.percentiles.items():
        values += [(f"{stage}_p50_ms", f"{p.p50_ms:.2f}"), (f"{stage}_p95_ms", f"{p.p95_ms:.2f}")]
        values += [(f"{stage}_p99_ms", f"{p.p99_ms:.2f}"), (f"{stage}_max_ms", f"{p.max_ms:.2f}")]
    return tuple(values)
