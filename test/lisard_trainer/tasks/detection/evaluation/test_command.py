"""`lisard evaluate` of a detection bundle: plan, kept results, report, page, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from msgspec import structs
from tiny_set import TINY, write_set

from lisard_ros import bundle as bundles
from lisard_ros import cli
from lisard_ros.bundle.manifest import ModelFile
from lisard_ros.errors import BundleError, UsageError
from lisard_ros.inference.postprocess import Boxes
from lisard_trainer import recipes, task_registry
from lisard_trainer.data.detection.kinds import evaluation
from lisard_trainer.evaluation.runner import ImageRange
from lisard_trainer.tasks.detection.evaluation import crafting, metrics, patches, suites
from lisard_trainer.tasks.detection.evaluation.models import DetectorLoader
from lisard_trainer.tasks.detection.task import TASK
from lisard_trainer.training import checkpoint, loop

pytestmark = pytest.mark.timeout(400)  # trainings and attacks: seconds on a free core


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set"), 6)


def trained(folder: Path, place: Path, name: str, **changes) -> Path:
    settings = {**TINY, "name": name, "optimizer": {"epochs": 1, "batch_size": 6, "max_lr": 0.01}, **changes}
    for term in ("levels", "instances", "agreement"):
        settings.pop(term)
    recipe = recipes.from_mapping(settings)
    loop.fit(recipe, task_registry.of(recipe).load(recipe, str(folder)), place / name, show=False)
    return place / name


@pytest.fixture(scope="module")
def models(folder, tmp_path_factory):
    """Run folders of a bundle's own training, a plain baseline and a surrogate."""
    place = tmp_path_factory.mktemp("runs")
    shipped = trained(folder, place, "shipped")
    saved = checkpoint.read(shipped)
    task = task_registry.of(saved.recipe)
    task.export(saved, task.load(saved.recipe, str(folder)), place / "bundle", "b", "")
    trained(folder, place, "plain", views=1)
    trained(folder, place, "surrogate", views=1, seed=101)
    return place


def evaluate(models, folder, out, *words):
    return cli.main(
        [
            "evaluate",
            str(models / "bundle"),
            "--surrogate",
            str(models / "surrogate"),
            "--baseline",
            f"plain={models / 'plain'}",
            "--data",
            str(folder),
            "--cache",
            str(out / "cache"),
            "--json",
            str(out / "r.json"),
            "--html",
            str(out / "r.html"),
            "--table",
            str(out / "r.md"),
            *words,
        ]
    )


def test_quick_suite_from_end_to_end_and_again_from_what_is_kept(models, folder, tmp_path, monkeypatch):
    code = evaluate(models, folder, tmp_path)
    report = json.loads((tmp_path / "r.json").read_text())
    assert code == 1  # after one epoch nothing is found, so no attack can be shown to hurt
    assert (
        report["schema"] == 2 and report["model"] == "b" and report["n"] == 6 and report["classes"] == ["red", "blue"]
    )
    conditions = {line["condition"] for line in report["lines"]}
    assert conditions == {"clean", "gray_joint_8", "white_joint_8", "noise_25"}
    gray = [line for line in report["lines"] if line["condition"] == "gray_joint_8"]
    assert {line["model"] for line in gray} == {"b", "plain", "surrogate"}
    assert all(line["knowledge"] == "gray-box" and line["steps"] == 10 for line in gray)
    assert [source["role"] for source in report["sources"]] == ["bundle", "baseline", "surrogate"]
    page = (tmp_path / "r.html").read_text()
    assert page.count("data:image/png") == 2 * 3 * 3 and "Boxes before and after" in page
    table = (tmp_path / "r.md").read_text()
    assert "| gray_joint_8 | gray-box | b |" in table and "## b minus its baselines, paired" in table

    def never(*_: object) -> None:
        raise AssertionError("this was kept")

    monkeypatch.setattr("lisard_trainer.tasks.detection.evaluation.crafting.craft", never)
    monkeypatch.setattr("lisard_trainer.tasks.detection.evaluation.metrics.detect", never)
    assert evaluate(models, folder, tmp_path) == 1
    again = json.loads((tmp_path / "r.json").read_text())
    assert again["lines"] == report["lines"] and again["differences"] == report["differences"]


@pytest.fixture
def with_int8(models, tmp_path):
    """Run folders beside a bundle whose int8 file finds nothing: its scores are zero."""
    for name in ("plain", "surrogate"):
        (tmp_path / name).symlink_to(models / name)
    own = bundles.read(models / "bundle")
    model = onnx.load_from_string(own.data("model.onnx"))
    (output,) = model.graph.output
    for node in model.graph.node:
        node.output[:] = ["whole" if name == output.name else name for name in node.output]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((), np.float32), "zero"))
    model.graph.node.append(onnx.helper.make_node("Mul", ["whole", "zero"], [output.name]))
    manifest = structs.replace(
        own.manifest, models=(*own.manifest.models, ModelFile(file="q.onnx", precision="int8", scheme="u8s8"))
    )
    bundles.write(tmp_path / "bundle", manifest, {**own.contents, "q.onnx": model.SerializeToString()})
    return tmp_path


