"""What parent and injection process tell each other, in MessagePack; nothing is unpickled.

A start order opens the model and says what the process is for: to answer injected copies of frames until it is ended,
or to run one self test. Orders go through shared memory. Messages of the process go through a pipe, each behind its
length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import decode
from lisard_ros.evaluation.limits import DEFAULT_BLOCK_S, Limit
from lisard_ros.evaluation.self_test_report import SelfTestProgress, SelfTestReport
from lisard_ros.frames import Classification, Colour, Detections, Frame, Pixels, Region
from lisard_ros.inference.pipeline import Pipeline, Settings
from lisard_ros.reporting.album import Example

LENGTH = struct.Struct("<I")
SIZES = struct.Struct("<QQ")  # of an order and of the pixels behind it
LONGEST_REASON = 1000  # characters; shorter than what a pipe takes at once

CopyOutcome = Literal["answered", "not_applicable", "no_regions", "failed"]


@dataclass(frozen=True, slots=True)
class InjectionPlan:
    """What is injected, and how much of it.

    names: as `injection.make_staged` takes them, each once. max_share: of one core's time, above 0 and at most 1.
    fraction: of the frames of each camera, above 0 and at most 1. cameras: whose frames; empty: all. answer: what an
    answer contains.
    """

    names: tuple[str, ...]
    noise_sigma_255: float
    seed: int
    max_share: float = 1.0
    fraction: float = 1.0
    cameras: tuple[str, ...] = ()
    answer: Settings = Settings()


@dataclass(frozen=True, slots=True, eq=False)
class BundleSource:
    """A bundle as it lies in the parent's memory; the folder it came from may have changed since."""

    path: str
    manifest: bytes
    sha256: str
    contents: Mapping[str, bytes]

    @classmethod
    def of(cls, bundle: Bundle) -> BundleSource:
        """Describe a bundle."""
        return cls(str(bundle.path), bundle.manifest_bytes, bundle.sha256, dict(bundle.contents))

    def bundle(self) -> Bundle:
        """Return the bundle; the parent has verified it."""
        return Bundle(Path(self.path), decode(self.manifest, self.path), self.manifest, self.sha256, self.contents)


@dataclass(frozen=True, slots=True, eq=False)
class EngineSource:
    """One stage: its bundle, and the engine that the parent opened from it."""

    source: BundleSource
    maker: str
    precision: str

    @classmethod
    def of(cls, pipeline: Pipeline) -> EngineSource:
        """Describe the stage that this pipeline runs."""
        return cls(BundleSource.of(pipeline.bundle), pipeline.choice.maker, pipeline.choice.precision)


@dataclass(frozen=True, slots=True, eq=False)
class SharedFrameHead:
    """All of an answered frame but its pixels, which lie in the shared memory.

    regions: as `Pipeline.prepare` found them, so that the detector in front need not look again.
    """

    shape: tuple[int, ...]
    colour: Colour
    stamp_ns: int
    frame_id: str
    camera: str
    regions: tuple[Region, ...]

    @classmethod
    def of(cls, frame: Frame, regions: tuple[Region, ...]) -> SharedFrameHead:
        """Describe a frame."""
        return cls(frame.image.shape, frame.colour, frame.stamp_ns, frame.frame_id, frame.camera, regions)

    def frame(self, pixels: Pixels) -> Frame:
        """Return the frame with these pixels, uint8 of `shape`."""
        return Frame(pixels, self.colour, self.stamp_ns, self.frame_id, self.camera)


@dataclass(frozen=True, slots=True, eq=False)
class SelfTestOrder:
    """One self test, in the words of `self_test.run`.

    live: frames whose pixels lie one behind the other in the shared memory; None: the reference images. max_share: of
    one core's time, above 0 and at most 1. examples: whether images are wanted beside the report. block_s: live frames
    of so many seconds are one block of evidence; 0: each is one.
    """

    count: int
    suite: tuple[str, ...]
    seed: int
    limits: tuple[Limit, ...] = ()
    live: tuple[SharedFrameHead, ...] | None = None
    max_share: float = 1.0
    examples: bool = False
    block_s: float = DEFAULT_BLOCK_S


