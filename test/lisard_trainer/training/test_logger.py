"""Log files: one row an epoch, a row every few steps, no row twice after an interruption."""

from __future__ import annotations

import csv
import sys

import pytest

from lisard_ros.errors import UsageError
from lisard_trainer.tasks.classification.records import RECORDS, ClassificationEpoch, ClassificationStep
from lisard_trainer.training import logger, loop


def rows(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def record(epoch: int) -> ClassificationEpoch:
    return ClassificationEpoch(
        epoch=epoch, loss=1.0, seconds=1.0, cross_entropy=1.0, similarity=0.0, validation_accuracy=0.5
    )


def step(number: int) -> ClassificationStep:
    return ClassificationStep(number, 1, 100.0, 0.1, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0)


def test_training_writes_a_row_an_epoch_and_one_every_few_steps(split, tmp_path, make_recipe, monkeypatch):
    monkeypatch.setattr(loop, "LOG_STEPS", 2)
    run = loop.fit(make_recipe(), split, tmp_path, stop_after=2, show=False)
    epochs, steps = rows(tmp_path / "epochs.csv"), rows(tmp_path / "steps.csv")
    assert [int(row["epoch"]) for row in epochs] == [1, 2]
    assert float(epochs[1]["loss"]) == run.history[1].loss and float(epochs[1]["rate"]) == run.history[1].rate > 0
    assert [(int(row["epoch"]), int(row["step"])) for row in steps] == [(1, 2), (1, 3), (2, 5), (2, 6)]
    assert all(float(row["images_per_s"]) > 0 for row in steps)


def test_rows_after_the_checkpoint_are_dropped(tmp_path):
    book = logger.RunLogger(tmp_path, 0, (), RECORDS)
    for number in (10, 20, 30):
        book.step(step(number))
    book.write_steps()
    book.epoch((record(1),), 30)
    logger.RunLogger(tmp_path, 20, (), RECORDS).close()
    assert [row["step"] for row in rows(tmp_path / "steps.csv")] == ["10", "20"]
    assert rows(tmp_path / "epochs.csv") == []


@pytest.mark.parametrize("damage", ["step,epo", "", "step,epoch\n10,1\nx,y\n", "\n\n"])
def test_damaged_log_does_not_stop_a_training(tmp_path, damage):
    (tmp_path / "steps.csv").write_text(damage)
    book = logger.RunLogger(tmp_path, 50, (record(1),), RECORDS)
    book.step(step(60))
    book.close()
    assert [row["step"] for row in rows(tmp_path / "steps.csv")] == ["60"]


def test_tensorboard_files_are_written_when_asked_for(tmp_path):
    book = logger.RunLogger(tmp_path, 0, (), RECORDS, board=True)
    book.step(step(20))
    book.epoch((record(1),), 20)
    book.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    content = file.read_bytes()
    assert b"step/loss" in content and b"epoch/validation_accuracy" in content


def test_missing_tensorboard_is_told_before_the_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UsageError, match="no package tensorboardX.*pip install tensorboardX"):
        logger.check_board()


def test_second_training_in_one_folder_is_refused(tmp_path):
    with logger.alone(tmp_path / "run"):
        with pytest.raises(UsageError, match="another training at work in it"):
            with logger.alone(tmp_path / "run"):
                pass
    with logger.alone(tmp_path / "run"):
        pass


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="run folder .*file"):
        with logger.alone(tmp_path / "file" / "run"):
            pass
