"""A recording on disk: its files whatever their format, what metadata.yaml says of them, and what is lost."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rosbags.highlevel import AnyReader
from rosbags.typesys import get_types_from_idl, get_types_from_msg
from rosbags.typesys.store import Typestore

from lisard_ros.bags import mcap_file, sqlite_file
from lisard_ros.bags.mcap_file import McapFile
from lisard_ros.bags.messages import READ, empty_typestore, typestore
from lisard_ros.bags.sqlite_file import SqliteFile
from lisard_ros.bags.storage import CDR, ROS1, Definition, StorageError, StorageFile, StoredMessage, StoredTopic
from lisard_ros.errors import DataError, one_line

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

METADATA, INFORMATION = "metadata.yaml", "rosbag2_bagfile_information"
STORAGE_SUFFIXES = (".db3", ".mcap", ".zstd")
COMPRESSIONS = ("", "zstd")
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ROS1_MAGIC = b"#ROSBAG V"
HASHED_AT_ONCE = 1 << 20
_MOST_MESSAGE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """One recording that was read. sha256: of its files. lost: messages known to be lost, None: unknown.

    damage: what was wrong with it, line by line.
    """

    path: str
    sha256: str
    bytes: int
    images: int
    lost: int | None = 0
    damage: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line for people: what is lost, and why."""
        lost = "unknown" if self.lost is None else str(self.lost)
        return f"{self.path}: {self.images} messages read, lost: {lost}" + "".join(f"; {line}" for line in self.damage)


@dataclass(frozen=True, slots=True)
class _Metadata:
    """What is used of metadata.yaml. counts: messages by topic. distro: '' where it is not named."""

    files: tuple[str, ...]
    counts: Mapping[str, int]
    compression: str
    distro: str


class Ros1File:
    """A ROS 1 bag, which needs its index. damage: what was found wrong so far."""

    def __init__(self, path: Path) -> None:
        """Open a file; StorageError when it has no index, or is no bag."""
        self.path = path
        self.damage: list[str] = []
        self._reader = AnyReader([path], default_typestore=typestore())
        try:
            self._reader.open()
        except Exception as error:  # rosbags lets through what struct raises for files that are no bag
            with suppress(Exception):
                self._reader.close()
            raise StorageError(one_line(error)) from error
        self.typestore = self._reader.typestore

    @property
    def topics(self) -> tuple[StoredTopic, ...]:
        """All topics."""
        kinds = {c.topic: c.msgtype for c in self._reader.connections}
        return tuple(StoredTopic(name, kind, ROS1) for name, kind in kinds.items())

    @property
    def definitions(self) -> dict[str, Definition]:
        """None of its own: `typestore` has them."""
        return {}

    def expected(self, topics: Sequence[str]) -> int | None:
        """Count by the index and by the chunks' own counts, which a damaged index may contradict."""
        wanted = [c for c in self._reader.connections if c.topic in topics]
        numbers = {c.id for c in wanted}
        chunks = (info for reader in self._reader.readers for info in getattr(reader, "chunk_infos", ()))
        counts = (n for info in chunks for number, n in info.connection_counts.items() if number in numbers)
        return max(sum(c.msgcount for c in wanted), sum(counts))

    @property
    def can_seek(self) -> bool:
        """Whether there is no damage: all that can be opened have an index."""
        return not self.damage

    def messages(self, topics: Sequence[str], since_ns: int | None = None) -> Iterator[StoredMessage]:
        """Yield the messages by time, up to the damage."""
        wanted = [c for c in self._reader.connections if c.topic in topics]
        stream = self._reader.messages(wanted, start=since_ns) if wanted else iter(())
        count = 0
        while True:
            try:
                connection, log_ns, raw = next(stream)
            except StopIteration:
                return
            except Exception as error:  # rosbags and the decompressors each raise their own kinds
                self.damage.append(f"{self.path.name}: behind {count} messages: {one_line(error)}")
                return
            count += 1
            yield StoredMessage(StoredTopic(connection.topic, connection.msgtype, ROS1), log_ns, bytes(raw))

    def close(self) -> None:
        """Close the bag."""
        with suppress(Exception):
            self._reader.close()


