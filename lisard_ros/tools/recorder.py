"""Record the answers of a node beside the labels: `lisard bag record OUT.jsonl --answers TOPIC ...`.

Answers and labels are joined by the stamp of their header; each stamp becomes one JSON line, followed by the last
/diagnostics of each name and one summary line.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lisard_ros import needs
from lisard_ros.errors import DataError, LisardError, UsageError
from lisard_ros.message_fields import NS_PER_S, box_xyxy_px, stamp_ns
from lisard_ros.tools.stop import ROS_ARGUMENTS, Stop

SUMMARY = "record answers and labels, joined by stamp"
HELP = """Record the answers of a node and the labels, joined by the stamp of their header.
Each stamp becomes one JSON line, followed by the last diagnostics and one summary line."""

SCHEMA = 1
KINDS = ("classification", "detections")
DEPTH = 1000
SPIN_S = 0.1
ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class Source:
    """One topic to record; kind: 'classification' or 'detections'; `is_label` tells ground truth from answers."""

    topic: str
    kind: str
    is_label: bool


@dataclass(frozen=True, slots=True)
class RecordingOptions:
    """What to record and when to end: after `idle_s` without a new message once one has come, or after `limit_s`."""

    out: Path
    sources: tuple[Source, ...]
    node: str = ""
    diagnostics: bool = False
    wait_timeout_s: float = 20.0
    idle_s: float | None = None
    limit_s: float | None = None


@dataclass(slots=True)
class Journal:
    """All that was received: by stamp, then by topic; the last diagnostics by name. Pure, so that it can be tested."""

    frames: dict[int, dict[str, dict[str, Any]]] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    diagnostics: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: dict[str, int] = field(default_factory=dict)

    def note(self, source: Source, stamp_ns: int, now_ns: int, content: dict[str, Any]) -> None:
        """Keep one message; a second one of the same stamp and topic is counted, and the first one stays."""
        self.received[source.topic] = self.received.get(source.topic, 0) + 1
        entry = self.frames.setdefault(stamp_ns, {})
        if source.topic in entry:
            self.duplicates += 1
            return
        entry[source.topic] = {"role": "label" if source.is_label else "answer", "received_ns": now_ns, **content}

    def note_status(self, name: str, level: int, message: str, values: dict[str, str], now_ns: int) -> None:
        """Keep the last status of each name, and count every distinct warning."""
        content = {"level": level, "message": message, "values": values, "received_ns": now_ns}
        self.diagnostics[name] = content
        if level > 0:
            words = f"{name}: {message}"
            self.warnings[words] = self.warnings.get(words, 0) + 1

    def lines(self) -> Iterable[dict[str, Any]]:
        """Yield the JSON lines: frames by stamp, diagnostics, summary."""
        for stamp, entry in sorted(self.frames.items()):
            labels = {topic: content for topic, content in entry.items() if content["role"] == "label"}
            answers = {topic: content for topic, content in entry.items() if content["role"] == "answer"}
            yield {"kind": "frame", "stamp_ns": stamp, "labels": labels, "answers": answers}
        for name, content in sorted(self.diagnostics.items()):
            yield {"kind": "diagnostics", "name": name, **content}
        yield self.summary()

    def summary(self) -> dict[str, Any]:
        """Return the counts by topic, and what the node warned of."""
        return {
            "kind": "summary",
            "schema": SCHEMA,
            "received": self.received,
            "frames": len(self.frames),
            "duplicates": self.duplicates,
            "warnings": self.warnings,
        }


def classification_content(message: Any) -> dict[str, Any]:
    """Return the hypotheses of a Classification as [label, score] pairs."""
    return {"hypotheses": [[item.class_id, item.score] for item in message.results]}


def detections_content(message: Any) -> dict[str, Any]:
    """Return the detections of a Detection2DArray with boxes [x0, y0, x1, y1] in pixels."""
    return {
        "detections": [
            {
                "id": item.id,
                "box_xyxy_px": list(box_xyxy_px(item)),
                "hypotheses": [[result.hypothesis.class_id, result.hypothesis.score] for result in item.results],
            }
            for item in message.detections
        ]
    }


class Recorder:
    """Subscriptions on a node of their own that fill a journal."""

    def __init__(self, node: Any, options: RecordingOptions) -> None:
        """Subscribe to everything; answers may come from now on."""
        self._node, self._options = node, options
        self.journal = Journal()
        self._last_ns: int | None = None
        for source in options.sources:
            self._subscribe(source)
        if options.diagnostics:
            from diagnostic_msgs.msg import DiagnosticArray

            node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, DEPTH)

    def _subscribe(self, source: Source) -> None:
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from vision_msgs.msg import Classification, Detection2DArray

        kind = Classification if source.kind == "classification" else Detection2DArray
        content = classification_content if source.kind == "classification" else detections_content
        quality = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        self._node.create_subscription(kind, source.topic, self._callback(source, content), quality)

    def _callback(self, source: Source, content: Callable[[Any], dict[str, Any]]) -> Callable[[Any], None]:
        def on_message(message: Any) -> None:
            self._last_ns = time.monotonic_ns()
            self.journal.note(source, stamp_ns(message.header), self._last_ns, content(message))

        return on_message

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            level = status.level[0] if isinstance(status.level, bytes) else int(status.level)
            values = {pair.key: pair.value for pair in status.values}
            self.journal.note_status(status.name, level, status.message, values, time.monotonic_ns())

    def wait(self, spin: Callable[[], bool]) -> None:
        """Wait until the node is active and each topic of answers has a publisher."""
        deadline = time.monotonic() + self._options.wait_timeout_s
        unpublished = self._unpublished()
        while self._not_active(spin, deadline) or (unpublished := self._unpublished()):
            if time.monotonic() > deadline:
                found = (
                    f"no publisher of {', '.join(unpublished)}"
                    if unpublished
                    else f"{self._options.node} is not active"
                )
                raise DataError(
                    f"nothing to record within {self._options.wait_timeout_s:g} s",
                    found=found,
                    cure="start the node first; check its namespace and ROS_DOMAIN_ID",
                )
            if not spin():
                return

    def _unpublished(self) -> list[str]:
        topics = [source.topic for source in self._options.sources if not source.is_label]
        return [topic for topic in topics if not self._node.get_publishers_info_by_topic(topic)]

    def _not_active(self, spin: Callable[[], bool], deadline: float) -> bool:
        """Ask the lifecycle state of the node once; False when no node was named."""
        if not self._options.node:
            return False
        from lifecycle_msgs.srv import GetState

        client = self._node.create_client(GetState, f"{self._options.node}/get_state")
        try:
            while not client.service_is_ready():
                if time.monotonic() > deadline or not spin():
                    return True
            future = client.call_async(GetState.Request())
            while not future.done():
                if time.monotonic() > deadline or not spin():
                    return True
            return bool(future.result().current_state.label != ACTIVE)
        finally:
            self._node.destroy_client(client)

    def finished(self, started_ns: int) -> bool:
        """Tell whether it is time to end."""
        now_ns = time.monotonic_ns()
        limit_s, idle_s = self._options.limit_s, self._options.idle_s
        if limit_s is not None and now_ns - started_ns > limit_s * NS_PER_S:
            return True
        return idle_s is not None and self._last_ns is not None and now_ns - self._last_ns > idle_s * NS_PER_S


def record(options: RecordingOptions) -> Journal:
    """Record until the end that `options` name, or until a signal; then write the file."""
    with Stop() as stop:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        from lisard_ros.node.compat import init, try_shutdown

        init(ROS_ARGUMENTS)
        node = rclpy.create_node("lisard_recorder", start_parameter_services=False)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        recorder = Recorder(node, options)

        def spin() -> bool:
            executor.spin_once(timeout_sec=SPIN_S)
            return not stop.asked

        try:
            recorder.wait(spin)
            print("ready", flush=True)
            started_ns = time.monotonic_ns()
            while spin() and not recorder.finished(started_ns):
                pass
            write(options.out, recorder.journal.lines())
        finally:
            try_shutdown()
    return recorder.journal


def write(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    text = "topic to record; KIND is classification or detections (default: the last part of the topic's name)"
    parser.add_argument("out", type=Path, help="file of JSON lines to write")
    parser.add_argument("--answers", action="append", default=[], metavar="TOPIC[=KIND]", help="answers: " + text)
    parser.add_argument("--labels", action="append", default=[], metavar="TOPIC[=KIND]", help="ground truth: " + text)
    parser.add_argument("--node", default="", help="wait until this lifecycle node (full name) is active")
    parser.add_argument("--diagnostics", action="store_true", help="record /diagnostics as well")
    parser.add_argument(
        "--wait-timeout", type=float, default=20.0, metavar="S", help="give up waiting after S seconds (default: 20)"
    )
    parser.add_argument("--idle", type=float, metavar="S", help="end S seconds after the last answer or label")
    parser.add_argument("--limit", type=float, metavar="S", help="end after S seconds in any case")


def to_options(arguments: argparse.Namespace) -> RecordingOptions:
    """Turn parsed arguments into options."""
    answers = [source(word, is_label=False) for word in arguments.answers]
    labels = [source(word, is_label=True) for word in arguments.labels]
    if not answers:
        raise UsageError("nothing to record", expected="at least one --answers TOPIC")
    return RecordingOptions(
        out=arguments.out,
        sources=(*answers, *labels),
        node=arguments.node,
        diagnostics=arguments.diagnostics,
        wait_timeout_s=arguments.wait_timeout,
        idle_s=arguments.idle,
        limit_s=arguments.limit,
    )


def source(word: str, *, is_label: bool) -> Source:
    """Parse TOPIC or TOPIC=KIND."""
    topic, _, kind = word.partition("=")
    kind = kind or topic.rsplit("/", 1)[-1]
    if kind not in KINDS:
        raise UsageError(
            f"topic {topic}", found=f"kind {kind!r}", expected=" or ".join(KINDS), cure=f"write {topic}=KIND"
        )
    return Source(topic, kind, is_label)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; exit status 0 done, 1 nothing to record, 2 usage error."""
    try:
        journal = record(to_options(arguments))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"error: {needs.cannot_import(error)}", file=sys.stderr)
        return 2
    except LisardError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(journal.summary()), flush=True)
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command without the `lisard` command: `python -m lisard_ros.tools.recorder`."""
    parser = argparse.ArgumentParser(prog="lisard bag record", description=HELP)
    configure(parser)
    return run(parser.parse_args(words))


if __name__ == "__main__":
    raise SystemExit(main())
