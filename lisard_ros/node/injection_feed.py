"""From answered frames to the injection process, and from its answers to the topics of attacked answers."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from lisard_ros.frames import Region, Result
from lisard_ros.injection_process.counters import InjectionCounters
from lisard_ros.injection_process.supervisor import GIVEN_UP, InjectionStatus, InjectionSupervisor
from lisard_ros.injection_process.watch import ProcessLimits
from lisard_ros.injection_process.wire import CopyAnswer, InjectionPlan
from lisard_ros.node.channel import QueuedImage
from lisard_ros.node.parameters import NodeSettings
from lisard_ros.node.snapshot import Snapshot
from lisard_ros.node.throttled_log import ThrottledLog

HANG_S = 10.0  # where `backend_deadline_s` is off


class InjectionFeed:
    """Exists while injection is on and the node is active; made and ended in the executor's thread."""

    def __init__(self, snapshot: Snapshot, plan: InjectionPlan, counters: InjectionCounters, log: ThrottledLog) -> None:
        """Start the injection process."""
        limits = process_limits(snapshot.settings)
        self._supervisor: InjectionSupervisor[QueuedImage] = InjectionSupervisor(
            snapshot.pipeline, plan, limits, counters, _publish, log.warn, snapshot.surrogate
        )

    @property
    def status(self) -> InjectionStatus:
        """How the injection process does."""
        return self._supervisor.status

    @property
    def given_up(self) -> bool:
        """Whether the process ended too often; another feed begins anew."""
        return self.status.state == GIVEN_UP

    def offer(self, image: QueuedImage, result: Result, regions: Sequence[Region]) -> None:
        """Offer a frame whose operational answer is published. regions: as the pipeline prepared them."""
        self._supervisor.offer(result.frame, regions, image)

    def use(self, plan: InjectionPlan) -> None:
        """Inject by another plan from the next frame on."""
        self._supervisor.use(plan)

    def close(self, limit_s: float) -> tuple[threading.Thread, ...]:
        """End the process within `limit_s`; return the thread if it is left behind."""
        return self._supervisor.stop(limit_s)


def process_limits(settings: NodeSettings) -> ProcessLimits:
    """Return what a process that attacks may need, for injection and for a self test."""
    return ProcessLimits(settings.backend_deadline_s or HANG_S, settings.injection_max_memory_mb)


def _publish(image: QueuedImage, answer: CopyAnswer, plan: InjectionPlan) -> None:
    """Publish the answer to an attacked copy; with several injections each has topics of its own."""
    channel = image.channel
    group = answer.injection if len(plan.names) > 1 else ""
    channel.publisher.publish_attacked(answer.classification, answer.detections, image.message.header, group)
    channel.counters.injected(answer.inject_ms)
