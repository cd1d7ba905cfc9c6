"""Reading that begins in the middle gives what reading from the beginning gives there, whatever the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import CompressionType, Writer
from rosbags import rosbag1
from rosbags.typesys import Stores, get_typestore

from lisard_ros.bags.frame_order import FrameOrder, FrameStart
from lisard_ros.bags.mcap_file import McapFile
from lisard_ros.bags.messages import IMAGE, typestore
from lisard_ros.bags.recordings import Recording, open_recording
from lisard_ros.bags.writer import BagWriter, header, image_message

TOPICS = ("/left/image_raw", "/right/image_raw")
MS = 1_000_000
Stored = tuple[str, int, int]  # topic, header stamp, log time


def drawn(seed: int, count: int = 120) -> list[Stored]:
    """Two cameras with stamps out of order, equal log times, and one clock that is ahead for a while."""
    random = np.random.default_rng(seed)
    log = np.sort(random.integers(1, count // 2, count)) * 10 * MS
    stamps = log + random.integers(-60, 60, count) * MS + 10**9
    stamps[count // 3 : count // 3 + 4] += 10**10
    return [(TOPICS[int(random.integers(2))], int(s), int(t)) for s, t in zip(stamps, log, strict=True)]


def message(stamp_ns: int) -> Any:
    store = typestore()
    return image_message(store, header(store, stamp_ns, "camera"), np.zeros((8, 8, 3), np.uint8))


def write_sqlite(path: Path, stored: Sequence[Stored]) -> Path:
    with BagWriter(path, typestore(), mcap=False) as bag:
        for topic, stamp_ns, log_ns in stored:
            bag.write(topic, IMAGE, log_ns, message(stamp_ns))
    return path


def write_mcap(path: Path, stored: Sequence[Stored], **options: Any) -> Path:
    store = typestore()
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=2000, compression=CompressionType.ZSTD, **options)
        writer.start("ros2", "test")
        text = store.generate_msgdef(IMAGE, ros_version=2)[0]
        schema = writer.register_schema(IMAGE, "ros2msg", text.encode())
        channels = {topic: writer.register_channel(topic, "cdr", schema) for topic in TOPICS}
        for topic, stamp_ns, log_ns in stored:
            writer.add_message(channels[topic], log_ns, bytes(store.serialize_cdr(message(stamp_ns), IMAGE)), log_ns)
        writer.finish()
    return path


def write_ros1(path: Path, stored: Sequence[Stored]) -> Path:
    store = get_typestore(Stores.ROS1_NOETIC)
    with rosbag1.Writer(path) as writer:
        links = {topic: writer.add_connection(topic, IMAGE, typestore=store) for topic in TOPICS}
        for number, (topic, stamp_ns, log_ns) in enumerate(stored):
            sec, nanosec = divmod(stamp_ns, 10**9)
            stamp = store.types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
            top = store.types["std_msgs/msg/Header"](seq=number, stamp=stamp, frame_id="camera")
            image = image_message(store, top, np.zeros((8, 8, 3), np.uint8))
            writer.write(links[topic], log_ns, store.serialize_ros1(image, IMAGE))
    return path


def split(path: Path, stored: Sequence[Stored]) -> Path:
    """A folder of three files without metadata; the second one cannot be sought."""
    path.mkdir()
    third = len(stored) // 3
    for number in range(3):
        options = {"use_chunking": False} if number == 1 else {}
        write_mcap(path / f"drive_{number}.mcap", stored[number * third : (number + 1) * third], **options)
    return path


def written(kind: str, folder: Path, stored: Sequence[Stored]) -> Path:
    if kind == "sqlite":
        return write_sqlite(folder / "drive", stored)
    if kind == "ros1":
        return write_ros1(folder / "drive.bag", stored)
    if kind == "split":
        return split(folder / "drive", stored)
    path = write_mcap(folder / "drive.mcap", stored)
    if kind == "mcap without index":
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 3 // 4])
    return path


def chunks(path: Path) -> list[Any]:
    file = McapFile(path)
    try:
        return file._index.chunks
    finally:
        file.close()


def seen(order: FrameOrder) -> list[tuple[str, int, int, int]]:
    return [(one.message.topic.name, one.number, one.place, one.stamp_ns) for one in order]


def starts_of(recording: Recording, topics: Sequence[str]) -> tuple[list[Any], list[FrameStart]]:
    order, images, starts = FrameOrder(recording, topics), [], []
    for one in order:
        images.append((one.message.topic.name, one.number, one.place, one.stamp_ns))
        starts.append(order.start_of(one))
    return images, [order.settled(start) for start in starts]


@pytest.mark.parametrize("topics", [TOPICS, TOPICS[:1]], ids=["two cameras", "one camera"])
@pytest.mark.parametrize("kind", ["sqlite", "mcap", "mcap without index", "ros1", "split"])
def test_any_frame_can_be_the_first_one(kind: str, topics: tuple[str, ...], tmp_path: Path) -> None:
    for seed in range(3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        path = written(kind, folder, drawn(seed))
        whole = open_recording(path)
        images, starts = starts_of(whole, topics)
        whole.close()
        assert len(images) > 30
        for number in range(0, len(images), 7):
            recording = open_recording(path)  # as another process opens it
            assert seen(FrameOrder(recording, topics, starts[number])) == images[number:]
            recording.close()


@pytest.mark.parametrize("kind", ["sqlite", "mcap", "ros1", "split"])
def test_an_index_spares_what_comes_before(kind: str, tmp_path: Path) -> None:
    stored = [(TOPICS[0], n * 100 * MS, n * 100 * MS) for n in range(1, 121)]
    recording = open_recording(written(kind, tmp_path, stored))
    _, starts = starts_of(recording, TOPICS[:1])
    last = starts[-1].point
    assert (last.passed, last.since_ns) == (119, 12_000 * MS)
    assert len(list(recording.messages(TOPICS[:1], last.file, last.since_ns))) == 1
    recording.close()


def test_a_damaged_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    stored = [(TOPICS[0], n * 100 * MS, n * 100 * MS) for n in range(1, 121)]
    path = write_mcap(tmp_path / "drive.mcap", stored)
    data, chunk = bytearray(path.read_bytes()), chunks(path)[3]
    data[chunk.offset + chunk.bytes // 2] ^= 0xFF
    path.write_bytes(data)
    recording = open_recording(path)
    images, starts = starts_of(recording, TOPICS[:1])
    assert 0 < len(images) < 120 and recording.damage
    assert starts[-1].point.passed == 0
    assert seen(FrameOrder(recording, TOPICS[:1], starts[-1])) == images[-1:]
    recording.close()


def test_an_index_with_wrong_times_is_not_sought_in(tmp_path: Path) -> None:
    """The chunk's place by time would leave out messages."""
    stored = [(TOPICS[0], n * 100 * MS, n * 100 * MS) for n in range(1, 121)]
    path = write_mcap(tmp_path / "drive.mcap", stored, enable_crcs=False)
    data, chunk = path.read_bytes(), chunks(path)[-1]
    begins, ends = (time_ns.to_bytes(8, "little") for time_ns in (chunk.begins_ns, chunk.ends_ns))
    place = data.rindex(begins + ends)  # in the index, behind the chunk itself
    path.write_bytes(data[:place] + begins + begins + data[place + 16 :])
    recording = open_recording(path)
    images, starts = starts_of(recording, TOPICS[:1])
    assert len(images) == 120 and starts[-1].point.since_ns is None
    recording.close()


def test_rows_without_an_index_of_time_are_sought_too(tmp_path: Path) -> None:
    """Some writers make no index in SQLite files."""
    stored = [(TOPICS[0], n * 100 * MS, n * 100 * MS) for n in range(1, 41)]
    folder = write_sqlite(tmp_path / "drive", stored)
    (file,) = folder.glob("*.db3")
    with sqlite3.connect(file) as database:
        query = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql NOT NULL"
        for (name,) in database.execute(query).fetchall():
            database.execute(f"DROP INDEX {name}")
    recording = open_recording(folder)
    images, starts = starts_of(recording, TOPICS[:1])
    assert seen(FrameOrder(recording, TOPICS[:1], starts[30])) == images[30:]
    recording.close()
