"""MCAP files, whole or damaged: every message that can still be read, and how many could not.

With an index (the summary at the end) each chunk is read by its place, so one that is damaged costs no other. Without
it the file is read in sequence up to the damage. Format: mcap.dev/spec; the writers are rosbag2 and others.
"""

from __future__ import annotations

import heapq
import struct
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

import lz4.frame

from lisard_ros.bags.storage import Definition, StorageError, StoredMessage, StoredTopic
from lisard_ros.errors import one_line

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
STATISTICS, DATA_END = 0x0B, 0x0F
COMPRESSIONS = ("", "lz4", "zstd")
_FOOTER_BYTES = 9 + 20 + len(MAGIC)
_RECORD_HEAD = struct.Struct("<BQ")
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_CHUNK_HEAD = struct.Struct("<QQQI")
_MOST_CHUNK_BYTES = 1 << 30  # more is a damaged length
_MOST_BARE = 256  # messages outside chunks that are read together


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk's record, or with `bare` a run of records outside chunks. counts: messages by channel, None: unknown."""

    offset: int
    bytes: int
    begins_ns: int
    ends_ns: int
    counts: dict[int, int] | None
    bare: bool = False


@dataclass(slots=True)
class _Index:
    """What is known of a file. counts: messages by channel, None: unknown. ordered: chunks may be read by time."""

    chunks: list[_Chunk] = field(default_factory=list)
    counts: dict[int, int] | None = None
    ordered: bool = False