@dataclass(frozen=True, slots=True, eq=False)
class StartOrder:
    """All that the process needs to open its own instance of the model, and what for.

    detector: the stage in front. surrogate: whose gradients are followed. answer: what an answer contains. threads: of
    the model. Of plan and self_test one is given.
    """

    model: EngineSource
    detector: EngineSource | None
    answer: Settings
    surrogate: BundleSource | None = None
    threads: int = 1
    plan: InjectionPlan | None = None
    self_test: SelfTestOrder | None = None

    @classmethod
    def of(cls, pipeline: Pipeline, surrogate: Bundle | None = None) -> StartOrder:
        """Describe a pipeline, whose order is still to be given."""
        first = pipeline.detector
        return cls(
            EngineSource.of(pipeline),
            None if first is None else EngineSource.of(first),
            pipeline.settings,
            None if surrogate is None else BundleSource.of(surrogate),
        )


@dataclass(frozen=True, slots=True, eq=False)
class FrameOrder:
    """One frame to be attacked by `plan`; its pixels lie behind this order in the shared memory."""

    number: int
    head: SharedFrameHead
    plan: InjectionPlan


class Ready(msgspec.Struct, tag=True, frozen=True):
    """The model is open. engine: description of the backend; priority: as `restraint.lower_priority` gives it."""

    engine: str
    priority: str


class FrameRequest(msgspec.Struct, tag=True, frozen=True):
    """The process has nothing to do and wants the newest frame."""


class CopyAnswer(msgspec.Struct, tag=True, frozen=True):
    """What became of one attacked copy of frame `number`.

    inject_ms: of changing the image. pause_s: how long the process now sleeps, to keep to its share. error: why there
    is no answer.
    """

    number: int
    injection: str
    outcome: CopyOutcome
    classification: Classification | None = None
    detections: Detections | None = None
    inject_ms: float = 0.0
    pause_s: float = 0.0
    error: str = ""


class Trouble(msgspec.Struct, tag=True, frozen=True):
    """Why the process is about to end by itself."""

    reason: str


class SelfTestStep(msgspec.Struct, tag=True, frozen=True):
    """How far the self test is. pause_s: how long the process now sleeps, to keep to its share."""

    progress: SelfTestProgress
    pause_s: float = 0.0


class SelfTestDone(msgspec.Struct, tag=True, frozen=True):
    """The self test has ended; nothing follows. examples: images for the page of the report."""

    report: SelfTestReport
    examples: tuple[Example, ...] = ()


class SelfTestRefused(msgspec.Struct, tag=True, frozen=True):
    """There is no report, for a reason that the user can act on; nothing follows."""

    reason: str


Message: TypeAlias = Ready | FrameRequest | CopyAnswer | Trouble | SelfTestStep | SelfTestDone | SelfTestRefused

encode = msgspec.msgpack.encode
decode_start = msgspec.msgpack.Decoder(StartOrder).decode
decode_frame = msgspec.msgpack.Decoder(FrameOrder).decode
_decode_message = msgspec.msgpack.Decoder(Message).decode


def framed(message: Message) -> bytes:
    """Return a message behind its length."""
    body = encode(message)
    return LENGTH.pack(len(body)) + body


class MessageBuffer:
    """Puts messages together from the pieces that a pipe gives."""

    def __init__(self) -> None:
        """Start empty."""
        self._bytes = bytearray()

    def add(self, piece: bytes) -> Iterator[Message]:
        """Take what was read and yield the messages that are complete.

        Raises:
            msgspec.DecodeError: What came is no message.
        """
        self._bytes += piece
        while len(self._bytes) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._bytes)
            end = LENGTH.size + length
            if len(self._bytes) < end:
                return
            body = bytes(self._bytes[LENGTH.size : end])
            del self._bytes[:end]
            yield _decode_message(body)
