"""Attacks that are worked out on live images: within the budget, on the 8-bit grid, refused where they cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lisard_engines.gradient import derive
from lisard_ros import cli, injection
from lisard_ros.bundle import Bundle
from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.errors import AttackError
from lisard_ros.evaluation import references, self_test
from lisard_ros.inference.pipeline import open_pipeline
from lisard_ros.inference.preprocess import prepare
from lisard_ros.injection import AttackSources
from lisard_ros.injection_process import self_test_run
from lisard_ros.injection_process.self_test_run import Cancellation, SelfTestResources
from lisard_ros.injection_process.wire import SelfTestOrder

EVERY = (
    "attack/fgsm",
    "attack/pgd10/3",
    "attack/mifgsm10",
    "attack/apgd20_margin",
    "attack/square100",
    "attack/uniform",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def batch(bundle: Bundle, count: int = 6) -> tuple[np.ndarray, list[str]]:
    """Reference images as the network meets them, and keys that nobody knows."""
    assert bundle.manifest.self_test is not None
    frames = references.load(bundle, bundle.manifest.self_test).frames[:count]
    return prepare([frame.rgb() for frame in frames], bundle.manifest.input), ["unknown"] * count


@pytest.mark.parametrize("name", EVERY)
def test_the_budget_holds_on_the_8_bit_grid(small: Any, name: str) -> None:
    bundle = small.bundle()
    derive.provide(bundle)
    x, keys = batch(bundle)
    before = x.copy()
    made = injection.make(bundle, name, seed=3)
    injected = made.apply(x, keys)
    levels = np.rint(injected.x * np.float32(255))
    np.testing.assert_array_equal(injected.x, levels / np.float32(255))
    moved = np.abs(levels - np.rint(x * np.float32(255))).max()
    assert 0 < moved <= (3 if name.endswith("/3") else 8)
    assert injected.applied.all() and injected.x.dtype == np.float32
    np.testing.assert_array_equal(x, before)
    again = injection.make(bundle, name, seed=3).apply(x, keys)
    np.testing.assert_array_equal(again.x, injected.x)


@pytest.mark.parametrize("name", ["attack/pgd10/0", "attack/square100/0", "attack/uniform/0"])
def test_a_budget_of_0_is_the_clean_image(small: Any, name: str) -> None:
    bundle = small.bundle()
    derive.provide(bundle)
    x, keys = batch(bundle)
    np.testing.assert_array_equal(injection.make(bundle, name).apply(x, keys).x, x)


def test_an_empty_batch_stays_empty(small: Any) -> None:
    bundle = small.bundle()
    derive.provide(bundle)
    assert len(injection.make(bundle, "attack/fgsm").apply(np.zeros((0, 3, 16, 16), np.float32), []).x) == 0


def test_knowledge_follows_from_where_the_gradient_comes(small: Any) -> None:
    bundle, surrogate = small.bundle(), small.bundle(small.network(weight=0.7), name="surrogate")
    derive.provide(bundle), derive.provide(surrogate)
    other = AttackSources(surrogate)
    assert injection.make(bundle, "attack/fgsm").knowledge == "white-box"
    assert injection.make(bundle, "attack/fgsm", sources=other).knowledge == "gray-box"
    assert injection.make(bundle, "attack/square100", sources=other).knowledge == "query"
    assert injection.make(bundle, "attack/uniform", sources=other).knowledge == "none"


def test_the_surrogate_stands_for_the_bundle_behind_a_detector(small: Any) -> None:
    bundle, surrogate, detector = (
        small.bundle(),
        small.bundle(small.network(weight=0.7), name="other"),
        small.detector(),
    )
    for each in (bundle, surrogate, detector):
        derive.provide(each)
    names = ("attack/fgsm", "detector/attack/fgsm")
    made = [injection.make_staged(bundle, detector, name, sources=AttackSources(surrogate)) for name in names]
    assert [one.knowledge for one in made] == ["gray-box", "white-box"]


def test_a_surrogate_crosses_to_the_process_of_a_self_test(small: Any) -> None:
    bundle, surrogate = small.bundle(), small.bundle(small.network(weight=0.7), name="surrogate")
    derive.provide(surrogate)
    pipeline = open_pipeline(bundle.path, threads=1)
    order, resources = SelfTestOrder(0, ("attack/pgd10",), 3), SelfTestResources()
    report = self_test_run.run(pipeline, order, resources, Cancellation(), print, surrogate=surrogate).report
    here = self_test.run(pipeline, suite=order.suite, seed=3, sources=AttackSources(surrogate))
    assert report.cases == here.cases and report.cases[0].knowledge == "gray-box"


def test_a_surrogate_of_other_classes_or_size_is_refused(small: Any) -> None:
    bundle = small.bundle()
    classes = small.bundle(name="classes", labels=("red", "green", "violet"))
    size = small.bundle(name="size", input=InputSpec(width=16, height=32))
    order = small.bundle(name="order", input=InputSpec(width=16, height=16, colour="bgr"))
    for surrogate, what in ((classes, "classes"), (size, "input size"), (order, "order of channels")):
        with pytest.raises(AttackError, match=f"cannot be the surrogate of small: another {what}"):
            injection.make(bundle, "attack/fgsm", sources=AttackSources(surrogate))
    with pytest.raises(AttackError, match="it holds the same model: found .*white-box"):
        injection.make(bundle, "attack/fgsm", sources=AttackSources(small.bundle(name="twin")))
    with pytest.raises(AttackError, match="another task"):
        injection.make(bundle, "attack/fgsm", sources=AttackSources(small.detector()))


def test_queries_are_answered_by_the_running_engine_alone(small: Any) -> None:
    """No gradient file, and every answer is one of the engine's."""
    bundle = small.bundle()
    asked = []

    class Counting:
        def __init__(self) -> None:
            self._backend = open_pipeline(bundle.path).choice.backend

        def infer(self, x: np.ndarray) -> np.ndarray:
            asked.append(len(x))
            return self._backend.infer(x)

    x, keys = batch(bundle)
    made = injection.make(bundle, "attack/square100", sources=AttackSources(engine=Counting()))
    assert made.apply(x, keys).applied.all()
    assert len(x) <= sum(asked) <= 101 * len(x)


