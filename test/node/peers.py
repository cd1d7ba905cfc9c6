"""The other side of the node's tests: a ROS node in the test process, and the node under test as its own process."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "bench")]
from other_ends import make_known, wait_for_answer  # noqa: E402
from waiting import wait_until  # noqa: E402

del sys.path[:2]

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
LEVEL = {b"\x00": "OK", b"\x01": "WARN", b"\x02": "ERROR"}


class Diagnosis:
    """The latest /diagnostics of one node, status by status."""

    def __init__(self) -> None:
        self.count = 0
        self.levels: dict[str, str] = {}
        self.messages: dict[str, str] = {}
        self.values: dict[str, dict[str, str]] = {}
        self.last_values: dict[str, dict[str, str]] = {}  # also of statuses that are gone

    def take(self, array: DiagnosticArray, node: str) -> None:
        """Keep the statuses of `node`."""
        mine = {s.name.split(": ", 1)[1]: s for s in array.status if s.name.startswith(node + ": ")}
        if mine:
            self.levels = {name: LEVEL[s.level] for name, s in mine.items()}
            self.messages = {name: s.message for name, s in mine.items()}
            self.values = {name: {kv.key: kv.value for kv in s.values} for name, s in mine.items()}
            self.last_values |= self.values
            self.count += 1


class Peer:
    """A node in the test process that spins in its own thread."""

    def __init__(self) -> None:
        self.node = Node("peer", use_global_arguments=False)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join(5)
        self.node.destroy_node()

    def ends(self) -> set[Any]:
        """Its subscriptions and clients."""
        return {*self.node.subscriptions, *self.node.clients}

    def close_ends(self, besides: Set[Any]) -> None:
        """Destroy subscriptions and clients but for these. Each costs time with every message of any node."""

        def destroy() -> None:
            for subscription in {*self.node.subscriptions} - besides:
                self.node.destroy_subscription(subscription)
            for client in {*self.node.clients} - besides:
                self.node.destroy_client(client)

        destroyed = self._executor.create_task(destroy)  # in the thread that waits for them
        self._executor.wake()
        wait_until(destroyed.done, "the subscriptions of a test to be destroyed")
        destroyed.result()

    def collect(self, kind: type, topic: str, latched: bool = False) -> list[Any]:
        """Subscribe reliably and return the list that fills with messages."""
        got: list[Any] = []
        durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
        subscription = self.node.create_subscription(
            kind, topic, got.append, QoSProfile(depth=100, durability=durability)
        )
        self._executor.wake()
        wait_until(lambda: subscription.get_publisher_count() > 0, f"a publisher on {topic}")
        make_known(self.node, topic, wait_until)
        return got

    def diagnosis(self, node: str) -> Diagnosis:
        """Follow /diagnostics of one node."""
        kept = Diagnosis()
        self.node.create_subscription(DiagnosticArray, "/diagnostics", lambda m: kept.take(m, node), 50)
        self._executor.wake()
        return kept

    def publisher(self, kind: type, topic: str, reliability: ReliabilityPolicy = RELIABLE) -> Any:
        """Make a publisher and wait until somebody listens."""
        made: Any = self.node.create_publisher(kind, topic, QoSProfile(depth=50, reliability=reliability))
        self.wait_for_subscriber(made)
        return made

    def subscribers(self, topic: str) -> set[bytes]:
        """Ids of the subscriptions to a topic; each is new when a node subscribes again."""
        return {bytes(end.endpoint_gid) for end in self.node.get_subscriptions_info_by_topic(topic)}

    def wait_for_subscriber(self, publisher: Any, besides: Set[bytes] = frozenset()) -> None:
        """Wait until a node listens to a publisher and knows it. besides: subscriptions that do not count."""

        def matched() -> bool:
            return bool(publisher.get_subscription_count() > 0 and self.subscribers(publisher.topic_name) - besides)

        wait_until(matched, f"a subscriber on {publisher.topic_name}")
        make_known(self.node, publisher.topic_name, wait_until)

    def call(self, kind: Any, name: str, request: Any = None, budget_s: float = 60.0) -> Any:
        """Call a service of a node, `NODE/NAME`, and return its response."""
        client: Any = self.node.create_client(kind, name)
        try:
            wait_until(client.service_is_ready, f"the service {name}")
            wait_for_answer(self.node, name.rpartition("/")[0], wait_until)
            future = client.call_async(kind.Request() if request is None else request)
            self._executor.wake()
            wait_until(future.done, f"an answer of {name}", budget_s)
            return future.result()
        finally:
            self.node.destroy_client(client)


@contextmanager
def camera(
    peer: Peer, topic: str, reliability: ReliabilityPolicy, draw: Callable[[int], Image] | None = None
) -> Iterator[None]:
    """Publish small images at about 20 Hz for as long as the block lasts. draw: the image of a number; None: red."""
    publisher: Any = peer.node.create_publisher(Image, topic, QoSProfile(depth=5, reliability=reliability))
    ended = threading.Event()

    def publish() -> None:
        for number in itertools.count(1):
            if ended.wait(0.05):
                return
            publisher.publish(image((200, 0, 0), time.time_ns()) if draw is None else draw(number))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        peer.node.destroy_publisher(publisher)


def serve_peer() -> Iterator[Peer]:
    """A peer for the session; another folder's tests may have started ROS in this process already."""
    starts_ros = not rclpy.ok()
    if starts_ros:
        rclpy.init(args=[])
    made = Peer()
    yield made
    made.close()
    if starts_ros:
        rclpy.try_shutdown()


