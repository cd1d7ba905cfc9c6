"""Looks at the ROS 2 system that runs now, for `lisard doctor --ros`: graph, QoS, traffic, clock and /diagnostics.

A node of its own that nobody needs to know: hidden, without services, gone afterwards. It subscribes only to what
somebody reads already, since a publisher may work for its first subscriber alone (overlays, compressed images).
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import GetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from lisard_ros import statuses
from lisard_ros.commands.doctor import Finding
from lisard_ros.errors import LisardError
from lisard_ros.message_fields import NS_PER_S
from lisard_ros.node import compat, qos
from lisard_ros.statuses import StatusView
from lisard_ros.tools import running_system
from lisard_ros.tools.playback import read_stamp_ns
from lisard_ros.tools.player import CLOCK, message_class
from lisard_ros.tools.running_system import (
    ANSWER_TYPES,
    IMAGE_TYPES,
    INPUT_TYPES,
    PerceptionView,
    RunningSystem,
    Surroundings,
    TopicView,
    Traffic,
)
from lisard_ros.tools.start import start_ros

# Discovery: until nothing new has come for a while, with a perception node among what was found.
DISCOVERY_S, SETTLED_S = 10.0, 1.0
SPIN_S = 0.1
DEPTH = 100
# A service that only this package's nodes have, beside each other of them.
OWN_SERVICE = "/cancel_self_test"
QUESTIONS = ("use_sim_time", "diagnostics_period_s")


def check(seconds: float) -> list[Finding]:
    """Look for `seconds` and return the findings."""
    return running_system.findings(observe(seconds))


def observe(seconds: float) -> RunningSystem:
    """Discover what runs, measure for `seconds`, and return what was seen; UsageError when ROS does not start."""
    start_ros()
    try:
        node = rclpy.create_node(f"_lisard_doctor_{os.getpid()}", start_parameter_services=False)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        return Observer(node, executor).observe(seconds)
    finally:
        compat.try_shutdown()


class TopicMeter:
    """Counts what arrives on one topic, as serialised bytes."""

    def __init__(self, stamped: bool) -> None:
        """stamped: messages begin with a header."""
        self._stamped = stamped
        self._arrived_s: list[float] = []
        self._ages_s: list[float] = []
        self._largest_bytes = self._lost = 0

    def received(self, message: bytes, info: compat.MessageInfo) -> None:
        """Count one message."""
        self._arrived_s.append(time.monotonic())
        self._largest_bytes = max(self._largest_bytes, len(message))
        if self._stamped:
            self._ages_s.append((time.time_ns() - read_stamp_ns(message)) / NS_PER_S)

    def lost(self, messages: int) -> None:
        """Count what the middleware reports as lost."""
        self._lost += messages

    @property
    def traffic(self) -> Traffic:
        """What has arrived so far."""
        count = len(self._arrived_s)
        span_s = self._arrived_s[-1] - self._arrived_s[0] if count > 1 else 0.0
        rate_hz = (count - 1) / span_s if span_s > 0.0 else 0.0
        age_s = statistics.median(self._ages_s) if self._ages_s else None
        return Traffic(count, rate_hz, self._largest_bytes, self._lost, age_s)


class Observer:
    """One look at the system, through `node`, which `executor` spins."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor) -> None:
        """Begin to listen to /diagnostics, which come once per second."""
        self._node, self._executor = node, executor
        self._meters: dict[str, TopicMeter] = {}
        self._statuses: dict[tuple[str, str], StatusView] = {}
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, DEPTH)

    def observe(self, seconds: float) -> RunningSystem:
        """See the function of this name."""
        self._discover()
        self._statuses.clear()
        names = self._perception_names()
        questions = {name: self._ask(name) for name in names}
        self._measure_all(names)
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=min(SPIN_S, left_s))
        shm_bytes, shm_free_bytes = running_system.shared_memory()
        perception = tuple(self._perception(name, questions[name]) for name in names)
        return RunningSystem(
            seconds,
            Surroundings(rclpy.get_rmw_implementation_identifier(), dict(os.environ), shm_bytes, shm_free_bytes),
            self._visible_nodes(),
            perception,
            tuple(self._topic(name) for name in self._image_topics(names)),
            self._topic(CLOCK),
        )

    def _discover(self) -> None:
        """Spin until the graph has not changed for a while and a perception node is there, or time is up."""
        seen: object = None
        now_s = changed_s = time.monotonic()
        deadline_s = now_s + DISCOVERY_S
        while now_s < deadline_s:
            self._executor.spin_once(timeout_sec=SPIN_S)
            now_s = time.monotonic()
            graph = (self._visible_nodes(), sorted(self._node.get_topic_names_and_types()), self._perception_names())
            if graph != seen:
                seen, changed_s = graph, now_s
            elif self._perception_names() and now_s - changed_s > SETTLED_S:
                return

    # --- the graph ----------------------------------------------------------------------------------------------

    def _visible_nodes(self) -> tuple[str, ...]:
        """Return the full name of each node; tools such as this one have names that begin with _."""
        known = self._node.get_node_names_and_namespaces()
        return tuple(sorted(f"{space.rstrip('/')}/{name}" for name, space in known if not name.startswith("_")))

    def _perception_names(self) -> tuple[str, ...]:
        """Return the full names of this package's nodes."""
        services = [name for name, _ in self._node.get_service_names_and_types()]
        return tuple(sorted(name.removesuffix(OWN_SERVICE) for name in services if name.endswith(OWN_SERVICE)))

    def _image_topics(self, perception: Sequence[str]) -> tuple[str, ...]:
        """Return the image topics that somebody publishes, without the overlays of this package's nodes."""
        own = tuple(f"{name}/" for name in perception)
        known = self._node.get_topic_names_and_types()
        images = [name for name, types in known if set(types) & set(IMAGE_TYPES) and not name.startswith(own)]
        return tuple(name for name in images if self._node.count_publishers(name))

    def _topics_of(self, node_name: str, *, published: bool, types: Sequence[str]) -> tuple[str, ...]:
        """Return the topics of `types` that a node publishes or has subscribed to."""
        namespace, _, name = node_name.rpartition("/")
        ask = (
            self._node.get_publisher_names_and_types_by_node
            if published
            else self._node.get_subscriber_names_and_types_by_node
        )
        try:
            known = ask(name, namespace or "/")
        except Exception:  # rclpy has several classes for a node that has just gone
            return ()
        return tuple(topic for topic, found in known if set(types) & set(found))

    def _topic(self, name: str) -> TopicView:
        meter = self._meters.get(name)
        return TopicView(
            name, compat.offers(self._node, name), self._requests(name), meter.traffic if meter is not None else None
        )

    def _requests(self, topic: str) -> tuple[qos.Offer, ...]:
        """Return what the subscriptions of others ask for."""
        own = self._node.get_fully_qualified_name()
        return tuple(request for request in compat.requests(self._node, topic) if request.node != own)

    # --- traffic --------------------------------------------------------------------------------------------------

    def _measure_all(self, perception: Sequence[str]) -> None:
        """Subscribe to the inputs and answers of our nodes, to other images that somebody reads, and to /clock."""
        self._measure(CLOCK, stamped=False)
        for name in perception:
            for topic in self._topics_of(name, published=False, types=INPUT_TYPES):
                self._measure(topic)
            for topic in self._topics_of(name, published=True, types=ANSWER_TYPES):
                self._measure(topic)
        for topic in self._image_topics(perception):
            if self._requests(topic):
                self._measure(topic)

    def _measure(self, topic: str, *, stamped: bool = True) -> None:
        """Subscribe to a topic once, with the QoS that its publishers offer; not to one without publishers."""
        offers = compat.offers(self._node, topic)
        if not offers or topic in self._meters:
            return
        try:
            kind = message_class(offers[0].topic_type)
        except LisardError:  # a type that this installation does not have: there is nothing to subscribe with
            return
        reliability = qos.decide("auto", (offer.reliability for offer in offers))
        profile = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy[reliability.upper()])
        meter = self._meters[topic] = TopicMeter(stamped)
        compat.subscribe(self._node, kind, topic, meter.received, profile, meter.lost, lambda: None, raw=True)

    # --- what the nodes tell about themselves -----------------------------------------------------------------------

    def _ask(self, name: str) -> Any:
        """Ask a node for parameters; the answer comes while traffic is measured."""
        client: Any = self._node.create_client(GetParameters, f"{name}/get_parameters")
        client.wait_for_service(timeout_sec=SETTLED_S)
        return client.call_async(GetParameters.Request(names=list(QUESTIONS)))

    def _perception(self, name: str, asked: Any) -> PerceptionView:
        values = list(asked.result().values) if asked.done() and asked.result() is not None else []
        return PerceptionView(
            name,
            tuple(self._topic(topic) for topic in self._topics_of(name, published=False, types=INPUT_TYPES)),
            tuple(self._topic(topic) for topic in self._topics_of(name, published=True, types=ANSWER_TYPES)),
            bool(values[0].bool_value) if values else None,
            float(values[1].double_value) if values else None,
            tuple(status for (node, _), status in self._statuses.items() if node == name),
        )

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        """Keep the last status of each name."""
        for status in message.status:
            node, view = statuses.read(status)
            self._statuses[node, view.name] = view
