"""Everything that lives while the node is active: subscriptions, slots, the box joiner and the worker.

Made at activation, closed at deactivation; afterwards every frame that arrived has an outcome.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from vision_msgs.msg import Detection2DArray

from lisard_ros.frames import Region
from lisard_ros.inference.pipeline import Pipeline
from lisard_ros.naming import CameraTopic
from lisard_ros.node import compat, messages, parameters
from lisard_ros.node.accounting import LossWindow
from lisard_ros.node.boxes import BoxJoiner, Key
from lisard_ros.node.diagnostics import CameraView
from lisard_ros.node.feed import Feed, Gate
from lisard_ros.node.parameters import Settings
from lisard_ros.node.slots import NewestSlots
from lisard_ros.node.worker import NO_BOXES, Arrival, InjectionState, Lane, Worker

_BOXES_DEPTH = 50
# Failures and losses are said for this many diagnostic periods after the last one.
_RECENT_PERIODS = 10


@dataclass(slots=True)
class Recent:
    """Failures of one camera over the last periods, so that a fault that has ended stops being an ERROR."""

    history: deque[Mapping[str, int]]

    @staticmethod
    def new() -> Recent:
        """Start with a history in which nothing has failed."""
        return Recent(deque([{}], maxlen=_RECENT_PERIODS + 1))

    def update(self, failed: Mapping[str, int]) -> dict[str, int]:
        """Note the totals by cause and return how many are new since the oldest note."""
        self.history.append(dict(failed))
        oldest = self.history[0]
        return {cause: total - oldest.get(cause, 0) for cause, total in failed.items() if total > oldest.get(cause, 0)}


class Session:
    """The active node. `_refill` is called by the worker, everything else in the executor's thread."""

    def __init__(
        self,
        node: Node,
        pipeline: Pipeline,
        lanes: Mapping[str, Lane],
        topics: Sequence[CameraTopic],
        settings: Callable[[], Settings],
        injection: InjectionState,
        report: Callable[[str, str, str], None],
    ) -> None:
        """Subscribe, then start the worker."""
        self._node, self._lanes, self._settings = node, lanes, settings
        self._started_s = time.perf_counter()
        self._slots: NewestSlots[Arrival] = NewestSlots()
        fixed = settings()
        mode = parameters.regions_mode(fixed)
        self._regions = tuple(Region(box) for box in parameters.fixed_boxes(fixed)) if mode == "fixed" else None
        self._joiner = self._make_joiner(fixed) if mode == "topic" else None
        self._by_frame_id = len(topics) > 1
        self.boxes_received = 0
        clock = node.get_clock()
        self._worker = Worker(
            pipeline, self._slots, lanes, settings, lambda: clock.now().nanoseconds, injection, report, self._refill
        )
        self._feeds = {topic.camera: self._feed(topic, fixed) for topic in topics}
        self._gated = tuple(feed for feed in self._feeds.values() if feed.gate is not None)
        self._boxes_subscription = self._subscribe_boxes(fixed.boxes_topic) if self._joiner is not None else None
        self._recent = {camera: Recent.new() for camera in lanes}
        self._loss = {camera: LossWindow(_RECENT_PERIODS) for camera in lanes}
        self._worker.start()

    @property
    def boxes_unmatched(self) -> int:
        """Messages of `boxes_topic` whose frame never came."""
        return self._joiner.boxes_given_up if self._joiner is not None else 0

    def close(self) -> None:
        """Unsubscribe, give up what waits, finish the batch under way."""
        for feed in self._feeds.values():
            feed.close()
        if self._boxes_subscription is not None:
            self._node.destroy_subscription(self._boxes_subscription)
            self._boxes_subscription = None
        if self._joiner is not None:
            self._joiner.close()
        self._worker.stop()

    def review(self) -> None:
        """Periodic work: publishers that came or went, frames whose boxes never came."""
        for feed in self._feeds.values():
            feed.review()
        if self._joiner is not None:
            self._joiner.expire(time.perf_counter())

    def time_jumped(self) -> None:
        """Take note of a clock that jumped back: ages of before mean nothing. The stamps' own jump is counted."""
        for lane in self._lanes.values():
            lane.gate.lift(time.perf_counter())
            lane.books.forget_ages()

    def views(self) -> list[CameraView]:
        """Return the state of each camera for diagnostics; to be called once per period."""
        return [self._view(self._lanes[camera], feed) for camera, feed in self._feeds.items()]

    def _view(self, lane: Lane, feed: Feed) -> CameraView:
        now_s = time.perf_counter()
        counts = lane.books.counts()
        lost, share = self._loss[lane.name].update(counts)
        silent_s = lane.books.silent_s(now_s, self._started_s)
        silent = silent_s > self._settings().no_image_warn_s
        return CameraView(
            lane.name,
            feed.name,
            feed.reliability,
            counts,
            lane.books.percentiles(),
            lane.books.rate_hz(now_s),
            feed.silence(silent_s) if silent else "",
            lost,
            share,
            self._recent[lane.name].update(counts.failed),
            lane.books.last_failure,
        )

    def _feed(self, topic: CameraTopic, settings: Settings) -> Feed:
        lane = self._lanes[topic.camera]
        joins = self._joiner is not None
        overrides = compat.qos_overrides(self._node, topic.topic)
        depth = overrides.depth or (max(settings.queue_depth, settings.boxes_buffer) if joins else settings.queue_depth)
        gate = Gate(lambda: self._slots.busy) if depth == 1 and not joins else None
        return Feed(
            self._node,
            topic,
            settings.reliability,
            depth,
            lambda message: self._on_image(lane, message),
            lane.books.lost,
            lane.books.gap,
            gate,
            overrides,
        )

    def _refill(self) -> None:
        """Fetch the images that came during the last batch; when there are none, leave it to the executor again.

        Called by the worker after each batch.
        """
        try:
            for feed in self._gated:
                feed.fetch()
        finally:
            self._rest()

    def _rest(self) -> None:
        """Let the executor fetch again, unless the worker has something to do."""
        if not self._slots.rest():
            return
        reopened = [feed.gate.reopen() for feed in self._gated if feed.gate is not None]
        if any(reopened) and self._node.executor is not None:
            self._node.executor.wake()

    def _on_image(self, lane: Lane, message: Any) -> None:
        now_s = time.perf_counter()
        lane.books.arrived(now_s)
        stamp_ns = _stamp_ns(message)
        if lane.gate.saw(stamp_ns, now_s):
            lane.books.jumped_back()
        arrival = Arrival(lane.name, message, stamp_ns, now_s, self._regions)
        if self._joiner is None:
            self._ready(arrival)
            return
        match = self._joiner.frame(self._key(message.header), arrival, now_s)
        if match is not None:
            self._ready(replace(match.frame, regions=match.regions))

    def _on_boxes(self, message: Detection2DArray) -> None:
        self.boxes_received += 1
        regions = messages.regions(message, self._settings().max_detections)
        if self._joiner is None:
            return
        match = self._joiner.boxes(self._key(message.header), regions, time.perf_counter())
        if match is not None:
            self._ready(replace(match.frame, regions=match.regions))

    def _ready(self, arrival: Arrival) -> None:
        if self._slots.put(arrival.camera, arrival) is not None:
            self._lanes[arrival.camera].books.replaced()

    def _key(self, header: Any) -> Key:
        """Return what joins frames and boxes: the stamp, and with several cameras the frame_id."""
        stamp_ns = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
        return (header.frame_id if self._by_frame_id else "", stamp_ns)

    def _make_joiner(self, settings: Settings) -> BoxJoiner[Arrival]:
        frames = settings.boxes_buffer * len(self._lanes)
        return BoxJoiner(frames, settings.boxes_wait_ms / 1e3, self._given_up)

    def _given_up(self, arrival: Arrival) -> None:
        text = f"no boxes on {self._settings().boxes_topic} with the stamp of this frame"
        self._lanes[arrival.camera].books.failed(NO_BOXES, text)

    def _subscribe_boxes(self, topic: str) -> Any:
        options = compat.overriding(compat.qos_overrides(self._node, topic))
        profile = QoSProfile(depth=_BOXES_DEPTH)
        return self._node.create_subscription(
            Detection2DArray, topic, self._on_boxes, profile, qos_overriding_options=options
        )


def _stamp_ns(message: Any) -> int:
    stamp = message.header.stamp
    return stamp.sec * 1_000_000_000 + stamp.nanosec
