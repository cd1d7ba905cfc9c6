"""The grid of variants: its recipes are valid and differ as their names say; its table is what the report says."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import grid  # noqa: E402
import grid_table  # noqa: E402

from lisard_trainer import recipes  # noqa: E402


@pytest.mark.parametrize("name", sorted(grid.GRIDS))
def test_every_item_has_a_valid_recipe_and_a_name_of_its_own(name):
    items = list(grid.queue(grid.GRIDS[name], 3))
    assert len({item.name for item in items}) == len(items)
    assert all(item.recipe.name == item.grid.shipped.get(item.name, item.name) for item in items)
    assert all(item.recipe.seed == item.seed for item in items)
    networks = {item.recipe.network for item in items if item.name.startswith("surrogate_")}
    assert len(networks) >= 2 and any("lisard" in item.name for item in items)


def test_a_training_that_is_not_in_the_queue_is_refused():
    items = list(grid.queue(grid.GTSRB, 1))
    with pytest.raises(SystemExit, match="--only: found noize_1, expected some of surrogate_plain102, .*; see --list"):
        grid.chosen(items, ["noise_1", "noize_1"])


def test_seeds_of_a_variant_differ_in_nothing_but_the_seed():
    items = {item.name: item.recipe for item in grid.queue(grid.GTSRB, 3)}
    first, third = items["normalised_1"], items["normalised_3"]
    assert dataclasses.replace(third, name=first.name, seed=first.seed) == first


def test_more_seeds_are_planned_for_decisive_arms_and_trained_of_others_when_asked():
    items = list(grid.queue(grid.RESNET18, 3))
    planned = {item.name for item in items if item.planned}
    assert {"linear_3", "adversarial_1"} <= planned and "adversarial_2" not in planned
    assert {item.name for item in grid.chosen(items, [])} <= planned
    assert [item.name for item in grid.chosen(items, ["adversarial_2"])] == ["adversarial_2"]


def like(recipe, other, *sections):
    """The recipe with name and sections of another: equal to it where they differ in nothing else."""
    return dataclasses.replace(recipe, **{key: getattr(other, key) for key in ("name", *sections)})


@pytest.mark.parametrize(
    ("variant", "baseline", "sections"),
    [
        ("normalised", "noise", ["similarity"]),
        ("published", "noise_rising", ["similarity", "data"]),  # data: a shipped recipe names its licence
        ("noise_rising", "noise_separate", ["loss", "data"]),
        ("overlay_lisard", "overlay", ["similarity"]),
        ("linear", "noise_separate", ["gradient"]),
        ("linear_float32", "linear", ["gradient"]),
        ("noise_separate", "noise", ["forward"]),
        ("slope", "noise", ["gradient"]),
        ("shipped", "linear_stage", ["similarity", "data"]),
        ("linear_stage", "noise_stage", ["gradient", "data"]),
    ],
)
def test_a_variant_differs_from_its_baseline_as_its_name_says(variant, baseline, sections):
    variants = {item.name: item.recipe for item in grid.queue(grid.GTSRB, 1)}
    first, second = variants[f"{variant}_1"], variants[f"{baseline}_1"]
    assert like(first, second, *sections) == second
    assert all(getattr(first, key) != getattr(second, key) for key in sections)


def test_arms_are_what_they_are_called():
    variants = {item.name: item.recipe for item in grid.queue(grid.GTSRB, 1)}
    assert variants["noise_1"].similarity.form == "none" and 0 < variants["linear_1"].gradient.after < 15
    assert variants["ce_1"].views == 1 and variants["adversarial_1"].adversarial.form == "fgsm_rs"
    assert not variants["faithful_1"].optimizer.shuffle and variants["faithful_1"].similarity.projector == "dead"


def test_published_training_of_the_grid_is_the_recipe_that_ships():
    """But for the words about the data, and for rates that the published schedule has no use for."""
    (item,) = (item for item in grid.queue(grid.GTSRB, 1) if item.name == "faithful_1")
    ours = recipes.read(grid.RECIPES / "traffic_signs_faithful.yaml")
    unused = {key: getattr(item.recipe.optimizer, key) for key in ("max_lr", "warmup_fraction")}
    same = dataclasses.replace(
        ours, name=item.name, data=item.recipe.data, optimizer=dataclasses.replace(ours.optimizer, **unused)
    )
    assert same == item.recipe and ours.optimizer.schedule == "official"


def test_recipe_for_images_of_ones_own_is_the_variant_that_it_names():
    """But for the images, and what is done to them."""
    (item,) = (item for item in grid.queue(grid.GTSRB, 1) if item.name == "linear_1")
    ours = recipes.read(grid.RECIPES / "own_images.yaml")
    assert like(ours, item.recipe, "data", "augment") == item.recipe and ours.data.kind == "folder"


def test_first_stage_of_the_shipped_training_is_a_variant_of_the_grid():
    (item,) = (item for item in grid.queue(grid.GTSRB, 1) if item.name == "noise_rising_1")
    same = dataclasses.replace(grid.BASE, name=item.name, data=item.resolved.data)
    assert same == item.resolved and item.recipe == grid.BASE
    assert grid.SHIPPED.init.weights == f"runs/{grid.BASE.name}"


def test_a_second_stage_goes_on_from_the_first_of_its_seed():
    items = {item.name: item for item in grid.queue(grid.GTSRB, 3)}
    first, third = items["shipped_1"], items["shipped_3"].recipe
    same = dataclasses.replace(third, name="traffic_signs", seed=1, init=grid.SHIPPED.init, data=grid.SHIPPED.data)
    assert same == first.recipe == grid.SHIPPED and first.resolved.init == grid.SHIPPED.init
    assert third.init.weights == str(grid.in_checkout(items["noise_rising_3"].folder))
    assert third.seed == items["noise_rising_3"].seed
    assert list(items).index("noise_rising_3") < list(items).index("shipped_3")


def test_strongest_surrogate_is_the_shipped_second_stage_of_another_seed():
    items = {item.name: item for item in grid.queue(grid.GTSRB, 1)}
    attacker, ours = items["surrogate_linear101"].recipe, grid.SHIPPED
    same = dataclasses.replace(attacker, name=ours.name, seed=ours.seed, data=ours.data, init=ours.init)
    assert same == ours and attacker.seed != ours.seed
    start = items["surrogate_lisard101"]
    assert attacker.init.weights == str(start.folder.relative_to(grid.ROOT)) and start.seed == attacker.seed


def gpu_recipe(name):
    return recipes.read(ROOT / "bench" / "gpu" / f"resnet18_{name}.yaml")


def ours_on_a_gpu():
    return recipes.read(ROOT / "trainer" / "recipes" / "lisard_ros_cifar10.yaml")


def test_gpu_recipe_goes_on_from_the_published_training_with_the_gradient_term_of_the_shipped_model():
    ours, first = ours_on_a_gpu(), recipes.read(ROOT / "trainer" / "recipes" / "faithful_cifar10.yaml")
    assert ours.init.weights == f"runs/{first.name}"
    assert dataclasses.replace(like(ours, first, "network", "data", "augment", "noise"), name=ours.name) == ours
    assert ours.gradient == grid.SHIPPED.gradient
    assert ours.similarity.features < ours.optimizer.batch_size  # or the identity would be out of reach


def test_gpu_control_of_the_second_stage_lacks_its_terms_alone():
    ours, baseline = ours_on_a_gpu(), gpu_recipe("noise_stage")
    assert like(baseline, ours, "name", "similarity", "gradient") == ours
    assert (baseline.similarity.form, baseline.gradient.form) == ("none", "none")


def test_gpu_attacker_who_knows_the_terms_has_another_seed():
    ours, attacker = ours_on_a_gpu(), gpu_recipe("alike")
    assert attacker.seed != ours.seed and 0 < attacker.gradient.after < attacker.optimizer.epochs
    same = dataclasses.replace(attacker, gradient=dataclasses.replace(attacker.gradient, after=0))
    assert like(same, ours, "name", "seed", "init", "optimizer") == ours


def test_gpu_control_and_ordinary_attacker_differ_by_the_seed_alone():
    baseline, attacker = gpu_recipe("plain"), gpu_recipe("ordinary")
    assert attacker.seed != baseline.seed
    assert dataclasses.replace(attacker, name=baseline.name, seed=baseline.seed) == baseline


def test_gpu_script_gives_every_model_a_name_of_its_own():
    """Baselines and surrogates share one space of names (`lisard evaluate` refuses a name that occurs twice)."""
    script = (ROOT / "bench" / "gpu" / "resnet18_cifar10.sh").read_text()
    named = set(re.findall(r'--(surrogate|baseline) "(\w+)=', script))
    assert sorted(name for _, name in named) == ["alike", "faithful", "noise_stage", "ordinary", "plain"]


def test_gpu_grid_differs_from_the_small_one_in_network_batch_and_rate_alone():
    small, large = ({item.name: item.recipe for item in grid.queue(each, 1)} for each in (grid.CIFAR10, grid.RESNET18))
    for variant in grid.RESNET18.variants:
        ours, theirs = large[f"{variant}_1"], small[f"{variant}_1"]
        same = {key: getattr(theirs.optimizer, key) for key in ("batch_size", "max_lr")}
        settings = dataclasses.replace(ours.optimizer, **same)
        assert like(dataclasses.replace(ours, optimizer=settings), theirs, "network") == theirs
        assert (ours.network, ours.optimizer.batch_size) == ("resnet18", 256)
    assert f"{grid.RESNET18.reference}_1" in large


def line(model, condition, share):
    return {"model": model, "backend": "torch", "condition": condition, "accuracy": {"share": share}}


def comparison(models, baselines, condition, value):
    return {
        "models": models,
        "baselines": baselines,
        "condition": condition,
        "difference": {"value": value, "low": value - 0.1, "high": value + 0.1},
    }


REPORT = {
    "model": "signs", "images": 10, "tracks": 5, "origin": "here", "commit": "0" * 40, "device": "CPU",
    "made_at": "now",
    "sources": [{"model": m, "role": r, "recipe": f"{m}_1".replace("signs", "published"), "training": t,
                 "architecture": "resnet8"} for m, r, t in
                (("signs", "bundle", "LISArD"), ("s", "surrogate", "ordinary"), ("plain", "baseline", "ordinary"),
                 ("published_2", "baseline", "LISArD"))],
    "lines": [line("signs", "gray_fgsm@a", 0.8), line("signs", "gray_fgsm@b", 0.7), line("signs", "clean", 0.9),
              line("signs", "white_pgd10", 0.2), line("published_2", "clean", 0.8), line("plain", "clean", 0.95)],
    "worst": [{"model": "signs", "condition": "gray_worst", "conditions": ["gray_fgsm@b"], "accuracy": {"share": 0.7}},
              {"model": "signs", "condition": "white_all", "conditions": ["white_pgd10"], "accuracy": {"share": 0.2}}],
    "valid": True,
    "requirements": [{"what": "clean accuracy of b", "found": 0.03, "holds": False, "surrogate": "b", "condition": "",
                    "required": "<= 0.01"},
                   {"what": "own attack", "found": 0.2, "holds": True, "surrogate": "a", "condition": "gray_fgsm@a",
                    "required": "<= 0.3"},
                   {"what": "own attack", "found": 0.4, "holds": False, "surrogate": "b", "condition": "gray_fgsm@b",
                    "required": "<= 0.3"}],
    "comparisons": [comparison(["signs", "published_2"], ["noise_rising_1", "noise_rising_2"], "clean", -0.05),
                  comparison(["signs", "published_2"], ["noise_rising_1", "noise_rising_2"], "gray_fgsm@a", 0.2),
                  comparison(["shipped_1"], ["faithful_1"], "gray_worst", 0.3)],
}  # fmt: skip


def test_table_takes_the_hardest_surrogate_and_the_mean_over_seeds():
    page = grid_table.markdown(REPORT)
    published = next(row for row in page.splitlines() if row.startswith("| published |"))
    assert published.split(" | ")[1:5] == ["2", "85.0 [80.0, 90.0]", "70.0", "not run"]


def test_what_does_not_count_stands_in_brackets_with_the_reason():
    page = grid_table.markdown(REPORT)
    assert "| gray_fgsm@a | 80.0 |" in page and "| (gray_fgsm@b) | 70.0 |" in page
    assert "1 of 2 attacks count" in page
    assert "do not (b: 3.0 points behind the plain baseline on clean images; the surrogate withstands FGSM)." in page
    published = next(row for row in page.splitlines() if row.startswith("| published |"))
    assert published.split(" | ")[5:7] == ["80.0", "70.0"]  # the worst that counts, the worst of all


def test_what_an_attack_leaves_its_own_surrogate_is_no_figure_of_the_variant():
    """Where variants of one seed attack those of another, a surrogate is called like a variant."""
    attacker = {
        "model": "published_3",
        "role": "surrogate",
        "recipe": "published_3",
        "training": "LISArD",
        "architecture": "resnet8",
    }
    report = REPORT | {
        "sources": [*REPORT["sources"], attacker],
        "lines": [*REPORT["lines"], line("published_3", "gray_fgsm@a", 0.0)],
    }
    assert "| gray_fgsm@a | 80.0 |" in grid_table.markdown(report)


def test_a_grid_whose_attacks_all_count_says_so():
    assert "All 2 attacks count" in grid_table.markdown(REPORT | {"requirements": []})


def test_variants_that_meet_no_surrogate_of_their_own_training_are_named():
    assert "No surrogate has the terms of `published`: " in grid_table.markdown(REPORT)
    known = [{**source, "training": "LISArD"} if source["model"] == "s" else source for source in REPORT["sources"]]
    assert "No surrogate has the terms of `ce`: " in grid_table.markdown(REPORT | {"sources": known})


def test_a_training_of_another_recipe_is_not_done(tmp_path, monkeypatch):
    item = next(item for item in grid.queue(grid.CIFAR10, 1) if item.name == "linear_1")
    stronger = dataclasses.replace(item.recipe, gradient=dataclasses.replace(item.recipe.gradient, weight=5.0))
    monkeypatch.setattr(grid, "RUNS", tmp_path)
    done = []
    for recipe, epoch in ((item.recipe, 19), (stronger, 20), (item.recipe, 20)):
        monkeypatch.setattr(
            grid.checkpoint,
            "read_file",
            lambda path, made=(recipe, epoch): SimpleNamespace(recipe=made[0], epoch=made[1]),
        )
        item.folder.mkdir(parents=True, exist_ok=True)
        (item.folder / grid.checkpoint.FILE_NAME).touch()
        done.append(item.done)
    assert done == [False, False, True]


def test_one_white_box_attack_is_not_all_of_them_at_once():
    published = next(row for row in grid_table.markdown(REPORT).splitlines() if row.startswith("| published |"))
    assert published.split(" | ")[7:] == ["20.0", "not run |"]


def test_every_question_has_a_row_and_every_attack_its_difference():
    page = grid_table.markdown(REPORT)
    term, pair = "the similarity term as published", "`published` - `noise_rising`, 2 seeds"
    assert f"| {term} | {pair} | -5.0 [-15.0, +5.0] |  |  |" in page
    assert "| `shipped` - `faithful`, 1 seed |  | +30.0 [+20.0, +40.0] |  |" in page
    assert "| gray_fgsm@a | +20.0 [+10.0, +30.0] |  |" in page


def test_each_seed_has_its_own_difference():
    page = grid_table.markdown(
        REPORT
        | {
            "lines": [line(f"linear_{seed}", "clean", share) for seed, share in ((1, 0.9), (2, 0.8))]
            + [line(f"faithful_{seed}", "clean", 0.85) for seed in (1, 2)],
            "comparisons": [
                comparison(["linear_1", "linear_2"], ["faithful_1", "faithful_2"], "clean", 0.0),
                comparison(["shipped_1"], ["faithful_1"], "clean", 0.1),
            ],
        }
    )
    section = page.partition("## The same, seed by seed")[2].partition("##")[0]
    assert "`linear` - `faithful`, 1, 2 | +5.0, -5.0 |  |  |" in section and "`shipped`" not in section


def test_a_grid_of_one_seed_has_no_section_of_seeds():
    report = REPORT | {"comparisons": [comparison(["shipped_1"], ["faithful_1"], "clean", 0.1)]}
    assert "seed by seed" not in grid_table.markdown(report)


def test_conditions_are_divided_by_surrogate_and_by_attack():
    items = list(grid.queue(grid.RESNET18, 1))
    all_of_it = grid.Measuring("d", "cpu", [], 2, "r")
    assert grid.parts(items, all_of_it) == [
        "clean",
        "*@plain101",
        "*@resnet20",
        "*@lisard101",
        "*@linear101",
        "white_pgd10",
        "white_apgd_ce",
        "white_apgd_t",
    ]
    assert grid.parts(items, dataclasses.replace(all_of_it, conditions=["gray_*@resnet20"])) == ["clean", "*@resnet20"]


def test_every_model_of_the_queue_is_named_once_and_the_reference_is_the_bundle():
    items = list(grid.queue(grid.RESNET18, 1))
    first = next(item for item in items if item.variant == grid.RESNET18.reference)
    words = list(grid.models(items, first, None))
    named = [word.partition("=")[0] for word in words[1::2]]
    assert words[::2] == ["--surrogate"] * 4 + ["--baseline"] * 4
    assert named[:4] == ["plain101", "resnet20", "lisard101", "linear101"]
    assert named[4:] == ["plain", "noise_separate_1", "adversarial_1", "linear_1"]


def test_variants_of_one_seed_may_attack_those_of_the_others():
    queue = grid.queue(grid.RESNET18, 3)
    items = [item for item in queue if item.variant == "linear" or item.name in ("ce_1", "faithful_2")]
    first = next(item for item in items if item.name == "faithful_2")
    words = list(grid.models(items, first, 3))
    told = dict(zip((word.partition("=")[0] for word in words[1::2]), words[::2], strict=True))
    assert told == {
        "plain": "--baseline",
        "linear_1": "--baseline",
        "linear_2": "--baseline",
        "linear_3": "--surrogate",
    }


def test_a_question_is_asked_over_the_seeds_that_both_variants_have():
    asked = grid_table.comparisons(
        [
            "published_1",
            "published_2",
            "published_3",
            "noise_rising_1",
            "noise_rising_3",
            "noise_1",
            "linear_2",
            "faithful_2",
            "ce_1",
        ]
    )
    first = "published_1,published_3:noise_rising_1,noise_rising_3"
    assert asked == [first, "published_2:faithful_2", "linear_2:published_2", "linear_2:faithful_2"]


def test_the_bundle_of_a_report_is_the_variant_that_it_names():
    """Not always the same one: the grid of ResNet-18 has no variant `published`."""
    assert grid_table.comparisons(["faithful_1", "linear_1"]) == ["linear_1:faithful_1"]
    sources = [
        {"model": "signs", "role": "bundle", "recipe": "faithful_1", "training": "LISArD", "architecture": "resnet18"}
    ]
    found = [comparison(["linear_1"], ["signs"], "clean", 0.1)]
    page = grid_table.markdown(REPORT | {"sources": sources, "comparisons": found})
    assert "| faithful | 1 | 90.0 |" in page and "| `linear` - `faithful`, 1 seed | +10.0 [+0.0, +20.0] |" in page


@pytest.mark.parametrize("name", ["cifar10", "gtsrb"])
def test_every_question_is_about_variants_of_the_queue(name):
    variants = {item.name.rpartition("_")[0] for item in grid.queue(grid.GRIDS[name], 1)}
    of_gtsrb_alone = {*grid.STAGES, "faithful_long"}
    assert {variant for pair in grid_table.QUESTIONS for variant in pair} <= variants | of_gtsrb_alone
