"""The self test of an exported detector: its images, its measured limits, and the perturbations of a surrogate."""

from __future__ import annotations

import dataclasses
import shutil

import msgspec
import numpy as np
import pytest
import torch
from tiny_set import SIZE

from lisard_ros import bundle as bundles
from lisard_ros import injection
from lisard_ros.attacks import store
from lisard_ros.bundle.arrays import dump_arrays, load_arrays
from lisard_ros.bundle.manifest import SelfTest, TrueBox
from lisard_ros.cli import main
from lisard_ros.errors import BundleError, UsageError
from lisard_ros.evaluation import references, self_test, self_test_limits
from lisard_ros.evaluation.self_test_report import CaseResult
from lisard_ros.evaluation.statistics import proportion
from lisard_ros.frames import pixels_sha256
from lisard_ros.inference.pipeline import open_pipeline
from lisard_trainer import task_registry
from lisard_trainer.data.detection import IGNORED, NOTHING, Scenes
from lisard_trainer.tasks import exporting, stored_attacks
from lisard_trainer.tasks.detection import attack_targets, export
from lisard_trainer.tasks.detection import network as networks
from lisard_trainer.tasks.detection.attack_model import DetectorAttackModel
from lisard_trainer.tasks.stored_attacks import PerturbationSettings
from lisard_trainer.training import checkpoint

NAMES = ["gray_fgsm", "gray_pgd10", "gray_ti_fgsm", "universal"]


def scenes(labels: list[list[int]], classes: int = 3) -> Scenes:
    """Scenes of noise whose boxes have these labels."""
    random, most = np.random.default_rng(0), max(map(len, labels))
    padded = [[*own, *[NOTHING] * (most - len(own))] for own in labels]
    images = torch.from_numpy(random.integers(0, 255, (len(labels), 3, 64, 64), np.uint8))
    corner = torch.tensor([3.14159, 4.0, 20.0, 30.0])
    return Scenes(
        images,
        corner.expand(len(labels), most, 4),
        torch.tensor(padded),
        torch.zeros(len(labels), 4),
        torch.full((len(labels), 2), 64),
        tuple(map(str, range(len(labels)))),
        tuple("abc"[:classes]),
    )


def test_every_class_is_seen_and_images_without_boxes_are_not() -> None:
    many = scenes([[0]] * 40 + [[], [IGNORED]] + [[1, 0]] * 3 + [[2]])
    chosen = export.reference_positions(many)
    assert len(set(chosen.tolist())) == export.REFERENCE_IMAGES and np.array_equal(chosen, np.sort(chosen))
    assert {40, 41}.isdisjoint(chosen) and {42, 43, 44, 45} <= set(chosen.tolist())
    assert np.array_equal(chosen, export.reference_positions(many))
    assert export.reference_positions(scenes([[0], [], [1]])).tolist() == [0, 2]


def test_the_true_boxes_are_those_of_the_images() -> None:
    made = export.choose_reference(scenes([[0, IGNORED], [2, 1]]))
    assert made is not None
    test, content = made
    assert [case.injection for case in test.suite] == list(references.SUITE)
    corners = (3.14, 4.0, 20.0, 30.0)
    assert test.labels == (
        (TrueBox(label=0, box_xyxy_px=corners),),
        (TrueBox(label=2, box_xyxy_px=corners), TrueBox(label=1, box_xyxy_px=corners)),
    )
    frames = load_arrays(content, "frames")["frames"]
    assert frames.shape == (2, 64, 64, 3) and frames.dtype == np.uint8
    assert export.choose_reference(scenes([[], [IGNORED]])) is None


@pytest.mark.parametrize("n", [1, 3, 7, 19, 20, 21, 60, 97])
def test_one_box_may_be_lost_and_two_in_twenty_may_not(n: int) -> None:
    for hits in range(n + 1):
        case = CaseResult("clean", "none", proportion(hits, n), 0, 0, 0.0, True, "", "boxes")
        limit = self_test_limits.limited(case).min_accuracy
        assert limit <= max(0, hits - 1) / n
        assert n > 20 or hits < 2 or limit > (hits - 2) / n


@pytest.fixture(scope="module")
def trained(learnt):
    """The folder of the data, a training, a surrogate of another seed, and the folder of both run folders."""
    return learnt / "set", checkpoint.read(learnt / "1"), checkpoint.read(learnt / "2"), learnt


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    data, saved, _, _ = trained
    split = task_registry.of(saved.recipe).load(saved.recipe, str(data))
    return export.export(saved, split, tmp_path_factory.mktemp("exported") / "bundle", "tiny", "lisard train")


@pytest.fixture
def own_copy(exported, tmp_path):
    return shutil.copytree(exported.bundle.path, tmp_path / "bundle")


def test_an_exported_detector_holds_its_limits(exported) -> None:
    bundle = bundles.read(exported.bundle.path)
    test = bundle.manifest.self_test
    assert len(test.boxes) == export.REFERENCE_IMAGES and {box.label for boxes in test.boxes for box in boxes} == {0, 1}
    assert [case.injection for case in test.suite] == list(references.SUITE)
    report = self_test.run(open_pipeline(bundle.path))
    assert report.passed, [str(case) for case in report.cases]
    assert all(case.counted == "boxes" and case.accuracy.n == 10 for case in report.cases)
    # It has learnt something: an untrained one finds none. How many of 10 depends on the processor; 4 were seen.
    assert report.cases[0].accuracy.hits >= 2 and report.cases[0].min_accuracy > 0


