"""The frames a page shows: those with most harm, one that held, none that was wrong anyway; and the page itself."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from lisard_ros.bags import page
from lisard_ros.bags.album import ReplayAlbum
from lisard_ros.bags.live import LiveCamera, LiveReplay, NodeCounts
from lisard_ros.bags.reader import BagFrame
from lisard_ros.bags.report import NO_EFFECT, NOT_APPLIED, CameraResult, Replay, ReplayedModel
from lisard_ros.bags.seen import Seen
from lisard_ros.evaluation.pairs import Label, Pair
from lisard_ros.evaluation.statistics import percentiles, proportion
from lisard_ros.frames import Frame
from lisard_ros.injection import CLEAN
from lisard_ros.reporting.album import wrong

MODELS = (ReplayedModel("<bundle>", "0" * 64, "ONNX", "asked for"),)
BOX = (2.0, 4.0, 12.0, 14.0)


def seen(stamp: int, condition: str, good: int, bad: int, topic: str = "/front") -> Seen:
    """An answer with so many right and wrong boxes."""
    frame = Frame(np.full((20, 40, 3), stamp % 256, np.uint8), "rgb", stamp, "", "front")
    labels = [Label(0, BOX, "<sign>", 0.5)] * (good + bad)
    pairs = tuple(Pair(label if n < good else None, label, n < good) for n, label in enumerate(labels))
    return Seen(BagFrame(topic, stamp, frame, None, 0.1, None, None), condition, pairs)


def album(*cases: tuple[int, int, int], **sizes: int) -> ReplayAlbum:
    """(stamp, wrong when clean, wrong when attacked) of four boxes each."""
    made = ReplayAlbum(**sizes)
    for stamp, before, after in cases:
        made.watch(seen(stamp, CLEAN, 4 - before, before))
        made.watch(seen(stamp, "swap", 4 - after, after))
    return made


def test_the_frames_with_most_harm_are_kept_and_one_that_held() -> None:
    found = album((1, 0, 1), (2, 0, 0), (3, 0, 3), (4, 1, 1), (5, 0, 2), (6, 0, 0)).examples()
    assert [(one.stamp_ns, one.harm) for one in found] == [(3, 3), (5, 2), (2, 0)]
    assert found[0].clean.condition == CLEAN and found[0].attacked.condition == "swap"


def test_a_frame_that_was_as_wrong_when_clean_is_not_shown() -> None:
    assert album((1, 2, 2), (2, 3, 1)).examples() == ()


def test_nothing_is_shown_where_nothing_can_be_said() -> None:
    made = ReplayAlbum()
    made.watch(seen(1, "swap", 1, 0))
    assert made.examples() == (), "no clean answer came before"
    made.watch(seen(1, CLEAN, 0, 0))
    made.watch(seen(1, "swap", 0, 0))
    assert made.examples() == (), "no box in either"


def test_missed_boxes_are_drawn_where_they_are() -> None:
    (one,) = album((7, 0, 1)).examples()
    last = one.attacked.overlays[-1]
    assert last.missed and last.right is False and last.text == "<sign> missed"
    assert (last.left, last.top, last.width, last.height) == (5, 20, 25, 50)
    assert wrong(seen(1, CLEAN, 2, 3).pairs) == 3


def row(injection: str, hits: int, n: int, **changes: Any) -> CameraResult:
    """A row of the matrix."""
    values: dict[str, Any] = {
        "topic": "/front",
        "backend": "ONNX",
        "injection": injection,
        "knowledge": "gray-box",
        "frames": 9,
        "answered": 8,
        "failed": {"image": 1},
        "not_applicable": 0,
        "judged": "accuracy",
        "score": proportion(hits, n),
        "clean": proportion(n, n),
        "false_boxes": 2,
        "latency": {
            name: percentiles([1.0, 2.0])
            for name in ("decode", "preprocess", "inject", "infer", "postprocess", "total")
        },
    }
    return CameraResult(**{**values, **changes})


def test_the_page_holds_every_row_and_escapes_what_it_shows() -> None:
    replay = Replay("drives/<one>", "<bundle>", "0" * 64, "ONNX", (row(CLEAN, 8, 9), row("swap", 3, 9)), models=MODELS)
    text = page.render(replay, album((7, 0, 1)).examples())
    assert text.count("<tr>") == 3 and "33.3 %" in text and "image 1" in text and "what was recorded" in text
    assert "&lt;sign&gt; missed" in text and "&lt;bundle&gt;" in text
    assert "<sign>" not in text and "<bundle>" not in text
    assert text.count("data:image/png;base64,") == 2 and "http" not in text.replace("http://www.w3.org", "")
    assert "Worst injection" in text and "swap" in text


def test_the_headline_names_attacks_without_effect() -> None:
    """Regression: attacks that were made for none of the frames were not in the headline at all."""
    rows = (
        row(CLEAN, 8, 9),
        row("noise", 8, 9, effect=NO_EFFECT),
        row("fgsm", 0, 0, effect=NOT_APPLIED),
        row("pgd", 0, 0, effect=NOT_APPLIED),
    )
    text = page.render(Replay("drive", "bundle", "0" * 64, "ONNX", rows, models=MODELS), ())
    tiles = [
        " ".join(re.sub("<[^>]*>", "|", tile).split("|")).split() for tile in re.findall('class="tile">(.*)', text)
    ]
    assert ["Worst", "injection", "88.9", "%", "noise:", "no", "measurable", "effect"] in tiles
    assert ["Applied", "to", "no", "frame", "2", "of", "3", "fgsm,", "pgd"] in tiles
    assert ["No", "measurable", "effect", "1", "of", "3", "noise"] in tiles
    assert "(applied to no frame)" in text


def test_the_page_shows_what_became_of_each_frame_in_the_node() -> None:
    counts = NodeCounts(8, 6, 2, 0, 0, 1)
    outcomes = {"equal": (0, 1, 2, 5, 6), "different": (8,), "replaced": (3, 4), "lost": (7,)}
    camera = LiveCamera("/front", 9, counts, 0, tuple(range(0, 9 * 10**8, 10**8)), outcomes)
    live = LiveReplay("/perception", "int8", "fp32", 1.2, (camera,))
    text = page.render(Replay("drive", "b", "0" * 64, "ONNX", (row(CLEAN, 8, 9),), models=MODELS, live=live), ())
    assert "0-2, 5-6" in text and "22.2 %" in text and "lost in transport" in text
    assert 'aria-label="Share of each outcome over time"' in text
    assert "not accounted for" not in text and "without DDS: fp32" in text
    assert "Through the running node" not in page.render(Replay("drive", "b", "0" * 64, "ONNX", ()), ())


def test_a_page_without_anything_to_show_is_still_a_page() -> None:
    empty = row(
        CLEAN,
        0,
        0,
        judged="reference",
        answered=0,
        false_boxes=None,
        latency={name: percentiles([]) for name in row(CLEAN, 0, 0).latency},
    )
    assert math.isnan(empty.score.share)
    assert "no data" in page.render(Replay("bag", "b", "0" * 64, "ONNX", (empty,), models=MODELS), ())
    assert "Frames answered" in page.render(Replay("bag", "b", "0" * 64, "ONNX", ()), ())
