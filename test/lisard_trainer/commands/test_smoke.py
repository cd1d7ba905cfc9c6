"""The smoke test of the trainer, as the command runs it."""

from __future__ import annotations

import pytest

from lisard_ros import bundle, cli
from lisard_ros.errors import DataError
from lisard_trainer.commands import smoke
from lisard_trainer.training import checkpoint


def test_smoke_trains_exports_and_attacks(tmp_path, capsys):
    assert cli.main(["train", "--smoke", "--out", str(tmp_path), "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert said.count("  ok ") == 4 and "smoke test passed" in said
    assert checkpoint.read(tmp_path).epoch == 2
    assert bundle.read(tmp_path / "bundle").manifest.name == "smoke"


def test_smoke_without_images_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="no folder .*check --data"):
        smoke.run(tmp_path, str(tmp_path / "none"), "cpu")


@pytest.mark.parametrize(("classes", "images"), [(40, 2), (3, 24)])
def test_smoke_takes_any_class_folders(classes, images, tmp_path, make_image):
    for label in range(classes):
        for number in range(images):
            path = tmp_path / "data" / f"class {label}" / f"{number}.png"
            make_image(path, (label * 6, 90, 250 - label * 6), number)
    said = []
    smoke.run(tmp_path / "run", str(tmp_path / "data"), "cpu", said.append)
    assert "smoke test passed" in said[-1]


def test_smoke_takes_the_shipped_tracks_by_name(tmp_path):
    """As `make packages` gives them to an installed wheel."""
    said = []
    smoke.run(tmp_path / "run", str(smoke.IMAGES), "cpu", said.append)
    assert "smoke test passed" in said[-1]


def test_train_without_recipe_is_wrong_use(capsys):
    assert cli.main(["train"]) == 2
    assert "no recipe" in capsys.readouterr().err
