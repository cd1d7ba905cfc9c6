"""Compressed video: H.264 and H.265 packets of both message types, and packets that are damaged or missing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lisard_ros.bags import reader, video
from lisard_ros.bags.messages import FFMPEG, VIDEO, typestore
from lisard_ros.errors import UsageError

av = pytest.importorskip("av", reason="requirements/replay.txt is not installed")
S = 1_000_000_000
STEP = S // 10
FRAMES = 12


def scene(number: int) -> np.ndarray:
    """A grey gradient with a square that moves."""
    image = np.full((96, 128, 3), 90, np.uint8)
    image[20:60, 5 * number : 5 * number + 30] = (200, 60, 40)
    return image


def encoded(encoder: str, key_every: int = 6) -> list[bytes]:
    """One packet for each scene, without frames that wait for later ones."""
    context = av.CodecContext.create(encoder, "w")
    context.width, context.height, context.pix_fmt = 128, 96, "yuv420p"
    context.time_base = Fraction(1, 10)
    context.gop_size, context.max_b_frames = key_every, 0
    options = {"preset": "ultrafast", "tune": "zerolatency"}
    if encoder == "libx265":
        options["x265-params"] = f"log-level=none:repeat-headers=1:keyint={key_every}:bframes=0"
    context.options = options
    packets = []
    for number in range(FRAMES):
        frame = av.VideoFrame.from_ndarray(scene(number), format="rgb24")
        frame.pts = number
        packets += [bytes(packet) for packet in context.encode(frame)]
    packets += [bytes(packet) for packet in context.encode(None)]
    return packets


def messages(packets: list[bytes], kind: str, codec: str, topic: str = "/front/video") -> list[Any]:
    """What a recorder would have written."""
    store = typestore()
    found = []
    for number, data in enumerate(packets):
        stamp_ns = S + number * STEP
        stamp = store.types["builtin_interfaces/msg/Time"](sec=stamp_ns // S, nanosec=stamp_ns % S)
        array = np.frombuffer(data, np.uint8)
        if kind == VIDEO:
            message = store.types[VIDEO](timestamp=stamp, frame_id="front", data=array, format=codec)
        else:
            top = store.types["std_msgs/msg/Header"](stamp=stamp, frame_id="front")
            message = store.types[FFMPEG](
                header=top, width=128, height=96, encoding=codec, pts=number, flags=0, is_bigendian=False, data=array
            )
        found.append((topic, kind, stamp_ns, message))
    return found


def read(path: Path) -> list[reader.BagFrame]:
    """All frames."""
    with reader.open_bag(path) as bag:
        return list(bag.frames())


@pytest.mark.parametrize(
    ("encoder", "kind", "codec"),
    [
        ("libx264", VIDEO, "h264"),
        ("libx265", VIDEO, "h265"),
        ("libx264", FFMPEG, "libx264;yuv420p;bgr8"),
        ("libx265", FFMPEG, "hevc_nvenc"),
    ],
)
def test_every_packet_is_a_frame(recording: Any, encoder: str, kind: str, codec: str) -> None:
    found = read(recording.write("bag", messages(encoded(encoder), kind, codec)))
    assert [item.stamp_ns for item in found] == [S + n * STEP for n in range(FRAMES)]
    for number, item in enumerate(found):
        assert item.frame is not None and (item.frame.stamp_ns, item.frame.camera) == (item.stamp_ns, "front/video")
        difference = np.abs(item.frame.rgb().astype(int) - scene(number).astype(int))
        assert difference.mean() < 8, "lossy, but the same scene"


def test_labels_are_joined_with_video(recording: Any) -> None:
    labels = [recording.label(S + n * STEP + 1_000_000, f"class{n}") for n in range(FRAMES)]
    path = recording.write("bag", [*messages(encoded("libx264"), VIDEO, "h264"), *labels])
    assert [item.label for item in read(path)] == [f"class{n}" for n in range(FRAMES)]


def test_a_packet_that_is_missing_at_the_start_leaves_named_frames(recording: Any) -> None:
    found = read(recording.write("bag", messages(encoded("libx264")[1:], VIDEO, "h264")))
    assert len(found) == FRAMES - 1
    broken = [item for item in found if item.frame is None]
    assert len(broken) == 5 and all("video packet" in str(item.error) for item in broken), "up to the next key frame"


def test_a_damaged_packet_is_counted(recording: Any) -> None:
    packets = encoded("libx264")
    packets[3] = b"\x00\x00\x00\x01" + bytes(reversed(packets[3]))
    found = read(recording.write("bag", messages(packets, VIDEO, "h264")))
    assert len(found) == FRAMES and sum(item.frame is None for item in found) >= 1
    assert {item.stamp_ns for item in found} == {S + n * STEP for n in range(FRAMES)}


def test_an_unknown_codec_is_named(recording: Any) -> None:
    (item,) = read(recording.write("bag", messages([b"x"], VIDEO, "av1")))
    assert "unknown video codec: found 'av1', expected h264 or h265" in str(item.error)


def test_without_the_package_the_cure_is_named(recording: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(UsageError, match=r"needs the Python package av.*pip install 'lisard_ros\[video\]'"):
        video.require_av()
    path = recording.write("bag", messages([b"x"], VIDEO, "h264"))
    with pytest.raises(UsageError, match="compressed video needs"):
        read(path)


def test_random_bytes_in_packets_are_errors(recording: Any) -> None:
    packets, random = encoded("libx264"), np.random.default_rng(0)
    for trial in range(20):
        damaged = [bytearray(packet) for packet in packets]
        for packet in damaged:
            for place in random.integers(0, len(packet), 3):
                packet[place] = int(random.integers(0, 256))
        found = read(recording.write(f"bag{trial}", messages([bytes(one) for one in damaged], VIDEO, "h264")))
        assert len(found) == FRAMES and all((item.frame is None) != (item.error is None) for item in found)
