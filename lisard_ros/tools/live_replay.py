"""Play a recording through a node that is running, over DDS, and collect its answers and counters.

`lisard replay --live` finds this module through the entry point `lisard_ros.live_replay`.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from lisard_ros import statuses
from lisard_ros.bags.live import LiveOptions, NodeCounts, Played, PlayedCamera
from lisard_ros.errors import DataError, UsageError
from lisard_ros.evaluation.pairs import Label
from lisard_ros.message_fields import box_xyxy_px, stamp_ns
from lisard_ros.node import fastdds
from lisard_ros.tools.playback import Recording
from lisard_ros.tools.player import PlaybackOptions, Player, Wanted, use_profile
from lisard_ros.tools.stop import ROS_ARGUMENTS, SLEEP_SLICE_S, Stop

DEPTH = 1000
SETTLE_S = 15.0  # for the last answers and counters, which come once a second
QUIET_S = 2.5
CAMERA = "camera "  # in front of the camera's name in its status


@dataclass(slots=True)
class _Heard:
    """What the node said of one camera. history: its counters whenever they changed; at_s: when it last spoke."""

    camera: str
    history: list[NodeCounts]
    pending: int
    at_s: float
    changed_s: float

    @property
    def counts(self) -> NodeCounts:
        """The last counters."""
        return self.history[-1]


@dataclass(slots=True)
class _Listener:
    """Follows the node's diagnostics and answers in a thread of its own."""

    node: Any
    name: str
    labels: tuple[str, ...]
    lock: threading.Lock = field(default_factory=threading.Lock)
    cameras: dict[str, _Heard] = field(default_factory=dict)
    model: dict[str, str] = field(default_factory=dict)
    unreadable: str = ""
    answers: dict[str, dict[int, tuple[Label, ...]]] = field(default_factory=dict)

    def listen(self) -> None:
        """Subscribe to the diagnostics."""
        from diagnostic_msgs.msg import DiagnosticArray

        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, DEPTH)

    def _on_diagnostics(self, message: Any) -> None:
        now_s = time.monotonic()
        with self.lock:
            for status in message.status:
                node, view = statuses.read(status)
                if node == self.name and view.name == "model":
                    self.model = dict(view.values)
                elif node == self.name and view.name.startswith(CAMERA):
                    try:
                        self._note(view.name.removeprefix(CAMERA), dict(view.values), now_s)
                    except (KeyError, ValueError) as error:  # of a node of another release
                        self.unreadable = f"{type(error).__name__} {error}"

    def _note(self, camera: str, values: dict[str, str], now_s: float) -> None:
        names = ("received", "answered", "replaced", "too_old", "failed", "lost_in_transport")
        counts = NodeCounts(*(int(values[name]) for name in names))
        heard = self.cameras.setdefault(values["topic"], _Heard(camera, [counts], 0, now_s, now_s))
        if heard.counts != counts:
            heard.history.append(counts)
            heard.changed_s = now_s
        heard.pending, heard.at_s = int(values["pending"]), now_s

    def subscribe(self, topic: str, camera: str) -> bool:
        """Subscribe to the answers of a camera; False while nobody publishes any."""
        from rclpy.qos import QoSProfile
        from vision_msgs.msg import Classification, Detection2DArray

        if topic in self.answers:
            return True
        for kind, last in ((Detection2DArray, "detections"), (Classification, "classification")):
            name = f"{self.name}/{camera}/{last}"
            if self.node.count_publishers(name):
                kept: dict[int, tuple[Label, ...]] = {}
                self.answers[topic] = kept
                take = self._taker(kept, kind is Detection2DArray)
                self.node.create_subscription(kind, name, take, QoSProfile(depth=DEPTH))
                return True
        return False

    def played(self, topic: str, stamps_ns: Sequence[int], before: NodeCounts) -> PlayedCamera:
        """Return what was published and what the node answered. before: the counters when the first frame was sent."""
        with self.lock:
            history = self.cameras[topic].history
            *earlier, last = [counts.since(before) for counts in history[history.index(before) :]]
            return PlayedCamera(topic, stamps_ns, dict(self.answers[topic]), last, earlier)

    def _taker(self, kept: dict[int, tuple[Label, ...]], boxes: bool) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            with self.lock:
                kept.setdefault(stamp_ns(message.header), self._labels(message, boxes))

        return take

    def _labels(self, message: Any, boxes: bool) -> tuple[Label, ...]:
        """Read the first hypothesis of each answer."""
        if not boxes:
            return tuple(Label(0, None, self._name(one.class_id), float(one.score)) for one in message.results[:1])
        best = [(item, item.results[0].hypothesis) for item in message.detections if item.results]
        return tuple(Label(0, box_xyxy_px(item), self._name(h.class_id), float(h.score)) for item, h in best)

    def _name(self, class_id: str) -> str:
        """Return the class; of a node that publishes indices, by the bundle's labels."""
        known = class_id in self.labels or not class_id.isdecimal() or int(class_id) >= len(self.labels)
        return class_id if known else self.labels[int(class_id)]


def find_node(options: LiveOptions) -> None:
    """Refuse a node that does not run, looks at other topics, or runs another bundle.

    Raises:
        DataError: There is no such node within `wait_s`.
        UsageError: It runs another bundle.
        KeyboardInterrupt: The process was told to end.
    """
    with Stop() as stop, _listening(options, stop):
        pass


