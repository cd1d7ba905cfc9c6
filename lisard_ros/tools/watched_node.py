"""A running perception node as the source of `lisard watch`: reads topics, and calls services for the buttons alone.

Nothing is executed for each message: a thread looks a few times per second and takes what waits, the newest image of
each camera and the answer to it, so four cameras cost a few percent of a core. Images are subscribed to only while
somebody looks at the page.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from diagnostic_msgs.srv import SelfTest
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Classification, Detection2DArray

from lisard_ros import naming, statuses
from lisard_ros.errors import DataError, ImageError, one_line
from lisard_ros.node import compat
from lisard_ros.statuses import StatusView
from lisard_ros.tools.playback import read_stamp_ns
from lisard_ros.tools.start import start_ros
from lisard_ros.watch import camera_images
from lisard_ros.watch.board import CAMERA, Board

LOOK_S = 0.4  # between two looks at what waits
SERVICE_S = 5.0  # for a service to be found, and for a short one to answer
DEPTH = 32  # of answers and statuses that wait from one look to the next
ANSWERS = {"detections": Detection2DArray, "classification": Classification}


def watch(board: Board, node: str) -> WatchedNode:
    """Start to watch; node: full name of the perception node, '' for the first that reports.

    Raises:
        UsageError: ROS does not start in this shell.
    """
    start_ros()
    atexit.register(compat.try_shutdown)
    return WatchedNode(board, node)


@dataclass(slots=True, eq=False)
class _WatchedCamera:
    """The subscriptions to one camera, and serialised answers whose image has not been taken."""

    topic: str
    answers: dict[str, Subscription[Any]]
    images: Subscription[Any] | None = None
    waiting: deque[tuple[int, str, bytes]] = field(default_factory=lambda: deque(maxlen=DEPTH))
    shown_ns: deque[int] = field(default_factory=lambda: deque(maxlen=4))


class WatchedNode:
    """Fills a board until it is closed; the methods of `watch.sources.Actions` are called in other threads."""

    def __init__(self, board: Board, node: str) -> None:
        """Begin to listen to /diagnostics."""
        self._board, self._wanted, self._name = board, node, ""
        self._node: Node = rclpy.create_node(f"_lisard_watch_{os.getpid()}", start_parameter_services=False)
        self._diagnostics = self._subscribe(DiagnosticArray, "/diagnostics", DEPTH, reliable=True)
        self._cameras: dict[str, _WatchedCamera] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="lisard_watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and leave the graph."""
        self._stopped.set()
        self._thread.join()
        self._node.destroy_node()

    # --- the buttons ------------------------------------------------------------------------------------------------

    def set_injection(self, on: bool) -> str:
        """See `Actions`."""
        answer = self._call(SetBool, "injection", SetBool.Request(data=on), SERVICE_S)
        return _said(answer.success, answer.message)

    def self_test(self, limit_s: float) -> str:
        """See `Actions`."""
        answer = self._call(SelfTest, "self_test", SelfTest.Request(), limit_s)
        lines = [f"{one.name}: {one.message}" for one in answer.status]
        return "\n".join(["passed" if ord(answer.passed) else "not passed", *lines])

    def cancel_self_test(self) -> str:
        """See `Actions`."""
        answer = self._call(Trigger, "cancel_self_test", Trigger.Request(), SERVICE_S)
        return _said(answer.success, answer.message)

    def _call(self, kind: Any, service: str, request: Any, limit_s: float) -> Any:
        """Call a service of the node from a node of its own, whose executor runs in the caller's thread."""
        if not self._name:
            raise DataError("no perception node has reported yet", cure="start the node, or wait a second")
        full = f"{self._name}/{service}"
        caller = rclpy.create_node(f"_lisard_watch_{os.getpid()}_{service}", start_parameter_services=False)
        executor = SingleThreadedExecutor()
        executor.add_node(caller)
        try:
            client: Any = caller.create_client(kind, full)
            if not client.wait_for_service(timeout_sec=SERVICE_S):
                raise DataError(f"the service {full}", found="nobody offers it", cure="is the node still there?")
            answer = client.call_async(request)
            end_s = time.monotonic() + limit_s
            while not answer.done() and time.monotonic() < end_s and not self._stopped.is_set():
                executor.spin_once(timeout_sec=LOOK_S)
            if not answer.done():
                raise DataError(f"the service {full}", found=f"no answer in {limit_s:g} s", cure="is the node active?")
            return answer.result()
        finally:
            executor.shutdown()
            caller.destroy_node()

    # --- the thread -------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Take what waits, again and again; whatever a look meets, the next one comes."""
        while not self._stopped.wait(LOOK_S):
            try:
                for message in _waiting(self._diagnostics):
                    self._read(deserialize_message(message, DiagnosticArray))
                watched = self._board.viewers > 0
                for name, camera in self._cameras.items():
                    self._watch_images(camera, watched)
                    self._take(name, camera)
            except Exception as error:  # of rclpy, of a message that does not fit: said on the page, not fatal
                self._board.saw_statuses(self._name, [StatusView("lisard watch", 2, one_line(error))], time.time())

    def _read(self, message: Any) -> None:
        """Hand the statuses of perception nodes over, and note their cameras."""
        by_node: dict[str, list[StatusView]] = {}
        for status in message.status:
            node, view = statuses.read(status)
            by_node.setdefault(node, []).append(view)
        for node, views in by_node.items():
            if not _is_perception(views) or self._wanted not in ("", node):
                continue
            self._board.saw_statuses(node, views, time.time())
            self._name = self._name or node
            if node == self._name:
                for view in views:
                    if view.name.startswith(CAMERA):
                        self._add(view.name.removeprefix(CAMERA), view.value("topic"))

    def _add(self, name: str, topic: str) -> None:
        known = self._cameras.get(name)
        if known is not None and known.topic == topic:
            return
        answers = {
            kind: self._subscribe(message_type, f"{self._name}/{name}/{kind}", DEPTH)
            for kind, message_type in ANSWERS.items()
        }
        if known is not None:
            for subscription in [*known.answers.values(), *([known.images] if known.images is not None else [])]:
                self._node.destroy_subscription(subscription)
        self._cameras[name] = _WatchedCamera(topic, answers)

    def _watch_images(self, camera: _WatchedCamera, watched: bool) -> None:
        """Subscribe to the images while somebody looks."""
        if watched and camera.images is None:
            kind = CompressedImage if naming.is_compressed(camera.topic) else Image
            camera.images = self._subscribe(kind, camera.topic, 1)
        elif not watched and camera.images is not None:
            self._node.destroy_subscription(camera.images)
            camera.images = None

    def _take(self, name: str, camera: _WatchedCamera) -> None:
        """Take the newest image; of the answers only those to images that were taken are read."""
        for kind, subscription in camera.answers.items():
            camera.waiting.extend((read_stamp_ns(raw), kind, raw) for raw in _waiting(subscription))
        if camera.images is not None:
            for raw in _waiting(camera.images):
                try:
                    image = camera_images.to_image(deserialize_message(raw, camera.images.msg_type), name)
                except ImageError:  # the node counts and reports it
                    continue
                camera.shown_ns.append(image.stamp_ns)
                self._board.saw_image(name, image)
        for stamp_ns, kind, raw in list(camera.waiting):
            if stamp_ns in camera.shown_ns:
                camera.waiting.remove((stamp_ns, kind, raw))
                self._board.saw_answer(name, camera_images.to_answer(deserialize_message(raw, ANSWERS[kind])))

    def _subscribe(self, kind: Any, topic: str, depth: int, *, reliable: bool = False) -> Subscription[Any]:
        """Subscribe without a callback: `_waiting` takes the serialised messages."""
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        profile = QoSProfile(depth=depth, reliability=reliability)
        return compat.subscribe(
            self._node, kind, topic, lambda *_: None, profile, lambda _: None, lambda: None, raw=True
        )


def _waiting(subscription: Subscription[Any]) -> Iterator[bytes]:
    """Take the serialised messages that wait."""
    while (taken := compat.take_serialised(subscription)) is not None:
        yield taken


def _is_perception(views: list[StatusView]) -> bool:
    """Tell this package's nodes from others: their model's status names the bundle."""
    return any(view.name == "model" and "bundle" in dict(view.values) for view in views)


def _said(success: bool, message: str) -> str:
    return ("done" if success else "refused") + (f": {message}" if message else "")
