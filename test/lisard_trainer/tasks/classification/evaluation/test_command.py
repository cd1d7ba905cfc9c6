"""lisard evaluate on the shipped bundle and its images, and everything that may be wrong with what it is given."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

import lisard_ros
from lisard_ros import bundle as bundles
from lisard_ros.cli import main
from lisard_ros.evaluation.references import spread
from lisard_trainer import backbones, recipes
from lisard_trainer.tasks.classification.evaluation import command
from lisard_trainer.tasks.classification.records import ClassificationEpoch
from lisard_trainer.tasks.detection.records import DetectionEpoch
from lisard_trainer.training import checkpoint

ROOT = Path(__file__).parents[5]
BUNDLE = str(ROOT / "models" / "traffic_signs")
IMAGES = str(ROOT / "data" / "gtsrb_tracks")


RECORD = ClassificationEpoch(epoch=1, loss=1.0, seconds=1.0, cross_entropy=1.0, similarity=0.0, validation_accuracy=0.5)


def untrained(folder: Path, classes: int = 43, size_px: int = 32, seed: int = 7) -> Path:
    """A run folder of a narrow network whose weights were drawn at random."""
    torch.manual_seed(seed)
    network = backbones.create("resnet14n", classes).eval()
    data = {"size_px": size_px, "labels": "gtsrb" if classes == 43 else ""}
    settings = {"name": folder.name, "seed": seed, "network": "resnet14n", "views": 1, "data": data}
    recipe = recipes.from_mapping(settings)
    saved = checkpoint.Checkpoint(
        recipe=recipe,
        classes=tuple(f"{n:05d}" for n in range(classes)),
        data_sha256="0" * 64,
        precision="float32",
        epoch=1,
        step=1,
        history=(RECORD,),
        network=network.state_dict(),
        optimizer_state={},
        random=torch.get_rng_state(),
    )
    checkpoint.write(folder, saved)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Run folders `s1` and `plain`; `narrow` and `small` are for other tasks."""
    base = tmp_path_factory.mktemp("runs")
    untrained(base / "s1", seed=1)
    untrained(base / "plain", seed=2)
    untrained(base / "narrow", classes=10)
    untrained(base / "small", size_px=16)
    return base


@pytest.fixture
def words(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "cache"))
    return [
        "evaluate",
        BUNDLE,
        "--surrogate",
        str(runs / "s1"),
        "--baseline",
        f"plain={runs / 'plain'}",
        "--images",
        IMAGES,
        "--device",
        "cpu",
    ]


def test_the_shipped_bundle_end_to_end(words, tmp_path, capsys):
    out = [f"--{kind}={tmp_path / 'out' / kind}" for kind in ("json", "table", "html")]
    status = main([*words, "--limit", "12", "--only", "gray_fgsm", *out])
    report = json.loads((tmp_path / "out" / "json").read_text())
    clean = next(x for x in report["lines"] if (x["model"], x["condition"]) == ("traffic_signs", "clean"))
    assert report["images"] == 12 and clean["accuracy"]["hits"] >= 10
    assert status == 1 and not report["valid"]  # networks that know nothing cannot show that an attack hurts
    assert any(flag["code"] == "attack_does_not_count" for flag in report["flags"])
    assert "NO" in capsys.readouterr().out
    table, page = ((tmp_path / "out" / name).read_text() for name in ("table", "html"))
    assert "<h2>Images</h2>" in page
    assert report["model"] == report["sources"][0]["model"] == "traffic_signs"
    assert "| traffic_signs |" in table and "| traffic_signs minus plain |" in table and "| lisard" not in table
    assert "traffic_<wbr>signs minus plain" in page and ">lisard<" not in page
    assert main([*words, "--limit", "12", "--only", "gray_fgsm", f"--json={tmp_path / 'again'}"]) == 1
    again = json.loads((tmp_path / "again").read_text())
    assert again["lines"] == report["lines"] and again["command"].endswith(f"--limit 12 --images {IMAGES}")


