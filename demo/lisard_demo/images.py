"""Images for the report: frames with boxes and answers, and signs clean, perturbed and attacked, as inline images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader

from lisard_demo.recording import Moment, ReceivedBox
from lisard_demo.score import coarse, fine_is_right, match_boxes
from lisard_ros import injection as stage
from lisard_ros.bags.messages import typestore
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import DETECTOR_PREFIX
from lisard_ros.evaluation import references
from lisard_ros.frames import GREY_LEVELS, pixels_sha256
from lisard_ros.inference.preprocess import prepare
from lisard_ros.message_fields import stamp_ns
from lisard_ros.reporting.display import FrameImage, Overlay, as_seen, in_percent, png, uri, words

MOST_GAIN = 12
MIDDLE_GREY = 128
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class AttackImage:
    """One sign: clean, what the attack changed, attacked, and the answers to both (label, score).

    gain: how many times as strong as it is the change is drawn around grey.
    """

    truth: str
    attack: str
    clean_uri: str
    change_uri: str
    gain: int
    attacked_uri: str
    clean_answer: tuple[str, float]
    attacked_answer: tuple[str, float]

    @property
    def held(self) -> bool:
        """Whether the attacked answer is still right."""
        return self.attacked_answer[0] == self.truth


def image_messages(bag: Path, topic: str, stamps: Iterable[int]) -> dict[int, Any]:
    """Return the image messages of `topic` with these header stamps."""
    wanted, messages = set(stamps), {}
    with AnyReader([bag], default_typestore=typestore()) as reader:
        for link, _, raw in reader.messages([c for c in reader.connections if c.topic == topic]):
            message: Any = reader.deserialize(raw, link.msgtype)
            if (stamp := stamp_ns(message.header)) in wanted:
                messages[stamp] = message
    return messages


def frame_images(
    bag: Path, image_topic: str, moments: Sequence[Moment], answers: str, labels: str, scored: dict[str, frozenset[str]]
) -> tuple[FrameImage, ...]:
    """Show frames as they were recorded (JPEG bytes unchanged) with the boxes of the answer.

    scored: for each coarse class that is scored, the fine labels that count as right.
    """
    messages = image_messages(bag, image_topic, (moment.stamp_ns for moment in moments))
    return tuple(
        _frame_image(bytes(messages[m.stamp_ns].data), m, answers, labels, scored)
        for m in moments
        if m.stamp_ns in messages
    )


def _frame_image(
    jpeg: bytes, moment: Moment, answers: str, labels: str, scored: dict[str, frozenset[str]]
) -> FrameImage:
    height, width = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)).shape[:2]
    truths = {box.id: box.hypotheses[0][0] for box in moment.labels[labels].boxes}
    boxes = moment.answers[answers].boxes
    overlays = tuple(_overlay(box, truths.get(box.id, ""), width, height, scored) for box in boxes)
    return FrameImage(uri("jpeg", jpeg), width, height, overlays, ", ".join(dict.fromkeys(truths.values())))


def _overlay(box: ReceivedBox, truth: str, width: int, height: int, scored: dict[str, frozenset[str]]) -> Overlay:
    label, value = box.hypotheses[0] if box.hypotheses else ("no answer", 0.0)
    classified = len(box.hypotheses) > 1 and truth in scored
    text = f"{words(label)} {value:.2f}" if classified else words(label)
    right = label in scored[truth] if classified else None
    return Overlay(*in_percent(box.box_xyxy_px, width, height), text, right)


def scene_images(
    bag: Path,
    image_topic: str,
    moments: Sequence[Moment],
    topics: Sequence[tuple[str, str]],
    labels: str,
    right: Mapping[str, frozenset[str]],
    detector: Bundle,
) -> tuple[FrameImage, ...]:
    """Show each frame under each condition (name, topic of the answers): what was found, and what was missed.

    right: for each class that is classified, the finer labels that fit. Under an injection at the detector the image
    is shown as the detector saw it.
    """
    messages = image_messages(bag, image_topic, (moment.stamp_ns for moment in moments))
    shown = []
    for moment in moments:
        jpeg = bytes(messages[moment.stamp_ns].data)
        bgr = np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)
        rgb = np.ascontiguousarray(bgr[:, :, ::-1])
        for name, topic in topics:
            image = _seen(rgb, detector, name)
            answered = topic in moment.answers  # without a sign there is no crop to attack
            overlays = _scene_overlays(moment, topic, labels, right, rgb.shape[1], rgb.shape[0]) if answered else ()
            truth = ", ".join(dict.fromkeys(box.hypotheses[0][0] for box in moment.labels[labels].boxes))
            source = uri("jpeg", jpeg) if image is None else png(image)
            condition = name if answered else f"{name}, without an answer"
            shown.append(FrameImage(source, rgb.shape[1], rgb.shape[0], overlays, truth, condition))
    return tuple(shown)


def _seen(rgb: Pixels, detector: Bundle, name: str) -> Pixels | None:
    """The image as the detector sees it under an injection `detector/NAME`, without padding; None under others."""
    if not name.startswith(DETECTOR_PREFIX):
        return None
    spec = detector.manifest.input
    injection = stage.make(detector, name.removeprefix(DETECTOR_PREFIX))
    x = injection.apply(prepare([rgb], spec), [pixels_sha256(rgb)]).x[0]
    return as_seen(x, rgb.shape[1], rgb.shape[0], spec)


def _scene_overlays(
    moment: Moment, topic: str, labels: str, right: Mapping[str, frozenset[str]], width: int, height: int
) -> tuple[Overlay, ...]:
    overlays = []
    for answer, truth in match_boxes(moment.answers[topic].boxes, moment.labels[labels].boxes):
        if answer is None:
            assert truth is not None  # a pair holds at least one of both
            name = words(coarse(truth)[0])
            overlays.append(Overlay(*in_percent(truth.box_xyxy_px, width, height), f"{name} missed", False, True))
            continue
        label, value = answer.hypotheses[0] if answer.hypotheses else ("no answer", 0.0)
        name = coarse(answer)[0]
        good = truth is not None and (name not in right or fine_is_right(answer, right[name]))
        overlays.append(Overlay(*in_percent(answer.box_xyxy_px, width, height), f"{words(label)} {value:.2f}", good))
    return tuple(overlays)


def attack_images(
    bag: Path, bundle: Bundle, image_topic: str, chosen: Sequence[tuple[Moment, str, str]], clean: str, labels: str
) -> tuple[AttackImage, ...]:
    """Show signs under attack; chosen: (moment, name of the attack, topic of its answers)."""
    messages = image_messages(bag, image_topic, (moment.stamp_ns for moment, _, _ in chosen))
    injections = {name: stage.make(bundle, name) for name in {name for _, name, _ in chosen}}
    images = []
    for moment, name, topic in chosen:
        message = messages[moment.stamp_ns]
        rgb = np.asarray(message.data, np.uint8).reshape(message.height, message.step)[:, : 3 * message.width]
        pixels = rgb.reshape(message.height, message.width, 3)
        x = prepare([pixels], bundle.manifest.input)
        seen = injections[name].apply(x, [pixels_sha256(pixels)]).x
        before, after = (_rgb_levels(each[0], bundle) for each in (x, seen))
        change = after.astype(np.int16) - before
        gain = min(MOST_GAIN, max(1, MIDDLE_GREY // max(1, int(np.abs(change).max()))))
        drawn = np.clip(MIDDLE_GREY + gain * change, 0, GREY_LEVELS).astype(np.uint8)
        answers = (moment.answers[clean].hypotheses[0], moment.answers[topic].hypotheses[0])
        shown = (png(before), png(drawn), gain, png(after))
        images.append(AttackImage(moment.labels[labels].top, name, *shown, *answers))
    return tuple(images)


def _rgb_levels(x: NDArray[np.float32], bundle: Bundle) -> Pixels:
    """An image [3, H, W] in [0, 1] as the bundle's network gets it, as RGB [H, W, 3]."""
    levels = np.moveaxis(np.rint(x * GREY_LEVELS).astype(np.uint8), 0, 2)
    return np.ascontiguousarray(levels if bundle.manifest.input.colour == "rgb" else levels[:, :, ::-1])


def choose_attacked(
    moments: Sequence[Moment], topics: Sequence[tuple[str, str]], clean: str, labels: str, each: int = 3
) -> list[tuple[Moment, str, str]]:
    """Choose, for every attack, `each` signs that fell and `each` that held, spread over the recording.

    Only signs that were right when clean are shown, and every sign once.
    """
    chosen: list[tuple[Moment, str, str]] = []
    used: set[str] = set()
    for name, topic in topics:
        both = [m for m in moments if {clean, topic} <= set(m.answers) and labels in m.labels]
        right = [m for m in both if m.answers[clean].top == m.labels[labels].top]
        for held in (False, True):
            pool = [m for m in right if (m.answers[topic].top == m.labels[labels].top) is held]
            signs = [moment.labels[labels].top for moment in pool]
            for place in references.of_different_labels(signs, each, used):
                used.add(signs[place])
                chosen.append((pool[place], name, topic))
    return chosen


def choose_frames(moments: Sequence[Moment], answers: str, labels: str, count: int) -> list[Moment]:
    """Choose answered frames, spread evenly over the recording."""
    both = [moment for moment in moments if answers in moment.answers and labels in moment.labels]
    return [both[place] for place in references.spread(np.arange(len(both)), count)]
