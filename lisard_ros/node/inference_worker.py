"""The threads that turn images into answers: prepare (fetch, decode, crop, scale), infer (the network), publish.

While the network runs on one batch, the next one is prepared and the last one is published. The first thread fetches
images from the middleware itself. Whatever goes wrong with a frame is counted under that frame.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue

from rclpy.node import Node

from lisard_ros import images
from lisard_ros.errors import ImageError, LisardError, OutputError
from lisard_ros.frames import WHOLE_FRAME, Frame, Result, StageTimes
from lisard_ros.inference.pipeline import Attacked, Failure, Inferred, Outcome, Prepared
from lisard_ros.node.channel import CameraChannel, QueuedImage
from lisard_ros.node.frame_counters import BACKEND, BAD_IMAGE, BAD_OUTPUT, DEACTIVATED, INTERNAL, PAUSED
from lisard_ros.node.image_subscriber import ImageSubscriber
from lisard_ros.node.latest_frames import LatestFrameBuffer
from lisard_ros.node.message_waiter import MessageWaiter
from lisard_ros.node.snapshot import Snapshot
from lisard_ros.node.throttled_log import ThrottledLog
from lisard_ros.tracking import stage as tracking

EVENT_PAUSE_S = 0.005  # for the executor to take an event


@dataclass(slots=True)
class InjectionCounters:
    """What became of injected copies since the node was started; written by the publishing thread alone."""

    answered: int = 0
    not_applicable: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """One image of a batch as a frame."""

    image: QueuedImage
    frame: Frame
    decode_ms: float


@dataclass(frozen=True, slots=True)
class InferenceBatch:
    """One batch: images that were taken together, when (steady clock), ready for the network of this snapshot."""

    items: tuple[DecodedImage, ...]
    taken_s: float
    snapshot: Snapshot
    prepared: Prepared


@dataclass(frozen=True, slots=True)
class AnsweredBatch:
    """A batch whose operational answers, or whose answers to one injection, are to be published.

    inferred: what the network gave for the batch as it is; attacked: the answers to injected copies.
    """

    batch: InferenceBatch
    inferred: Inferred | None = None
    attacked: tuple[Attacked, ...] = ()


class InferenceWorker:
    """Runs the three threads between `start` and `stop`."""

    def __init__(
        self,
        node: Node,
        subscribers: Sequence[ImageSubscriber],
        frames: LatestFrameBuffer,
        waiter: MessageWaiter,
        snapshot: Snapshot,
        injection_counters: InjectionCounters,
        log: ThrottledLog,
    ) -> None:
        """Take images from `frames`, which `subscribers` fill; sleep in `waiter`, which `stop` closes."""
        self._node, self._subscribers, self._frames, self._waiter = node, subscribers, frames, waiter
        self._snapshot, self._injection_counters, self._log = snapshot, injection_counters, log
        self._clock = node.get_clock()
        # A batch waits for the network and one for publishing, no more: what waits longer had better be a newer image.
        self._room_to_infer, self._room_to_publish = threading.Semaphore(1), threading.Semaphore(1)
        self._to_infer: SimpleQueue[InferenceBatch | None] = SimpleQueue()
        self._to_publish: SimpleQueue[AnsweredBatch | None] = SimpleQueue()
        loops = {"prepare": self._prepare_batches, "infer": self._infer_batches, "publish": self._publish_answers}
        self._threads = [
            threading.Thread(target=loop, name=f"lisard_{name}", daemon=True) for name, loop in loops.items()
        ]

    def start(self) -> None:
        """Start answering."""
        for thread in self._threads:
            thread.start()

    def use(self, snapshot: Snapshot) -> None:
        """Answer the batches after the current one by `snapshot`."""
        self._snapshot = snapshot

    def stop(self) -> None:
        """Finish the batches under way, count what nobody answers any more, and join the threads."""
        left = self._frames.close()
        self._waiter.wake()
        for thread in self._threads:
            thread.join()
        for image in left:
            image.channel.counters.failed(DEACTIVATED)
        self._waiter.close()

    # --- first thread: from messages to the network's input -----------------------------------------------------

    def _prepare_batches(self) -> None:
        """Prepare batches until the buffer is closed; a bug must not stop the frames that come after it."""
        while True:
            self._room_to_infer.acquire()
            taken = self._take()
            if not taken:
                self._to_infer.put(None)
                return
            batch = None
            with self._reported():
                batch = self._prepare(taken, time.perf_counter(), self._snapshot)
            if batch is None:
                self._room_to_infer.release()
            else:
                self._to_infer.put(batch)

    def _take(self) -> tuple[QueuedImage, ...]:
        """Wait for images and take those of the next batch; none once the buffer is closed."""
        due_s: float | None = None  # when the batch is taken although other cameras are missing
        by_message = False
        while not self._frames.closed:
            found = False
            for subscriber in self._subscribers:
                with self._reported():
                    found |= subscriber.fetch()
            window_s = self._snapshot.settings.batch_window_ms / 1e3
            most = len(self._subscribers) if window_s > 0.0 else self._snapshot.batch.images
            now_s = time.monotonic()
            if self._frames.waiting and due_s is None:
                due_s = now_s + window_s
            if due_s is not None and (self._frames.waiting >= most or now_s >= due_s):
                if taken := self._frames.take(most):
                    return taken
                due_s = None
            left_s = None if due_s is None else due_s - now_s
            if by_message and not found:
                self._leave_events_to_executor()
            fetched = [subscriber.fetched for subscriber in self._subscribers]
            by_message = not self._waiter.wait([one for one in fetched if one is not None], left_s)
        return ()

    def _leave_events_to_executor(self) -> None:
        """Something other than an image ended the wait, such as an incompatible QoS; only the executor can take it."""
        for subscriber in self._subscribers:
            subscriber.let_executor_look()
        if self._node.executor is not None:
            self._node.executor.wake()
        self._waiter.wait((), EVENT_PAUSE_S)

    def _prepare(self, taken: Sequence[QueuedImage], taken_s: float, snapshot: Snapshot) -> InferenceBatch | None:
        """Decode the images, cut and scale what the network shall see; None when nothing is left to be answered."""
        if snapshot.paused:
            for image in taken:
                image.channel.counters.failed(PAUSED)
            return None
        decoded = [item for image in taken if (item := self._decode(image, taken_s, snapshot)) is not None]
        if not decoded:
            return None
        regions = [(WHOLE_FRAME,) if item.image.regions is None else item.image.regions for item in decoded]
        try:
            prepared = snapshot.pipeline.prepare([item.frame for item in decoded], regions)
        except Exception as error:  # whatever the runtime of a detector raises, each frame is accounted for
            self._fail_all(decoded, error)
            return None
        return InferenceBatch(tuple(decoded), taken_s, snapshot, prepared)

    def _decode(self, image: QueuedImage, taken_s: float, snapshot: Snapshot) -> DecodedImage | None:
        """Turn a message into a frame; None for one that is too old or that cannot be decoded, which is counted."""
        channel = image.channel
        limit_ms = snapshot.settings.max_age_ms
        if limit_ms > 0.0 and channel.stale_frames.too_old(self._age_ms(image) or 0.0, limit_ms, time.perf_counter()):
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
        return DecodedImage(image, frame, (time.perf_counter() - taken_s) * 1e3)

    # --- second thread: the network -------------------------------------------------------------------------------

    def _infer_batches(self) -> None:
        """Run the network on one batch after the other; attacked copies come after the operational answers."""
        while (batch := self._to_infer.get()) is not None:
            self._room_to_infer.release()
            with self._reported():
                self._infer(batch)
        self._to_publish.put(None)

    def _infer(self, batch: InferenceBatch) -> None:
        pipeline = batch.snapshot.pipeline
        try:
            inferred = pipeline.infer(batch.prepared)
        except Exception as error:  # whatever the runtime raises, each frame of the batch is accounted for
            self._fail_all(batch.items, error)
            return
        self._hand_over(AnsweredBatch(batch, inferred))
        if inferred.error is None:
            for injection in batch.snapshot.injections:
                attacked = pipeline.answer_attacked(batch.prepared, injection)
                self._hand_over(AnsweredBatch(batch, attacked=tuple(attacked)))

    def _hand_over(self, answered: AnsweredBatch) -> None:
        self._room_to_publish.acquire()
        self._to_publish.put(answered)

    # --- third thread: messages -----------------------------------------------------------------------------------

    def _publish_answers(self) -> None:
        """Publish one batch of answers after the other."""
        while (answered := self._to_publish.get()) is not None:
            self._room_to_publish.release()
            with self._reported():
                if answered.inferred is not None:
                    self._publish_operational(answered.batch, answered.inferred)
                else:
                    self._publish_attacked(answered)

    def _publish_operational(self, batch: InferenceBatch, inferred: Inferred) -> None:
        """Publish the operational answers, then the overlays that somebody looks at."""
        try:
            outcomes = self._decode_answers(batch, inferred)
        except Exception as error:  # a bug; each frame of the batch is accounted for
            self._fail_all(batch.items, error)
            return
        for item, outcome in zip(batch.items, outcomes, strict=True):
            self._publish(item, outcome, batch.taken_s)
        for item, outcome in zip(batch.items, outcomes, strict=True):
            publisher = item.image.channel.publisher
            if isinstance(outcome, Result) and publisher.overlay_wanted():
                publisher.publish_overlay(outcome, item.image.message.header)

    def _decode_answers(self, batch: InferenceBatch, inferred: Inferred) -> list[Outcome]:
        """Turn the network's outputs into answers; where a camera has a tracker, the boxes get their ids."""
        pipeline = batch.snapshot.pipeline
        if batch.snapshot.settings.tracking == tracking.NONE:
            return pipeline.decode(inferred)
        most = pipeline.settings.max_detections
        outcomes = pipeline.decode(inferred, tracking.FAINT_SHARE)
        return [
            tracking.track(outcome, tracker).joined(most)
            if isinstance(outcome, Result) and (tracker := item.image.channel.tracker) is not None
            else outcome
            for item, outcome in zip(batch.items, outcomes, strict=True)
        ]

    def _publish(self, item: DecodedImage, outcome: Outcome, taken_s: float) -> None:
        """Publish one operational answer and count it, or count why there is none."""
        image, channel = item.image, item.image.channel
        if isinstance(outcome, Failure):
            cause = BAD_OUTPUT if isinstance(outcome.error, OutputError) else BACKEND
            self._fail(channel, cause, str(outcome.error))
            return
        begin_s = time.perf_counter()
        try:
            channel.publisher.publish(outcome, image.message.header)
        except Exception as error:  # counted and reported under this frame, the others go on
            self._fail(channel, INTERNAL, f"publishing failed: {error}")
            return
        now_s = time.perf_counter()
        stages_ms = self._stages_ms(item, outcome.times, taken_s, now_s)
        stages_ms["publish"] = (now_s - begin_s) * 1e3
        channel.counters.answered(stages_ms, now_s)

    def _stages_ms(self, item: DecodedImage, times: StageTimes, taken_s: float, now_s: float) -> dict[str, float]:
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

    def _publish_attacked(self, answered: AnsweredBatch) -> None:
        """Publish answers to injected copies; a frame that the injection does not fit gets none, never a robust one."""
        counters = self._injection_counters
        several = len(answered.batch.snapshot.injections) > 1
        for item, attacked in zip(answered.batch.items, answered.attacked, strict=True):
            if not attacked.applied:
                counters.not_applicable += 1
            elif isinstance(attacked.outcome, Result):
                channel, header = item.image.channel, item.image.message.header
                channel.publisher.publish_attacked(attacked.outcome, header, attacked.injection if several else "")
                channel.counters.injected(attacked.outcome.times.inject_ms)
                counters.answered += 1
            else:
                counters.failed += 1

    # --- all threads ------------------------------------------------------------------------------------------------

    def _age_ms(self, image: QueuedImage) -> float | None:
        """Return the time since the image's stamp; None while simulated time has not begun."""
        now_ns = self._clock.now().nanoseconds
        return (now_ns - image.stamp_ns) / 1e6 if now_ns else None

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Report a bug in what is done within; the thread must go on with the frames that come after it."""
        try:
            yield
        except Exception as error:  # see above
            self._log.frame_failed("", INTERNAL, _named(error))

    def _fail_all(self, items: Sequence[DecodedImage], error: Exception) -> None:
        cause = BACKEND if isinstance(error, LisardError) else INTERNAL
        for item in items:
            self._fail(item.image.channel, cause, _named(error))

    def _fail(self, channel: CameraChannel, cause: str, message: str) -> None:
        channel.counters.failed(cause, message)
        self._log.frame_failed(channel.name, cause, message)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