class Recording:
    """An open recording. Use `open_recording`."""

    def __init__(self, path: Path) -> None:
        """Open the files of a rosbag2 folder, or one .mcap, .db3 or .bag file.

        Raises:
            DataError: There is no such recording, or no file of it can be read.
        """
        self.path = path
        self._damage: list[str] = []
        self._read: Counter[str] = Counter()
        self._finished = False
        self._opened = ExitStack()
        try:
            self._metadata = self._read_metadata()
            self.paths = self._files()
            self._storage = [one for file in self.paths if (one := self._open(file)) is not None]
            if not self._storage:
                raise _unreadable(path, "; ".join(self._damage) or "no .mcap, .db3 or .bag file")
            self._kinds = {t.name: t for one in self._storage for t in one.topics}
            self._store = self._typestore()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all files."""
        self._opened.close()

    @property
    def kinds(self) -> dict[str, str]:
        """Message types by topic; topics whose encoding is not read have none."""
        return {name: t.kind if t.encoding in (CDR, ROS1) else t.encoding for name, t in self._kinds.items()}

    @property
    def topics(self) -> tuple[StoredTopic, ...]:
        """All topics."""
        return tuple(self._kinds.values())

    @property
    def damage(self) -> tuple[str, ...]:
        """What was found wrong so far, each once."""
        return tuple(dict.fromkeys([*self._damage, *(line for one in self._storage for line in one.damage)]))

    def expected(self, topics: Sequence[str]) -> int | None:
        """Return how many messages these topics should have; None: nobody knows."""
        if self._metadata is not None and all(name in self._metadata.counts for name in topics):
            return sum(self._metadata.counts[name] for name in topics)
        counts = [one.expected(topics) for one in self._storage]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(self.paths) else None

    def can_seek(self, file: int) -> bool:
        """Whether `messages` can begin within a file; known once it was read to its end."""
        return self._storage[file].can_seek

    def messages(self, topics: Sequence[str], file: int = 0, since_ns: int | None = None) -> Iterator[StoredMessage]:
        """Yield the messages of these topics that can be read, file by file.

        file: number of the first file; since_ns: only what was recorded then or later in that one, if it `can_seek`.
        What is lost (`info`) is known only after all files were read from their beginning.
        """
        self._read.clear()
        self._finished = False
        for number, one in enumerate(self._storage[file:], file):
            for message in one.messages(topics, since_ns if number == file else None):
                self._read[message.topic.name] += 1
                raw = message.raw
                if raw[:4] == ZSTD_MAGIC and message.topic.encoding == CDR:  # no CDR message begins so
                    try:
                        raw = zstd.ZstdDecompressor().decompress(raw, _MOST_MESSAGE_BYTES)
                    except Exception as error:  # of the library's own kinds
                        raw = b""
                        self._damage.append(f"{message.topic.name}: a compressed message: {one_line(error)}")
                yield StoredMessage(message.topic, message.log_ns, raw, number)
        self._finished = True

    def deserialize(self, message: StoredMessage) -> Any:
        """Return the message; rosbags raises many kinds for bytes that do not fit their type."""
        if message.topic.encoding == ROS1:
            return self._store.deserialize_ros1(message.raw, message.topic.kind)
        return self._store.deserialize_cdr(message.raw, message.topic.kind)

    def typestore_of(self, topic: str) -> Typestore | None:
        """Return types with that of a topic; None where neither the recording nor ROS defines it."""
        kind = self.kinds[topic]
        if kind in self._store.fielddefs:
            return self._store
        for one in self._storage:
            definition = one.definitions.get(kind)
            if definition is not None and definition.format == "ros2msg":
                store = empty_typestore()
                with suppress(Exception):  # of the parser's own kinds
                    store.register(get_types_from_msg(definition.text, kind))
                    return store
        return None

    def info(self, topics: Sequence[str]) -> RecordingInfo:
        """Describe the recording after its messages were read; its files are hashed."""
        read = sum(self._read[name] for name in topics)
        damage = self.damage
        expected = self.expected(topics)
        lost: int | None = 0
        if self._finished:
            lost = max(0, expected - read) if expected is not None else None
        elif damage:
            lost = None
        if damage and expected is None:
            lost = None
        size = sum(file.stat().st_size for file in self.paths)
        return RecordingInfo(str(self.path), sha256_of(self.paths), size, read, lost, damage)

    # --- opening ------------------------------------------------------------------------------------------------------

    def _read_metadata(self) -> _Metadata | None:
        """Read metadata.yaml; what cannot be used is noted, and the files are read without it."""
        file = self.path / METADATA
        if not self.path.is_dir() or not file.is_file():
            if self.path.is_dir():
                self._damage.append(f"no {METADATA}")
            return None
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))[INFORMATION]
            counts: Counter[str] = Counter()
            for one in content["topics_with_message_count"]:
                name, count = one["topic_metadata"]["name"], one["message_count"]
                if not isinstance(name, str) or not isinstance(count, int) or count < 0:
                    raise TypeError(f"{name!r}: {count!r} in place of a name and a count")
                counts[name] += count
            files = tuple(Path(name).name for name in content["relative_file_paths"])
            compression = str(content.get("compression_format") or "").lower()
            distro = str(content.get("ros_distro") or "")
        except Exception as error:  # YAML and wrong types raise many kinds
            self._damage.append(f"{METADATA} cannot be read: {type(error).__name__}: {one_line(error)}")
            return None
        if compression not in COMPRESSIONS:
            raise DataError(
                f"recording {self.path} is encrypted or of unknown compression",
                found=compression,
                expected="zstd, or lz4 and zstd inside mcap",
                cure="decompress it with the tool that made it",
            )
        return _Metadata(files, counts, compression, distro)

    def _files(self) -> tuple[Path, ...]:
        if self.path.is_file():
            return (self.path,)
        if self._metadata is not None:
            named = tuple(self.path / name for name in self._metadata.files)
            missing = [file.name for file in named if not file.is_file()]
            self._damage += [f"{name} is missing" for name in missing]
            return tuple(file for file in named if file.is_file())
        return tuple(sorted(file for file in self.path.iterdir() if file.suffix in STORAGE_SUFFIXES and file.is_file()))

    def _open(self, file: Path) -> StorageFile | None:
        try:
            one = self._storage_of(file)
        except (StorageError, OSError) as error:
            self._damage.append(f"{file.name}: {one_line(error)}")
            return None
        self._opened.callback(one.close)
        return one

    def _storage_of(self, file: Path) -> StorageFile:
        with file.open("rb") as content:
            head = content.read(16)
        if not head:
            raise StorageError("the file is empty")
        if head.startswith(ZSTD_MAGIC):
            file = self._decompressed(file)
            head = file.open("rb").read(16)
        if head.startswith(mcap_file.MAGIC):
            return McapFile(file)
        if head.startswith(sqlite_file.MAGIC):
            return SqliteFile(file)
        if head.startswith(_ROS1_MAGIC) and file.suffix == ".bag":
            return Ros1File(file)
        raise StorageError("neither MCAP nor SQLite nor a ROS 1 bag")

    def _decompressed(self, file: Path) -> Path:
        """Write the content of a zstd file to the temporary folder, as far as it can be read."""
        folder = self._opened.enter_context(tempfile.TemporaryDirectory())
        target = Path(folder) / file.stem
        with zstd.open(file, "rb") as packed, target.open("wb") as plain:
            try:
                shutil.copyfileobj(packed, plain)
            except (EOFError, zstd.ZstdError) as error:
                self._damage.append(f"{file.name}: {one_line(error)}")
        return target

    def _typestore(self) -> Typestore:
        """The types of the recording's own definitions, and those that every installation has."""
        first = self._storage[0]
        if isinstance(first, Ros1File):
            return first.typestore
        known = typestore(self._metadata.distro if self._metadata is not None else "")
        own: dict[str, Any] = {}
        for one in self._storage:
            for kind in READ & {topic.kind for topic in one.topics}:
                definition = one.definitions.get(kind)
                if definition is None or definition.format not in ("ros2msg", "ros2idl"):
                    continue
                try:
                    if definition.format == "ros2msg":
                        own.update(get_types_from_msg(definition.text, kind))
                    else:
                        own.update(get_types_from_idl(definition.text))
                except Exception as error:  # of the parser's own kinds; a type that ROS has is known all the same
                    self._damage.append(f"the definition of {kind} cannot be read: {one_line(error)}")
        if all(known.fielddefs.get(kind) == fields for kind, fields in own.items()):
            return known
        store = empty_typestore()
        try:
            store.register({**known.fielddefs, **own})
        except Exception as error:  # definitions that contradict each other
            self._damage.append(f"the definitions contradict each other: {one_line(error)}")
            return known
        return store


def open_recording(path: Path) -> Recording:
    """Open a recording.

    Raises:
        DataError: There is no such recording, or it cannot be read.
    """
    if not os.path.exists(path):
        raise DataError(
            "no such bag",
            found=str(path),
            expected="a rosbag2 folder, or a .mcap, .db3 or .bag file",
            cure="check the path",
        )
    return Recording(path)


def sha256_of(files: Sequence[Path]) -> str:
    """Hash the content of files one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while part := content.read(HASHED_AT_ONCE):
                digest.update(part)
    return digest.hexdigest()


def _unreadable(path: Path, found: str) -> DataError:
    return DataError(
        f"{path} is not a readable bag",
        found=found,
        expected="a rosbag2 folder, or a .mcap, .db3 or .bag file",
        cure="copy it again; `rosbag reindex` restores the index of a ROS 1 bag",
    )