def test_a_broken_detector_fails_them(exported, trained, tmp_path) -> None:
    network = networks.trained(trained[1])
    for weights in network.parameters():
        weights.data.mul_(0.5)
    contents = {**exported.bundle.contents, exporting.MODEL_FILE: exporting.to_onnx(network, SIZE, export.OUTPUT, SIZE)}
    bundles.write(tmp_path / "broken", exported.bundle.manifest, contents)
    assert not self_test.run(open_pipeline(tmp_path / "broken")).passed


def test_perturbations_of_a_surrogate_extend_it(own_copy, trained) -> None:
    data, _, surrogate, _ = trained
    settings = PerturbationSettings(eps_255=8)
    bundle = stored_attacks.add(own_copy, surrogate, None, str(data), settings)
    by_name = {p.name: p for p in bundle.manifest.perturbations}
    assert list(by_name) == NAMES and [p.kind for p in by_name.values()] == ["stored"] * 3 + ["universal"]
    test = bundle.manifest.self_test
    frames = references.load(bundle, test).frames
    for name in NAMES[:3]:
        stored = store.load(bundle, by_name[name])
        assert set(stored.rows) == {pixels_sha256(frame.rgb()) for frame in frames}
        assert np.abs(stored.deltas).max() == 8 and by_name[name].knowledge == "gray-box"
    assert [case.injection for case in test.suite] == [*references.SUITE, *NAMES]
    report = self_test.run(open_pipeline(bundle.path))
    assert report.passed, [str(case) for case in report.cases]
    assert all(case.not_applicable == 0 for case in report.cases)
    assert stored_attacks.add(own_copy, surrogate, None, str(data), settings).sha256 == bundle.sha256


def test_perturbations_are_those_of_the_attacks_on_the_surrogate(own_copy, trained) -> None:
    """Not how much they hurt: positions are assigned anew at each step, so a network this small may gain by chance."""
    data, _, surrogate, _ = trained
    settings = PerturbationSettings(eps_255=8)
    bundle = stored_attacks.add(own_copy, surrogate, None, str(data), settings)
    targets, model = attack_targets.known(bundle), DetectorAttackModel(networks.trained(surrogate))
    x = targets.x.numpy()
    for name in NAMES[:3]:
        deltas = store.quantise(x, stored_attacks.attack(name, model, targets, settings).numpy(), settings.eps_255)
        attacked = injection.make(bundle, name).apply(x, targets.keys).x
        np.testing.assert_allclose(attacked, np.clip(x + deltas / 255, 0, 1), atol=1e-6)
    shared = np.rint((injection.make(bundle, "universal").apply(x, targets.keys).x - x) * 255)
    inside = ((x >= 8 / 255) & (x <= 1 - 8 / 255)).all(0)
    assert np.ptp(shared, axis=0)[inside].max() == 0 and 0 < np.abs(shared).max() <= 8


def test_true_boxes_move_with_the_letterbox(own_copy) -> None:
    bundle = bundles.read(own_copy)
    wide = np.zeros((1, 32, 128, 3), np.uint8)
    test = SelfTest(
        frames="self_test.npz",
        labels=((TrueBox(label=1, box_xyxy_px=(0, 0, 128, 32)),),),
        suite=bundle.manifest.self_test.suite,
    )
    manifest = msgspec.structs.replace(bundle.manifest, self_test=test)
    files = {**bundle.contents, "self_test.npz": dump_arrays({"frames": wide})}
    targets = attack_targets.known(bundles.write(own_copy, manifest, files, overwrite=True))
    assert targets.criterion.boxes_xyxy_px.tolist() == [[[0, 24, 64, 40]]] and targets.criterion.labels.tolist() == [
        [1]
    ]
    assert targets.x.shape == (1, 3, SIZE, SIZE)


def test_what_cannot_be_attacked_is_refused(own_copy, trained, tmp_path) -> None:
    data, saved, surrogate, _ = trained
    settings = PerturbationSettings()
    with pytest.raises(UsageError, match="--images: .*expected nothing, for a detector"):
        stored_attacks.add(own_copy, surrogate, tmp_path, str(data), settings)
    renamed = dataclasses.replace(surrogate, classes=("red", "green"))
    with pytest.raises(BundleError, match="surrogate is for another task than the bundle: found classes and size"):
        stored_attacks.add(own_copy, renamed, None, str(data), settings)
    bundle = bundles.read(own_copy)
    other = msgspec.structs.replace(bundle.manifest, task="classification", decode=None, self_test=None)
    bundles.write(tmp_path / "classifier", other, bundle.contents)
    with pytest.raises(BundleError, match="another task than the bundle: found detection, expected classification"):
        stored_attacks.add(tmp_path / "classifier", surrogate, None, str(data), settings)
    bare = msgspec.structs.replace(bundle.manifest, self_test=None)
    contents = {name: content for name, content in bundle.contents.items() if name != "self_test.npz"}
    bundles.write(tmp_path / "bare", bare, contents)
    with pytest.raises(BundleError, match="no images to attack: found no self test.*lisard export"):
        stored_attacks.add(tmp_path / "bare", surrogate, None, str(data), settings)


def test_the_commands_make_and_run_it(trained, tmp_path, capsys, monkeypatch) -> None:
    data, _, _, runs = trained
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(runs / "1"), "--data", str(data), "--out", "bundle"]) == 0
    make = ["attack", "make", "bundle", "--surrogate", str(runs / "2"), "--data", str(data), "--eps-255", "4"]
    assert main(make) == 0
    assert "gray_pgd10: pgd, gray-box, eps 4/255, 10 deltas" in capsys.readouterr().out
    assert main(["attack", "run", "bundle"]) == 0
    assert "corruption/fog/3" in capsys.readouterr().out
