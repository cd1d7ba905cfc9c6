"""The board between a source, which writes in its thread, and the server, which reads in another."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from lisard_ros.statuses import StatusView
from lisard_ros.watch.views import (
    DROPS,
    QUANTILES,
    CameraCard,
    FrameView,
    PageView,
    Sample,
    ShownAnswer,
    ShownImage,
)

CAMERA = "camera "
HISTORY = 600  # samples of each camera, ten minutes of /diagnostics at its default period
KEPT_ANSWERS, KEPT_IMAGES = 64, 4
SHORTEST_S = 0.01  # between two statuses of a camera, so that rates stay finite
SILENT_S = 5.0  # without /diagnostics for so long the node is reported as silent


@dataclass(slots=True)
class _CameraLog:
    """What is kept of one camera. samples are numbered from the start, so that readers ask for those after one."""

    images: deque[ShownImage] = field(default_factory=lambda: deque(maxlen=KEPT_IMAGES))
    answers: deque[ShownAnswer] = field(default_factory=lambda: deque(maxlen=KEPT_ANSWERS))
    samples: deque[tuple[int, Sample]] = field(default_factory=lambda: deque(maxlen=HISTORY))
    status: StatusView | None = None
    seen_s: float = 0.0  # of the status, on the steady clock


class Board:
    """Thread-safe. A node that starts again begins new counters; its history goes on."""

    def __init__(self, source: str, *, can_act: bool, steady_s: Callable[[], float] = time.monotonic) -> None:
        """source: what is watched, for people. can_act: somebody answers the buttons."""
        self._lock = threading.Lock()
        self._source, self._can_act, self._steady_s = source, can_act, steady_s
        self._cameras: dict[str, _CameraLog] = {}
        self._statuses: dict[str, StatusView] = {}
        self._node, self._others, self._heard_s, self._number = "", frozenset[str](), -1e9, 0
        self._ended = ""
        self._viewers = 0

    # --- for the source -------------------------------------------------------------------------------------------

    @property
    def viewers(self) -> int:
        """Open pages; images are fetched only while there is one."""
        with self._lock:
            return self._viewers

    def saw_statuses(self, node: str, statuses: Iterable[StatusView], time_s: float) -> None:
        """Take the statuses of one /diagnostics message of a perception node. time_s: seconds since 1970.

        The first node that reports is watched; others are named.
        """
        now_s = self._steady_s()
        with self._lock:
            if self._node not in ("", node):
                self._others |= {node}
                return
            self._node = node
            since_s = now_s - self._heard_s
            self._heard_s = now_s
            for status in statuses:
                if status.name.startswith(CAMERA):
                    log = self._cameras.setdefault(status.name.removeprefix(CAMERA), _CameraLog())
                    self._number += 1
                    sample = sample_of(status, log.status, time_s, now_s - log.seen_s if log.status else since_s)
                    log.samples.append((self._number, sample))
                    log.status, log.seen_s = status, now_s
                else:
                    self._statuses[status.name] = status

    def saw_image(self, camera: str, image: ShownImage) -> None:
        """Take a newer image of a camera."""
        with self._lock:
            self._cameras.setdefault(camera, _CameraLog()).images.append(image)

    def saw_answer(self, camera: str, answer: ShownAnswer) -> None:
        """Take an answer of a camera."""
        with self._lock:
            self._cameras.setdefault(camera, _CameraLog()).answers.append(answer)

    def ended(self, reason: str) -> None:
        """Note that nothing more will come; what is there stays on the page."""
        with self._lock:
            self._ended = reason

    # --- for the server -------------------------------------------------------------------------------------------

    def opened(self) -> None:
        """Count a page that was opened."""
        with self._lock:
            self._viewers += 1

    def closed(self) -> None:
        """Count a page that was closed."""
        with self._lock:
            self._viewers -= 1

    def view(self, after: int = 0) -> tuple[PageView, int]:
        """Return what to show, with the samples after number `after`, and the number of the newest sample."""
        with self._lock:
            silent_s = self._steady_s() - self._heard_s
            alive = not self._ended and silent_s < SILENT_S
            cameras = tuple(self._card(name, log, after) for name, log in sorted(self._cameras.items()))
            page = PageView(
                self._source,
                self._state(silent_s),
                alive,
                self._can_act and alive,
                self._node,
                tuple(sorted(self._others)),
                cameras,
                tuple(self._statuses.values()),
                time.time(),
            )
            return page, self._number

    def image(self, camera: str, stamp_ns: int) -> ShownImage | None:
        """Return the image that the page was told about; None where it is gone."""
        with self._lock:
            log = self._cameras.get(camera)
            kept = log.images if log is not None else ()
            return next((image for image in kept if image.stamp_ns == stamp_ns), None)

    def _state(self, silent_s: float) -> str:
        if self._ended:
            return self._ended
        if not self._node:
            return "no perception node reports on /diagnostics yet"
        if silent_s >= SILENT_S:
            return f"{self._node} has been silent for {silent_s:.0f} s"
        return f"{self._node} reports"

    def _card(self, name: str, log: _CameraLog, after: int) -> CameraCard:
        status = log.status or StatusView(CAMERA + name, 0, "no status yet")
        samples = tuple(sample for number, sample in log.samples if number > after)
        return CameraCard(name, status, _frame(log), samples)


def sample_of(status: StatusView, before: StatusView | None, time_s: float, since_s: float) -> Sample:
    """Turn a camera's status into a sample; drops are counted since the status before, `since_s` seconds ago."""
    now, then = dict(status.values), dict(before.values) if before is not None else {}
    goes_on = bool(then) and _count(now, "received") >= _count(then, "received")  # else the node has started again
    lost = {name: _count(now, name) - _count(then, name) if goes_on else 0.0 for name in DROPS}
    drops = {name: round(max(0.0, images) / max(since_s, SHORTEST_S), 3) for name, images in lost.items()}
    p50, p95, p99 = (_number(now, f"total_{name}_ms") for name in QUANTILES)
    return Sample(time_s, _count(now, "rate_hz"), p50, p95, p99, drops)


def _frame(log: _CameraLog) -> FrameView | None:
    """Choose the newest image that was answered; the newest of all where none of those kept was."""
    if not log.images:
        return None
    answers = {answer.stamp_ns: answer for answer in log.answers}
    image = next((one for one in reversed(log.images) if one.stamp_ns in answers), log.images[-1])
    return FrameView(str(image.stamp_ns), image.width_px, image.height_px, answers.get(image.stamp_ns))


def _number(values: Mapping[str, str], key: str) -> float | None:
    try:
        return float(values[key])
    except (KeyError, ValueError):
        return None


def _count(values: Mapping[str, str], key: str) -> float:
    return _number(values, key) or 0.0
