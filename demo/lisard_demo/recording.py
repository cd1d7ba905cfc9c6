"""The output of recorder and player as types: moments by stamp, statuses of the node, times of sending."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Hypotheses = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class ReceivedBox:
    """One box of an answer or of the ground truth; hypotheses best first."""

    id: str
    box_xyxy_px: tuple[float, float, float, float]
    hypotheses: Hypotheses


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """One received message; received_ns: steady clock of this machine."""

    received_ns: int
    hypotheses: Hypotheses
    boxes: tuple[ReceivedBox, ...]

    @property
    def top(self) -> str:
        """The best label, '' when there is none."""
        return self.hypotheses[0][0] if self.hypotheses else ""


@dataclass(frozen=True, slots=True)
class Moment:
    """All messages with one stamp, by topic."""

    stamp_ns: int
    labels: Mapping[str, ReceivedMessage]
    answers: Mapping[str, ReceivedMessage]


@dataclass(frozen=True, slots=True)
class Status:
    """The last /diagnostics of one name."""

    name: str
    level: int
    message: str
    values: Mapping[str, str]

    def number(self, key: str) -> float:
        """Return a value as a number, 0 when the node does not report it."""
        return float(self.values.get(key) or 0)


@dataclass(frozen=True, slots=True)
class Recording:
    """One run of the recorder."""

    moments: tuple[Moment, ...]
    statuses: tuple[Status, ...]
    received: Mapping[str, int]
    duplicates: int
    warnings: Mapping[str, int]

    def status(self, ending: str) -> Status:
        """Return the status whose name ends in `ending`; an empty one when the node never reported it."""
        matching = (status for status in self.statuses if status.name.endswith(ending))
        return next(matching, Status(ending, 0, "", {}))


@dataclass(frozen=True, slots=True)
class Played:
    """What the player reports; sent_ns: topic -> stamp -> steady time of sending."""

    published: Mapping[str, int]
    seconds: float
    late_max_ms: float
    profile: str
    sent_ns: Mapping[str, Mapping[int, int]]


def read_recording(path: Path) -> Recording:
    """Read the JSON lines of the recorder."""
    lines = _lines(path)
    summary = next((line for line in lines if line["kind"] == "summary"), {})
    return Recording(
        moments=tuple(
            Moment(line["stamp_ns"], _by_topic(line["labels"]), _by_topic(line["answers"]))
            for line in lines
            if line["kind"] == "frame"
        ),
        statuses=tuple(
            Status(line["name"], line["level"], line["message"], line["values"])
            for line in lines
            if line["kind"] == "diagnostics"
        ),
        received=summary.get("received", {}),
        duplicates=summary.get("duplicates", 0),
        warnings=summary.get("warnings", {}),
    )


def read_played(printed: str, stamps: Path) -> Played:
    """Read the JSON line that the player printed last and its file of stamps."""
    report = json.loads(printed.strip().splitlines()[-1])
    sent: dict[str, dict[int, int]] = {}
    for line in _lines(stamps):
        sent.setdefault(line["topic"], {})[line["stamp_ns"]] = line["sent_ns"]
    return Played(report["published"], report["seconds"], report["late_max_ms"], report["profile"] or "", sent)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def _by_topic(contents: Mapping[str, Mapping[str, Any]]) -> dict[str, ReceivedMessage]:
    return {topic: _received_message(content) for topic, content in contents.items()}


def _received_message(content: Mapping[str, Any]) -> ReceivedMessage:
    boxes = tuple(
        ReceivedBox(box["id"], tuple(box["box_xyxy_px"]), _pairs(box["hypotheses"]))
        for box in content.get("detections", ())
    )
    return ReceivedMessage(content["received_ns"], _pairs(content.get("hypotheses", ())), boxes)


def _pairs(items: Iterable[Any]) -> Hypotheses:
    return tuple((str(label), float(score)) for label, score in items)
