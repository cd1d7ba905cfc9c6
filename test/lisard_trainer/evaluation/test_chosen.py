"""What the pictures of an evaluation are called."""

from __future__ import annotations

from dataclasses import replace

from lisard_trainer.evaluation import chosen


def test_tracks_are_called_so_only_where_pictures_share_one(trained):
    each_its_own = replace(trained.pictures, tracks=tuple(map(str, range(len(trained.pictures)))))
    assert chosen.in_words(trained.pictures, "held back") == "tracks that no model was trained on (held back)"
    assert chosen.in_words(each_its_own, "test folder") == "pictures that no model was trained on (test folder)"
