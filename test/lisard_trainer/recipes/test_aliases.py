"""Former names of recipe keys: read everywhere, written nowhere, and never beside their new name."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.errors import UsageError
from lisard_trainer import recipes
from lisard_trainer.recipes import aliases
from lisard_trainer.tasks.detection.recipe import DetectorRecipe

ROOT = Path(__file__).parents[3]
PUBLISHED = sorted((ROOT / "docs" / "results").glob("*_recipes.json"))
# Every renamed key of a classifier, then of a detector, in the words of release 0.1.0 and in those of today.
OLD = """
name: r
select: best
start: {weights: w.pt, without: head}
overlay: {first_255: 8, least_share: 0.5}
gradient: {form: linear, reach_255: 6}
optimiser: {epochs: 9, batch: 64, peak_rate: 0.03, warm_up_share: 0.1, second_cycle: 3, official_warm_up: 2,
            decay_one_dim: true}
"""
NEW = """
name: r
checkpoint_selection: best
init: {weights: w.pt, exclude: head}
detail_mixing: {first_255: 8, min_share: 0.5}
gradient: {form: logit_extrapolation, target_eps_255: 6}
optimizer: {epochs: 9, batch_size: 64, max_lr: 0.03, warmup_fraction: 0.1, restart_epochs: 3, official_warmup_epochs: 2,
            decay_norm_and_bias: true}