class NodeProcess:
    """`perception_node` in a process of its own; `log` holds what it printed once it has ended.

    Injection and self test run at the lowest priority: on a machine that is always busy they would never end. So their
    processes get the usual one while `lifts_children`, where this process may change it.
    """

    lifts_children = True

    def __init__(self, namespace: str = "", **parameters: object) -> None:
        self.start(ros_words(namespace, parameters))

    def start(
        self, arguments: list[str], folder: Path = ROOT, program: Sequence[str] = ("-m", "lisard_ros.node.main")
    ) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.log = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if self.lifts_children:
            threading.Thread(target=self._lift_children, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log += line

    def _lift_children(self) -> None:
        while self.process.poll() is None:
            for child in children_of(self.process.pid):
                with suppress(OSError):
                    for task in Path(f"/proc/{child}/task").iterdir():
                        if os.sched_getscheduler(int(task.name)) == os.SCHED_IDLE:
                            os.sched_setscheduler(int(task.name), os.SCHED_OTHER, os.sched_param(0))
            time.sleep(0.1)

    def said(self, text: str, budget_s: float = 60.0) -> None:
        """Wait for a text in the log."""
        wait_until(lambda: text in self.log, f"'{text}' in the log:\n{self.log}", budget_s)

    def wait(self, budget_s: float = 60.0) -> int:
        """Wait for the end and return the exit status."""
        status = self.process.wait(budget_s)
        self._reader.join(30)
        return status

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit status; kills what does not end."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def children_of(pid: int) -> list[int]:
    """Ids of the children of a process."""
    with suppress(OSError):
        return [int(word) for file in Path(f"/proc/{pid}/task").glob("*/children") for word in file.read_text().split()]
    return []


def node_with(arguments: list[str], folder: Path = ROOT) -> NodeProcess:
    """Start the node in a folder with arguments written out."""
    made = NodeProcess.__new__(NodeProcess)
    made.start(arguments, folder)
    return made


def node_that_can_hang(flag: Path, namespace: str, **parameters: object) -> NodeProcess:
    """Start the node with a backend that does not return while the file `flag` is there."""
    made = NodeProcess.__new__(NodeProcess)
    program = (str(Path(__file__).parent / "hanging_node.py"), str(flag))
    made.start(ros_words(namespace, parameters), program=program)
    return made


def ros_words(namespace: str, parameters: Mapping[str, object]) -> list[str]:
    """The arguments of a node with these parameters, a dot of a name written as two underscores."""
    words = [f"{name.replace('__', '.')}:={_yaml(value)}" for name, value in parameters.items()]
    remap = ["-r", f"__ns:={namespace}"] if namespace else []
    return ["--ros-args", *remap, *(piece for word in words for piece in ("-p", word))]


def _yaml(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    if isinstance(value, (str, Path)):
        return f'"{value}"'
    return str(value).lower() if isinstance(value, bool) else str(value)


def image(rgb: tuple[int, int, int] | np.ndarray, stamp_ns: int, width: int = 32, height: int = 24) -> Image:
    """An rgb8 message of one colour, or of the given pixels."""
    pixels = rgb if isinstance(rgb, np.ndarray) else np.full((height, width, 3), rgb, np.uint8)
    message = Image(height=pixels.shape[0], width=pixels.shape[1], encoding="rgb8", step=pixels.shape[1] * 3)
    message.data = pixels.tobytes()
    return stamped(message, stamp_ns)


def jpeg(rgb: tuple[int, int, int], stamp_ns: int, width: int = 32, height: int = 24) -> CompressedImage:
    """A JPEG message of one colour."""
    ok, data = cv2.imencode(".jpg", np.full((height, width, 3), rgb[::-1], np.uint8))
    assert ok
    return stamped(CompressedImage(format="jpeg", data=data.tobytes()), stamp_ns)


def stamped(message: Any, stamp_ns: int, frame_id: str = "optical") -> Any:
    """Set stamp and frame_id."""
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    message.header.frame_id = frame_id
    return message


def stamp_ns(message: Any) -> int:
    """The stamp of a message in nanoseconds."""
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
