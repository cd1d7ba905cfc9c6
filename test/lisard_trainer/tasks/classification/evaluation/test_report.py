"""The report sums up what was measured: worst conditions, what every attack together leaves, paired differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lisard_trainer.evaluation.page import markdown
from lisard_trainer.tasks.classification.evaluation import page, report, suites, tables
from lisard_trainer.tasks.classification.evaluation.results import ClassificationResults, ImageTracks
from lisard_trainer.tasks.classification.evaluation.suites import GRAY_ALL, GRAY_WORST, WHITE_ALL


@pytest.fixture(scope="module")
def found(evaluate):
    return evaluate(surrogates=("s2", "s3"))


def worst(found, model, condition):
    return next(w for w in found.report.worst if (w.model, w.condition) == (model, condition))


def test_the_worst_condition_and_all_of_them_together(found):
    for model in ("tiny", "plain"):
        rows = found.measured.of_groups(model, "gray")
        lowest, together = worst(found, model, GRAY_WORST), worst(found, model, GRAY_ALL)
        assert len(rows) == 4 and lowest.accuracy.hits == min(int(row.hits.sum()) for row in rows)
        assert together.accuracy.hits == int(np.logical_and.reduce([row.hits for row in rows]).sum())
        assert (
            set(together.conditions) == {row.condition.name for row in rows}
            and lowest.conditions[0] in together.conditions
        )


def test_together_an_image_must_be_right_when_clean_too(found):
    """An attack can turn a wrong answer into a right one."""
    rows = {row.condition.name: row for row in found.measured.of_groups("tiny", "clean", "gray", "white")}
    lucky = replace(rows["clean"], hits=np.arange(len(rows["clean"].hits)) > 0)
    attacked = [replace(row, hits=np.full(len(row.hits), True)) for name, row in rows.items() if name != "clean"]
    tracks = ImageTracks(found.context.dataset.tracks)
    sums = {w.condition: w for w in report._worst(ClassificationResults([lucky, *attacked]), "tiny", tracks)}
    assert sums[WHITE_ALL].accuracy.hits == sums[GRAY_ALL].accuracy.hits == len(lucky.hits) - 1
    assert "clean" not in sums[WHITE_ALL].conditions


def test_differences_are_paired_and_include_the_worst_conditions(found):
    by_name = {d.condition: d.difference for d in found.report.differences}
    assert set(by_name) >= {"clean", "gray_fgsm@s2", "gray_pgd10@s3", "white_pgd10", GRAY_WORST}
    for name, difference in by_name.items():
        if name != GRAY_WORST:
            ours, theirs = (found.report.line(model, name).accuracy.share for model in ("tiny", "plain"))
            assert difference.value == pytest.approx(ours - theirs)
        assert difference.low <= difference.value <= difference.high


def test_every_number_comes_with_n_interval_and_attacker(found):
    report = found.report
    assert all(
        line.accuracy.n and line.accuracy.low <= line.accuracy.share <= line.accuracy.high for line in report.lines
    )
    attacks = {attack.name: attack for attack in report.attacks}
    named = {line.condition for line in report.lines} - {"clean"}
    assert named == set(attacks) and all(attacks[name].knowledge in ("gray-box", "white-box") for name in named)


def test_requirements_name_their_surrogate(found):
    assert {c.surrogate for c in found.report.requirements} == {"s2", "s3"}
    assert {c.condition for c in found.report.requirements if c.surrogate == "s3"} == {
        "",
        "gray_fgsm@s3",
        "gray_pgd10@s3",
    }


def test_surrogates_have_a_table_of_their_own_when_there_are_several(found):
    names = [name for name, _ in tables.accuracy(found.report).rows]
    assert names == ["tiny", "plain", "tiny on ONNX Runtime"]
    assert [name for name, _ in tables.gray_box(found.report)[0].rows] == ["s2", "s3"]


def test_without_a_gray_box_condition_nothing_is_said_about_them(evaluate):
    report = evaluate(suite="standard", only=["corruption_fog_5"]).report
    assert tables.transfer_requirements(report) is None and not any(
        flag.code == "few_attackers" for flag in report.flags
    )
    assert "gray-box attack count" not in markdown(page.page_of(report))
    assert "few_attackers" in {flag.code for flag in evaluate(suite="grid", only=["gray_fgsm"]).report.flags}


def test_what_was_measured_on_is_said_with_its_tracks_where_images_share_them(found):
    report = found.report
    assert report.tracks < report.images
    assert report.measured_on == f"{report.images} images of {report.tracks} tracks"
    alone = replace(report, tracks=report.images, origin="images of a folder")
    assert alone.measured_on == f"{report.images} images of a folder" and alone.measured_on in markdown(
        page.page_of(alone)
    )


def test_what_no_column_tells_of_an_attack_is_said(found):
    assert tables.attacks(found.report).about == ""
    planned = [condition.attack for condition in suites.conditions("standard", ["s2"], 0, []) if condition.attack]
    about = tables.attacks(replace(found.report, attacks=tuple(planned))).about
    assert "a momentum of 1; DI shows each step each image, with probability 0.5, shrunk to 0.91 to 1" in about
    assert "TI smooths the gradient with 5 x 5 pixels; APGD-T goes for " in about