def play_live(options: LiveOptions) -> Played:
    """Play a recording through a running node and wait for its last answers.

    Raises:
        DataError: As of `find_node`; or the recording cannot be played, or the node was started again meanwhile.
        UsageError: As of `find_node`.
        KeyboardInterrupt: The process was told to end.
    """
    if not fastdds.chosen(os.environ):
        use_profile(fastdds.profile_path())
    with Stop() as stop, Recording(options.bag, (*options.topics, *options.others)) as recording:
        with _listening(options, stop) as (listener, before):
            import rclpy

            node = rclpy.create_node("lisard_player", start_parameter_services=False)
            player, journal = Player(node, recording, _playback(options), stop), io.StringIO()
            player.wait()
            outcome = player.play(journal)
            stamps = _stamps(journal.getvalue(), options.topics)
            _settle(listener, before, stamps, stop)
            node.destroy_node()
        if stop.asked:
            raise KeyboardInterrupt
        cameras = tuple(listener.played(topic, sent, before[topic]) for topic, sent in stamps.items())
        return Played(options.node, listener.model["backend"], outcome.seconds, cameras)


@contextlib.contextmanager
def _listening(options: LiveOptions, stop: Stop) -> Iterator[tuple[_Listener, dict[str, NodeCounts]]]:
    """Start ROS, follow the node, and yield once it is found, with its counters at that moment."""
    import rclpy

    from lisard_ros.node.compat import init, try_shutdown

    init(ROS_ARGUMENTS)
    try:
        listener = _Listener(
            rclpy.create_node("lisard_live_replay", start_parameter_services=False), options.node, options.labels
        )
        listener.listen()
        with _spinning(listener.node):
            yield listener, _find(listener, options, stop)
    finally:
        try_shutdown()


@contextlib.contextmanager
def _spinning(node: Any) -> Iterator[None]:
    """Execute the node's callbacks in a thread."""
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, name="live_replay", daemon=True)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown()
        thread.join(5)
        node.destroy_node()


def _find(listener: _Listener, options: LiveOptions, stop: Stop) -> dict[str, NodeCounts]:
    """Wait until the node counts and answers all topics; returns its counters."""
    deadline = time.monotonic() + options.wait_s
    while stop.sleep(SLEEP_SLICE_S):
        with listener.lock:
            heard = {topic: listener.cameras.get(topic) for topic in options.topics}
            ready = bool(listener.model) and all(
                one is not None and listener.subscribe(topic, one.camera) for topic, one in heard.items()
            )
            known = sorted(listener.cameras)
        if ready:
            _require_bundle(listener.model["bundle_sha256"], options.bundle_sha256)
            return {topic: one.counts for topic, one in heard.items() if one is not None}
        if time.monotonic() > deadline:
            absent = [topic for topic, one in heard.items() if one is None]
            if listener.unreadable:
                found = f"its /diagnostics cannot be read: {listener.unreadable}"
            elif not listener.model:
                found = f"no /diagnostics of {options.node}"
            elif absent:
                found = f"it looks at {', '.join(known) or 'no topic'}, and not at {', '.join(absent)}"
            else:
                found = "it publishes no answers: it is not active"
            raise DataError(
                f"the node {options.node} cannot be replayed through",
                found=f"{found} within {options.wait_s:g} s",
                cure="start it with image_topics of the recording; check --node, --topics and ROS_DOMAIN_ID",
            )
    raise KeyboardInterrupt


def _require_bundle(found: str, expected: str) -> None:
    if found != expected:
        raise UsageError(
            "the node runs another bundle",
            found=found[:12],
            expected=expected[:12],
            cure="give --bundle as the node has it (`bundle` in its /diagnostics)",
        )


def _playback(options: LiveOptions) -> PlaybackOptions:
    return PlaybackOptions(
        options.bag,
        topics=(*options.topics, *options.others),
        rate=options.rate,
        reliability=options.reliability,
        wait_for=Wanted(each=tuple((topic, 1) for topic in options.topics), anywhere=False),
        wait_timeout_s=options.wait_s,
        clock_hz=options.clock_hz,
    )


def _stamps(journal: str, topics: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the stamps of the images that were sent."""
    sent = [json.loads(line) for line in journal.splitlines()]
    return {topic: tuple(line["stamp_ns"] for line in sent if line["topic"] == topic) for topic in topics}


def _settle(listener: _Listener, before: dict[str, NodeCounts], stamps: dict[str, tuple[int, ...]], stop: Stop) -> None:
    """Wait until every frame has an outcome and all answers are here, or until the node counts nothing any more."""
    deadline = time.monotonic() + SETTLE_S

    def settled(topic: str) -> bool:
        heard = listener.cameras[topic]
        gone = heard.counts.since(before[topic])
        known = gone.received + gone.lost >= len(stamps[topic]) and len(listener.answers[topic]) >= gone.answered
        return heard.pending == 0 and (known or heard.at_s - heard.changed_s >= QUIET_S)

    while stop.sleep(SLEEP_SLICE_S) and time.monotonic() < deadline:
        with listener.lock:
            if all(map(settled, stamps)):
                return
