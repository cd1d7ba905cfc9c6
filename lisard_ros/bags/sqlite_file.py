"""rosbag2's SQLite files, whole or damaged: in the order of time, behind damage row by row."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lisard_ros.bags.storage import Definition, StorageError, StoredMessage, StoredTopic
from lisard_ros.errors import one_line

MAGIC = b"SQLite format 3\x00"
_HEADER_BYTES, _MOST_PADDING = 100, 64  # a length beyond is a damaged header
_FILLING_BYTES, _FILLING_SEEN = 16, 4
# sqlite3 also fails to decode its own messages about damaged names.
_ERRORS = (sqlite3.Error, UnicodeDecodeError, OverflowError)
_MOST_MISSING = 200  # rows in a row that cannot be read before the rest is given up


class SqliteFile:
    """An open file. damage: what was found wrong so far, line by line."""

    def __init__(self, path: Path) -> None:
        """Open a file and read its topics; StorageError when that is not possible."""
        self.path = path
        self.damage: list[str] = []
        self.definitions: dict[str, Definition] = {}
        self._padded: tempfile.TemporaryDirectory[str] | None = None
        self._filling = os.urandom(_FILLING_BYTES)
        try:
            self._database = sqlite3.connect(
                f"{self._whole().resolve().as_uri()}?immutable=1", uri=True, check_same_thread=False
            )
        except _ERRORS as error:
            raise StorageError(one_line(error)) from error
        self._database.text_factory = lambda data: data.decode(errors="replace")
        try:
            rows = self._database.execute("SELECT id, name, type, serialization_format FROM topics").fetchall()
        except _ERRORS as error:
            self.close()
            raise StorageError(one_line(error)) from error
        self._topics = {
            number: StoredTopic(name, kind, encoding)
            for number, name, kind, encoding in rows
            if all(isinstance(text, str) for text in (name, kind, encoding))
        }
        try:
            query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
            for kind, encoding, text in self._database.execute(query):
                self.definitions[str(kind)] = Definition(str(encoding), str(text))
        except _ERRORS:
            pass  # older files have no definitions

    @property
    def topics(self) -> tuple[StoredTopic, ...]:
        """All topics."""
        return tuple(self._topics.values())

    def expected(self, topics: Sequence[str]) -> int | None:
        """Count the rows of these topics; None where the database is damaged."""
        try:
            counts = self._database.execute("SELECT topic_id, count(*) FROM messages GROUP BY topic_id").fetchall()
        except _ERRORS:
            return None
        wanted = self._wanted(topics)
        return sum(count for number, count in counts if number in wanted)

    @property
    def can_seek(self) -> bool:
        """Whether there is no damage."""
        return not self.damage

    def messages(self, topics: Sequence[str], since_ns: int | None = None) -> Iterator[StoredMessage]:
        """Yield the messages by time; behind damage those rows that can still be read."""
        wanted = self._wanted(topics)
        if not wanted:
            return
        marks, last = ",".join("?" * len(wanted)), 0
        since, values = ("", ()) if since_ns is None else ("timestamp >= ? AND", (since_ns,))
        query = "SELECT id, topic_id, timestamp, data FROM messages "
        query += f"WHERE {since} topic_id IN ({marks}) ORDER BY timestamp, id"
        try:
            rows = self._database.execute(query, (*values, *wanted))
            for number, topic, stamp, data in rows:
                last = max(last, number) if isinstance(number, int) else last
                if (message := self._message(topic, stamp, data)) is not None:
                    yield message
        except _ERRORS as error:
            self.damage.append(f"{self.path.name}: behind row {last}: {one_line(error)}")
            yield from self._behind(last, wanted)

    def close(self) -> None:
        """Close the database."""
        self._database.close()
        if self._padded is not None:
            self._padded.cleanup()

    def _whole(self) -> Path:
        """Return the file, or of one that is cut off a copy as long as its header says: SQLite opens no shorter one."""
        with self.path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
        here = self.path.stat().st_size
        page_bytes = int.from_bytes(head[16:18], "big")
        page_bytes = 65536 if page_bytes == 1 else page_bytes
        wanted = page_bytes * int.from_bytes(head[28:32], "big")
        if not here < wanted < _MOST_PADDING * here:
            return self.path
        self.damage.append(f"{self.path.name}: breaks off at byte {here} of {wanted}")
        self._padded = tempfile.TemporaryDirectory()
        copy = Path(self._padded.name) / self.path.name
        shutil.copyfile(self.path, copy)
        # A message may end in a missing page; what the page is filled with tells that.
        pages = here // page_bytes
        page = b"\xff" * 4 + self._filling * (page_bytes // len(self._filling))
        with copy.open("r+b") as file:
            file.truncate(pages * page_bytes)
            file.seek(pages * page_bytes)
            for _ in range(wanted // page_bytes - pages):
                file.write(page[:page_bytes])
        return copy

    def _wanted(self, topics: Sequence[str]) -> dict[int, StoredTopic]:
        return {number: one for number, one in self._topics.items() if one.name in topics}

    def _behind(self, last: int, wanted: dict[int, StoredTopic]) -> Iterator[StoredMessage]:
        missing = 0
        while missing < _MOST_MISSING:
            last, row = last + 1, None
            try:
                query = "SELECT topic_id, timestamp, data FROM messages WHERE id = ?"
                row = self._database.execute(query, (last,)).fetchone()
            except _ERRORS:
                pass  # this row too
            missing = 0 if row is not None else missing + 1
            if row is not None and row[0] in wanted and (message := self._message(*row)) is not None:
                yield message

    def _is_filled(self, data: bytes) -> bool:
        """Whether a message goes on in a page that is missing."""
        ends = tuple(self._filling[:count] for count in range(_FILLING_SEEN, _FILLING_BYTES))
        return self._filling in data or data.endswith(ends)

    def _message(self, topic: object, stamp: object, data: object) -> StoredMessage | None:
        if not isinstance(topic, int) or topic not in self._topics or not isinstance(data, bytes):
            self.damage.append(f"{self.path.name}: a row without a message")
            return None
        if self._padded is not None and self._is_filled(data):
            return None
        return StoredMessage(self._topics[topic], stamp if isinstance(stamp, int) else 0, data)
