"""Kept results: found again, never trusted when damaged, never half written."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.errors import UsageError
from lisard_trainer.evaluation import cache


@dataclass(frozen=True)
class Key:
    model: str
    eps: float = 8.0


@dataclass(frozen=True)
class OtherKey:
    model: str
    eps: float = 8.0


ARRAYS = {"answers": np.arange(5, dtype=np.int16), "deltas": np.zeros((2, 3), np.int8)}


@pytest.fixture
def kept(tmp_path):
    return cache.Cache(tmp_path / "kept")


def must_not_run():
    raise AssertionError("made again")


def test_what_was_made_is_found_again_with_types_and_shapes(kept):
    kept.remember(Key("a"), lambda: ARRAYS)
    again = kept.remember(Key("a"), must_not_run)
    assert all((again[name] == value).all() and again[name].dtype == value.dtype for name, value in ARRAYS.items())
    assert set(again) == set(ARRAYS) and (kept.made, kept.found, kept.damaged) == (1, 1, 0)


def test_every_field_and_the_kind_of_key_decide():
    digests = {cache.digest(key) for key in (Key("a"), Key("b"), Key("a", 4.0), OtherKey("a"))}
    assert len(digests) == 4 and cache.digest(Key("a")) == cache.digest(Key("a", 8.0))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_changed_byte_or_length_is_noticed(tmp_path_factory, data):
    kept = cache.Cache(tmp_path_factory.mktemp("kept"))
    kept.put(Key("a"), ARRAYS)
    path = kept.path(Key("a"))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    path.write_bytes(data.draw(st.sampled_from([flipped, whole[:at], whole + b"x"])))
    assert kept.get(Key("a")) is None and kept.damaged == 1


def test_damage_is_told_and_mended(kept, caplog):
    kept.remember(Key("a"), lambda: ARRAYS)
    kept.path(Key("a")).write_bytes(b"nonsense")
    with caplog.at_level(logging.WARNING):
        kept.remember(Key("a"), lambda: ARRAYS)
    assert "damaged" in caplog.text and kept.get(Key("a")) is not None


def test_the_file_of_another_key_is_not_taken(kept):
    kept.put(Key("a"), ARRAYS)
    kept.path(Key("b")).parent.mkdir(exist_ok=True)
    kept.path(Key("b")).write_bytes(kept.path(Key("a")).read_bytes())
    assert kept.get(Key("b")) is None


def test_fresh_makes_everything_anew(tmp_path):
    cache.Cache(tmp_path).remember(Key("a"), lambda: ARRAYS)
    fresh = cache.Cache(tmp_path, fresh=True)
    fresh.remember(Key("a"), lambda: {"answers": np.ones(1)})
    assert fresh.made == 1 and cache.Cache(tmp_path).get(Key("a"))["answers"].tolist() == [1.0]


def test_a_write_that_fails_leaves_nothing_and_says_what_to_do(kept, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    with pytest.raises(UsageError, match="No space left on device.*make room"):
        kept.put(Key("a"), ARRAYS)
    assert not [path for path in kept.folder.rglob("*") if path.is_file()]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="LISARD_CACHE"):
        cache.Cache(tmp_path / "file" / "kept")


def test_the_default_folder_follows_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path))
    assert cache.default_folder() == tmp_path / "evaluations"
    monkeypatch.delenv("LISARD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / "lisard_ros" / "evaluations"
