"""Recordings in every state: several, split, compressed, cut off, without metadata or index; losses are counted."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from backports import zstd

from lisard_ros.bags import reader
from lisard_ros.bags.messages import IMAGE, typestore
from lisard_ros.bags.writer import header
from lisard_ros.errors import DataError, UsageError

mcap_writer = pytest.importorskip("mcap.writer", reason="requirements/replay.txt is not installed")
S = 1_000_000_000


def rgb(seed: int) -> np.ndarray:
    """A random image of 1800 bytes."""
    return np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def read(path: Any, **options: Any) -> tuple[list[reader.BagFrame], tuple[Any, ...]]:
    """All frames of recordings, and what is said about each recording."""
    with reader.open_bag(path, **options) as bag:
        frames = list(bag.frames())
        return frames, bag.info()


def stamps(frames: list[reader.BagFrame]) -> list[int]:
    """Seconds of the frames; each must have the image that was written at that second."""
    for item in frames:
        assert item.frame is not None and np.array_equal(item.frame.rgb(), rgb(item.stamp_ns // S))
    return [item.stamp_ns // S for item in frames]


@pytest.fixture
def chunked(recording: Any, tmp_path: Path) -> Any:
    """Writes an .mcap of forty images in chunks of about four, as the mcap library does."""

    def write(name: str = "drive.mcap", **options: Any) -> Path:
        path, store = tmp_path / name, typestore()
        settings = {"chunk_size": 7000, "compression": mcap_writer.CompressionType.NONE, **options}
        with path.open("wb") as file:
            writer = mcap_writer.Writer(file, **settings)
            writer.start("ros2", "test")
            text = store.generate_msgdef(IMAGE, ros_version=2)[0]
            schema = writer.register_schema(IMAGE, "ros2msg", text.encode())
            channel = writer.register_channel("/front/image_raw", "cdr", schema)
            for second in range(1, 41):
                _, kind, stamp_ns, message = recording.raw(rgb(second), second * S)
                writer.add_message(channel, stamp_ns, bytes(store.serialize_cdr(message, kind)), stamp_ns)
            writer.finish()
        return path

    return write


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "ZSTD"])
def test_a_whole_file_has_no_losses(chunked: Any, compression: str) -> None:
    frames, (info,) = read(chunked(compression=mcap_writer.CompressionType[compression]))
    assert stamps(frames) == list(range(1, 41)) and (info.lost, info.damage, info.images) == (0, (), 40)


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "ZSTD"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_file_that_is_cut_off_is_read_up_to_there(chunked: Any, compression: str, share: float) -> None:
    """Regression: it was refused as a whole."""
    path = chunked(compression=mcap_writer.CompressionType[compression])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    frames, (info,) = read(path)
    found = stamps(frames)
    assert found == list(range(1, len(found) + 1)) and abs(len(found) - 40 * share) < 6
    assert info.lost is None and "breaks off at byte" in " ".join(info.damage) and "lost: unknown" in str(info)


def test_a_cut_in_a_folder_with_metadata_is_counted(chunked: Any, recording: Any) -> None:
    folder = recording.write("bag", [recording.raw(rgb(n), n * S) for n in range(1, 41)])
    (old,) = folder.glob("*.mcap")
    data = chunked().read_bytes()
    old.write_bytes(data[: len(data) // 2])
    frames, (info,) = read(folder)
    assert info.lost == 40 - len(frames) > 0 and f"lost: {info.lost}" in str(info)


def test_a_chunk_with_another_checksum_is_left_out_and_counted(chunked: Any) -> None:
    path = chunked()
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    frames, (info,) = read(path)
    assert 0 < info.lost == 40 - len(stamps(frames)) <= 5 and "another checksum" in info.damage[0]


def test_a_file_without_an_index_is_read_in_sequence(chunked: Any) -> None:
    plain = {"index_types": mcap_writer.IndexType.NONE, "use_statistics": False, "repeat_channels": False}
    whole = chunked("a.mcap", **plain, repeat_schemas=False, use_summary_offsets=False)
    frames, (info,) = read(whole)
    assert stamps(frames) == list(range(1, 41)) and info.lost == 0
    bare = chunked("b.mcap", use_chunking=False)
    frames, (info,) = read(bare)
    assert stamps(frames) == list(range(1, 41)) and info.lost == 0


def test_a_damaged_summary_costs_nothing(chunked: Any) -> None:
    path = chunked()
    data = bytearray(path.read_bytes())
    data[-60] ^= 0xFF
    path.write_bytes(data)
    frames, (info,) = read(path)
    assert stamps(frames) == list(range(1, 41)) and info.lost == 0 and "no index (" in info.damage[0]


def test_an_unknown_compression_is_named(chunked: Any) -> None:
    path = chunked(compression=mcap_writer.CompressionType.LZ4)
    good = path.read_bytes()
    path.write_bytes(good.replace(b"\x03\x00\x00\x00lz4", b"\x03\x00\x00\x00aes"))
    with pytest.raises(DataError, match="no images: found no topics; .*encrypted, or of unknown compression 'aes'"):
        read(path)


@pytest.mark.parametrize("mcap", [True, False])
def test_a_folder_without_metadata(recording: Any, mcap: bool) -> None:
    """Regression: it was refused."""
    folder = recording.write("bag", [recording.raw(rgb(n), n * S) for n in range(1, 6)], mcap=mcap)
    (folder / "metadata.yaml").unlink()
    frames, (info,) = read(folder)
    assert stamps(frames) == [1, 2, 3, 4, 5] and info.damage == ("no metadata.yaml",) and info.lost == 0
    (file,) = folder.iterdir()
    assert stamps(read(file)[0]) == [1, 2, 3, 4, 5], "a file alone"


def test_split_recordings_and_a_missing_part(recording: Any, tmp_path: Path) -> None:
    parts = [recording.write(f"part{n}", [recording.raw(rgb(n), n * S)]) for n in (1, 2, 3)]
    whole = tmp_path / "whole"
    whole.mkdir()
    names = []
    for part in parts:
        (file,) = part.glob("*.mcap")
        names.append(file.name)
        shutil.copy(file, whole / file.name)
    document = yaml.safe_load((parts[0] / "metadata.yaml").read_text())
    information = document["rosbag2_bagfile_information"]
    information["relative_file_paths"] = names
    information["topics_with_message_count"][0]["message_count"] = 3
    (whole / "metadata.yaml").write_text(yaml.safe_dump(document))
    frames, (info,) = read(whole)
    assert stamps(frames) == [1, 2, 3] and info.lost == 0
    (whole / names[1]).unlink()
    frames, (info,) = read(whole)
    assert stamps(frames) == [1, 3] and info.lost == 1 and f"{names[1]} is missing" in info.damage


def test_files_and_messages_in_zstd(recording: Any) -> None:
    folder = recording.write("bag", [recording.raw(rgb(n), n * S) for n in range(1, 4)], mcap=False)
    (file,) = folder.glob("*.db3")
    packed = folder / f"{file.name}.zstd"
    packed.write_bytes(zstd.compress(file.read_bytes()))
    file.unlink()
    document = yaml.safe_load((folder / "metadata.yaml").read_text())
    information = document["rosbag2_bagfile_information"]
    information.update(compression_format="zstd", compression_mode="FILE", relative_file_paths=[packed.name])
    (folder / "metadata.yaml").write_text(yaml.safe_dump(document))
    frames, (info,) = read(folder)
    assert stamps(frames) == [1, 2, 3] and info.lost == 0
    topic, kind, stamp_ns, message = recording.raw(rgb(4), 4 * S)
    raw = zstd.compress(bytes(typestore().serialize_cdr(message, kind)))
    assert stamps(read(recording.write("messages", [(topic, kind, stamp_ns, raw)]))[0]) == [4]
    information["compression_format"] = "aes"
    (folder / "metadata.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(DataError, match="encrypted or of unknown compression: found aes"):
        read(folder)


def test_several_recordings_and_patterns(recording: Any, tmp_path: Path) -> None:
    for n in (1, 2):
        recording.write(f"drive{n}", [recording.raw(rgb(n), n * S), recording.label(n * S, f"class{n}")])
    frames, infos = read(str(tmp_path / "drive*"))
    assert [(item.recording, item.label) for item in frames] == [(0, "class1"), (1, "class2")]
    assert [Path(info.path).name for info in infos] == ["drive1", "drive2"]
    assert stamps(read([tmp_path / "drive2", tmp_path / "drive1"])[0]) == [2, 1]
    with pytest.raises(DataError, match="no such bag: found .*walk"):
        read(str(tmp_path / "walk*"))
    with pytest.raises(UsageError, match="a recording is named twice"):
        read([tmp_path / "drive1", tmp_path / "drive1"])


def test_cameras_come_in_the_order_of_their_stamps(recording: Any) -> None:
    late = [recording.raw(rgb(2 * n), 2 * n * S, "/rear/image_raw") for n in range(1, 5)]
    early = [recording.raw(rgb(2 * n - 1), (2 * n - 1) * S) for n in range(1, 5)]
    shifted = [(topic, kind, stamp + 3 * S, message) for topic, kind, stamp, message in early]
    messages = sorted([*late, *shifted], key=lambda one: one[2])
    assert stamps(read(recording.write("bag", messages))[0]) == list(range(1, 9))


@pytest.mark.parametrize("distro", ["jazzy", "kilted", "iron", "humble", "of tomorrow"])
def test_types_are_those_of_the_distribution_that_recorded(recording: Any, distro: str) -> None:
    """Range has a variance from Iron on; an unknown distribution is read as Humble."""
    kind, store = "sensor_msgs/msg/Range", typestore(distro)
    variance = {} if distro in ("humble", "of tomorrow") else {"variance": 0.25}
    about = {"radiation_type": 0, "field_of_view": 0.5, "min_range": 0.25, "max_range": 8.0, "range": 2.5, **variance}
    ranged = store.types[kind](header=header(store, S, "front"), **about)
    messages = [recording.raw(rgb(1), S), recording.label(S, "red"), recording.boxes(S, ("sign", 1, 2, 4, 3))]
    path = recording.write(
        "drive", [*messages, ("/range", kind, S, bytes(store.serialize_cdr(ranged, kind)))], mcap=False
    )
    document = yaml.safe_load((path / "metadata.yaml").read_text())
    document["rosbag2_bagfile_information"]["ros_distro"] = distro
    (path / "metadata.yaml").write_text(yaml.safe_dump(document))
    ((item,), (info,)) = read(path)
    assert stamps([item]) == [1] and (item.label, [r.label for r in item.regions or ()]) == ("red", ["sign"])
    assert info.lost == 0 and not info.damage
    with reader.open_bag(path) as bag:
        (whole,) = bag.recordings
        (found,) = (whole.deserialize(message) for message in whole.messages(["/range"]))
    assert found.range == 2.5 and getattr(found, "variance", None) == variance.get("variance")


def test_what_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "empty.mcap").write_bytes(b"")
    (tmp_path / "text.mcap").write_bytes(b"hello")
    (tmp_path / "noise.bag").write_bytes(bytes(range(255, 0, -1)))
    (tmp_path / "version.bag").write_bytes(b"#ROSBAG V1.2\n")
    (tmp_path / "head.mcap").write_bytes(b"\x89MCAP0\r\n")
    (tmp_path / "long.mcap").write_bytes(b"\x89MCAP0\r\n" + struct.pack("<BQ", 6, 1 << 62) + bytes(100))
    for name, message in (
        ("empty.mcap", "the file is empty"),
        ("text.mcap", "neither MCAP nor SQLite"),
        ("noise.bag", "neither MCAP nor SQLite nor a ROS 1 bag"),
        ("version.bag", "version.bag: .*1.2"),
        ("head.mcap", "no images: found no topics"),
        ("long.mcap", "no images: found no topics"),
    ):
        with pytest.raises(DataError, match=message):
            read(tmp_path / name)


def test_random_damage_is_counted_or_unknown_and_never_a_traceback(chunked: Any) -> None:
    """Bit flips and truncations of an mcap file with checksums: what is read is what was written."""
    good = chunked().read_bytes()
    path, random = chunked("damaged.mcap"), np.random.default_rng(0)
    for _ in range(120):
        data = bytearray(good)
        for place in random.integers(0, len(data), random.integers(0, 4)):
            data[place] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(data[: len(data) - int(random.integers(0, len(data))) * int(random.integers(0, 2))])
        try:
            frames, (info,) = read(path)
        except DataError as error:
            assert "found" in str(error)
            continue
        readable = [item for item in frames if item.frame is not None]
        lost = 40 - len(readable)
        assert info.lost is None or info.lost + len(frames) - len(readable) >= lost, (info, lost)
        if not info.damage and info.lost == 0:
            assert lost == len(frames) - len(readable)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_an_sqlite_file_that_is_cut_off_is_read_up_to_there(recording: Any, share: float) -> None:
    """Regression: SQLite opens no file that is shorter than its header says."""
    folder = recording.write("bag", [recording.raw(rgb(n), n * S) for n in range(1, 101)], mcap=False)
    (file,) = folder.glob("*.db3")
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    frames, (info,) = read(folder)
    found = stamps(frames)
    assert found == list(range(1, len(found) + 1)) and len(found) > 100 * share - 30
    assert info.lost == 100 - len(found) > 0 and "breaks off at byte" in info.damage[0]
    (folder / "metadata.yaml").unlink()
    assert read(folder)[1][0].lost is None, "nobody knows how many there were"


def test_a_damaged_name_in_an_sqlite_file_is_no_traceback(recording: Any) -> None:
    """Regression: sqlite3 cannot decode its own message about a table whose name is damaged."""
    folder = recording.write("bag", [recording.raw(rgb(1), S)], mcap=False)
    (file,) = folder.glob("*.db3")
    data = file.read_bytes()
    for place in (data.index(b"CREATE TABLE") + 3, data.index(b"messages(") + 2):
        file.write_bytes(data[:place] + b"\x80" + data[place + 1 :])
        try:
            read(folder)
        except DataError as error:
            assert "found" in str(error)
