"""`lisard attack run`: the bundle's own perturbations on its own images; exit status 1 when a limit does not hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lisard_ros.commands import attack


def test_a_sound_bundle_holds_its_limits(lisard: Any, tiny: Any) -> None:
    done = lisard("attack", "run", tiny.armed().path)
    assert done.status == 0 and done.out.rstrip().endswith("self test passed: 4 of 4 limits hold")
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[4:8]] == ["clean", "noise", "fgsm", "universal"]
    assert all("100.0 % [75.8, 100.0] n=12" in line and "passed" in line for line in lines[4:8])


def test_a_broken_bundle_is_status_1(lisard: Any, tiny: Any) -> None:
    bundle = tiny.armed(weights=np.roll(np.eye(3, dtype=np.float32), 1, axis=1) * 20)
    done = lisard("attack", "run", bundle.path)
    assert done.status == 1 and "FAILED: accuracy 0.0 % is below the limit" in done.out


def test_json_with_chosen_cases(lisard: Any, tiny: Any) -> None:
    done = lisard("attack", "run", tiny.armed().path, "--suite", "fgsm, clean", "--count", "5", "--seed", "2", "--json")
    report = json.loads(done.out)
    assert done.status == 0 and [c["injection"] for c in report["cases"]] == ["fgsm", "clean"]
    assert report["cases"][0]["accuracy"]["n"] == 5 and report["seed"] == 2
    assert report["passed"] is True and report["schema_version"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--attack", "pgd9"], "did you mean 'attack/pgd10'?"),
        (["--suite", "pgd9=0"], "did you mean 'attack/pgd10'?"),
        (["--limits", "attack/pgd9=0.5"], "did you mean 'attack/pgd10'?"),
        (["--suite", "attack/pgd9"], "did you mean 'attack/pgd10'?"),
        (["--attack", "square0"], "did you mean 'attack/square100'?"),
        (["--attack", "fgsm/300"], "whole grey levels from 0"),
        (["--attack", "fgsm"], "--variants none --gradient"),
        (["--suite", "fgms"], "unknown injection of bundle tiny: found 'fgms'"),
        (["--suite", "clean,corruption/fogg/3=0.5"], "did you mean 'corruption/fog/3'?"),
        (["--suite", "clean,fgms=0.5"], "did you mean 'fgsm'?"),
        (["--seed", "-1"], "seed of the self test is negative"),
        (["--count", "-1"], "negative number"),
    ],
)
def test_wrong_use_is_refused(lisard: Any, tiny: Any, options: list[str], message: str) -> None:
    lisard("attack", "run", tiny.armed().path, *options).refused(message)


def test_a_corruption_with_a_limit(lisard: Any, tiny: Any) -> None:
    path = tiny.armed().path
    held = lisard("attack", "run", path, "--suite", "clean,corruption/jpeg_compression/5=0.7")
    assert held.status == 0 and "corruption/jpeg_compression/5" in held.out and "70.0 %" in held.out
    measured = lisard("attack", "run", path, "--suite", "corruption/fog/3")
    assert measured.status == 0 and "self test measured: 1 without a limit" in measured.out
    zero = lisard("attack", "run", path, "--suite", "corruption/fog/3=0", "--json")
    assert zero.status == 0 and json.loads(zero.out)["passed"] is False, "a limit of 0 is none"


def test_the_result_is_written_as_a_report(lisard: Any, tiny: Any, tmp_path: Path) -> None:
    done = lisard("attack", "run", tiny.armed().path, "--report", tmp_path / "out")
    assert done.status == 0 and "self_test.html" in done.err
    assert json.loads((tmp_path / "out" / "self_test.json").read_text())["passed"] is True
    (tmp_path / "file").write_text("")
    lisard("attack", "run", tiny.armed("b").path, "--report", tmp_path / "file").refused("--report")


def test_a_limit_is_judged_by_the_lower_bound(lisard: Any, tiny: Any) -> None:
    """Regression: 87.5 % [64.0, 96.5] of 16 images held a limit of 81.2 %. The bundle's own limits, a margin below what
    these very images reached at export, are compared with the share.
    """
    path = tiny.armed().path
    broken = lisard("attack", "run", path, "--limits", "clean=0.9")
    assert broken.status == 1 and "the lower bound of 100.0 % [75.8, 100.0] n=12 is below 90 %" in broken.out
    assert lisard("attack", "run", path, "--suite", "clean=0.9").status == 1
    held = lisard("attack", "run", path, "--limits", "clean=0.7,max_ms=100000,failed=0", "--json")
    report = json.loads(held.out)
    assert held.status == 0 and [one["passed"] for one in report["verdicts"]] == [True] * 3
    assert [(case["injection"], case["min_accuracy"]) for case in report["cases"]] == [
        ("noise", 0.9),
        ("fgsm", 0.9),
        ("universal", 0.9),
        ("clean", 0.7),
    ]
    few = lisard("attack", "run", path, "--count", "4", "--suite", "clean=0.1")
    assert few.status == 1 and "not enough evidence" in few.out
    assert lisard("attack", "run", path, "--suite", "corruption/fog/3=0", "--count", "4").status == 0, "only measured"
    slow = lisard("attack", "run", path, "--limits", "p95_ms=0.000001")
    assert slow.status == 1 and "p95_ms<=1e-06: BROKEN" in slow.out
    lisard("attack", "run", path, "--limits", "claen=0.7").refused("did you mean 'clean'?")
    lisard("attack", "run", path, "--limits", "agreement/clean=0.7").refused("unknown metric")


def test_the_registry_is_listed(lisard: Any) -> None:
    done = lisard("attack", "list", "--task", "classification", "--json")
    listed = {one["name"]: one for one in json.loads(done.out)}
    assert done.status == 0 and listed["attack/pgd10"]["knowledge"] == ["white-box", "gray-box"]
    assert listed["attack/square100"]["queries"] == 100 and "AML.T0043.001" in listed["attack/square100"]["atlas"]
    assert "attack/pgd10_vanish" not in listed
    shown = lisard("attack", "list")
    assert "attack/pgd10_vanish" in shown.out and "the running engine" in shown.out


def test_queries_and_noise_need_no_gradient_file(lisard: Any, tiny: Any) -> None:
    done = lisard("attack", "run", tiny.armed().path, "--attack", "square100/2,uniform", "--count", "3", "--json")
    cases = json.loads(done.out)["cases"]
    assert done.status == 0 and [c["injection"] for c in cases] == ["clean", "attack/square100/2", "attack/uniform"]
    assert [c["knowledge"] for c in cases] == ["none", "query", "none"]
    assert [c["verdict"] for c in cases][1:] == ["measured", "measured"]
    held = lisard("attack", "run", tiny.armed().path, "--suite", "clean", "--limits", "attack/uniform/1=0.5", "--json")
    assert {c["injection"]: c["verdict"] for c in json.loads(held.out)["cases"]}["attack/uniform/1"] == "passed"


def test_a_bundle_without_a_self_test_is_refused(lisard: Any, tiny: Any) -> None:
    lisard("attack", "run", tiny.classifier().path).refused("has no self test")


@pytest.mark.parametrize("words", [(), ("walk",), ("run",), ("run", "a", "--count", "many")])
def test_wrong_words_are_wrong_use(lisard: Any, words: tuple[str, ...]) -> None:
    done = lisard("attack", *words)
    assert done.status == 2 and "usage: lisard attack" in done.err


def test_make_gets_every_word(lisard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Make:
        HELP = "how to make"
        seen: tuple[str, str] = ("", "")

        @staticmethod
        def configure(parser: Any) -> None:
            parser.add_argument("bundle")
            parser.add_argument("--eps")

        @staticmethod
        def run(args: Any) -> int:
            Make.seen = (args.bundle, args.eps)
            return 1

    monkeypatch.setattr(attack, "load_make", lambda: Make)
    assert lisard("attack", "make", "--eps", "8", "models/x").status == 1 and Make.seen == ("models/x", "8")
    helped = lisard("attack", "make", "--help")
    assert helped.status == 0 and helped.out.startswith("usage: lisard attack make") and "how to make" in helped.out
    wrong = lisard("attack", "make", "--epsilon")
    assert wrong.status == 2 and "usage: lisard attack make" in wrong.err


def test_make_without_the_trainer_says_what_to_install(lisard: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack, "entry_points", lambda group: [])
    lisard("attack", "make").refused("needs the trainer", "pip install")
    lisard("attack", "make", "bundle", "--out", "x").refused("needs the trainer", "pip install")
