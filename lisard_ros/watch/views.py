"""What the page shows, as plain values: sources fill them, the server sends them as JSON. No ROS and no server here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lisard_ros.statuses import StatusView

DROPS = ("replaced", "too_old", "lost_in_transport", "failed")
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class ShownBox:
    """One answered box: corners in pixels of the camera's image, its best class, and its track ('' without)."""

    xyxy_px: tuple[float, float, float, float]
    label: str
    score: float
    track: str = ""


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """The answer to the image of this stamp. classes: label and score of a whole image, the best first."""

    stamp_ns: int
    boxes: tuple[ShownBox, ...] = ()
    classes: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image of a camera as JPEG, no wider than the page needs. width_px, height_px: of the camera's own image."""

    stamp_ns: int
    width_px: int
    height_px: int
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Sample:
    """One camera over one period of /diagnostics.

    time_s: seconds since 1970. drops: images per second without an answer, by cause. Latencies in ms from arrival to
    answer, None before the first answer.
    """

    time_s: float
    rate_hz: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    drops: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class FrameView:
    """The newest image of a camera that the page can load. answer: None while there is none to this image."""

    stamp_ns: str
    width_px: int
    height_px: int
    answer: ShownAnswer | None


@dataclass(frozen=True, slots=True)
class CameraCard:
    """One camera as the page shows it. status: its line of /diagnostics; samples: those the reader has not seen."""

    name: str
    status: StatusView
    frame: FrameView | None
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class PageView:
    """Everything that the page shows at one moment.

    source: what is watched. state: one sentence for people. alive: somebody reports. can_act: the buttons work.
    others: further perception nodes that were seen. statuses: all but the cameras'.
    """

    source: str
    state: str
    alive: bool
    can_act: bool
    node: str
    others: tuple[str, ...]
    cameras: tuple[CameraCard, ...]
    statuses: tuple[StatusView, ...]
    now_s: float
