"""What the evaluation of a task cannot do is refused before anything is read or measured."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from lisard_ros import cli
from lisard_ros.errors import UsageError
from lisard_trainer import task_registry
from lisard_trainer.commands import evaluate
from lisard_trainer.evaluation.request import UnsupportedOption

DETECTOR = Path(__file__).parents[3] / "models" / "road_signs"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--compare", "a:b"], "--compare: found a:b, expected a classifier; leave --compare out"),
        (["--eps", "4"], "--eps: found 4, expected a classifier; a detector's suites have several budgets"),
        (["--ensemble"], "--ensemble: found given, expected a classifier; leave --ensemble out"),
        (["--images", "here"], "--images: found here, expected --data with a list of boxes, for a detector"),
        (["--tracks", "list.txt"], "--tracks: found list.txt, expected a classifier; leave --tracks out"),
        (["--device", "cuda"], "--device: found cuda, expected cpu, for a detector; leave --device out"),
    ],
)  # fmt: skip
def test_a_detector_refuses_what_its_evaluation_does_not_have(words, message, tmp_path, capsys):
    given = ["evaluate", str(DETECTOR), "--surrogate", "nowhere", "--cache", str(tmp_path / "cache"), *words]
    assert cli.main(given) == 2
    assert message in capsys.readouterr().err


def test_every_unsupported_option_is_one_of_the_command():
    parser = argparse.ArgumentParser()
    evaluate.configure(parser)
    known = parser.format_help()
    for name in task_registry.names():
        for one in task_registry.find(name).unsupported_options:
            assert one.option in known


def test_an_option_at_its_default_or_of_another_value_is_not_refused():
    parser = argparse.ArgumentParser()
    evaluate.configure(parser)
    args = parser.parse_args(["bundle", "--surrogate", "s", "--eps", "8", "--device", "cpu"])
    evaluate.check_options([UnsupportedOption("--eps", "x"), UnsupportedOption("--device", "x", value="cuda")], args)
    with pytest.raises(UsageError, match="--device: found cpu, expected auto"):
        evaluate.check_options([UnsupportedOption("--device", "auto")], args)


def test_the_help_names_the_suites_of_every_task():
    for name in task_registry.names():
        found = task_registry.find(name).suites()
        assert found.heading in evaluate.HELP and all(about in evaluate.HELP for about in found.suites.values())