class McapFile:
    """An open file. damage: what was found wrong so far, line by line."""

    def __init__(self, path: Path) -> None:
        """Open a file and find its channels; StorageError when it is no MCAP file."""
        self.path = path
        self.damage: list[str] = []
        self._misplaced = False  # some message was recorded at a time that the index does not give its chunk
        self._schemas: dict[int, tuple[str, Definition]] = {}
        self._channels: dict[int, StoredTopic] = {}
        self._file: BinaryIO = path.open("rb")
        self._bytes = path.stat().st_size
        try:
            if self._file.read(len(MAGIC)) != MAGIC:
                raise StorageError("no MCAP file")
            try:
                self._index = self._read_summary()
            except (StorageError, struct.error, UnicodeDecodeError, OverflowError) as error:
                self.damage.append(f"{path.name}: no index ({one_line(error)}), read in sequence")
                self._schemas, self._channels = {}, {}
                self._index = self._scan()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def topics(self) -> tuple[StoredTopic, ...]:
        """All channels."""
        return tuple(self._channels.values())

    @property
    def definitions(self) -> dict[str, Definition]:
        """Message definitions by type."""
        return dict(self._schemas.values())

    def expected(self, topics: Sequence[str]) -> int | None:
        """Return how many messages these topics have according to the index; None: nobody knows."""
        if self._index.counts is None:
            return None
        return sum(self._index.counts.get(number, 0) for number, one in self._channels.items() if one.name in topics)

    @property
    def can_seek(self) -> bool:
        """Whether there is an index, and no damage."""
        return self._index.ordered and not self.damage and not self._misplaced

    def messages(self, topics: Sequence[str], since_ns: int | None = None) -> Iterator[StoredMessage]:
        """Yield the messages by time; a chunk that cannot be read is noted in `damage`."""
        wanted = {number for number, one in self._channels.items() if one.name in topics}
        chunks = [c for c in self._index.chunks if not c.counts or wanted & c.counts.keys()]
        if since_ns is not None:
            chunks = [chunk for chunk in chunks if chunk.ends_ns >= since_ns]
        if not self._index.ordered:
            for chunk in chunks:
                for _, _, message in self._sorted(chunk, wanted):
                    yield message
            return
        ready: list[tuple[int, int, int, StoredMessage]] = []
        for order, chunk in enumerate(sorted(chunks, key=lambda one: (one.begins_ns, one.offset))):
            while ready and ready[0][0] < chunk.begins_ns:
                yield heapq.heappop(ready)[3]
            for log_ns, number, message in self._sorted(chunk, wanted):
                if since_ns is None or log_ns >= since_ns:
                    heapq.heappush(ready, (log_ns, order, number, message))
        while ready:
            yield heapq.heappop(ready)[3]

    def _sorted(self, chunk: _Chunk, wanted: set[int]) -> list[tuple[int, int, StoredMessage]]:
        """The messages of a chunk by time: (log time, place, message)."""
        try:
            records, broken = self._records_of(chunk)
        except (StorageError, struct.error, UnicodeDecodeError, OSError) as error:
            self.damage.append(f"{self.path.name}: chunk at byte {chunk.offset}: {one_line(error)}")
            return []
        if broken:
            self.damage.append(f"{self.path.name}: chunk at byte {chunk.offset}: {broken}")
        found: list[tuple[int, int, StoredMessage]] = []
        try:
            for code, content in _split(records):
                if code == MESSAGE and len(content) >= _MESSAGE_HEAD.size:
                    channel, _, log_ns, _ = _MESSAGE_HEAD.unpack_from(content)
                    if channel in wanted:
                        raw = bytes(content[_MESSAGE_HEAD.size :])
                        found.append((log_ns, len(found), StoredMessage(self._channels[channel], log_ns, raw)))
        except StorageError as error:
            if not broken:
                self.damage.append(f"{self.path.name}: chunk at byte {chunk.offset}: {one_line(error)}")
        found.sort(key=lambda one: one[:2])
        if found and not chunk.begins_ns <= found[0][0] <= found[-1][0] <= chunk.ends_ns:
            self._misplaced = True
        return found

    # --- the parts of a file ------------------------------------------------------------------------------------------

    def _read_summary(self) -> _Index:
        """Read schemas, channels, statistics and the places of chunks from the end of the file."""
        if self._bytes < len(MAGIC) + _FOOTER_BYTES:
            raise StorageError("the file is too short")
        tail = self._at(self._bytes - _FOOTER_BYTES, _FOOTER_BYTES)
        if tail[-len(MAGIC) :] != MAGIC:
            raise StorageError("the end is missing")
        if tail[0] != FOOTER:
            raise StorageError("no footer")
        summary_at, _, crc = struct.unpack_from("<QQI", tail, 9)
        if not len(MAGIC) <= summary_at <= self._bytes - _FOOTER_BYTES:
            raise StorageError("no summary")
        summary = self._at(summary_at, self._bytes - _FOOTER_BYTES - summary_at)
        if crc and crc32(tail[: 9 + 16], crc32(summary)) != crc:
            raise StorageError("the summary has another checksum")
        index, statistics = _Index(ordered=True), None
        for code, content in _split(summary):
            if code in (SCHEMA, CHANNEL):
                self._note(code, content)
            elif code == STATISTICS:
                statistics = _channel_counts(content)
            elif code == CHUNK_INDEX:
                index.chunks.append(_chunk_of_index(content))
        total = sum(statistics.values()) if statistics is not None else 0
        if not self._channels and (total or index.chunks):
            raise StorageError("the summary has no channels")
        if statistics is None or (total and not index.chunks):
            scanned = self._scan()
            scanned.counts = scanned.counts if statistics is None else statistics
            return scanned
        index.counts = statistics
        return index

    def _scan(self) -> _Index:
        """Walk through the file in sequence: channels, the places of chunks, and counts where indexes survive."""
        index, at, complete = _Index(), len(MAGIC), False
        bare_at, bare = 0, 0
        while at + _RECORD_HEAD.size <= self._bytes:
            code, length = _RECORD_HEAD.unpack(self._at(at, _RECORD_HEAD.size))
            body, end = at + _RECORD_HEAD.size, at + _RECORD_HEAD.size + length
            if code in (DATA_END, FOOTER):
                complete = True
                break
            if end > self._bytes and code != CHUNK:
                break
            if code == MESSAGE:
                bare_at, bare = (bare_at if bare else at), bare + 1
            if bare and (code != MESSAGE or bare == _MOST_BARE):
                stop = end if code == MESSAGE else at
                index.chunks.append(_Chunk(bare_at, stop - bare_at, 0, 0, None, bare=True))
                bare = 0
            if code in (SCHEMA, CHANNEL):
                self._note(code, self._at(body, length))
            elif code == CHUNK:
                index.chunks.append(self._scan_chunk(at, length))
                if end > self._bytes:
                    break
            elif code == MESSAGE_INDEX and index.chunks:
                channel, size = struct.unpack("<HI", self._at(body, 6))
                counts = index.chunks[-1].counts
                if counts is not None:
                    counts[channel] = counts.get(channel, 0) + size // 16
            at = end
        if bare:
            index.chunks.append(_Chunk(bare_at, at - bare_at, 0, 0, None, bare=True))
        if not complete:
            self.damage.append(f"{self.path.name}: breaks off at byte {min(at, self._bytes)} of {self._bytes}")
        if complete:
            counted: Counter[int] = Counter()
            for chunk in index.chunks:
                own = self._count(chunk) if chunk.bare or not chunk.counts else chunk.counts
                counted.update(own)
            index.counts = dict(counted)
        return index

    def _scan_chunk(self, at: int, length: int) -> _Chunk:
        """Note the channels inside a chunk; its counts come from the index records behind it."""
        chunk = _Chunk(at, _RECORD_HEAD.size + length, 0, 0, {})
        try:
            records, _ = self._records_of(chunk)
            for code, content in _split(records):
                if code in (SCHEMA, CHANNEL):
                    self._note(code, content)
        except (StorageError, struct.error, UnicodeDecodeError, OSError) as error:
            self.damage.append(f"{self.path.name}: chunk at byte {at}: {one_line(error)}")
        return chunk

    def _count(self, chunk: _Chunk) -> dict[int, int]:
        counts: Counter[int] = Counter()
        try:
            for code, content in _split(self._records_of(chunk)[0]):
                if code == MESSAGE and len(content) >= _MESSAGE_HEAD.size:
                    counts[_MESSAGE_HEAD.unpack_from(content)[0]] += 1
        except (StorageError, struct.error, UnicodeDecodeError, OSError):
            pass
        return dict(counts)

    def _records_of(self, chunk: _Chunk) -> tuple[bytes | memoryview, str]:
        """The records inside a chunk, and what is wrong with them though they can be read up to there."""
        if chunk.bare:
            return self._at(chunk.offset, chunk.bytes), ""
        code, length = _RECORD_HEAD.unpack(self._at(chunk.offset, _RECORD_HEAD.size))
        if code != CHUNK or length > _MOST_CHUNK_BYTES:
            raise StorageError("no chunk there")
        cut = chunk.offset + _RECORD_HEAD.size + length > self._bytes
        here = self._bytes - chunk.offset - _RECORD_HEAD.size if cut else length
        data = self._at(chunk.offset + _RECORD_HEAD.size, here)
        _, _, size, crc = _CHUNK_HEAD.unpack_from(data)
        (name_bytes,) = struct.unpack_from("<I", data, _CHUNK_HEAD.size)
        begin = _CHUNK_HEAD.size + 4 + name_bytes
        compression = bytes(data[_CHUNK_HEAD.size + 4 : begin]).decode()
        if compression not in COMPRESSIONS:
            raise StorageError(f"encrypted, or of unknown compression {compression!r}")
        if size > _MOST_CHUNK_BYTES:
            raise StorageError(f"a length of {size} bytes")
        records = _decompress(memoryview(data)[begin + 8 :], compression, size)
        if cut:
            return records, "it is cut off"
        if len(records) != size:
            raise StorageError(f"{len(records)} bytes instead of {size}")
        if crc and crc32(records) != crc:
            raise StorageError("another checksum")
        return records, ""

    def _note(self, code: int, content: bytes | memoryview) -> None:
        data = bytes(content)
        (number,) = struct.unpack_from("<H", data)
        if code == SCHEMA:
            name, at = _text(data, 2)
            encoding, at = _text(data, at)
            text, _ = _text(data, at)
            self._schemas.setdefault(number, (name, Definition(encoding, text)))
            return
        (schema,) = struct.unpack_from("<H", data, 2)
        topic, at = _text(data, 4)
        encoding, _ = _text(data, at)
        kind = self._schemas.get(schema, ("", None))[0]
        self._channels.setdefault(number, StoredTopic(topic, kind, encoding))

    def _at(self, offset: int, count: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(count)
        if len(data) != count:
            raise StorageError(f"the file ends at byte {offset + len(data)}")
        return data


def _split(records: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """The records one after the other: (kind, content); StorageError where one is cut off."""
    view, at = memoryview(records), 0
    while at < len(view):
        if at + _RECORD_HEAD.size > len(view):
            raise StorageError("a record is cut off")
        code, length = _RECORD_HEAD.unpack_from(view, at)
        at += _RECORD_HEAD.size
        if at + length > len(view):
            raise StorageError("a record is cut off")
        yield code, view[at : at + length]
        at += length


def _text(data: bytes, at: int) -> tuple[str, int]:
    (count,) = struct.unpack_from("<I", data, at)
    end = at + 4 + count
    if end > len(data):
        raise StorageError("a text is cut off")
    return data[at + 4 : end].decode(), end


def _channel_counts(content: memoryview) -> dict[int, int]:
    (length,) = struct.unpack_from("<I", content, 42)
    return dict(struct.iter_unpack("<HQ", content[46 : 46 + length // 10 * 10]))


def _chunk_of_index(content: memoryview) -> _Chunk:
    begins_ns, ends_ns, offset, length = struct.unpack_from("<QQQQ", content)
    (size,) = struct.unpack_from("<I", content, 32)
    offsets = dict(struct.iter_unpack("<HQ", content[36 : 36 + size // 10 * 10]))
    (index_bytes,) = struct.unpack_from("<Q", content, 36 + size)
    # Each message index is a record of 9 + 6 bytes and 16 for each message; they follow the chunk one after the other.
    places = sorted((place, channel) for channel, place in offsets.items())
    stops = [*(place for place, _ in places[1:]), offset + length + index_bytes]
    counts = {channel: max(0, stop - place - 15) // 16 for (place, channel), stop in zip(places, stops, strict=True)}
    return _Chunk(offset, length, begins_ns, ends_ns, counts if counts else None)


def _decompress(data: memoryview, compression: str, size: int) -> bytes | memoryview:
    """Decompress as much as is there, at most one byte more than `size`."""
    if not compression:
        return data
    try:
        if compression == "zstd":
            return bytes(zstd.ZstdDecompressor().decompress(bytes(data), size + 1))
        return bytes(lz4.frame.LZ4FrameDecompressor().decompress(bytes(data), size + 1))
    except Exception as error:  # each library has its own kinds
        raise StorageError(one_line(error)) from error
