"""What the images of an evaluation are called."""

from __future__ import annotations

from dataclasses import replace

from lisard_trainer.tasks.classification.evaluation import command


def test_tracks_are_called_so_only_where_images_share_one(trained):
    each_its_own = replace(trained.dataset, tracks=tuple(map(str, range(len(trained.dataset)))))
    assert (command.unit(trained.dataset), command.unit(each_its_own)) == ("tracks", "images")