def test_the_int8_file_answers_beside_the_fp32_model(words, tmp_path, capsys):
    """As the bundle answers that is opened with precision int8; attacks on the model itself are not shown to it."""
    main([*words, "--limit", "10", "--only", "gray_fgsm", "--only", "white_pgd10", f"--json={tmp_path / 'json'}"])
    found = json.loads((tmp_path / "json").read_text())["int8"]
    clean, gray = found["lines"]
    assert (clean["condition"], gray["condition"], gray["n"]) == ("clean", "gray_fgsm", 10)
    model = lisard_ros.load(BUNDLE, precision="int8")
    files = sorted(Path(IMAGES).glob("*/*.png"))
    chosen = [files[place] for place in spread(np.arange(len(files)), 10)]
    right = [model(path)[0].index == int(path.parent.name) for path in chosen]
    model.close()
    assert clean["int8"] == pytest.approx(np.mean(right))
    for line in found["lines"]:
        difference = line["difference"]
        assert difference["value"] == pytest.approx(line["int8"] - line["fp32"])
        assert difference["low"] <= difference["value"] <= difference["high"]
    assert found["scheme"] == "u8s8" and found["metric"] == "accuracy"
    assert found["sha256"] == bundles.read(Path(BUNDLE)).manifest.files[found["file"]]
    assert "## int8 beside fp32: accuracy in %" in capsys.readouterr().out


def test_without_the_onnx_file_the_network_alone_answers(words, tmp_path):
    found = {}
    for name, more in (("both", []), ("torch", ["--torch-only"])):
        main([*words, "--limit", "4", "--only", "gray_fgsm", *more, f"--json={tmp_path / name}"])
        found[name] = json.loads((tmp_path / name).read_text())
    backends = {name: {line["backend"] for line in report["lines"]} for name, report in found.items()}
    assert backends == {"both": {"torch", "onnxruntime"}, "torch": {"torch"}}
    assert found["torch"]["lines"] == [line for line in found["both"]["lines"] if line["backend"] == "torch"]
    assert "--torch-only" in found["torch"]["command"]
    assert found["both"]["int8"] and found["torch"]["int8"] is None


def test_tracks_of_a_list_alone_are_measured(words, tmp_path):
    """Two tracks of the shipped images: as many images, each right as often as in the evaluation of all."""
    chosen = sorted({f"{path.parent.name}/{path.stem.rpartition('_')[0]}" for path in Path(IMAGES).rglob("*.png")})[:2]
    (tmp_path / "list.txt").write_text("\n".join(["# a comment", "", *chosen]))
    more = ["--tracks", str(tmp_path / "list.txt"), "--only", "clean", "--torch-only", f"--json={tmp_path / 'json'}"]
    main([*words, *more])
    report = json.loads((tmp_path / "json").read_text())
    frames = sum(len(list((Path(IMAGES) / name).parent.glob(f"{Path(name).name}_*.png"))) for name in chosen)
    assert report["images"] == frames == 20
    assert report["origin"].endswith("those of list.txt") and "--tracks" in report["command"]


