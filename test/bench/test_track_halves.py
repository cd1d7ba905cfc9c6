"""bench/tracks: two halves of the held-back GTSRB tracks with nothing in common, each class in both where it can be."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("torch")

ROOT = Path(__file__).resolve().parents[2]
TRACKS = 133  # that split_seed 0 holds back


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("bench_track_halves", ROOT / "bench" / "track_halves.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def committed(bench: ModuleType) -> list[list[str]]:
    """The tracks of both lists in the checkout."""
    texts = [(bench.FOLDER / f"gtsrb_{name}.txt").read_text() for name in bench.HALVES]
    return [[line for line in text.splitlines() if not line.startswith("#")] for text in texts]


def test_the_committed_halves_are_those_that_the_seed_draws(bench: ModuleType) -> None:
    sides = committed(bench)
    by_class: dict[int, list[str]] = {}
    for track in sorted(sides[0] + sides[1]):
        by_class.setdefault(int(track[:5]), []).append(track)
    assert len(set(sides[0] + sides[1])) == TRACKS and len(by_class) == 43
    assert [list(side) for side in bench.halves(by_class, bench.SEED)] == sides


def test_no_track_is_in_both_and_each_class_is_shared(bench: ModuleType) -> None:
    sides = committed(bench)
    assert not set(sides[0]) & set(sides[1]) and abs(len(sides[0]) - len(sides[1])) == 1
    counts = [Counter(track[:5] for track in side) for side in sides]
    assert all(abs(counts[0][name] - counts[1][name]) <= 1 for name in counts[0] | counts[1])


def test_images_of_the_demonstration_lie_in_the_halves(bench: ModuleType) -> None:
    """data/gtsrb_tracks is an excerpt of the same held-back tracks, read by other code."""
    shown = {
        f"{path.parent.name}/{path.stem.rpartition('_')[0]}" for path in (ROOT / "data/gtsrb_tracks").rglob("*.png")
    }
    assert shown and shown <= {track for side in committed(bench) for track in side}


def test_another_seed_draws_other_halves(bench: ModuleType) -> None:
    tracks = {label: [f"{label:05d}/{n:05d}" for n in range(1 + label % 4)] for label in range(12)}
    first, again, other = (bench.halves(tracks, seed) for seed in (1, 1, 2))
    assert first == again and first != other
    assert sorted(first[0] + first[1]) == sorted(other[0] + other[1])
