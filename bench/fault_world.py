"""What bench/faults.py works with: the node in a process of its own, a camera, answers, counters and services."""

from __future__ import annotations

import array
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from other_ends import make_known
from processes import ROOT, environment
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from spinning import Spinning
from vision_msgs.msg import Classification, Detection2DArray

NAME = "/faults/perception"
TOPIC, CAMERA = "/faults/cam/image_raw", "faults/cam"
BUDGET_S = 60.0
STEP_NS = 1_000_000
TRANSITIONS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}


class FaultError(Exception):
    """Something did not come in time: the fault is not survived."""


def wait_for(condition: Callable[[], Any], what: str, budget_s: float = BUDGET_S) -> Any:
    """Return the first true value of `condition`."""
    deadline = time.monotonic() + budget_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise FaultError(f"within {budget_s:.0f} s: {what}")


@dataclass(frozen=True)
class Counts:
    """The counters of one camera as /diagnostics gives them; `causes`: failed frames by cause."""

    received: int = 0
    answered: int = 0
    replaced: int = 0
    too_old: int = 0
    failed: int = 0
    pending: int = 0
    lost_in_transport: int = 0
    time_jumps_back: int = 0
    causes: Mapping[str, int] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """Every frame that was received has an outcome."""
        return not self.pending and self.received == self.answered + self.replaced + self.too_old + self.failed

    def accounts_for(self, published: int) -> bool:
        """Both equations hold."""
        return self.settled and published == self.received + self.lost_in_transport


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, whether it is as it must be, and what was seen."""

    name: str
    holds: bool
    seen: str


@dataclass(frozen=True)
class Usage:
    """What a process holds."""

    memory_mb: float
    threads: int
    descriptors: int


class NodeProcess:
    """perception_node, with what it printed."""

    def __init__(self, parameters: Mapping[str, object], given: Mapping[str, str]) -> None:
        words = [piece for name, value in parameters.items() for piece in ("-p", f"{name}:={value}")]
        command = ["-m", "lisard_ros.node.main", "--ros-args", "-r", "__ns:=/faults", *words]
        self.lines: list[str] = []
        self.process = psutil.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**environment(profile=False), **given},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line)

    def said(self, text: str) -> bool:
        """Whether it has printed `text`."""
        return any(text in line for line in list(self.lines))

    def usage(self) -> Usage:
        """What it holds now."""
        memory_mb = self.process.memory_info().rss / 2**20
        return Usage(memory_mb, self.process.num_threads(), self.process.num_fds())

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return int(self.process.wait(60))
        except psutil.TimeoutExpired:
            self.process.kill()
            raise FaultError(f"it did not end on signal {number}:\n{''.join(self.lines[-20:])}") from None


class Camera:
    """A publisher that counts what it sends; every image has a later stamp."""

    def __init__(self, world: World, kind: type = Image, topic: str = TOPIC, depth: int = 10) -> None:
        self._world, self._kind = world, kind
        profile = QoSProfile(depth=depth, reliability=ReliabilityPolicy.RELIABLE)
        self.publisher: Any = world.node.create_publisher(kind, topic, profile)
        self.sent = 0

    def subscriptions(self) -> set[bytes]:
        """Ids of the subscriptions to the camera; each is new when a node subscribes again."""
        ends = self._world.node.get_subscriptions_info_by_topic(self.publisher.topic_name)
        return {bytes(end.endpoint_gid) for end in ends}

    def wait_for_node(self, nodes: int = 1, besides: Set[bytes] = frozenset()) -> None:
        """Wait until the node listens and knows this publisher. besides: subscriptions that do not count."""

        def found() -> bool:
            matched: int = self.publisher.get_subscription_count()
            return matched >= nodes and len(self.subscriptions() - besides) >= nodes

        wait_for(found, f"{nodes} subscribers of the camera")
        make_known(self._world.node, self.publisher.topic_name, wait_for)

    def send(self, message: Any) -> int:
        """Publish a message; return its stamp in nanoseconds."""
        stamp_ns = self._world.next_stamp_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        message.header.frame_id = "camera"
        self.publisher.publish(message)
        self.sent += 1
        return stamp_ns

    def begin(self, message: Any) -> None:
        """Publish an image, wait until it is answered, and count from it on; the node listens already."""
        self.sent = 0
        stamp = self.send(message)
        wait_for(lambda: stamp in self._world.answers, "an answer")

    def close(self) -> None:
        """Stop publishing."""
        self._world.node.destroy_publisher(self.publisher)


class World(Spinning):
    """One node under test, and this process around it."""

    def __init__(self, bundle: Path, given: Mapping[str, str] | None = None, **parameters: object) -> None:
        super().__init__("faults")
        self.bundle, self._given = bundle, given or {}
        self._parameters = {"bundle": bundle, "image_topics": TOPIC, "diagnostics_period_s": 0.2, **parameters}
        self.answers: set[int] = set()
        self.messages: dict[str, str] = {}
        self._values: dict[str, dict[str, str]] = {}
        self._stamp_ns = time.time_ns()
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        for kind, topic in ((Classification, "classification"), (Detection2DArray, "detections")):
            self.node.create_subscription(kind, f"{NAME}/{CAMERA}/{topic}", self._on_answer, QoSProfile(depth=1000))
        self.start()
        self.process = self.start_node()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.process.poll() is None:
            self.process.process.kill()
        self.close()

    def start_node(self) -> NodeProcess:
        """Start the node, or another one of its name, and wait until it is active."""
        process = NodeProcess(self._parameters, self._given)
        try:
            wait_for(lambda: process.said("active: ") or process.process.poll() is not None, "the node to be active")
        except FaultError:
            process.process.kill()
            raise
        if not process.said("active: "):
            raise FaultError("the node did not start:\n" + "".join(process.lines))
        return process

    def next_stamp_ns(self) -> int:
        """A stamp that nobody has yet."""
        self._stamp_ns += STEP_NS
        return self._stamp_ns

    def set_stamp_ns(self, stamp_ns: int) -> None:
        """Go on with stamps after this one, as after a jump."""
        self._stamp_ns = stamp_ns

    def counts(self, camera: str = CAMERA) -> Counts:
        """The latest counters."""
        values = {key: int(value) for key, value in self._values.get(f"camera {camera}", {}).items() if value.isdigit()}
        plain = {name: values.get(name, 0) for name in Counts.__dataclass_fields__ if name != "causes"}
        causes = {key.removeprefix("failed_"): n for key, n in values.items() if key.startswith("failed_")}
        return Counts(**plain, causes=causes)

    def value(self, status: str, key: str) -> str:
        """One value of the latest /diagnostics."""
        return self._values.get(status, {}).get(key, "")

    def accounting(self, published: int, camera: str = CAMERA) -> Finding:
        """Wait for both equations and report them."""
        try:
            wait_for(lambda: self.counts(camera).accounts_for(published), "the equations")
        except FaultError:
            return Finding("every frame has an outcome", False, f"{published} published, {self.counts(camera)}")
        return Finding("every frame has an outcome", True, f"{published} published, {self.counts(camera)}")

    def healthy(self) -> Finding:
        """End the node; it must end in order and must not have printed a traceback."""
        status = self.process.end()
        clean = status == 0 and not self.process.said("Traceback")
        return Finding("it ends in order", clean, f"exit status {status}" if clean else "".join(self.process.lines))

    def client(self, kind: Any, name: str) -> Any:
        """A client of a service of the node."""
        client: Any = self.node.create_client(kind, f"{NAME}/{name}")
        if not client.wait_for_service(timeout_sec=30):
            raise FaultError(f"no service {name}")
        return client

    def call(self, client: Any, request: Any) -> Any:
        """Call and wait for the response."""
        future = client.call_async(request)
        wait_for(future.done, "the answer of a service")
        return future.result()

    def change(self, client: Any, transition: str) -> bool:
        """Change the state; True if that succeeded. client: of change_state."""
        request = ChangeState.Request(transition=Transition(id=TRANSITIONS[transition]))
        return bool(self.call(client, request).success)

    def _on_answer(self, message: Classification | Detection2DArray) -> None:
        self.answers.add(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)

    def _on_diagnostics(self, array_: DiagnosticArray) -> None:
        for status in array_.status:
            if status.name.startswith(NAME + ": "):
                name = status.name.split(": ", 1)[1]
                self.messages[name] = status.message
                self._values[name] = {pair.key: pair.value for pair in status.values}


class Ticking:
    """A publisher of /clock in a thread, whose time can be set."""

    def __init__(self, world: World, start_ns: int) -> None:
        self._publisher: Any = world.node.create_publisher(Clock, "/clock", 10)
        self.now_ns = start_ns
        self._running = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self._running:
            self.now_ns += 10_000_000
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(self.now_ns, 10**9)
            self._publisher.publish(message)
            time.sleep(0.01)

    def __enter__(self) -> Ticking:
        return self

    def __exit__(self, *error: object) -> None:
        self._running = False
        self._thread.join(5)


def image(width: int = 64, height: int = 48, encoding: str = "rgb8") -> Image:
    """A sound image of smooth random content."""
    channels = {"rgb8": 3, "bgr8": 3, "mono8": 1}[encoding]
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, channels), np.uint8)
    data = array.array("B")
    data.frombytes(pixels.tobytes())
    return Image(height=height, width=width, encoding=encoding, step=width * channels, data=data)


def garbage(number: int) -> Image:
    """One of several kinds of image that cannot be decoded."""
    message = image()
    kind = number % 8
    if kind == 0:
        message.encoding = "rgb9"
    elif kind == 1:
        message.data = array.array("B", b"\0" * 5)
    elif kind == 2:
        message.width = message.height = message.step = 0
        message.data = array.array("B")
    elif kind == 3:
        message.height = 2**31
    elif kind == 4:
        message.step = 1
    elif kind == 5:
        message.encoding = "32FC1"
    elif kind == 6:
        message.encoding = "\u00e9" * 2000
    else:
        message.width, message.step = 2**32 - 1, 2**32 - 1
    return message


def compressed_garbage(number: int) -> CompressedImage:
    """Bytes that are no JPEG, or the beginning of one."""
    noise = np.random.default_rng(number).integers(0, 256, 400, np.uint8).tobytes()
    head = (b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n")[number % 3]
    return CompressedImage(format=("jpeg", "png", "")[number % 3], data=array.array("B", head + noise))


def in_ros(domain: str | None = None) -> None:
    """Start ROS in this process, in a domain of its own where one is given."""
    if domain is not None:
        os.environ["ROS_DOMAIN_ID"] = domain
    rclpy.init(args=[])
