"""bench/golden.py: what counts as identical, how words of commits become its own, and two made-up commits in full."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import golden  # noqa: E402
import golden_data  # noqa: E402
import golden_words  # noqa: E402

from lisard_trainer import recipes  # noqa: E402

# A `lisard` of few lines: it answers what bench/golden.py asks for, in the words that stand in for those of a commit.
COMMAND = """
import json, sys
words = sys.argv[1:]
if "--help" in words:
    print("  {predict}   answer files" if words == ["--help"] else "usage: lisard replay [{attacks} NAMES]")
elif words[0] == "replay":
    assert "{attacks}" in words
    is_drive = words[1].endswith("road_drive")
    row = {{"{injection}": "noise", "score": {{"hits": 1, "share": {share} if is_drive else 0.5}},
            "latency": {{"p95_ms": {p95}}}}}
    open(words[words.index("--json") + 1], "w").write(json.dumps({{"rows": [row]}}))
elif words[0] == "{predict}":
    print(json.dumps([{{"file": "a.png", "answers": ["stop 0.9"], "error": None}}]))
else:
    sys.exit(2)
"""
OLD = {"predict": "run", "attacks": "--attacks", "injection": "injection", "share": 0.25, "p95": 3.0}
NEW = {"predict": "predict", "attacks": "--injections", "injection": "attack", "share": 0.2500000000000001, "p95": 4.0}


def test_floats_are_compared_exactly_and_what_is_missing_differs():
    old = {"a": 0.1 + 0.2, "b": None, "c": 1, "d": float("nan")}
    new = {"a": 0.3, "b": None, "c": 1.0, "d": float("nan"), "e": 2}
    found = {one.name: one for one in golden.compare(old, new, [("a", "another sum")])}
    assert [name for name, one in found.items() if one.identical] == ["b", "d"]
    assert found["a"].expected == "another sum"
    assert (found["e"].old, found["e"].expected) == (golden.MISSING, "")


def test_a_failed_command_and_no_values_at_all_are_no_success():
    good, failed = golden.Outcome({"a": 1}, 1.0), golden.Outcome({}, 1.0, "ended with 2")
    expected, other = (golden.Compared("train/x/a", 1, 2, False, reason) for reason in ("a reason", ""))
    assert golden.passed({"train/x": (good, good)}, [expected])
    assert not golden.passed({"train/x": (good, good)}, [other])
    assert not golden.passed({"train/x": (failed, failed)}, [])
    assert not golden.passed({"train/x": (golden.Outcome({}, 1.0), golden.Outcome({}, 1.0))}, [])


def test_the_newest_word_that_a_help_text_has_is_used():
    text = "usage: lisard evaluate [-h] [--no-cache] [--control NAME=RUN]\n  --images-only  x"
    assert golden_words.word(golden_words.OPTIONS["no cache"], text) == "--no-cache"
    assert golden_words.word(golden_words.OPTIONS["baseline"], text) == "--control"
    assert golden_words.word(golden_words.OPTIONS["images"], text) == "--pictures"  # `--images-only` is another word


@pytest.mark.parametrize(
    ("model", "condition", "baseline", "named"),
    [("lisard", "column", "control", {}), ("signs", "condition", "baseline", {"model": "signs"})],
)
def test_a_report_has_fixed_names_whatever_the_commit_calls_them(model, condition, baseline, named):
    line = {"model": model, condition: "white_pgd10", "backend": "torch", "accuracy": {"hits": 3}, "steps": 10}
    difference = {"model": model, baseline: "plain", condition: "clean", "difference": {"value": 0.5}}
    report = {**named, "lines": [line], "differences": [difference]}
    assert golden_words.of_report(report, golden_words.CLASSIFIER_CONDITIONS) == {
        "bundle/white-box PGD-10/torch/accuracy.hits": 3,
        "difference to/plain/clean/difference.value": 0.5,
    }


def test_names_of_tensors_do_not_count_and_their_content_does(tmp_path):
    from safetensors.numpy import save_file

    ones, twos = np.ones(3, np.float32), np.full(3, 2, np.float32)
    for name, tensors in {
        "a": {"network.stem": ones, "network.head": twos, "random": ones},
        "b": {"network.first": ones, "network.last": twos, "generator": ones},
        "c": {"network.stem": ones, "network.head": ones, "random": ones},
    }.items():
        save_file(tensors, tmp_path / name)
    first, renamed, other = (golden_words.checkpoint_hashes(tmp_path / name) for name in "abc")
    assert first == renamed
    assert (first[0] == other[0], first[1] == other[1]) == (False, True)


@pytest.mark.parametrize("name", golden.TRAININGS)
def test_every_recipe_is_valid_and_trains_two_epochs(name):
    assert recipes.from_mapping(golden.recipe(name)).optimizer.epochs == 2


def test_a_part_of_a_group_can_be_asked_for():
    trainings, rest = golden.checks(golden.patterns_of("train/boxes_l*, replay/road_signs"))
    assert [check.name for check in trainings] == ["train/boxes_lisard"]
    assert [check.name for check in rest] == ["replay/road_signs"]


def test_the_trainings_cover_every_form_of_every_term():
    made = [golden.recipe(name) for name in golden.TRAININGS]
    for section, forms in {
        "similarity": {"official", "normalised"},
        "gradient": {"l1", "slope", "linear", "views", "curvature"},
        "consistency": {"kl", "cosine"},
        "adversarial": {"pgd", "fgsm_rs"},
    }.items():
        assert {one[section]["form"] for one in made if section in one} == forms


def test_data_is_made_from_the_excerpts(tmp_path):
    golden_data.make(ROOT, tmp_path)
    assert len(list((tmp_path / "signs" / "train").iterdir())) == 43
    assert len(list((tmp_path / "signs" / "train").rglob("*.png"))) == 43 * 4
    assert len(list((tmp_path / "images").rglob("*.png"))) == 4 * 5
    for part, count in (("train", 12), ("val", 5)):
        content = json.loads((tmp_path / "boxes" / part / "annotations.json").read_text(encoding="utf-8"))
        assert {box["category_id"] for box in content["annotations"]} == {1, 2, 3, 4}
        image = content["images"][0]
        pixels = cv2.imread(str(tmp_path / "boxes" / part / "images" / image["file_name"]))
        assert (len(content["images"]), pixels.shape[:2]) == (count, (image["height"], image["width"]))
    assert len(list((tmp_path / "bags").iterdir())) == 3


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Makes commits of a made-up project."""
    folder = tmp_path / "project"
    (folder / "lisard_ros").mkdir(parents=True)
    (folder / "setup.py").write_text("from setuptools import setup\nsetup(name='x', packages=['lisard_ros'])\n")
    monkeypatch.setattr(golden, "ROOT", folder)

    def git(*words: str) -> None:
        subprocess.run(["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)

    def commit(words: dict[str, object]) -> None:
        (folder / "lisard_ros" / "__main__.py").write_text(COMMAND.format(**words), encoding="utf-8")
        git("add", "-A")
        git("commit", "-qm", "A commit")

    git("init", "-q")
    return commit


@pytest.fixture
def excerpts(tmp_path):
    """The excerpts of this project, in the made-up one."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "data", folder / "data")
    for name in golden_data.BUNDLES:
        (folder / "models" / name).mkdir(parents=True)
        shutil.copy(ROOT / "models" / name / "bundle.json", folder / "models" / name)


def test_two_commits_are_compared_under_one_set_of_names(repository, excerpts, tmp_path, capsys):
    repository(OLD)
    repository(NEW)
    file = tmp_path / "golden.json"
    assert golden.main(["HEAD~1", "HEAD", "--only", "replay", "--json", str(file)]) == 1
    content = json.loads(file.read_text(encoding="utf-8"))
    names = {one["name"] for one in content["values"]}
    assert {"replay/road_signs/noise/score.share", "replay/answers road_signs/a.png/answers.0"} <= names
    # Words and times differ as well, but only this figure is another one, in its last digit.
    differing = [one["name"] for one in content["values"] if not one["identical"]]
    assert differing == ["replay/road_drive/noise/score.share"]
    assert (content["passed"], content["failed"]) == (False, {})
    assert "1 of 2 values differ" in capsys.readouterr().out
    assert len(golden.git("worktree", "list").splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-such-commit", "HEAD"], "no-such-commit"),
        (["HEAD", "HEAD", "--only", "training"], "train, evaluate, replay"),
        (["HEAD", "HEAD", "--only", "train/unheard"], "nothing is called 'train/unheard'; there are train/plain"),
        (["HEAD", "HEAD", "--expect", "replay"], "NAME=reason"),
        (["HEAD", "HEAD", "--jobs", "0"], "1 or more"),
    ],
)
def test_a_wrong_command_line_is_refused(repository, words, said, capsys):
    repository(OLD)
    assert golden.main(words) == 2
    assert said in capsys.readouterr().err