def test_queries_hide_boxes_of_a_detector(small: Any) -> None:
    bundle = small.detector()
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16)).astype(np.float32) / np.float32(255)
    assert injection.make(bundle, "attack/square100").apply(x, ["", ""]).applied.all()


def test_the_self_test_measures_attacks(small: Any) -> None:
    bundle = small.bundle(small.network(weight=0.3))
    derive.provide(bundle)
    report = self_test.run(open_pipeline(bundle.path), suite=("clean", "attack/pgd10/60", "attack/pgd10/0=0"))
    clean, attacked, nothing = report.cases
    assert nothing.accuracy == clean.accuracy
    assert attacked.accuracy.share < clean.accuracy.share
    assert attacked.knowledge == "white-box" and attacked.accuracy.n == clean.accuracy.n


def test_the_command_attacks_without_torch(small: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = small.bundle()
    assert cli.main(["build", str(bundle.path), "--variants", "none", "--gradient"]) == 0
    assert "gradient:" in capsys.readouterr().out
    words = ["attack", "run", str(bundle.path), "--count", "4", "--attack"]
    assert cli.main([*words, "fgsm,square100/4"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[:2] for line in shown.splitlines()[4:7]] == [
        ["clean", "none"],
        ["attack/fgsm", "white-box"],
        ["attack/square100/4", "query"],
    ]
    assert cli.main([*words, "pgd9"]) == 2
    assert "did you mean 'attack/pgd10'?" in capsys.readouterr().err
    assert cli.main([*words, "fgsm", "--surrogate", str(small.detector().path)]) == 2
    assert "another task" in capsys.readouterr().err
    assert cli.main(["attack", "run", str(bundle.path), "--surrogate", str(bundle.path)]) == 2
    assert "--surrogate without an attack" in capsys.readouterr().err
    other = small.bundle(small.network(weight=0.9), name="other")
    assert cli.main(["attack", "run", str(other.path), "--attack", "fgsm"]) == 2
    assert "there is no gradient of bundle other" in capsys.readouterr().err


def test_building_a_gradient_leaves_the_bundle_as_it_is(small: Any) -> None:
    bundle = small.bundle()
    before = {path.name: path.read_bytes() for path in bundle.path.iterdir()}
    assert cli.main(["build", str(bundle.path), "--variants", "none", "--gradient"]) == 0
    assert {path.name: path.read_bytes() for path in bundle.path.iterdir()} == before
