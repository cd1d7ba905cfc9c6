"""A page's images have room together: every attack keeps its first example before another has its second."""

from __future__ import annotations

import numpy as np

from lisard_ros.evaluation.pairs import Label, Pair
from lisard_ros.frames import Frame
from lisard_ros.reporting.album import Album, AnsweredImage


def test_every_attack_keeps_its_worst_example_where_room_is_short() -> None:
    album, label = Album(), Label(0, None, "stop")
    random = np.random.default_rng(0)
    for number in range(3):
        frame = Frame(random.integers(0, 256, (200, 300, 3), np.uint8), "rgb", number, "", "front")
        clean = AnsweredImage(frame, "clean", (Pair(label, label, True),) * 3)
        for name in ("fgsm", "pgd10"):
            taken = (Pair(label, label, False),) * (number + 1) + (Pair(label, label, True),) * (2 - number)
            album.offer("", clean, AnsweredImage(frame, name, taken))
    everything = album.examples()
    assert [(one.injection, one.harm) for one in everything] == [("fgsm", 3), ("fgsm", 2), ("pgd10", 3), ("pgd10", 2)]
    room = 2 * max(one.size_bytes for one in everything)
    assert [(one.injection, one.harm) for one in album.examples(room)] == [("fgsm", 3), ("pgd10", 3)]
    assert album.examples(1000) == ()
