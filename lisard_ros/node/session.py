"""Everything that lives while the node is active: subscriptions, the newest images, the worker.

Made at activation, closed at deactivation; afterwards every frame that arrived has an outcome. A frame goes
ImageSubscriber.fetch -> LatestFrameBuffer.put -> InferenceWorker._next_in_turn, ._answer -> CameraPublisher.publish.
"""

from __future__ import annotations

import threading
import time

from rclpy.node import Node

from lisard_ros.evaluation.live_images import LiveFrameCollector
from lisard_ros.injection_process.counters import InjectionCounters
from lisard_ros.node import parameters
from lisard_ros.node.box_subscriber import BoxSubscriber
from lisard_ros.node.camera_monitor import CameraMonitor
from lisard_ros.node.configuration import Configuration
from lisard_ros.node.diagnostics import CameraView
from lisard_ros.node.image_subscriber import ImageSubscriber
from lisard_ros.node.inference_worker import InferenceWorker
from lisard_ros.node.injection_feed import InjectionFeed
from lisard_ros.node.latest_frames import LatestFrameBuffer
from lisard_ros.node.message_waiter import MessageWaiter
from lisard_ros.node.operational_load import OperationalLoad
from lisard_ros.node.snapshot import Snapshot
from lisard_ros.node.throttled_log import ThrottledLog

END_INJECTION_S = 0.3  # to kill a process


class Session:
    """The active node; all methods are called in the executor's thread."""

    def __init__(
        self,
        node: Node,
        configuration: Configuration,
        injection_counters: InjectionCounters,
        load: OperationalLoad,
        log: ThrottledLog,
    ) -> None:
        """Subscribe, then start the worker, and where injection is on its process."""
        self._injection_counters, self._log = injection_counters, log
        self.feed: InjectionFeed | None = None
        snapshot, channels = configuration.snapshot, configuration.channels
        settings = snapshot.settings
        frames, waiter = LatestFrameBuffer(), MessageWaiter(node)
        joins = parameters.regions_mode(settings) == "topic"
        self.boxes = BoxSubscriber(node, settings, len(channels), frames, waiter) if joins else None
        self._subscribers = [
            ImageSubscriber(node, channel, settings, frames, self.boxes, waiter) for channel in channels
        ]
        self._monitors = [CameraMonitor(subscriber) for subscriber in self._subscribers]
        self._worker = InferenceWorker(node, self._subscribers, frames, waiter, snapshot, load, log)
        self._worker.start()
        self._inject(snapshot)

    def close(self, limit_s: float) -> tuple[threading.Thread, ...]:
        """Unsubscribe, give up what waits, finish the batch under way within `limit_s`.

        Returns:
            The threads that the backend did not give back; the model must not be closed under them.
        """
        left = self._end_injection()
        for subscriber in self._subscribers:
            subscriber.close()
        if self.boxes is not None:
            self.boxes.close()
        return left + self._worker.stop(limit_s)

    def use(self, snapshot: Snapshot) -> None:
        """Go on with settings that were changed at run time."""
        self._worker.use(snapshot)
        if self.boxes is not None:
            self.boxes.use(snapshot.settings)
        self._inject(snapshot)

    def collect(self, collector: LiveFrameCollector) -> None:
        """Let a self test collect frames that are answered."""
        self._worker.collect(collector)

    def _inject(self, snapshot: Snapshot) -> None:
        """Start the injection process, end it, or go on with another plan."""
        if snapshot.plan is None:
            self._end_injection()
        elif self.feed is None or self.feed.given_up:
            self._end_injection()
            self.feed = InjectionFeed(snapshot, snapshot.plan, self._injection_counters, self._log)
            self._worker.offer_to(self.feed)
        else:
            self.feed.use(snapshot.plan)

    def _end_injection(self) -> tuple[threading.Thread, ...]:
        """End the injection process; return its thread if that is left behind."""
        self._worker.offer_to(None)
        feed, self.feed = self.feed, None
        return () if feed is None else feed.close(END_INJECTION_S)

    def review(self) -> None:
        """Periodic work: publishers that came or went, frames whose boxes never came."""
        for subscriber in self._subscribers:
            subscriber.review()
        if self.boxes is not None:
            self.boxes.expire()

    def give_up_overdue(self, deadline_s: float) -> bool:
        """Count the frames of a backend call that takes longer than `deadline_s` as failed; True if there is one."""
        return self._worker.give_up_overdue(deadline_s)

    def time_jumped(self) -> None:
        """Take note of a clock that jumped back: ages of before mean nothing. The stamps' own jump is counted."""
        for subscriber in self._subscribers:
            subscriber.channel.stale_frames.lift(time.perf_counter())
            subscriber.channel.counters.forget_ages()

    def views(self, no_image_warn_s: float) -> list[CameraView]:
        """Return the state of each camera for diagnostics; to be called once per period."""
        return [monitor.view(no_image_warn_s) for monitor in self._monitors]
