"""The thread that turns images into answers: newest image of every camera -> one batch -> published messages.

It never spins ROS; what came while it was busy it fetches itself. Whatever goes wrong with a frame is counted under
that frame.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rclpy.node import Node

from lisard_ros import images
from lisard_ros.errors import ImageError, LisardError, OutputError
from lisard_ros.frames import WHOLE_FRAME, Frame, Result, StageTimes
from lisard_ros.inference.pipeline import Failure, Outcome, Prepared
from lisard_ros.node.channel import CameraChannel, QueuedImage
from lisard_ros.node.frame_counters import BACKEND, BAD_IMAGE, BAD_OUTPUT, DEACTIVATED, INTERNAL
from lisard_ros.node.image_subscriber import ImageSubscriber
from lisard_ros.node.latest_frames import LatestFrameBuffer
from lisard_ros.node.snapshot import Snapshot
from lisard_ros.node.throttled_log import ThrottledLog


@dataclass(slots=True)
class InjectionCounters:
    """What became of injected copies since the node was started; written by the worker alone."""

    answered: int = 0
    not_applicable: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class InferenceBatch:
    """One batch: the images that were taken together, when (steady clock), and the snapshot that answers them."""

    images: tuple[QueuedImage, ...]
    taken_s: float
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class _Decoded:
    """One image of a batch as a frame."""

    image: QueuedImage
    frame: Frame
    decode_ms: float


class InferenceWorker:
    """Runs the batch loop in its own thread between `start` and `stop`."""

    def __init__(
        self,
        node: Node,
        subscribers: Sequence[ImageSubscriber],
        frames: LatestFrameBuffer,
        snapshot: Snapshot,
        injection_counters: InjectionCounters,
        log: ThrottledLog,
    ) -> None:
        """Take images from `frames`, which `subscribers` fill. node: gives clock and executor."""
        self._node, self._subscribers, self._frames = node, subscribers, frames
        self._snapshot, self._injection_counters, self._log = snapshot, injection_counters, log
        self._clock = node.get_clock()
        self._thread = threading.Thread(target=self._run, name="lisard_worker", daemon=True)

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def use(self, snapshot: Snapshot) -> None:
        """Answer the batches after the current one by `snapshot`."""
        self._snapshot = snapshot

    def stop(self) -> None:
        """Finish the current batch, count what nobody answers any more, and join the thread."""
        left = self._frames.close()
        self._thread.join()
        for image in left:
            image.channel.counters.failed(DEACTIVATED)

    def _run(self) -> None:
        """Answer batches until the buffer is closed; a bug must not stop the frames that come after it."""
        while True:
            window_s = self._snapshot.settings.batch_window_ms / 1e3
            taken = self._frames.take_all(window_s, len(self._subscribers))
            if taken is None:
                return
            try:
                self._answer(InferenceBatch(taken, time.perf_counter(), self._snapshot))
            except Exception as error:  # see above
                self._log.frame_failed("", INTERNAL, _named(error))
            try:
                self._fetch()
            except Exception as error:  # see above
                self._log.frame_failed("", INTERNAL, _named(error))

    def _answer(self, batch: InferenceBatch) -> None:
        """Decode the images, run the network on all of them, publish; attacked copies come after the answers."""
        decoded = [item for image in batch.images if (item := self._decode(image, batch)) is not None]
        if not decoded:
            return
        pipeline = batch.snapshot.pipeline
        try:
            regions = [(WHOLE_FRAME,) if d.image.regions is None else d.image.regions for d in decoded]
            prepared = pipeline.prepare([d.frame for d in decoded], regions)
            outcomes = pipeline.answer(prepared)
        except Exception as error:  # whatever the runtime raises, each frame of the batch is accounted for
            cause = BACKEND if isinstance(error, LisardError) else INTERNAL
            for item in decoded:
                self._fail(item.image.channel, cause, _named(error))
            return
        answered = [
            self._publish(item, outcome, batch.taken_s) for item, outcome in zip(decoded, outcomes, strict=True)
        ]
        for item, outcome in zip(decoded, outcomes, strict=True):
            publisher = item.image.channel.publisher
            if isinstance(outcome, Result) and publisher.overlay_wanted():
                publisher.publish_overlay(outcome, item.image.message.header)
        if batch.snapshot.injections and any(answered):
            self._answer_attacked(decoded, prepared, batch.snapshot)

    def _decode(self, image: QueuedImage, batch: InferenceBatch) -> _Decoded | None:
        """Turn a message into a frame; None for one that is too old or that cannot be decoded, which is counted."""
        channel = image.channel
        if self._too_old(image, batch.snapshot.settings.max_age_ms):
            channel.counters.too_old()
            return None
        try:
            frame = images.to_frame(image.message, channel.name)
        except ImageError as error:
            self._fail(channel, BAD_IMAGE, str(error))
            return None
        except Exception as error:  # counted and reported under this frame, the others go on
            self._fail(channel, INTERNAL, _named(error))
            return None
        return _Decoded(image, frame, (time.perf_counter() - batch.taken_s) * 1e3)

    def _too_old(self, image: QueuedImage, limit_ms: float) -> bool:
        if limit_ms <= 0.0:
            return False
        age_ms = self._age_ms(image)
        return image.channel.stale_frames.too_old(age_ms or 0.0, limit_ms, time.perf_counter())

    def _age_ms(self, image: QueuedImage) -> float | None:
        """Return the time since the image's stamp; None while simulated time has not begun."""
        now_ns = self._clock.now().nanoseconds
        return (now_ns - image.stamp_ns) / 1e6 if now_ns else None

    def _publish(self, item: _Decoded, outcome: Outcome, taken_s: float) -> bool:
        """Publish one operational answer and count it, or count why there is none."""
        image, channel = item.image, item.image.channel
        if isinstance(outcome, Failure):
            cause = BAD_OUTPUT if isinstance(outcome.error, OutputError) else BACKEND
            self._fail(channel, cause, str(outcome.error))
            return False
        begin_s = time.perf_counter()
        try:
            channel.publisher.publish(outcome, image.message.header)
        except Exception as error:  # counted and reported under this frame, the others go on
            self._fail(channel, INTERNAL, f"publishing failed: {error}")
            return False
        now_s = time.perf_counter()
        stages_ms = self._stages_ms(item, outcome.times, taken_s, now_s)
        stages_ms["publish"] = (now_s - begin_s) * 1e3
        channel.counters.answered(stages_ms, now_s)
        return True

    def _stages_ms(self, item: _Decoded, times: StageTimes, taken_s: float, now_s: float) -> dict[str, float]:
        stages_ms = {
            "wait": (taken_s - item.image.arrived_s) * 1e3,
            "decode": item.decode_ms,
            "preprocess": times.preprocess_ms,
            "infer": times.infer_ms,
            "postprocess": times.postprocess_ms,
            "total": (now_s - item.image.arrived_s) * 1e3,
        }
        age_ms = self._age_ms(item.image)
        if age_ms is not None:
            stages_ms["age"] = age_ms
        return stages_ms

    def _answer_attacked(self, decoded: Sequence[_Decoded], prepared: Prepared, snapshot: Snapshot) -> None:
        """Answer injected copies; an injection that was not made for a frame gives no answer, never a robust one."""
        counters = self._injection_counters
        for injection in snapshot.injections:
            group = injection.name if len(snapshot.injections) > 1 else ""
            for item, attacked in zip(decoded, snapshot.pipeline.answer_attacked(prepared, injection), strict=True):
                if not attacked.applied:
                    counters.not_applicable += 1
                elif isinstance(attacked.outcome, Result):
                    image = item.image
                    image.channel.publisher.publish_attacked(attacked.outcome, image.message.header, group)
                    image.channel.counters.injected(attacked.outcome.times.inject_ms)
                    counters.answered += 1
                else:
                    counters.failed += 1

    def _fetch(self) -> None:
        """Queue the images that came during the last batch; when there are none, leave it to the executor again."""
        try:
            for subscriber in self._subscribers:
                subscriber.fetch()
        finally:
            if self._frames.rest():
                reopened = [subscriber.reopen() for subscriber in self._subscribers]
                if any(reopened) and self._node.executor is not None:
                    self._node.executor.wake()

    def _fail(self, channel: CameraChannel, cause: str, message: str) -> None:
        channel.counters.failed(cause, message)
        self._log.frame_failed(channel.name, cause, message)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
