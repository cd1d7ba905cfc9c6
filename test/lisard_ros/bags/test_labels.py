"""Labels and frames: the nearest wins within the tolerance, ties are not scored, and nothing vanishes uncounted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.bags import labels, reader
from lisard_ros.bags.labels import AMBIGUOUS, UNMATCHED, Truth, in_order, join
from lisard_ros.errors import DataError
from lisard_ros.frames import Region

MS = 1_000_000
S = 1_000_000_000


def series(*stamps_ms: float, names: str = "") -> labels.LabelSeries:
    """Labels at these times; names: one letter each."""
    letters = names or "abcdefghij"
    return in_order("labels", [(round(ms * MS), Truth(name)) for ms, name in zip(stamps_ms, letters, strict=False)])


def joined(frames_ms: list[float], of: labels.LabelSeries, tolerance_ms: float = 10) -> list[int]:
    """Places of the labels."""
    return join(np.array([round(ms * MS) for ms in frames_ms], np.int64), of, tolerance_ms).tolist()


@pytest.mark.parametrize(
    ("frames_ms", "labels_ms", "places"),
    [
        ([100, 200], [101, 199], [0, 1]),
        ([100, 200], [111, 189.9], [UNMATCHED, UNMATCHED]),
        ([100], [110], [0]),
        ([100], [95, 103], [1]),
        ([100], [95, 105], [AMBIGUOUS]),
        ([100, 104], [103], [UNMATCHED, 0]),
        ([100, 106], [103], [AMBIGUOUS, AMBIGUOUS]),
        ([100, 100], [100], [AMBIGUOUS, AMBIGUOUS]),
        ([200, 100], [100, 200], [1, 0]),
        ([100], [], [UNMATCHED]),
        ([], [100], []),
    ],
)
def test_the_nearest_label_wins_and_ties_are_ambiguous(
    frames_ms: list[float], labels_ms: list[float], places: list[int]
) -> None:
    assert joined(frames_ms, series(*labels_ms)) == places


def test_two_labels_of_one_stamp_contradict_each_other_unless_they_are_equal() -> None:
    """Regression: the later one overwrote the other without a word."""
    assert joined([100], series(100, 100, names="ab")) == [AMBIGUOUS]
    same = series(100, 100, names="aa")
    assert joined([100], same) == [0] and same.repeated == 1


@given(
    st.lists(st.integers(0, 500), max_size=30),
    st.lists(st.integers(0, 500), max_size=30),
    st.integers(0, 40),
)
def test_no_label_is_given_to_two_frames_and_none_from_afar(
    frames: list[int], stamps: list[int], tolerance: int
) -> None:
    of = in_order("labels", [(ms * MS, Truth(str(ms))) for ms in stamps])
    places = joined([float(ms) for ms in frames], of, tolerance)
    taken = [place for place in places if place >= 0]
    assert len(set(taken)) == len(taken)
    for ms, place in zip(frames, places, strict=True):
        distances = [abs(ms - one) for one in set(stamps)]
        if place >= 0:
            assert abs(ms * MS - of.stamps_ns[place]) == min(distances) * MS <= tolerance * MS
        elif place == UNMATCHED and distances and min(distances) <= tolerance:
            nearest = min(set(stamps), key=lambda one: abs(ms - one))
            assert any(abs(other - nearest) < abs(ms - nearest) for other in frames), "another frame is nearer"


def test_the_default_tolerance_is_half_an_interval() -> None:
    assert labels.default_tolerance_ms(np.array([0, 10, 20, 90]) * MS) == 5
    assert labels.default_tolerance_ms(np.array([0, 100, 200]) * MS) == 20
    assert labels.default_tolerance_ms(np.array([5])) == labels.default_tolerance_ms(np.array([], np.int64)) == 20


def test_classes_are_renamed_or_left_out() -> None:
    boxes = (Region((0, 0, 1, 1), "car"), Region((0, 0, 2, 2), "bike"), Region((0, 0, 3, 3)))
    before = in_order("labels", [(0, Truth("car")), (1, Truth(None, boxes))])
    after = labels.renamed(before, {"car": "vehicle", "bike": ""})
    assert after.truths[0] == Truth("vehicle")
    second = after.truths[1]
    assert second is not None and [r.label for r in second.regions or ()] == ["vehicle", None]
    assert after.names() == {"vehicle": 2}


def test_unknown_classes_are_refused_with_a_suggestion() -> None:
    labels.require_known({"stop": 3}, ["stop", "yield"], "signs")
    with pytest.raises(
        DataError, match=r"found halt \(2\), stpo \(1\), expected of stop, yield; --label-map stpo=stop"
    ):
        labels.require_known({"stop": 3, "stpo": 1, "halt": 2}, ["stop", "yield"], "signs")


def rgb(seed: int) -> Any:
    """A random image."""
    return np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def test_labels_a_millisecond_off_are_joined_and_all_frames_counted(recording: Any) -> None:
    """Regression: such frames were left out of every count."""
    path = recording.write(
        "bag",
        [
            recording.raw(rgb(0), S),
            recording.label(S + MS, "red"),
            recording.raw(rgb(1), S + 100 * MS),
            recording.raw(rgb(2), S + 200 * MS),
            recording.label(S + 200 * MS, "red"),
            recording.label(S + 200 * MS, "blue"),
            recording.label(S + 400 * MS, "red"),
        ],
    )
    with reader.open_bag(path) as bag:
        assert [item.label for item in bag.frames()] == ["red", None, None]
        (found,) = bag.joins()
    assert (found.matched, found.unmatched, found.ambiguous, found.unused, found.tolerance_ms) == (1, 1, 1, 2, 20)


def test_labels_that_meet_no_frame_are_refused(recording: Any) -> None:
    path = recording.write("bag", [recording.raw(rgb(0), S), recording.label(S + 50 * MS, "red")])
    with (
        reader.open_bag(path) as bag,
        pytest.raises(DataError, match="found the nearest one 50 ms away .*tolerance-ms"),
    ):
        list(bag.frames())
    with reader.open_bag(path, label_options=reader.LabelOptions(tolerance_ms=50)) as bag:
        assert [item.label for item in bag.frames()] == ["red"]


def test_labels_of_a_file_take_the_place_of_topics(recording: Any, tmp_path: Path) -> None:
    path = recording.write("bag", [recording.raw(rgb(0), S), recording.label(S, "red")])
    file = tmp_path / "labels.csv"
    file.write_text("stamp_s,label,topic\n1.0,blue,/front/image_raw\n1.0,green,/rear\n", encoding="utf-8")
    with reader.open_bag(path, label_options=reader.LabelOptions(file)) as bag:
        assert [item.label for item in bag.frames()] == ["blue"] and not bag.has_boxes()
        assert [str(one.source) for one in bag.joins()] == ["labels.csv"]
