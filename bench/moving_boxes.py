"""Sequences of boxes with known ids: objects that move, grow and hide each other, seen by a detector with faults.

Nothing here knows a tracker. Everything is drawn from one seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lisard_ros.frames import BoxXyxyPx, Detection, Hypothesis

WIDTH_PX, HEIGHT_PX = 640, 480
LABELS = ("stop", "speedlimit", "crosswalk", "trafficlight")
THRESHOLD, FAINTEST = 0.5, 0.1  # a box is reported from the first score; the detector gives boxes from the second
_HIDDEN = 0.3  # an object of which less than this share is visible gives no box
_FAINT_SPELL_S = 0.4


@dataclass(frozen=True)
class Scenario:
    """What a sequence is like.

    objects: how many are in view at a time, on average. noise: standard deviation of each corner, as a share of the
    box's size. miss: share of boxes that are not found. false_boxes: reported ones per frame; three times as many are
    faint. faint: share of the time in which an object's score is low. lost_frames: share of frames that never come, in
    runs. flips: share of boxes with another class. hides: nearer objects hide those behind them. heights_px: range of
    the heights with which objects appear.
    """

    name: str
    about: str
    objects: int = 8
    rate_hz: float = 30.0
    seconds: float = 20.0
    noise: float = 0.03
    miss: float = 0.02
    false_boxes: float = 0.1
    faint: float = 0.0
    lost_frames: float = 0.0
    flips: float = 0.0
    hides: bool = False
    heights_px: tuple[float, float] = (20, 80)


SCENARIOS = (
    Scenario("plain", "2 % misses, 0.1 false boxes a frame"),
    Scenario("misses", "20 % misses", miss=0.2),
    Scenario("low scores", "a third of the time below the threshold", faint=0.33),
    Scenario("false boxes", "2 false boxes a frame", false_boxes=2.0),
    Scenario("occlusion", "16 objects that hide each other", objects=16, hides=True),
    Scenario("10 Hz", "a third of the frame rate", rate_hz=10.0),
    Scenario("lost frames", "half of the frames do not come, in runs", lost_frames=0.5),
    Scenario("class flips", "15 % of the boxes have another class", flips=0.15),
    Scenario(
        "all of it",
        "10 % misses, a fifth of the time faint, 1 false box, hiding, 30 % lost, 5 % flips",
        objects=12,
        miss=0.1,
        false_boxes=1.0,
        faint=0.2,
        lost_frames=0.3,
        flips=0.05,
        hides=True,
    ),
    Scenario("crowd", "100 objects that hide each other", objects=100, seconds=5.0, hides=True),
)


@dataclass(frozen=True)
class TrueObject:
    """Where an object is in one frame."""

    id: int
    box_xyxy_px: BoxXyxyPx


@dataclass(frozen=True)
class BoxFrame:
    """One frame: what is there, and what the detector gives, best scores first."""

    stamp_ns: int
    truth: tuple[TrueObject, ...]
    reported: tuple[Detection, ...]
    faint: tuple[Detection, ...]


@dataclass
class _Object:
    """Centre, height and velocity in pixels (per second), growth per second, what its detector makes of it."""

    id: int
    label: int
    centre: NDArray[np.float64]
    velocity: NDArray[np.float64]
    height: float
    aspect: float
    growth: float
    left_s: float
    faint: bool = False

    def move(self, seconds: float, random: np.random.Generator) -> None:
        """Go on; the velocity wanders by a fifth of the height per second in a second."""
        self.velocity += random.normal(0, 0.2 * self.height * math.sqrt(seconds), 2)
        self.centre += self.velocity * seconds
        self.height *= math.exp(self.growth * seconds)
        self.left_s -= seconds

    def box(self) -> NDArray[np.float64]:
        """Corners within the image."""
        half = np.array([self.aspect * self.height, self.height]) / 2
        corners = np.concatenate([self.centre - half, self.centre + half])
        return np.clip(corners, 0, [WIDTH_PX, HEIGHT_PX, WIDTH_PX, HEIGHT_PX])

    def in_view(self) -> bool:
        """Whether half of it is in the image and it is not over."""
        left, top, right, bottom = self.box()
        area = (right - left) * (bottom - top)
        return self.left_s > 0 and self.height < HEIGHT_PX / 2 and area > 0.5 * self.aspect * self.height**2


def frames(scenario: Scenario, seed: int) -> Iterator[BoxFrame]:
    """Yield the frames of a sequence."""
    random = np.random.default_rng([seed, *scenario.name.encode()])
    step_s = 1 / scenario.rate_hz
    objects: list[_Object] = []
    ids, losing = 0, False
    for number in range(round(scenario.seconds * scenario.rate_hz)):
        for item in objects:
            item.move(step_s, random)
            leave = 1 - math.exp(-step_s / _FAINT_SPELL_S)
            enter = leave * scenario.faint / (1 - scenario.faint)
            item.faint = bool(random.random() > leave) if item.faint else bool(random.random() < enter)
        objects = [item for item in objects if item.in_view()]
        while len(objects) < scenario.objects and (number == 0 or random.random() < 0.3):
            ids += 1
            objects.append(_appear(ids, scenario, random))
        if scenario.lost_frames:  # runs of three frames on average
            change = 1 / 3 if losing else scenario.lost_frames / (3 * (1 - scenario.lost_frames))
            losing = losing != bool(random.random() < change)
        if not losing:
            yield _seen(objects, scenario, round((10 + number * step_s) * 1e9), random)


def _appear(number: int, scenario: Scenario, random: np.random.Generator) -> _Object:
    height = float(np.exp(random.uniform(*np.log(scenario.heights_px))))
    centre = random.uniform([40, 40], [WIDTH_PX - 40, HEIGHT_PX - 40])
    angle, speed = random.uniform(0, 2 * math.pi), random.uniform(0, 2.0) * height
    return _Object(
        number,
        int(random.integers(len(LABELS))),
        centre,
        speed * np.array([math.cos(angle), 0.5 * math.sin(angle)]),
        height,
        float(random.uniform(0.6, 1.4)),
        float(random.uniform(-0.1, 0.25)),
        float(random.uniform(3, 12)),
    )


def _seen(objects: list[_Object], scenario: Scenario, stamp_ns: int, random: np.random.Generator) -> BoxFrame:
    """Let the detector look: nearer objects are larger and hide what is behind them."""
    nearest = sorted(objects, key=lambda item: -item.height)
    boxes = [item.box() for item in nearest]
    found: list[Detection] = []
    for place, (item, box) in enumerate(zip(nearest, boxes, strict=True)):
        visible = _visible_share(box, boxes[:place]) if scenario.hides else 1.0
        if visible < _HIDDEN or random.random() < scenario.miss:
            continue
        score = random.uniform(0.12, 0.48) if item.faint else np.clip(random.normal(0.75, 0.1), 0.3, 0.99)
        size = box[2:] - box[:2]
        corners = box + random.normal(0, scenario.noise, 4) * np.concatenate([size, size])
        other = random.random() < scenario.flips
        label = (item.label + int(random.integers(1, len(LABELS)))) % len(LABELS) if other else item.label
        found.append(_detection(corners, label, float(score * math.sqrt(visible))))
    for rate, low, high in ((scenario.false_boxes, THRESHOLD, 0.8), (3 * scenario.false_boxes, FAINTEST, THRESHOLD)):
        for _ in range(random.poisson(rate)):
            height = random.uniform(15, 80)
            corner = random.uniform([0, 0], [WIDTH_PX - height, HEIGHT_PX - height])
            corners = np.concatenate([corner, corner + height])
            found.append(_detection(corners, int(random.integers(len(LABELS))), float(random.uniform(low, high))))
    found.sort(key=lambda item: -item.hypotheses[0].score)
    truth = tuple(TrueObject(item.id, _corners(item.box())) for item in objects)
    reported = tuple(item for item in found if item.hypotheses[0].score >= THRESHOLD)
    faint = tuple(item for item in found if FAINTEST <= item.hypotheses[0].score < THRESHOLD)
    return BoxFrame(stamp_ns, truth, reported, faint)


def _visible_share(box: NDArray[np.float64], nearer: list[NDArray[np.float64]]) -> float:
    """Share of a grid of points in the box that no nearer box covers."""
    across, down = (np.arange(12) + 0.5) / 12 * (box[2] - box[0]), (np.arange(12) + 0.5) / 12 * (box[3] - box[1])
    x, y = np.meshgrid(box[0] + across, box[1] + down)
    covered = np.zeros(x.shape, bool)
    for left, top, right, bottom in nearer:
        covered |= (x > left) & (x < right) & (y > top) & (y < bottom)
    return float(1 - covered.mean())


def _detection(corners: NDArray[np.float64], label: int, score: float) -> Detection:
    return Detection(_corners(corners), (Hypothesis(LABELS[label], label, score),))


def _corners(box: NDArray[np.float64]) -> BoxXyxyPx:
    left, top, right, bottom = box.tolist()
    return left, top, right, bottom