def test_the_int8_file_is_asked_and_its_cost_is_paired(with_int8, folder, tmp_path, monkeypatch):
    """Fp32 is made to find every true box; the int8 file, which finds nothing, loses all of it."""

    def everything(network, x, precision="float32", decode=metrics.MEASURED):
        assert len(x) == len(scenes)
        return [
            Boxes(
                boxes[labels >= 0].double().numpy(),
                np.ones(int((labels >= 0).sum()), np.float32),
                labels[labels >= 0].numpy(),
            )
            for boxes, labels in zip(scenes.boxes, scenes.labels, strict=True)
        ]

    surrogate = checkpoint.read(with_int8 / "surrogate")
    scenes, _ = evaluation(surrogate.recipe.data, str(folder), surrogate.classes)
    monkeypatch.setattr(metrics, "detect", everything)
    evaluate(with_int8, folder, tmp_path, "--only", "*_joint_8")
    found = json.loads((tmp_path / "r.json").read_text())
    assert [(line["condition"], line["n"]) for line in found["int8"]["lines"]] == [("clean", 6), ("gray_joint_8", 6)]
    for line in found["int8"]["lines"]:
        assert (line["fp32"], line["int8"], line["difference"]["high"]) == pytest.approx((1, 0, -1))
    assert {line["model"] for line in found["lines"]} == {"b", "plain", "surrogate"}
    assert "| clean | 6 | 100.0 | 0.0 | -100.0 [-100.0, -100.0] |" in (tmp_path / "r.md").read_text()
    evaluate(with_int8, folder, tmp_path, "--only", "clean", "--torch-only")
    assert json.loads((tmp_path / "r.json").read_text())["int8"] is None


def test_chosen_conditions_of_a_larger_suite(models, folder, tmp_path, capsys):
    words = ("--suite", "full", "--only", "tog_vanish_8", "--only", "fog_3", "--limit", "2")
    evaluate(models, folder, tmp_path, *words)
    report = json.loads((tmp_path / "r.json").read_text())
    assert {line["condition"] for line in report["lines"]} == {"clean", "tog_vanish_8", "fog_3"} and report["n"] == 2
    assert {c["model"]: c["conditions"] for c in report["corrupted"]} == {"b": 1, "plain": 1}
    assert "tog_vanish_8 | white-box | b" in capsys.readouterr().out


