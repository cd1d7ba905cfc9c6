"""The threads that turn images into answers: fetch, decode, scale, infer, publish.

The thread that a message wakes brings its image all the way to the answer, so no frame waits for another thread to wake
up. Other threads are behind it at the same time: while the network runs on one batch, the next thread fetches and
prepares another, and waits for its turn. Two batches are inferred side by side where that is faster than one after the
other: a batch gets all threads of the network when nothing else waits, and half of them when something does. Answers
are published in the order in which their images were taken. Whatever goes wrong with a frame is counted under that
frame. A thread that does not return from the backend is given up: its frames are counted, and what it still gives is
thrown away.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rclpy.node import Node

from lisard_ros import images
from lisard_ros.errors import ImageError, LisardError, OutputError
from lisard_ros.evaluation.live_images import LiveFrameCollector
from lisard_ros.frames import WHOLE_FRAME, Frame, Result, StageTimes
from lisard_ros.inference.pipeline import Failure, Inferred, Outcome, Prepared
from lisard_ros.node.backend_watch import BackendWatch
from lisard_ros.node.channel import QueuedImage
from lisard_ros.node.frame_counters import BACKEND, BAD_IMAGE, BAD_OUTPUT, DEACTIVATED, INTERNAL, PAUSED, STUCK
from lisard_ros.node.image_subscriber import ImageSubscriber
from lisard_ros.node.injection_feed import InjectionFeed
from lisard_ros.node.latest_frames import LatestFrameBuffer
from lisard_ros.node.message_waiter import MessageWaiter
from lisard_ros.node.open_frames import OpenFrames
from lisard_ros.node.operational_load import OperationalLoad
from lisard_ros.node.snapshot import Snapshot
from lisard_ros.node.thread_share import Share, ThreadShare
from lisard_ros.node.throttled_log import ThrottledLog
from lisard_ros.tracking import stage as tracking

EVENT_PAUSE_S = 0.005  # for the executor to take an event


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

    @property
    def images(self) -> tuple[QueuedImage, ...]:
        """The images of the batch."""
        return tuple(item.image for item in self.items)


# How often a thread that waits for another one looks whether that one was given up (seconds).
_GIVEN_UP_CHECK_S = 0.1
# A thread behind a stuck one needs no longer to end (seconds).
_SHORTEST_JOIN_S = 0.5


class InferenceWorker:
    """Runs the threads between `start` and `stop`."""

    def __init__(
        self,
        node: Node,
        subscribers: Sequence[ImageSubscriber],
        frames: LatestFrameBuffer,
        waiter: MessageWaiter,
        snapshot: Snapshot,
        load: OperationalLoad,
        log: ThrottledLog,
    ) -> None:
        """Take images from `frames`, which `subscribers` fill; sleep in `waiter`, which `stop` closes."""
        self._node, self._subscribers, self._frames, self._waiter = node, subscribers, frames, waiter
        self._snapshot, self._load, self._log = snapshot, load, log
        self._feed: InjectionFeed | None = None
        self._collector: LiveFrameCollector | None = None
        self._clock = node.get_clock()
        self._open, self._watch, self._given_up = OpenFrames(), BackendWatch(), False
        inferring = 2 if snapshot.batch.side_by_side else 1
        # In the order in which a thread acquires them. One batch is taken and prepared at a time: what would wait
        # behind it for the network had better be a newer image. `_turn` is held while the network's threads are given
        # out.
        self._taking, self._network, self._turn = threading.Lock(), threading.Semaphore(inferring), threading.Lock()
        self._prepared_waits = False
        self._sharing = ThreadShare(snapshot.batch)
        self._published = threading.Event()  # set once the batch before was published
        self._published.set()
        # One fetches and prepares, one publishes, the others infer; any of them does any of it.
        self._threads = [
            threading.Thread(target=self._answer_batches, name=f"lisard_answer_{number}", daemon=True)
            for number in range(inferring + 2)
        ]

    def start(self) -> None:
        """Start answering."""
        for thread in self._threads:
            thread.start()

    def use(self, snapshot: Snapshot) -> None:
        """Answer the batches after the current one by `snapshot`."""
        self._snapshot = snapshot

    def offer_to(self, feed: InjectionFeed | None) -> None:
        """Offer the frames that are answered from now on to the injection process; None: to nobody."""
        self._feed = feed

    def collect(self, collector: LiveFrameCollector) -> None:
        """Give the frames that are answered from now on to a self test too, which takes as many as it needs."""
        self._collector = collector

    def give_up_overdue(self, deadline_s: float) -> bool:
        """Count the frames of a backend call that takes longer than `deadline_s` as failed; True if there is one.

        To be called again and again, in the executor's thread.
        """
        overdue = self._watch.overdue(deadline_s, time.monotonic())
        for call in overdue:
            for image in call.images:
                self._fail(image, STUCK, f"the backend has not returned for {deadline_s:g} s")
        return bool(overdue)

    def stop(self, limit_s: float) -> tuple[threading.Thread, ...]:
        """Finish the batches under way within `limit_s` and count what nobody answers any more.

        Returns:
            The threads that did not end. They are left behind, and the model they may be using must not be closed.
        """
        left = self._frames.close()
        self._waiter.wake()
        end_s = time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
        self._given_up = True  # what waits behind a stuck thread goes on, and finds the buffer closed
        end_s = time.monotonic() + _SHORTEST_JOIN_S
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
        in_backend = [image for call in self._watch.under_way() for image in call.images]
        for image in in_backend:
            self._fail(image, STUCK, "the backend had not returned when the node was deactivated")
        for image in self._open.remaining():
            self._fail(image, DEACTIVATED)
        for image in left:
            image.channel.counters.failed(DEACTIVATED)
        self._waiter.close()
        return tuple(thread for thread in self._threads if thread.is_alive())

    def _answer_batches(self) -> None:
        """Answer one batch after the other until the buffer is closed; a bug must not stop the frames after it."""
        while not (self._frames.closed or self._given_up):
            with self._reported():
                batch = self._next_in_turn()
                if batch is not None:
                    self._answer(batch)

    def _acquire(self, lock: threading.Lock | threading.Semaphore) -> bool:
        """Wait for a lock; False when the thread that has it is given up."""
        while not lock.acquire(timeout=_GIVEN_UP_CHECK_S):
            if self._given_up:
                return False
        return True

    # --- from messages to the network's input ---------------------------------------------------------------------

    def _next_in_turn(self) -> InferenceBatch | None:
        """Take and prepare a batch, and wait for its turn on the network, which is then held; None without a batch."""
        if not self._acquire(self._taking):
            return None
        try:
            taken = self._take()
            self._open.add(taken)
            batch = self._prepare(taken, time.perf_counter(), self._snapshot) if taken else None
            if batch is None:
                return None
            self._prepared_waits = True
            if not self._acquire(self._network):
                return None
            if self._acquire(self._turn):
                return batch
            self._network.release()
            return None
        finally:
            self._prepared_waits = False
            self._taking.release()

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
                if self._open.settle(image):
                    image.channel.counters.failed(PAUSED)
            return None
        decoded = [item for image in taken if (item := self._decode(image, taken_s, snapshot)) is not None]
        if not decoded:
            return None
        regions = [(WHOLE_FRAME,) if item.image.regions is None else item.image.regions for item in decoded]
        try:
            with self._watch.call([item.image for item in decoded]):  # a detector in front runs here
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
            if self._open.settle(image):
                channel.counters.too_old()
            return None
        try:
            frame = images.to_frame(image.message, channel.name)
        except ImageError as error:
            self._fail(image, BAD_IMAGE, str(error))
            return None
        except Exception as error:  # counted and reported under this frame, the others go on
            self._fail(image, INTERNAL, _named(error))
            return None
        return DecodedImage(image, frame, (time.perf_counter() - taken_s) * 1e3)

    # --- the network ------------------------------------------------------------------------------------------------

    def _answer(self, batch: InferenceBatch) -> None:
        """Run the network on a batch whose turn it is, and publish its answers after those of the batch before."""
        before, self._published = self._published, threading.Event()
        published = self._published
        try:
            inferred = self._infer_in_turn(batch)
            while not (before.wait(_GIVEN_UP_CHECK_S) or self._given_up):
                pass
            if inferred is not None:
                self._publish_operational(batch, inferred)
        finally:
            published.set()

    def _infer_in_turn(self, batch: InferenceBatch) -> Inferred | None:
        """Run the network; a batch that nothing waits behind keeps the turn, so nothing else is inferred beside it."""
        try:
            try:
                share = self._sharing.take(self._is_crowded, self._is_given_up)
                if not share.half:
                    return self._infer(batch, share)
            finally:
                self._turn.release()
            try:
                return self._infer(batch, share)
            finally:
                self._sharing.give_back()
        finally:
            self._network.release()

    def _is_crowded(self) -> bool:
        """Whether something waits behind the batch that has the turn."""
        return self._prepared_waits or self._frames.waiting > 0

    def _is_given_up(self) -> bool:
        """Whether threads that do not return are not waited for any more."""
        return self._given_up

    def _infer(self, batch: InferenceBatch, share: Share) -> Inferred | None:
        if not any(map(self._open.is_open, batch.images)):  # given up while it waited behind a stuck one
            return None
        try:
            with self._watch.call(batch.images), self._sharing.timed(share, len(batch.prepared.x)):
                return batch.snapshot.pipeline.infer(batch.prepared, half=share.half)
        except Exception as error:  # whatever the runtime raises, each frame of the batch is accounted for
            self._fail_all(batch.items, error)
            return None

    # --- messages ---------------------------------------------------------------------------------------------------

    def _publish_operational(self, batch: InferenceBatch, inferred: Inferred) -> None:
        """Publish the operational answers, then the overlays that somebody looks at; offer the frames for attacks."""
        try:
            outcomes = self._decode_answers(batch, inferred)
        except Exception as error:  # a bug; each frame of the batch is accounted for
            self._fail_all(batch.items, error)
            return
        everything = zip(batch.items, outcomes, batch.prepared.regions, strict=True)
        answers = [one for one in everything if self._open.is_open(one[0].image)]
        for item, outcome, _ in answers:
            self._publish(item, outcome, batch.taken_s)
        for item, outcome, _ in answers:
            publisher = item.image.channel.publisher
            if isinstance(outcome, Result) and publisher.overlay_wanted():
                publisher.publish_overlay(outcome, item.image.message.header)
        feed, collector = self._feed, self._collector
        if feed is None and collector is None:
            return
        for item, outcome, regions in answers:
            if isinstance(outcome, Result) and feed is not None:
                feed.offer(item.image, outcome, regions)
            if isinstance(outcome, Result) and collector is not None:
                collector.add(outcome.frame, regions)

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
            self._fail(image, cause, str(outcome.error))
            return
        begin_s = time.perf_counter()
        try:
            channel.publisher.publish(outcome, image.message.header)
        except Exception as error:  # counted and reported under this frame, the others go on
            self._fail(image, INTERNAL, f"publishing failed: {error}")
            return
        now_s = time.perf_counter()
        stages_ms = self._stages_ms(item, outcome.times, taken_s, now_s)
        stages_ms["publish"] = (now_s - begin_s) * 1e3
        if self._open.settle(image):
            channel.counters.answered(stages_ms, now_s)
            self._load.answered(stages_ms["total"], now_s, self._feed is not None)
            with self._reported():  # the image is answered already
                channel.publisher.publish_timing(stages_ms)

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
            self._fail(item.image, cause, _named(error))

    def _fail(self, image: QueuedImage, cause: str, message: str = "") -> None:
        """Count why an image is not answered, unless it has an outcome already, and log it where there are words."""
        if not self._open.settle(image):
            return
        image.channel.counters.failed(cause, message)
        if message:
            self._log.frame_failed(image.channel.name, cause, message)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