def test_surrogates_attack_together(words, runs, tmp_path):
    more = ["--surrogate", f"other={runs / 'plain'}", "--ensemble", "--torch-only", f"--json={tmp_path / 'json'}"]
    main([*words, "--limit", "4", "--only", "gray_fgsm@*", *more])
    report = json.loads((tmp_path / "json").read_text())
    assert "gray_fgsm@ensemble" in {line["condition"] for line in report["lines"] if line["model"] == "traffic_signs"}
    assert report["sources"][3]["recipe"] == "mean of surrogate, other" and "--ensemble" in report["command"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--limit", "0"], "--limit: found 0, expected 1 or more"),
        (["--limit", "-3"], "--limit: found -3"),
        (["--suite", "ful"], "did you mean 'full'"),
        (["--only", "white_pgd11"], "did you mean 'white_pgd10'"),
        (["--compare", "traffic_signs:plane"], "did you mean 'plain'"),
        (["--eps", "0"], "--eps: found 0, expected 1 to 255 grey levels"),
        (["--eps", "nan"], "--eps: found nan"),
        (["--eps", "256"], "--eps: found 256"),
        (["--baseline", "plain"], "expected NAME=RUN"),
        (["--baseline", "plain={runs}/plain"], "found plain twice"),
        (["--surrogate", "{runs}/plain"], "no name twice"),
        (["--ensemble"], "--ensemble: found 1 surrogate, expected 2 or more to join"),
        (["--compare", "lisard:plain"], "found 'lisard', expected one of plain, traffic_signs"),
        (
            ["--baseline", "traffic_signs={runs}/plain"],
            "found traffic_signs, which is the name of the bundle, expected a",
        ),
        (
            ["--surrogate", "traffic_signs={runs}/plain"],
            "choose another for the baseline or surrogate, or for the bundle",
        ),
        (["--surrogate", "a={runs}/s1", "--ensemble", "--baseline", "ensemble={runs}/plain"], "found ensemble twice"),
        (["--surrogate", "a b={runs}/plain"], "expected letters, digits"),
        (["--surrogate", "n={runs}/narrow"], "surrogate n is for another task"),
        (["--baseline", "tiny={runs}/small"], "baseline tiny is for another task"),
        (["--surrogate", "gone={runs}/nowhere"], "found no such file"),
        (["--images", "{runs}/nowhere"], "no folder"),
        (["--json", "{runs}/s1/last.json/x"], "cannot write the result to --json"),
        (["--table", "{runs}"], "cannot write the result to --table"),
        (["--html", "{runs}/x", "--table", "{runs}/x"], "--table and --html have the same path"),
        (["--cache", "{runs}/s1/last.json"], "cannot write to --cache"),
        (["--images", "{runs}"], "class folder|found"),
        (["--tracks", "{runs}/nowhere"], "--tracks: found no readable text in"),
        (["--tracks", "{lists}/none.txt"], "found no track, expected tracks of the 300 measured images"),
        (["--tracks", "{lists}/other.txt"], "found 00099/00001, which no measured image has"),
    ],
)
def test_wrong_use_is_told_and_nothing_is_measured(words, runs, tmp_path, capsys, more, message):
    for name, text in (("none", "# nothing\n"), ("other", "00099/00001\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    assert main([*words, *(word.format(runs=runs, lists=tmp_path) for word in more)]) == 2
    told = capsys.readouterr().err
    assert any(part in told for part in message.split("|")), told
    assert not list(tmp_path.rglob("*.npz"))


def test_a_run_folder_in_place_of_a_bundle(words, runs, capsys):
    assert main(["evaluate", str(runs / "plain"), *words[2:]]) == 2
    assert "found a run folder" in (said := capsys.readouterr().err) and "lisard export" in said


def test_a_plain_baseline_is_needed(words, capsys):
    without = [word for at, word in enumerate(words) if at not in (4, 5)]
    assert main(without) == 2 and "--baseline plain=RUN_FOLDER" in capsys.readouterr().err


def test_a_bundle_without_a_pytorch_model(words, tmp_path, capsys):
    own = bundles.read(Path(BUNDLE))
    bare = msgspec.structs.replace(own.manifest, twin=None, architecture=None)
    contents = {name: content for name, content in own.contents.items() if name != own.manifest.twin}
    bundles.write(tmp_path / "bare", bare, contents)
    assert main(["evaluate", str(tmp_path / "bare"), *words[2:]]) == 2
    assert "has no PyTorch model" in capsys.readouterr().err


def test_a_damaged_run_folder(words, runs, tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / checkpoint.FILE_NAME).write_bytes(b"nonsense")
    assert main([*words, "--surrogate", f"b={broken}"]) == 2
    assert str(broken) in capsys.readouterr().err


@pytest.fixture
def on_data(trained, tmp_path, monkeypatch):
    """An evaluation on the images that trainings held back."""
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "cache"))
    return [
        "evaluate",
        str(trained.bundle),
        "--surrogate",
        str(trained.runs["s2"]),
        "--device",
        "cpu",
        "--only",
        "clean",
        "--baseline",
        f"plain={trained.runs['plain']}",
        "--data",
    ]


