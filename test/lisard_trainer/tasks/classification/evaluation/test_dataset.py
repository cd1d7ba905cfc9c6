"""What the pictures of an evaluation are called."""

from __future__ import annotations

from dataclasses import replace

from lisard_trainer.tasks.classification.evaluation import dataset


def test_tracks_are_called_so_only_where_pictures_share_one(trained):
    each_its_own = replace(trained.pictures, tracks=tuple(map(str, range(len(trained.pictures)))))
    assert (dataset.unit(trained.pictures), dataset.unit(each_its_own)) == ("tracks", "pictures")
