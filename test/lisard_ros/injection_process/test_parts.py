"""Messages in any pieces, shared memory, the pause that keeps to a share, the words for an end."""

from __future__ import annotations

import os
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.frames import Classification, Detection, Detections, Hypothesis, Region
from lisard_ros.inference.pipeline import Settings
from lisard_ros.injection_process import wire
from lisard_ros.injection_process.process import ProcessSample
from lisard_ros.injection_process.serving import pause_s
from lisard_ros.injection_process.shared_frame import SharedFrame
from lisard_ros.injection_process.watch import idle_s
from lisard_ros.injection_process.wire import (
    CopyAnswer,
    FrameOrder,
    FrameRequest,
    InjectionPlan,
    MessageBuffer,
    Ready,
    SharedFrameHead,
)

BEST = (Hypothesis("stop", 3, 0.75), Hypothesis("car", -1, 0.1))
ANSWERS = (
    CopyAnswer(1, "noise", "answered", Classification(BEST), None, 1.5, 0.1),
    CopyAnswer(2, "corruption/fog/3", "answered", None, Detections((Detection((0.5, 1, 2, 3), BEST, "7"),) * 40)),
    CopyAnswer(3, "fgsm", "failed", error="why"),
)


@given(cuts=st.lists(st.integers(1, 200), min_size=1, max_size=40))
def test_messages_come_whole_whatever_pieces_they_come_in(cuts: list[int]) -> None:
    sent = [Ready("ONNX Runtime", "SCHED_IDLE"), FrameRequest(), *ANSWERS]
    stream = b"".join(map(wire.framed, sent))
    buffer, got, at = MessageBuffer(), [], 0
    while at < len(stream):
        step = cuts[at % len(cuts)]
        got += buffer.add(stream[at : at + step])
        at += step
    assert got == sent


@given(noise=st.binary(max_size=60))
def test_bytes_that_are_no_message_are_refused_and_nothing_else(noise: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        list(MessageBuffer().add(wire.LENGTH.pack(len(noise)) + b"\xc1" + noise[1:] if noise else b"\1\0\0\0\xc1"))


def test_an_order_comes_back_as_it_was() -> None:
    plan = InjectionPlan(("noise", "fgsm"), 8.0, 4, 0.5, 0.1, ("front",), Settings(top_k=2, roi_classes=("sign",)))
    regions = (Region((0, 1, 2, 3), "sign", 0.5, "x"), Region())
    head = SharedFrameHead((4, 6, 3), "bgr", -5, "optical", "front", regions)
    got = wire.decode_frame(wire.encode(FrameOrder(9, head, plan)))
    assert (got.number, got.plan) == (9, plan)
    names = ("shape", "colour", "stamp_ns", "frame_id", "camera", "regions")
    assert [getattr(got.head, name) for name in names] == [getattr(head, name) for name in names]


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7), (1, 1, 3)])
def test_pixels_cross_the_shared_memory_whatever_their_stride(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    writer = SharedFrame()
    reader = SharedFrame(os.dup(writer.fd))
    kept = []
    for grow in (1, 3, 2):
        size = (shape[0] * grow, *shape[1:])
        pixels = random.integers(0, 256, (size[0], 2 * size[1], *size[2:]), np.uint8)[:, ::2]
        order = random.bytes(17 * grow)
        sizes = writer.put(order, pixels)
        assert reader.order(*sizes) == order
        got = reader.pixels(size, sizes[0])
        assert np.array_equal(got, pixels) and not got.flags.writeable
        kept.append(got)
    writer.close()
    reader.close()
    assert np.array_equal(kept[-1], pixels), "a view outlives both ends"


@pytest.mark.parametrize(
    ("busy_s", "elapsed_s", "share", "expected"),
    [(0.1, 0.1, 1.0, 0.0), (0.1, 0.1, 0.25, 0.3), (0.1, 0.5, 0.25, 0.0), (0.0, 0.0, 0.01, 0.0)],
)
def test_the_pause_keeps_to_the_share(busy_s: float, elapsed_s: float, share: float, expected: float) -> None:
    assert pause_s(busy_s, elapsed_s, share) == pytest.approx(expected)


def sample(state: str, cpu_s: float) -> Any:
    return ProcessSample(state, cpu_s, 0.0)


def test_a_process_that_gets_no_processor_does_not_hang() -> None:
    assert idle_s(sample("R", 1.0), sample("R", 1.0), 2.0, 12.0) == 0.0
    assert 0.0 < idle_s(sample("R", 1.0), sample("R", 1.2), 2.0, 12.0) < 1.0, "it works, and gives nothing"
    assert idle_s(sample("R", 1.0), sample("T", 1.0), 2.0, 12.0) == 2.0
    assert idle_s(sample("S", 1.0), sample("S", 1.0), 2.0, 12.0) == 2.0
