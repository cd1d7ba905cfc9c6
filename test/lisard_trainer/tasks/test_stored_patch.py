"""A printed patch made on a surrogate classifier, stored in a bundle, found there by the injection stage."""

from __future__ import annotations

import shutil

import msgspec
import numpy as np
import pytest

from lisard_ros import bundle as bundles
from lisard_ros import injection
from lisard_ros.cli import main
from lisard_ros.errors import BundleError
from lisard_trainer.tasks import stored_attacks
from lisard_trainer.tasks.classification import export
from lisard_trainer.training import checkpoint, loop


@pytest.fixture(scope="module")
def trained(shared_folder, split, tmp_path_factory, make_recipe):
    """Run folder and checkpoint of a small training."""
    settings = {"size_px": 16, "validation_share": 0.25, "folder": str(shared_folder), "source": "coloured patches"}
    recipe = make_recipe(views=1, data=settings, optimizer={"epochs": 5, "batch_size": 15, "max_lr": 0.05})
    place = tmp_path_factory.mktemp("run")
    loop.fit(recipe, split, place, show=False)
    return place, checkpoint.read(place)


@pytest.fixture(scope="module")
def exported(trained, split, tmp_path_factory):
    return export.export(trained[1], split, tmp_path_factory.mktemp("exported") / "bundle", "tiny", "").bundle


@pytest.fixture
def bundle(exported, tmp_path):
    """A copy that a test may change."""
    return bundles.read(shutil.copytree(exported.path, tmp_path / "bundle"))


def test_a_patch_is_stored_beside_what_the_bundle_has_and_applied(trained, bundle):
    request = stored_attacks.PatchRequest(0.3, steps=4)
    written = stored_attacks.add_patch(bundle.path, trained[1], None, request)
    assert [p.name for p in written.manifest.perturbations] == ["patch"]
    assert written.manifest.self_test == bundle.manifest.self_test  # its place decides too much for a fixed limit
    x = np.full((3, 3, 16, 16), 0.4, np.float32)
    injected = injection.make(written, "patch", seed=2).apply(x, ())
    assert injected.applied.all() and 0.1 < (injected.x != x).any(1).mean() < 0.5
    again = stored_attacks.add_patch(bundle.path, trained[1], None, request)
    assert again.sha256 == written.sha256


def test_the_command_makes_and_runs_one(trained, bundle, monkeypatch, capsys):
    monkeypatch.setattr(stored_attacks.PatchRequest.__init__, "__defaults__", (0.1, 4, 0, False))
    words = ["attack", "make", str(bundle.path), "--surrogate", str(trained[0])]
    assert main([*words, "--patch", "0.3", "--seed", "5"]) == 0
    assert "patch: patch, gray-box, eps 255/255" in capsys.readouterr().out
    assert main(["attack", "run", str(bundle.path), "--suite", "clean,patch=0"]) == 0
    assert "patch" in capsys.readouterr().out
    assert main([*words, "--patch", "nan"]) == 2
    assert "impossible placement of a patch" in capsys.readouterr().err
    assert main([*words, "--patch", "0.3", "--on-objects"]) == 2
    assert "a patch on objects needs training images with boxes" in capsys.readouterr().err
    assert main([*words, "--on-objects"]) == 2
    assert "--on-objects without a patch" in capsys.readouterr().err


def test_without_a_surrogate_it_is_made_on_the_bundle_itself(bundle, monkeypatch, capsys, shared_folder):
    monkeypatch.setattr(stored_attacks.PatchRequest.__init__, "__defaults__", (0.1, 4, 0, False))
    words = ["attack", "make", str(bundle.path)]
    assert main([*words, "--patch", "0.3"]) == 0
    assert "patch: patch, white-box, eps 255/255" in capsys.readouterr().out
    (about,) = bundles.read(bundle.path).manifest.perturbations
    assert (about.knowledge, about.made_on) == ("white-box", "")
    assert main(words) == 2
    assert "stored perturbations without a surrogate" in capsys.readouterr().err
    unknown = msgspec.structs.replace(bundle.manifest, card=None)
    bundles.write(bundle.path, unknown, bundle.contents, overwrite=True)
    assert main([*words, "--patch", "0.3"]) == 2
    assert "bundle tiny does not say how its images are read" in capsys.readouterr().err


def test_a_surrogate_of_other_classes_is_refused(trained, bundle):
    other = checkpoint.Checkpoint(**{**vars(trained[1]), "classes": ("a", "b")})
    with pytest.raises(BundleError, match=r"found classes and size \(2, .*expected the bundle's \(3, "):
        stored_attacks.add_patch(bundle.path, other, None, stored_attacks.PatchRequest())
