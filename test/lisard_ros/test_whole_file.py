"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lisard_ros.whole_file import write_whole


def test_a_file_and_its_folders_are_written_and_replaced(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "file"
    write_whole(file, b"first")
    write_whole(file, b"second")
    assert file.read_bytes() == b"second" and os.listdir(file.parent) == ["file"]


def test_what_was_there_stays_when_the_new_content_cannot_take_its_place(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.mkdir()
    (place / "kept").write_bytes(b"kept")
    with pytest.raises(OSError, match="file"):
        write_whole(place, b"new")
    assert os.listdir(tmp_path) == ["file"] and (place / "kept").read_bytes() == b"kept"
