"""From a checkpoint to a bundle, to stored attacks, to the report: the trainer's second half on a tiny training."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from lisard_ros import backends
from lisard_ros import bundle as bundles
from lisard_ros.attacks import store
from lisard_ros.cli import main
from lisard_ros.errors import BundleError, DataError, LisardError
from lisard_ros.evaluation import references, self_test
from lisard_ros.frames import pixels_sha256
from lisard_ros.inference.pipeline import open_pipeline
from lisard_trainer import data
from lisard_trainer.tasks import exporting, stored_attacks
from lisard_trainer.tasks.classification import attack_targets, export
from lisard_trainer.tasks.classification import network as networks
from lisard_trainer.tasks.stored_attacks import PerturbationSettings
from lisard_trainer.training import checkpoint, loop

COMMAND = "lisard train tiny.yaml"


@pytest.fixture(scope="module")
def trained(shared_folder, split, tmp_path_factory, make_recipe):
    """Two trainings of one recipe with different seeds, read back."""
    saved, runs = [], tmp_path_factory.mktemp("runs")
    data_settings = {
        "size_px": 16,
        "validation_share": 0.25,
        "folder": str(shared_folder),
        "source": "coloured patches",
    }
    for seed in (1, 2):
        optimizer = {"epochs": 5, "batch_size": 15, "max_lr": 0.05}
        recipe = make_recipe(seed=seed, views=1, data=data_settings, optimizer=optimizer)
        loop.fit(recipe, split, runs / str(seed), show=False)
        saved.append(checkpoint.read(runs / str(seed)))
    return saved


@pytest.fixture(scope="module")
def exported(trained, split, tmp_path_factory):
    return export.export(trained[0], split, tmp_path_factory.mktemp("exported") / "bundle", "tiny", COMMAND)


@pytest.fixture
def own_copy(exported, tmp_path):
    """A copy of the bundle that a test may change."""
    return shutil.copytree(exported.bundle.path, tmp_path / "bundle")


def test_export_with_other_images_is_refused_and_writes_nothing(trained, make_folder, tmp_path, capsys):
    """Labels, split and figures of the bundle would be those of the other data set."""
    run, other = tmp_path / "run", make_folder(tmp_path / "other", tracks=5)
    checkpoint.write(run, trained[0])
    assert main(["export", str(run), "--data", str(other), "--out", str(tmp_path / "bundle")]) != 0
    assert "lisard export tiny: found other training images" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_bundle_holds_what_it_says(exported, trained, split):
    bundle = bundles.read(exported.bundle.path)
    manifest = bundle.manifest
    assert float(exported.parity.split()[0]) <= export.PARITY_LIMIT
    assert manifest.labels == ("00000", "00001", "00002") and manifest.architecture.name == "resnet14n"
    assert manifest.architecture.arguments == {"classes": 3, "size_px": 16, "activation": "relu"}
    assert manifest.card.data_sha256 == split.train.sha256() and manifest.card.command == COMMAND
    assert json.loads(manifest.card.recipe)["seed"] == manifest.card.seed == 1
    assert manifest.card.metrics["validation_accuracy"] == trained[0].history[-1].validation_accuracy
    assert len(manifest.self_test.labels) == 6 and sorted(set(manifest.self_test.labels)) == [0, 1, 2]


def test_reference_images_are_of_the_validation_part(exported, split):
    frames = references.load(exported.bundle, exported.bundle.manifest.self_test).frames
    held_back = {pixels_sha256(np.ascontiguousarray(p)) for p in split.validation.images.permute(0, 2, 3, 1).numpy()}
    assert {pixels_sha256(frame.rgb()) for frame in frames} <= held_back


def test_onnx_and_pytorch_agree_for_any_batch(exported, split):
    x = data.to_unit(split.train.images).numpy()
    answers = [
        np.concatenate([backend.infer(x[:1]), backend.infer(x[1:])])
        for backend in (backends.choose(exported.bundle, name).backend for name in ("onnxruntime", "torch"))
    ]
    assert np.abs(answers[0] - answers[1]).max() < export.PARITY_LIMIT


def test_the_pytorch_weights_are_half_the_size_and_as_good(exported, trained, split):
    original = sum(w.nbytes for w in networks.trained(trained[0]).state_dict().values())
    assert len(exported.bundle.data(exporting.WEIGHTS_FILE)) < 0.6 * original
    rounded = networks.trained(trained[0])
    exporting.round_filters(rounded)
    x = data.to_unit(split.validation.images)
    with torch.no_grad():
        assert torch.equal(rounded(x).argmax(1), networks.trained(trained[0])(x).argmax(1))


def test_wrong_onnx_is_refused(trained, split):
    x = data.to_unit(split.validation.images)
    ours, theirs = (networks.trained(saved) for saved in trained)
    with pytest.raises(LisardError, match="logits that differ"):
        export.check_parity(ours, exporting.to_onnx(theirs, 16, export.OUTPUT), x)


def test_self_test_passes_and_notices_a_broken_model(exported, trained, split, tmp_path):
    assert self_test.run(open_pipeline(exported.bundle.path)).passed
    broken = networks.trained(trained[0])
    broken.backbone.head.weight.data.neg_()
    contents = {**exported.bundle.contents, exporting.MODEL_FILE: exporting.to_onnx(broken, 16, export.OUTPUT)}
    bundles.write(tmp_path / "broken", exported.bundle.manifest, contents)
    assert not self_test.run(open_pipeline(tmp_path / "broken")).passed


def test_stored_attacks_are_bound_rounded_and_within_the_budget(own_copy, trained, shared_folder, split):
    bundle = stored_attacks.add(own_copy, trained[1], shared_folder, None, PerturbationSettings(eps_255=8))
    by_name = {p.name: p for p in bundle.manifest.perturbations}
    assert set(by_name) == {"gray_fgsm", "gray_pgd10", "universal"}
    rgb = split.train.images.permute(0, 2, 3, 1).contiguous().numpy()
    for name in ("gray_fgsm", "gray_pgd10"):
        stored = store.load(bundle, by_name[name])
        assert by_name[name].count == 60 and all(pixels_sha256(image) in stored.rows for image in rgb)
        assert stored.deltas.dtype == np.int16 and np.abs(stored.deltas).max() == 8
    assert by_name["universal"].kind == "universal" and by_name["gray_pgd10"].knowledge == "gray-box"
    assert [case.injection for case in bundle.manifest.self_test.suite] == ["clean", "noise", *by_name]
    assert self_test.run(open_pipeline(bundle.path)).passed


def test_attacks_can_be_made_again_without_piling_up(own_copy, trained, shared_folder):
    settings = PerturbationSettings(eps_255=4)
    first = stored_attacks.add(own_copy, trained[1], None, str(shared_folder), settings)
    again = stored_attacks.add(own_copy, trained[1], None, str(shared_folder), settings)
    assert first.sha256 == again.sha256 and len(again.manifest.perturbations) == 3


def test_surrogate_of_another_task_and_unknown_class_folder(exported, trained, make_folder, make_image, tmp_path):
    other = make_folder(tmp_path / "others")
    make_image(other / "zebra" / "00000_00000.png", (1, 2, 3), 1)
    with pytest.raises(DataError, match="found zebra, expected a class of the training data"):
        attack_targets.known(exported.bundle, trained[1].classes, other)
    manifest = exported.bundle.manifest
    small = bundles.write(
        tmp_path / "four",
        type(manifest)(
            **{**{f: getattr(manifest, f) for f in manifest.__struct_fields__}, "labels": (*manifest.labels, "x")}
        ),
        exported.bundle.contents,
    )
    with pytest.raises(BundleError, match="surrogate is for another task than the bundle: found classes and size"):
        stored_attacks.add(small.path, trained[1], None, None, PerturbationSettings())


EIGHT_BIT_LEVELS = np.arange(256)


def test_rounding_keeps_the_budget_where_flooring_breaks_it(golden):
    """A step of -8/255 stored by flooring ends 9/255 away for 15 of the 256 levels; rounding never does."""
    x = torch.arange(256, dtype=torch.uint8).float() / 255
    attacked = x - torch.tensor(8 / 255)
    floored, rounded = (attacked * 255).floor().int().numpy(), (attacked * 255).round().int().numpy()
    expected = np.clip(EIGHT_BIT_LEVELS - 8, 0, 255)
    wrong = [v for v in EIGHT_BIT_LEVELS if v >= 8 and floored[v] < expected[v]]
    assert wrong == golden["eight_bit"]["floor_wrong_levels"]
    assert [v for v in EIGHT_BIT_LEVELS if v >= 8 and rounded[v] < expected[v]] == golden["eight_bit"][
        "round_wrong_levels"
    ]
    clean, moved = (t.reshape(1, 1, 16, 16).expand(1, 3, 16, 16).numpy() for t in (x, attacked.clamp(0, 1)))
    assert np.abs(store.quantise(clean, moved, 8)).max() == 8


def test_commands_from_recipe_to_report(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "cache"))
    recipe = (
        "network: resnet14n\nviews: 1\nprecision: float32\nseed: {}\ndata: {{size_px: 16, validation_share: 0.25}}\n"
    )
    recipe += "optimizer: {{epochs: 4, batch: 15, max_lr: 0.05}}\n"
    for seed in (1, 2):
        (tmp_path / f"net{seed}.yaml").write_text(recipe.format(seed))
    assert main(["train", "net1.yaml", "--data", str(folder)]) == 0
    assert main(["train", "net2.yaml", "--data", str(folder), "--no-export"]) == 0
    assert (tmp_path / "models" / "net1" / "bundle.json").is_file() and not (tmp_path / "models" / "net2").exists()
    assert main(["export", "runs/net1", "--data", str(folder), "--out", "bundle"]) == 0
    make = ["attack", "make", "bundle", "--surrogate", "runs/net2", "--data", str(folder)]
    assert main([*make, "--images", str(folder)]) == 0
    assert main(["attack", "run", "bundle"]) == 0
    words = ["--surrogate", "runs/net2", "--baseline", "plain=runs/net2", "--data", str(folder), "--limit", "9"]
    status = main(["evaluate", "bundle", *words, "--json", "out/r.json", "--table", "out/r.md"])
    report = json.loads((tmp_path / "out" / "r.json").read_text())
    assert status == (0 if report["valid"] else 1) and report["schema"] == 3 and report["images"] == 9
    assert "| net1 on ONNX Runtime |" in (tmp_path / "out/r.md").read_text()
    capsys.readouterr()
    assert main(["train", "net1.yaml", "--print"]) == 0
    assert "momentum: 0.9" in capsys.readouterr().out
    assert main(["train", "net9.yaml"]) == 2
    assert main(["evaluate", "bundle", "--surrogate", "runs/net2", "--baseline", "plain", "--data", str(folder)]) == 2