def test_printed_patches_beside_their_baseline_and_again_from_what_is_kept(models, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(suites, "PATCH_STEPS", 3)
    monkeypatch.setattr(patches, "KEPT_EVERY", 2)
    words = ("--suite", "standard", "--only", "*_patch_on_20")
    assert evaluate(models, folder, tmp_path, *words) == 1  # after one epoch nothing is found that could be lost
    report = json.loads((tmp_path / "r.json").read_text())
    names = {"gray_patch_on_20": "gray-box", "white_patch_on_20": "white-box", "noise_patch_on_20": "none"}
    assert {line["condition"]: line["knowledge"] for line in report["lines"]} == {"clean": "none", **names}
    effects = {(effect["condition"], effect["model"]): effect for effect in report["patches"]}
    assert set(effects) == {("gray_patch_on_20", name) for name in ("b", "plain", "surrogate")} | {
        ("white_patch_on_20", name) for name in ("b", "plain")
    }
    for effect in effects.values():
        assert (effect["steps"], effect["made_on"], effect["n"], effect["boxes"]) == (3, 6, 6, 6)
        assert (effect["share_low"], effect["share_high"]) == (0.1, 0.2) and 0.1 < effect["most_hidden"] <= 0.2
        assert set(effect["gain"]) == {"value", "low", "high"}
    assert {c["name"] for c in report["requirements"] if "patch" in c["name"]} == {
        f"gray_patch_on_20 hurts {name} more than noise_patch_on_20" for name in ("surrogate", "plain")
    }
    page = (tmp_path / "r.html").read_text()
    assert page.count("data:image/png") == 3 * (2 * 3 + 1) and page.count("<figcaption>the print</figcaption>") == 3
    table = (tmp_path / "r.md").read_text()
    assert "## Printed patches" in table and "| gray_patch_on_20 | gray-box | on, 10 to 20 % | 3 | plain |" in table
    assert "6 of 6 true boxes had room for one" in table

    def never(*_: object) -> None:
        raise AssertionError("this was kept")

    monkeypatch.setattr(patches, "ascend", never)
    monkeypatch.setattr("lisard_trainer.tasks.detection.evaluation.metrics.detect", never)
    evaluate(models, folder, tmp_path, *words)
    assert json.loads((tmp_path / "r.json").read_text())["patches"] == report["patches"]


def test_wrong_use(models, folder, tmp_path, capsys):
    assert evaluate(models, folder, tmp_path, "--baseline", f"b={models / 'plain'}") == 2
    assert "found b, which is the name of the bundle" in capsys.readouterr().err
    assert evaluate(models, folder, tmp_path, "--only", "whit_*") == 2
    assert "did you mean" in capsys.readouterr().err
    assert evaluate(models, folder, tmp_path, "--suite", "quik") == 2
    assert evaluate(models, folder, tmp_path, "--images", str(folder)) == 2


def test_models_of_another_class_list_are_refused(models, folder):
    saved = checkpoint.read(models / "plain")
    other = checkpoint.Checkpoint(**{**vars(saved), "classes": ("red", "green")})
    with pytest.raises(BundleError, match=r"'red', 'green'.*'red', 'blue'"):
        DetectorLoader(TASK).load(bundles.read(models / "bundle"), {"": saved}, {"plain": other})


def test_a_key_is_of_the_weights(models, tmp_path):
    """Not of the bundle, whose card names commit and command: the same weights exported again find what is kept."""
    loader, saved, own = DetectorLoader(TASK), checkpoint.read(models / "plain"), bundles.read(models / "bundle")
    again = bundles.write(tmp_path / "again", structs.replace(own.manifest, name="renamed"), own.contents)
    first, second = (loader.of_bundle(bundle) for bundle in (own, again))
    assert own.sha256 != again.sha256 and first.about.sha256 == second.about.sha256 and first.key == second.key
    baseline = loader.of_checkpoint("plain", "baseline", saved)
    assert baseline.key == loader.of_checkpoint("other", "surrogate", saved).key != first.key


def test_suites_hold_what_they_say():
    full = suites.conditions("full", ["a", "b"], 0)
    names = [condition.name for condition in full]
    assert len(set(names)) == len(names) and names[0] == "clean"
    assert sum(condition.group == "corruption" for condition in full) == 75
    assert {c.loss for c in full if c.group == "white"} == {"class", "location", "joint"}
    assert {c.eps_255 for c in full if c.group == "white"} == {2, 4, 8}
    assert {c.loss for c in full if c.group == "tog"} == {"vanish", "fabricate", "mislabel"}
    assert {c.surrogate for c in full if c.group == "gray"} == {"a", "b"}
    assert next(c for c in full if c.name == "white_joint_8").step_255 == 2
    moving = next(c for c in full if c.name == "gray_b_mi_joint_8")
    assert (moving.method, moving.knowledge, moving.steps, moving.step_255) == ("mi_fgsm", "gray-box", 10, 0.8)
    smooth = next(c for c in full if c.name == "gray_b_ti_joint_8")
    assert (smooth.method, smooth.knowledge, smooth.steps, smooth.step_255) == ("ti_fgsm", "gray-box", 10, 2)
    patched = [c for c in full if c.where and c.loss]
    assert {(c.where, c.share) for c in patched} == {("on", 0.1), ("on", 0.2), ("beside", 1.0)}
    assert {c.group for c in patched} == {"gray_patch", "white_patch"} and all(c.baseline in names for c in patched)
    assert next(c for c in full if c.name == "gray_b_patch_on_20").surrogate == "b"
    assert all(c.knowledge == "none" and c.steps == 0 for c in full if c.group == "noise_patch")
    with pytest.raises(UsageError, match="did you mean 'quick'"):
        suites.conditions("quik", [], 0)


def test_a_chosen_patch_keeps_its_baseline_and_kept_results_their_keys():
    chosen = [condition.name for condition in suites.conditions("standard", [""], 0, ["gray_patch_beside_*"])]
    assert chosen == ["clean", "gray_patch_beside_100", "noise_patch_beside_100"]
    known = {"name", "group", "loss", "eps_255", "surrogate", "sigma_255", "corruption", "severity", "seed"}
    assert set(suites.DetectionCondition("white_joint_8", "white", "joint", 8).settings()) == known
    assert set(suites.DetectionCondition("gray_mi_joint_8", "gray", "joint", 8, method="mi_fgsm").settings()) == {
        *known,
        "method",
    }


@pytest.mark.parametrize("method", get_args(suites.Method))
def test_each_method_raises_the_loss_within_its_budget(models, folder, method):
    surrogate = checkpoint.read(models / "surrogate")
    scenes, _ = evaluation(surrogate.recipe.data, str(folder), surrogate.classes)
    everybody = DetectorLoader(TASK).load(bundles.read(models / "bundle"), {"": surrogate}, {})
    condition = suites.DetectionCondition("gray", "gray", "joint", 8, method=method)
    batch, source = ImageRange(0, len(scenes), len(scenes)), everybody.surrogates[""]
    deltas = crafting.craft(scenes, condition, source, batch)["deltas"]
    x, criterion = scenes.images.float().div(255).contiguous(), crafting.criterion(scenes, condition, batch)
    before, after = (
        source.attack_model.evaluate(v, criterion, gradient=False).loss
        for v in (x, x + torch.from_numpy(deltas).float() / 255)
    )
    assert np.abs(deltas).max() <= 8 and deltas.any() and (after > before).all()


def test_models_are_left_as_they_were(models):
    saved = checkpoint.read(models / "plain")
    model = DetectorLoader(TASK).of_checkpoint("plain", "baseline", saved)
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    x = torch.rand(1, 3, 64, 64)
    model.attack_model  # noqa: B018  takes the network over
    model.network(x)
    assert all(torch.equal(before[k], v) for k, v in model.network.state_dict().items())
