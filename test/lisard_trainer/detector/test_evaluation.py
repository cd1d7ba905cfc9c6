"""`lisard evaluate` of a detection bundle: plan, kept results, report, page, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_set import TINY, write_set

from lisard_ros import cli
from lisard_ros.errors import BundleError, UsageError
from lisard_trainer import checkpoint, fit, recipes, tasks
from lisard_trainer.detector.evaluation import plan, subjects

pytestmark = pytest.mark.timeout(400)  # trainings and attacks: seconds on a free core


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set"), 6)


def trained(folder: Path, place: Path, name: str, **changes) -> Path:
    settings = {**TINY, "name": name, "optimiser": {"epochs": 1, "batch": 6, "peak_rate": 0.01}, **changes}
    for term in ("levels", "instances", "agreement"):
        settings.pop(term)
    recipe = recipes.from_mapping(settings)
    fit.fit(recipe, tasks.of(recipe).load(recipe, str(folder)), place / name, show=False)
    return place / name


@pytest.fixture(scope="module")
def models(folder, tmp_path_factory):
    """Run folders of a bundle's own training, a plain control and a surrogate."""
    place = tmp_path_factory.mktemp("runs")
    shipped = trained(folder, place, "shipped")
    saved = checkpoint.read(shipped)
    task = tasks.of(saved.recipe)
    task.export(saved, task.load(saved.recipe, str(folder)), place / "bundle", "b", "")
    trained(folder, place, "plain", views=1)
    trained(folder, place, "surrogate", views=1, seed=101)
    return place


def evaluate(models, folder, out, *words):
    return cli.main([
        "evaluate", str(models / "bundle"), "--surrogate", str(models / "surrogate"), "--control",
        f"plain={models / 'plain'}", "--data", str(folder), "--cache", str(out / "cache"),
        "--json", str(out / "r.json"), "--html", str(out / "r.html"), "--table", str(out / "r.md"), *words,
    ])  # fmt: skip


def test_quick_suite_from_end_to_end_and_again_from_what_is_kept(models, folder, tmp_path, monkeypatch):
    code = evaluate(models, folder, tmp_path)
    report = json.loads((tmp_path / "r.json").read_text())
    assert code == 1  # after one epoch nothing is found, so no attack can be shown to hurt
    assert report["schema"] == 1 and report["n"] == 6 and report["classes"] == ["red", "blue"]
    columns = {line["column"] for line in report["lines"]}
    assert columns == {"clean", "gray_joint_8", "white_joint_8", "noise_25"}
    gray = [line for line in report["lines"] if line["column"] == "gray_joint_8"]
    assert {line["model"] for line in gray} == {"lisard", "plain", "surrogate"}
    assert all(line["knowledge"] == "gray-box" and line["steps"] == 10 for line in gray)
    assert [source["role"] for source in report["sources"]] == ["shipped", "control", "surrogate"]
    page = (tmp_path / "r.html").read_text()
    assert page.count("data:image/png") == 2 * 3 * 3 and "Boxes before and after" in page
    assert "| gray_joint_8 | gray-box |" in (tmp_path / "r.md").read_text()

    def never(*_: object) -> None:
        raise AssertionError("this was kept")

    monkeypatch.setattr("lisard_trainer.detector.evaluation.measuring.craft", never)
    monkeypatch.setattr("lisard_trainer.detector.metrics.detect", never)
    assert evaluate(models, folder, tmp_path) == 1
    again = json.loads((tmp_path / "r.json").read_text())
    assert again["lines"] == report["lines"] and again["differences"] == report["differences"]


def test_chosen_columns_of_a_larger_suite(models, folder, tmp_path, capsys):
    words = ("--suite", "full", "--only", "tog_vanish_8", "--only", "fog_3", "--limit", "2")
    evaluate(models, folder, tmp_path, *words)
    report = json.loads((tmp_path / "r.json").read_text())
    assert {line["column"] for line in report["lines"]} == {"clean", "tog_vanish_8", "fog_3"} and report["n"] == 2
    assert {c["model"]: c["columns"] for c in report["corrupted"]} == {"lisard": 1, "plain": 1}
    assert "tog_vanish_8 | white-box | lisard" in capsys.readouterr().out


def test_wrong_use(models, folder, tmp_path, capsys):
    assert evaluate(models, folder, tmp_path, "--only", "whit_*") == 2
    assert "did you mean" in capsys.readouterr().err
    assert evaluate(models, folder, tmp_path, "--suite", "quik") == 2
    assert evaluate(models, folder, tmp_path, "--pictures", str(folder)) == 2


def test_models_of_another_class_list_are_refused(models, folder):
    from lisard_ros import bundle as bundles

    saved = checkpoint.read(models / "plain")
    other = checkpoint.Checkpoint(**{**vars(saved), "classes": ("red", "green")})
    with pytest.raises(BundleError, match=r"'red', 'green'.*'red', 'blue'"):
        subjects.assemble(bundles.read(models / "bundle"), {"": saved}, {"plain": other})


def test_suites_hold_what_they_say():
    full = plan.columns("full", ["a", "b"], 0)
    names = [column.name for column in full]
    assert len(set(names)) == len(names) and names[0] == "clean"
    assert sum(column.group == "corruption" for column in full) == 75
    assert {c.loss for c in full if c.group == "white"} == {"class", "location", "joint"}
    assert {c.eps_255 for c in full if c.group == "white"} == {2, 4, 8}
    assert {c.loss for c in full if c.group == "tog"} == {"vanish", "fabricate", "mislabel"}
    assert {c.surrogate for c in full if c.group == "gray"} == {"a", "b"}
    assert next(c for c in full if c.name == "white_joint_8").step_255 == 2
    with pytest.raises(UsageError, match="did you mean 'quick'"):
        plan.columns("quik", [], 0)


def test_models_are_left_as_they_were(models):
    saved = checkpoint.read(models / "plain")
    subject = subjects.of_checkpoint("plain", "control", saved)
    before = {k: v.clone() for k, v in subject.network.state_dict().items()}
    x = torch.rand(1, 3, 64, 64)
    subject.oracle  # noqa: B018  takes the network over
    subject.network(x)
    assert all(torch.equal(before[k], v) for k, v in subject.network.state_dict().items())
