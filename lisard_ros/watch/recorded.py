"""A recording as the source of `lisard watch`: its images, answers and /diagnostics at the pace of their recording."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

from lisard_ros import naming, statuses
from lisard_ros.bags.messages import CLASSIFICATION, COMPRESSED_IMAGE, DETECTIONS, IMAGE
from lisard_ros.bags.recordings import Recording, open_recording
from lisard_ros.bags.storage import StoredMessage
from lisard_ros.errors import DataError
from lisard_ros.message_fields import NS_PER_S
from lisard_ros.statuses import StatusView
from lisard_ros.watch import camera_images
from lisard_ros.watch.board import CAMERA, Board

DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"
SHOWN = (IMAGE, COMPRESSED_IMAGE, CLASSIFICATION, DETECTIONS, DIAGNOSTICS)
IMAGE_PERIOD_S = 0.4  # between two images of a camera that are shown
STATUS_PERIOD_NS = NS_PER_S
RECORDING = "recording"  # stands where the node's name does


class WatchedRecording:
    """Plays a recording into a board in a thread of its own."""

    def __init__(self, board: Board, path: Path, rate: float) -> None:
        """Open and begin. rate: 2 plays twice as fast.

        Raises:
            DataError: It is no recording, or holds neither images nor answers nor diagnostics.
        """
        self._board, self._rate = board, rate
        self._recording: Recording = open_recording(path)
        kinds = self._recording.kinds
        self._topics = [topic for topic, kind in kinds.items() if kind in SHOWN]
        if not self._topics:
            self._recording.close()
            raise DataError(
                f"{path} has nothing that can be shown",
                found=", ".join(f"{topic} ({kind})" for topic, kind in sorted(kinds.items())) or "no topics",
                expected="camera images, answers or /diagnostics",
            )
        self._cameras = {
            topic: naming.camera_name(topic) for topic, kind in kinds.items() if kind in (IMAGE, COMPRESSED_IMAGE)
        }
        self._reported = DIAGNOSTICS in kinds.values()
        self._received: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._before: Counter[str] = Counter()  # answered until `_reported_ns`
        self._reported_ns = 0
        self._shown_s: dict[str, float] = {}
        self._failures = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._play, name="lisard_watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and close the files."""
        self._stopped.set()
        self._thread.join()
        self._recording.close()

    def _play(self) -> None:
        begin_s, first_ns = time.monotonic(), None
        reason = "the recording has ended"
        try:
            for message in self._recording.messages(self._topics):
                first_ns = first_ns if first_ns is not None else message.log_ns
                due_s = begin_s + (message.log_ns - first_ns) / NS_PER_S / self._rate
                if self._stopped.wait(max(0.0, due_s - time.monotonic())):
                    return
                self._show(message)
                self._report(message.log_ns)
        except Exception as error:  # of rosbags or of the files: the page says it
            reason = f"the recording cannot be read on: {error}"
        broken = f"; {self._failures} messages could not be read" if self._failures else ""
        self._board.ended("; ".join([reason, *self._recording.damage]) + broken)

    def _show(self, message: StoredMessage) -> None:
        """Hand one message to the board; one that cannot be read is counted."""
        topic, kind = message.topic.name, message.topic.kind
        camera = self._cameras.get(topic) or self._answers_of(topic)
        if kind in (IMAGE, COMPRESSED_IMAGE):
            self._received[camera] += 1
            if time.monotonic() - self._shown_s.get(camera, -IMAGE_PERIOD_S) < IMAGE_PERIOD_S:
                return
            self._shown_s[camera] = time.monotonic()
        try:
            content = self._recording.deserialize(message)
            if kind == DIAGNOSTICS:
                self._read(content, message.log_ns)
            elif kind in (IMAGE, COMPRESSED_IMAGE):
                self._board.saw_image(camera, camera_images.to_image(content, camera))
            elif camera:
                self._answered[camera] += 1
                self._board.saw_answer(camera, camera_images.to_answer(content))
        except Exception:  # an image that cannot be decoded, or one of rosbags' many errors for other bytes
            self._failures += 1

    def _read(self, content: object, log_ns: int) -> None:
        by_node: dict[str, list[StatusView]] = {}
        for status in content.status:  # type: ignore[attr-defined]  # a message of rosbags has no static type
            node, view = statuses.read(status)
            by_node.setdefault(node, []).append(view)
        for node, views in by_node.items():
            self._board.saw_statuses(node, views, log_ns / NS_PER_S)

    def _report(self, log_ns: int) -> None:
        """Report what a node would, where the recording has no /diagnostics."""
        if self._reported or log_ns - self._reported_ns < STATUS_PERIOD_NS:
            return
        seconds = (log_ns - self._reported_ns) / NS_PER_S
        views = []
        for topic, camera in self._cameras.items():
            rate_hz = (self._answered[camera] - self._before[camera]) / seconds if self._reported_ns else 0.0
            counts = {
                "rate_hz": f"{rate_hz:.1f}",
                "received": self._received[camera],
                "answered": self._answered[camera],
            }
            values = tuple((name, str(value)) for name, value in {"topic": topic, **counts}.items())
            views.append(StatusView(CAMERA + camera, 0, f"{rate_hz:.1f} Hz", values))
        self._reported_ns, self._before = log_ns, self._answered.copy()
        self._board.saw_statuses(RECORDING, views, log_ns / NS_PER_S)

    def _answers_of(self, topic: str) -> str:
        """Return the camera whose operational answers a topic NODE/CAMERA/KIND carries; '' for others."""
        head, _, _ = topic.rpartition("/")
        return next((camera for camera in self._cameras.values() if head.endswith("/" + camera)), "")
