"""Models under test: names of their own, and a network that is built when it is first asked for."""

from __future__ import annotations

import pytest
from torch import nn

from lisard_ros.errors import LisardError
from lisard_trainer.evaluation.models import ModelSource, ModelsUnderTest, ModelUnderTest, check_names


@pytest.mark.parametrize(
    ("baselines", "surrogates", "message"),
    [
        (["plain", "signs"], {}, "found signs, which is the name of the bundle, .*; choose another .*bundle.json"),
        (["plain"], {"signs": "signs"}, "found signs, which is the name of the bundle, expected a name of its own"),
        (["plain"], {"": "plain"}, "found plain twice, .*; choose another for the baseline or surrogate$"),
        (["plain"], {"a b": "surrogate a b"}, "found 'a b', expected letters, digits, _ - ."),
        (["pl/ain"], {}, "found 'pl/ain'"),
    ],
)
def test_names_that_cannot_be_told_apart_or_written_are_refused(baselines, surrogates, message):
    with pytest.raises(LisardError, match=message):
        check_names("signs", baselines, surrogates)


def test_a_bundle_cannot_be_called_like_the_plain_baseline():
    with pytest.raises(LisardError, match=r"found plain, which .*or for the bundle \(`name` in its bundle.json\)"):
        check_names("plain", ["plain"], {"": "surrogate"})


def test_a_baseline_may_be_called_as_every_bundle_was_once():
    check_names("signs", ["plain", "lisard"], {"": "surrogate"})


def test_a_baseline_and_a_surrogate_may_share_a_name_that_the_report_tells_apart():
    check_names("signs", ["plain", "b-1.2_x"], {"b-1.2_x": "surrogate b-1.2_x", "": "surrogate"})


def source(name: str) -> ModelSource:
    return ModelSource(name, "baseline", "recipe", 0, 1, "0" * 64)


def test_the_network_and_its_attack_model_are_made_once_and_on_demand():
    built, attacked = [], []
    model = ModelUnderTest(source("m"), "key", lambda: built.append(1) or nn.Identity(), attacked.append)
    assert not built and model.name == "m"
    assert model.network is model.network and built == [1] and not attacked
    model.attack_model, model.attack_model  # noqa: B018
    assert attacked == [model.network]


def test_a_plain_baseline_is_needed_to_judge():
    model = ModelUnderTest(source("m"), "key", nn.Identity, lambda network: network)
    everybody = ModelsUnderTest(None, model, (), {})  # type: ignore[arg-type]
    with pytest.raises(LisardError, match="no plain baseline; pass --baseline plain=RUN_FOLDER"):
        everybody.plain  # noqa: B018
