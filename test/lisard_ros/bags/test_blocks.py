"""Blocks of frames that resemble each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lisard_ros.bags.blocks import (
    BAG,
    BY,
    FRAME,
    NO_IMAGE,
    TIME,
    TRACK,
    BlockRule,
    CameraBlocks,
    FrameLog,
    fingerprint,
    settle,
)
from lisard_ros.bags.evaluation_state import EvaluationState
from lisard_ros.bags.reader import BagFrame
from lisard_ros.errors import UsageError
from lisard_ros.frames import Frame, Region

S = 1_000_000_000


def item(
    seed: int | None, second: float, *ids: str, track: str = "", recording: int = 0, topic: str = "/a"
) -> BagFrame:
    """A frame with a random image (the same for the same seed; None: none), and boxes with these ids."""
    frame = None
    if seed is not None:
        image = np.random.default_rng(seed).integers(0, 256, (300, 400, 3), dtype=np.uint8)
        frame = Frame(image, "rgb", 0, "", "a")
    regions = tuple(Region((0, 0, 1, 1), "x", id=one) for one in ids) or None
    return BagFrame(topic, round(second * S), frame, None, 0.1, None, regions, track, recording)


def settled(by: str, items: list[BagFrame], **settings: Any) -> CameraBlocks:
    """The blocks of frames, all taken for those of one camera."""
    state, log = EvaluationState(()), FrameLog()
    for one in items:
        names = [region.id for region in one.regions or ()] + [one.track] * bool(one.track)
        tracks = [state.track_names.of((one.recording, name)) for name in names]
        image = NO_IMAGE if one.frame is None else fingerprint(one.frame)
        log.add(one.stamp_ns, one.recording, image, 0, tracks)
    return settle(BlockRule(by, **settings), [log])[0]


def blocks(by: str, items: list[BagFrame], **settings: Any) -> list[int]:
    """The block of each frame."""
    return settled(by, items, **settings).blocks.tolist()


def test_stretches_of_time_are_shared_by_cameras_and_not_by_recordings() -> None:
    frames = [item(0, 5), item(1, 6, topic="/b"), item(2, 14.9), item(3, 15), item(4, 5, recording=1)]
    assert blocks(TIME, frames) == [0, 0, 0, 1, 2]
    assert blocks(TIME, frames, block_s=0.5) == [0, 1, 2, 3, 4]


def test_tracks_that_meet_in_a_frame_are_one_block() -> None:
    frames = [
        item(0, 0, "1"),
        item(1, 1, "2"),
        item(2, 2, "1", "2"),
        item(3, 3, "3"),
        item(4, 4),
        item(5, 5, track="3"),
    ]
    assert blocks(TRACK, frames) == [0, 0, 0, 1, 2, 1]
    assert blocks(TRACK, [item(0, 0, "1"), item(1, 0, "1", recording=1)]) == [0, 1]


def test_labels_without_tracks_give_no_blocks_by_track() -> None:
    with pytest.raises(UsageError, match="--by track: found labels without tracks"):
        blocks(TRACK, [item(0, 0), item(1, 1)])


def test_recordings_and_frames() -> None:
    frames = [item(0, 0), item(1, 50), item(2, 0, recording=1), item(None, 0), item(None, 0)]
    assert blocks(BAG, frames) == [0, 0, 1, 0, 0] and blocks(FRAME, frames) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("by", [by for by in BY if by != TRACK])
def test_copies_of_an_image_count_once_whenever_they_come(by: str) -> None:
    """Regression: 4,000 frames that are 221 distinct ones gave an interval as narrow as 4,000 would."""
    made = settled(by, [item(n % 7, 11.0 * n) for n in range(70)])
    assert len(set(made.blocks.tolist())) == (1 if by == BAG else 7) and made.copies == 63
