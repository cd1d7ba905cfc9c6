"""What became of each frame that was played through a node: comparison, causes, counters, words. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.bags import live
from lisard_ros.bags.live import NodeCounts, OfflineAnswers, Played, PlayedCamera
from lisard_ros.errors import DataError
from lisard_ros.evaluation.pairs import Label
from lisard_ros.frames import Classification, Frame, Hypothesis, Result

STAMPS = (10, 20, 30, 40)


def label(name: str = "red", score: float = 0.9, box: tuple[float, ...] | None = None) -> Label:
    return Label(0, box, name, score)


def offline(*labels: tuple[Label, ...] | None) -> OfflineAnswers:
    return OfflineAnswers({"/a": dict(zip(STAMPS, labels, strict=True))})


def replayed(answers: dict[int, tuple[Label, ...]], counts: NodeCounts, known: OfflineAnswers) -> live.LiveReplay:
    camera = PlayedCamera("/a", STAMPS, answers, counts)
    return live.compare(Played("/perception", "there", 1.0, (camera,)), known, "here")


@pytest.mark.parametrize(
    ("counts", "cause"),
    [
        (NodeCounts(4, 2, 2, 0, 0, 0), "replaced"),
        (NodeCounts(2, 2, 0, 0, 0, 2), "lost"),
        (NodeCounts(4, 2, 0, 2, 0, 0), "too old"),
        (NodeCounts(4, 2, 0, 0, 2, 0), "failed"),
        (NodeCounts(3, 2, 1, 0, 0, 1), "unclear"),
    ],
)
def test_unanswered_frames_have_the_cause_that_the_node_counts(counts: NodeCounts, cause: str) -> None:
    right, other = (label(),), (label("green"),)
    found = replayed({10: right, 30: other}, counts, offline(right, right, right, right))
    (camera,) = found.cameras
    assert camera.outcomes == {"equal": (0,), "different": (2,), cause: (1, 3)}
    assert (camera.published, camera.unaccounted) == (4, 0)
    assert camera.share("unanswered") == 0.5 and camera.share("different") == 0.25
    assert (camera.share("lost"), camera.share("replaced")) == (counts.lost / 4, counts.replaced / 4)
    words = "\n".join(live.lines(found))
    assert f"4 published, 1 equal, 1 different, 2 {cause}" in words
    assert "the node answers with there, without DDS it is here" in words and "at 30 ns" in words
    assert ("1 lost, 1 replaced" in words) == (cause == "unclear")


def test_a_frame_that_cannot_be_answered_without_dds_has_failed() -> None:
    right = (label(),)
    counts = NodeCounts(4, 2, 1, 0, 1, 0)
    (camera,) = replayed({10: right, 20: right}, counts, offline(right, right, None, right)).cameras
    assert camera.outcomes == {"equal": (0, 1), "replaced": (3,), "failed": (2,)}


def test_causes_at_different_times_are_told_apart() -> None:
    """Regression: frames that were lost and frames that were replaced in one replay were all unclear."""
    stamps = tuple(range(10, 110, 10))
    right = (label(),)
    answers = {stamp: right for stamp in (10, 30, 40, 60, 100)}
    history = [NodeCounts(1, 1, 0, 0, 0, 0), NodeCounts(2, 2, 0, 0, 0, 1), NodeCounts(6, 4, 1, 0, 0, 1)]
    camera = PlayedCamera("/a", stamps, answers, NodeCounts(8, 5, 3, 0, 0, 2), history)
    known = OfflineAnswers({"/a": dict.fromkeys(stamps, right)})
    (found,) = live.compare(Played("/perception", "x", 1.0, (camera,)), known, "x").cameras
    # The third moment does not count: seven frames were counted, and the last of them has no answer.
    assert found.outcomes == {"equal": (0, 2, 3, 5, 9), "lost": (1,), "unclear": (4, 6, 7, 8)}


@given(st.lists(st.sampled_from("arl"), min_size=1, max_size=40), st.data())
def test_no_frame_gets_another_cause_than_its_own(fates: list[str], data: st.DataObject) -> None:
    """The node counts a loss at once and the frames ahead of it only when it takes them out of the queue."""
    stamps, right = tuple(range(len(fates))), (label(),)
    history, fetched = [], 0
    for seen in range(len(fates) + 1):
        fetched = data.draw(st.integers(fetched, seen), label="taken out of the queue")
        taken = fates[:fetched]
        received = len(taken) - taken.count("l")
        replaced = taken.count("r")
        history.append(NodeCounts(received, received - replaced, replaced, 0, 0, fates[:seen].count("l")))
    all_replaced = fates.count("r")
    total = NodeCounts(len(fates) - fates.count("l"), fates.count("a"), all_replaced, 0, 0, fates.count("l"))
    answers = {stamp: right for stamp, fate in zip(stamps, fates, strict=True) if fate == "a"}
    camera = PlayedCamera("/a", stamps, answers, total, history)
    known = OfflineAnswers({"/a": dict.fromkeys(stamps, right)})
    (found,) = live.compare(Played("/perception", "x", 1.0, (camera,)), known, "x").cameras
    names = {"a": "equal", "r": "replaced", "l": "lost"}
    for outcome, numbers in found.outcomes.items():
        assert all(outcome in (names[fates[number]], "unclear") for number in numbers)


def test_frames_that_nobody_counts_are_named() -> None:
    right = (label(),)
    found = replayed({10: right}, NodeCounts(1, 1, 0, 0, 0, 0), offline(right, right, right, right))
    assert found.cameras[0].unaccounted == 3
    assert "3 not accounted for" in "\n".join(live.lines(found))


def test_answers_agree_in_any_order_within_rounding() -> None:
    left, right = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0)
    one = (label(box=left), label("green", 0.5, right))
    assert live.same(one, (label("green", 0.501, (20.4, 0.0, 30.0, 10.0)), label(box=left)))
    assert not live.same(one, one[:1])
    assert not live.same(one, None)
    assert not live.same((label(box=left),), (label(box=(3.0, 0.0, 13.0, 10.0)),))
    assert not live.same((label(score=0.9),), (label(score=0.8),))
    assert not live.same((label(),), (label(box=left),))


def test_stamps_must_differ() -> None:
    known = OfflineAnswers()
    frame = Frame(_image(), "rgb", 1, "", "")
    known.note("/a", 1, Result(frame, Classification((Hypothesis("red", 0, 0.9),)), None))
    known.note("/b", 1, None)
    assert known.by_topic == {"/a": {1: (label(),)}, "/b": {1: None}}
    with pytest.raises(DataError, match="1 ns twice"):
        known.note("/a", 1, None)


def test_counters_that_fall_mean_another_node() -> None:
    with pytest.raises(DataError, match="started again"):
        NodeCounts(1, 1, 0, 0, 0, 0).since(NodeCounts(5, 5, 0, 0, 0, 0))


def _image():
    import numpy as np

    return np.zeros((2, 2, 3), np.uint8)