"""
OLD_DETECTOR = """
name: d
task: detection
start: {without: heads}
augment: {plain_share: 0.3, least_visible: 0.5, least_px: 5}
loss: {focus: 2}
balance: {memory: 0.5}
optimiser: {batch: 4}
"""
NEW_DETECTOR = """
name: d
task: detection
init: {exclude: heads}
augment: {no_mosaic_share: 0.3, min_visible: 0.5, min_px: 5}
loss: {focal_gamma: 2}
balance: {ema_decay: 0.5}
optimizer: {batch_size: 4}
"""
TEXTS = pytest.mark.parametrize(
    ("old", "new"), [(OLD, NEW), (OLD_DETECTOR, NEW_DETECTOR)], ids=("classifier", "detector")
)


def leaves(content: dict[str, Any], path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, value in content.items():
        found |= leaves(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
    return found


def nested(content: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, value in content.items():
        section = found
        for key in path[:-1]:
            section = section.setdefault(key, {})
        section[path[-1]] = value
    return found


@TEXTS
def test_old_text_is_the_same_recipe_as_new_text(old, new):
    assert recipes.from_mapping(yaml.safe_load(old)) == recipes.from_mapping(yaml.safe_load(new))


def test_the_texts_have_every_renamed_key_and_value():
    used = {".".join(path) for text in (NEW, NEW_DETECTOR) for path in leaves(yaml.safe_load(text))}
    sections = {key.partition(".")[0] for key in used}
    assert {new for new in aliases.KEYS.values() if "." in new} <= used
    assert {new for new in aliases.KEYS.values() if "." not in new} <= used | sections
    assert aliases.VALUES == {"gradient.form": {"linear": "logit_extrapolation"}}


@pytest.mark.parametrize("new", aliases.KEYS.values())
def test_every_new_name_is_a_key_of_some_task_and_no_old_one_is(new):
    keys = set()
    for recipe in (recipes.Recipe("r"), DetectorRecipe("d")):
        keys |= {".".join(path) for path in leaves(dataclasses.asdict(recipe))}
    keys |= {key.partition(".")[0] for key in keys}
    assert new in keys and not keys & aliases.KEYS.keys()


@functools.cache
def leaves_of(text: str) -> tuple[tuple[tuple[str, ...], Any], ...]:
    """Parsing takes longer than all that an example does."""
    return tuple(leaves(yaml.safe_load(text)).items())


@functools.cache
def recipe_of(text: str) -> Any:
    return recipes.from_mapping(yaml.safe_load(text))


@TEXTS
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_mixture_of_old_and_new_names_is_the_same_recipe(old, new, data):
    """Of sections, keys and values, each by itself in its old or its new name."""
    pairs = list(zip(leaves_of(old), leaves_of(new), strict=True))
    old_sections = {old_path[0]: data.draw(st.booleans()) for (old_path, _), _ in pairs}
    mixed = {}
    for (old_path, old_value), (new_path, new_value) in pairs:
        path = list(old_path if data.draw(st.booleans()) else new_path)
        path[0] = old_path[0] if old_sections[old_path[0]] else new_path[0]
        mixed[tuple(path)] = old_value if data.draw(st.booleans()) else new_value
    assert recipes.from_mapping(nested(mixed)) == recipe_of(new)


@TEXTS
def test_changes_in_old_names_are_those_in_new_names(old, new, tmp_path):
    """Each key in a --set of its own, over a file that knows none of them."""
    name, task = (yaml.safe_load(new).get(key, "classification") for key in ("name", "task"))
    (tmp_path / "r.yaml").write_text(f"{{name: {name}, task: {task}}}")
    changes = [
        [f"{'.'.join(path)}={json.dumps(value)}" for path, value in leaves(yaml.safe_load(text)).items()]
        for text in (old, new)
    ]
    was, now = (recipes.read(tmp_path / "r.yaml", words) for words in changes)
    assert was == now == recipes.from_mapping(yaml.safe_load(new))


@pytest.mark.parametrize("text", [OLD, NEW], ids=("old", "new"))
@pytest.mark.parametrize(
    "changes",
    [
        ["optimizer.batch_size=8", "gradient.form=logit_extrapolation", "init.exclude=body"],
        ["optimiser.batch=8", "gradient.form=linear", "start.without=body"],
        ["optimizer.batch=8", "start={weights: w.pt, without: body}"],
    ],
)
def test_a_change_replaces_what_the_file_says_under_either_name(text, changes, tmp_path):
    (tmp_path / "r.yaml").write_text(text)
    changed = recipes.read(tmp_path / "r.yaml", changes)
    before = recipes.read(tmp_path / "r.yaml")
    assert changed == dataclasses.replace(
        before,
        optimizer=dataclasses.replace(before.optimizer, batch_size=8),
        init=dataclasses.replace(before.init, exclude="body"),
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"optimiser": {}, "optimizer": {}},
            "recipe key optimizer: found optimiser too, its former name, .*once; take",
        ),
        ({"optimizer": {"batch_size": 8, "batch": 8}}, "recipe key optimizer.batch_size: found batch too"),
        ({"optimiser": {"peak_rate": 1, "max_lr": 1}}, "recipe key optimizer.max_lr: found peak_rate too"),
        ({"select": "best", "checkpoint_selection": "last"}, "recipe key checkpoint_selection: found select too"),
        ({"optimiser": 3}, "recipe key optimizer: found 3, expected a mapping of keys"),
        ({"optimiser": {"peak_rate": -1}}, "recipe key optimizer.max_lr: found -1"),
        ({"optimiser": {"peak_rat": 1}}, "unknown recipe key in optimizer: found 'peak_rat', .*mean 'max_lr'?"),
        ({"optimisr": {}}, "did you mean 'optimizer'"),
        ({"peak_rate": 1}, "unknown recipe key peak_rate: found no section, expected optimizer.max_lr"),
        ({"second_cycl": 1}, "did you mean optimizer.restart_epochs"),
        ({"gradient": {"form": "linaer"}}, "did you mean 'logit_extrapolation'"),
        ({"loss": {"focus": 2}}, "unknown recipe key in loss: found 'focus'"),  # a classifier has none
    ],
)
def test_mistakes_are_told_in_new_names(content, message):
    with pytest.raises(UsageError, match=message):
        recipes.from_mapping(content)


def test_one_key_changed_under_both_names_is_refused(tmp_path):
    (tmp_path / "r.yaml").write_text("{}")
    with pytest.raises(UsageError, match="--set: .*expected a value for optimizer.batch_size once"):
        recipes.read(tmp_path / "r.yaml", ["optimizer.batch_size=8", "optimiser.batch=8"])


def test_a_task_that_uses_a_former_name_itself_keeps_it():
    @dataclasses.dataclass(frozen=True)
    class Own:
        select: str = ""
        start: str = ""
        init: str = ""

    content = {"select": "best", "start": "here"}
    assert aliases.with_current_names(content, Own) == content


@TEXTS
def test_only_new_names_are_written(old, new):
    recipe = recipes.from_mapping(yaml.safe_load(old))
    for written in (yaml.safe_load(recipe.as_yaml()), json.loads(recipe.as_json())):
        keys = {".".join(path) for path in leaves(written)}
        assert not keys & aliases.KEYS.keys() and not {key.partition(".")[0] for key in keys} & aliases.KEYS.keys()
        assert written.get("gradient", {}).get("form") in (None, "logit_extrapolation")


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_recipes_are_still_read(path):
    for name, content in json.loads(path.read_text(encoding="utf-8")).items():
        recipe = recipes.from_mapping(content)
        own = content.get("optimizer") or content["optimiser"]
        assert recipe.optimizer.batch_size == own.get("batch_size", own.get("batch")), name