def test_held_back_images_of_the_training_are_measured_on(on_data, shared_folder, tmp_path):
    main([*on_data, str(shared_folder), f"--json={tmp_path / 'json'}"])
    report = json.loads((tmp_path / "json").read_text())
    assert report["origin"].startswith("tracks that no model was trained on") and report["images"] == 15
    assert not any(flag["code"] == "trained_on_other_images" for flag in report["flags"])


def test_another_split_of_the_same_images_is_refused(on_data, make_folder, tmp_path, capsys):
    """One track less in each class: what it holds back, the networks have learnt."""
    assert main([*on_data, str(make_folder(tmp_path / "fewer", tracks=3))]) == 2
    assert "found other training images" in capsys.readouterr().err


def test_images_of_other_classes_are_refused(on_data, make_folder, tmp_path, capsys):
    folder = make_folder(tmp_path / "others")
    (folder / "00002").rename(folder / "00007")
    assert main([*on_data, str(folder)]) == 2
    assert "found 3 classes, '00007' among them, expected 3 as in the training, '00002'" in capsys.readouterr().err


def test_a_bundle_that_learnt_from_other_images_is_flagged(on_data, trained, shared_folder, tmp_path):
    own = bundles.read(trained.bundle)
    card = msgspec.structs.replace(own.manifest.card, data_sha256="f" * 64)
    bundles.write(tmp_path / "other", msgspec.structs.replace(own.manifest, card=card), own.contents)
    code = main(["evaluate", str(tmp_path / "other"), *on_data[2:], str(shared_folder), f"--json={tmp_path / 'json'}"])
    flags = json.loads((tmp_path / "json").read_text())["flags"]
    assert [f["model"] for f in flags if f["code"] == "trained_on_other_images"] == ["tiny"] and code == 1


def test_a_detector_is_no_surrogate_of_a_classifier(words, tmp_path, capsys):
    record = DetectionEpoch(
        epoch=1,
        loss=1.0,
        seconds=1.0,
        clean=1.0,
        noisy=1.0,
        levels=0.0,
        instances=0.0,
        class_agreement=0.0,
        box_agreement=0.0,
        validation_ap=0.1,
        validation_ap50=0.2,
    )
    recipe = recipes.from_mapping({"name": "d", "task": "detection"})
    saved = checkpoint.Checkpoint(recipe, ("a",), "0" * 64, "float32", 1, 1, (record,), {}, {}, torch.get_rng_state())
    checkpoint.write(tmp_path / "d", saved)
    for what in ("--surrogate", "--baseline"):
        assert main([*words, what, f"d={tmp_path / 'd'}"]) == 2
        assert "for another task than the bundle: found detection, expected classification" in capsys.readouterr().err


def test_another_class_list_than_the_data(words, runs, tmp_path, capsys):
    saved = checkpoint.read(runs / "s1")
    recipe = replace(saved.recipe, data=replace(saved.recipe.data, labels=""))
    checkpoint.write(tmp_path / "unnamed", replace(saved, recipe=recipe))
    given = [str(tmp_path / "unnamed") if word == str(runs / "s1") else word for word in words]
    assert main(given) == 2
    told = capsys.readouterr().err
    assert "has another class list than the data: found 43 labels, label 0 is 'speed_limit_20'" in told


def test_tracks_are_called_so_only_where_images_share_one(trained):
    each_its_own = replace(trained.dataset, tracks=tuple(map(str, range(len(trained.dataset)))))
    assert (command.unit(trained.dataset), command.unit(each_its_own)) == ("tracks", "images")
