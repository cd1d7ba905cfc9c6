"""Measuring: the published conditions as before, parts that change nothing, resuming, and what repeats for nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lisard_ros.attacks import store
from lisard_ros.attacks.gradient import PGD, fgsm, pgd
from lisard_ros.attacks.model import Untargeted
from lisard_ros.corruptions import corrupt
from lisard_trainer import data
from lisard_trainer.data.dataset import subset
from lisard_trainer.evaluation import versions
from lisard_trainer.evaluation.deployed import ONNX, TORCH
from lisard_trainer.evaluation.draws import RowsOfAll
from lisard_trainer.evaluation.runner import ticks
from lisard_trainer.tasks.classification import attack_model
from lisard_trainer.tasks.classification.evaluation import crafting, suites


def hits(found, model, condition, backend="torch"):
    return found.measured.result(model, condition, backend).hits


def on_grid(x, attacked):
    return torch.from_numpy(store.add(x, store.quantise(x, attacked.numpy(), 8)))


def test_published_conditions_are_those_of_the_plain_loops(evaluate, trained):
    found = evaluate()
    x, own = data.to_unit(trained.dataset.images), trained.dataset.labels.numpy()
    models = found.context.models
    surrogate, ours = models.surrogates[""], models.of_bundle
    made = {
        "gray_fgsm": fgsm(surrogate.attack_model, x, Untargeted(own), 8 / 255),
        "gray_pgd10": pgd(surrogate.attack_model, x, Untargeted(own), PGD(), np.random.default_rng(0)),
        "white_pgd10": pgd(ours.attack_model, x, Untargeted(own), PGD(), np.random.default_rng(0)),
    }
    with torch.no_grad():
        for condition, attacked in made.items():
            answered = ours.network(on_grid(x.numpy(), attacked)).argmax(1).numpy()
            assert (hits(found, "tiny", condition) == (answered == own)).all(), condition
    assert (hits(found, "tiny", "gray_pgd10", ONNX) == hits(found, "tiny", "gray_pgd10")).all()
    assert found.measured.result("surrogate", "white_pgd10") is None and hits(found, "surrogate", "gray_fgsm").size


def test_parts_change_nothing(evaluate, monkeypatch):
    whole = evaluate(only=["*pgd10"])
    monkeypatch.setitem(attack_model.CHUNKS, "cpu", 4)
    parts = evaluate(only=["*pgd10"])
    for model in ("tiny", "plain"):
        for condition in ("gray_pgd10", "white_pgd10"):
            assert (hits(whole, model, condition) == hits(parts, model, condition)).all()


def test_draws_of_some_rows_are_those_of_all():
    whole = np.random.default_rng(7).uniform(-1, 1, (10, 3, 4, 4))
    again = np.random.default_rng(7)
    again.uniform(-1, 1, (10, 3, 4, 4))
    part = RowsOfAll(7, 4, 6, 10)
    assert (part.uniform(-1, 1, (2, 3, 4, 4)) == whole[4:6]).all()
    assert (part.uniform(-1, 1, (2, 3, 4, 4)) == again.uniform(-1, 1, (10, 3, 4, 4))[4:6]).all()
    assert (part.uniform(0, 1, (2, 5)) == again.uniform(0, 1, (10, 5))[4:6]).all()  # places of Square's windows


def test_votes_do_not_depend_on_the_version_of_the_code(evaluate, monkeypatch):
    drawn, of, voted = [], versions.of, crafting.voted

    def spied(network, x, smoothing, random):
        drawn.append(random.bit_generator.state["state"]["state"])
        return voted(network, x, smoothing, random)

    monkeypatch.setattr(crafting, "voted", spied)
    evaluate(suite="standard", only=["smoothed_clean"])
    monkeypatch.setattr(versions, "of", lambda *modules, packages=(): of(*modules) + "of another release")
    evaluate(suite="standard", only=["smoothed_clean"])
    assert drawn and drawn[: len(drawn) // 2] == drawn[len(drawn) // 2 :]


def test_a_second_run_computes_nothing(evaluate, tmp_path):
    first = evaluate(folder=tmp_path)
    second = evaluate(folder=tmp_path)
    assert first.context.cache.made and not second.context.cache.made
    assert first.report.lines == second.report.lines and first.report.flags == second.report.flags
    assert "network" not in vars(second.context.models.baselines[0])  # not even built


@given(st.integers(1, 3000), st.integers(1, 600), st.integers(1, 600))
def test_subsets_are_nested_and_spread(count, few, more):
    small, large = subset(count, min(few, more)), subset(count, max(few, more))
    assert set(small) <= set(large) and len(small) == min(few, more, count)
    assert (subset(count, count) == np.arange(count)).all()
    if count >= 64 and len(small) >= 8:
        assert np.diff(small).max() <= 4 * count / len(small)


class Stopped(Exception):
    """An interruption."""


def test_an_interrupted_run_goes_on_where_it_stopped(evaluate, tmp_path):
    wanted = evaluate()
    ticks = iter(range(3))

    def stop_early(what):
        if next(ticks, None) is None:
            raise Stopped(what)

    with pytest.raises(Stopped, match="white_pgd10"):
        evaluate(folder=tmp_path, tick=stop_early)
    resumed = evaluate(folder=tmp_path)
    assert resumed.context.cache.found >= 8 and resumed.report.lines == wanted.report.lines


def test_a_damaged_result_is_made_again(evaluate, tmp_path):
    wanted = evaluate(folder=tmp_path)
    files = sorted(tmp_path.rglob("*.npz"))
    for path in files[::2]:
        path.write_bytes(path.read_bytes()[:-7])
    again = evaluate(folder=tmp_path)
    assert again.context.cache.damaged == again.context.cache.made == len(files[::2])
    assert again.report.lines == wanted.report.lines


@pytest.mark.parametrize(
    ("module", "stale"),
    [
        ("lisard_trainer.backbones", (TORCH,)),
        ("lisard_trainer.tasks.classification.network", (TORCH,)),
        ("onnxruntime", (ONNX,)),
        ("lisard_trainer.tasks.classification.evaluation.crafting", (TORCH, ONNX)),
    ],
)
def test_answers_worked_out_by_other_code_are_made_again(evaluate, tmp_path, monkeypatch, module, stale):
    first, of = evaluate(folder=tmp_path, only=("clean",)), versions.of

    def changed(*modules, packages=()):
        return of(*modules, packages=packages) + ("changed" if module in (*modules, *packages) else "")

    monkeypatch.setattr(versions, "of", changed)
    second = evaluate(folder=tmp_path, only=("clean",))
    assert {row.backend for row in first.measured.results} == {TORCH, ONNX}
    assert second.context.cache.made >= sum(row.backend in stale for row in first.measured.results)
    assert second.report.lines == first.report.lines


def test_another_seed_is_another_attack(evaluate, tmp_path):
    evaluate(folder=tmp_path)
    other = evaluate(folder=tmp_path, seed=1)
    assert other.context.cache.made == 9  # gray and white PGD-10 on two models, and the answers to them


def test_ticks_are_as_many_as_were_announced(evaluate):
    heard = []
    found = evaluate(tick=heard.append)
    conditions = {result.condition.name: result.condition for result in found.measured.results}
    assert len(heard) == ticks(found.context, list(conditions.values()))


METHODS = ["white_fgsm", "white_pgd50", "white_apgd_ce", "white_apgd_t", "query_square"]
TRANSFER = ["gray_mi_fgsm", "gray_di_fgsm", "gray_ti_fgsm", "gray_apgd_ce", "gray_apgd_t"]


def test_every_method_stays_within_the_budget_and_raises_the_loss(trained, evaluate):
    found = evaluate(only=["clean"])
    part = next(found.context.batches_up_to(6))
    ours = found.context.models.of_bundle
    before = ours.attack_model.evaluate(torch.from_numpy(part.x), Untargeted(part.labels)).loss
    for condition in suites.conditions("standard", [""], 0, [*METHODS, *TRANSFER])[1:]:
        attack = replace(
            condition.attack, steps=min(condition.attack.steps, 5), queries=min(condition.attack.queries, 30)
        )
        deltas = crafting.craft(ours, part, attack)["deltas"]
        assert deltas.dtype == np.int8 and np.abs(deltas.astype(int)).max() <= 8, condition.name
        after = ours.attack_model.evaluate(
            torch.from_numpy(store.add(part.x, deltas.astype(np.int16))), Untargeted(part.labels)
        )
        assert after.loss.mean() > before.mean(), condition.name


def test_images_are_corrupted_once_for_all_models(evaluate, monkeypatch):
    made = []
    monkeypatch.setattr(crafting, "corrupt", lambda *args: made.append(args[1:3]) or corrupt(*args))
    found = evaluate(suite="standard", only=["corruption_fog_5"])
    parts = len(list(found.context.batches_up_to(0)))
    assert made == [("fog", 5)] * parts and len(found.context.models.measured) == 2


def test_corruption_noise_smoothing_and_certificate(evaluate):
    wanted = ["corruption_fog_5", "corruption_gaussian_noise_1", "noise_64", "smoothed_*", "certified_*"]
    found = evaluate(suite="standard", only=wanted)
    rows = {row.condition.name: row for row in found.measured.results if row.model == "tiny" and row.backend == "torch"}
    assert set(rows) >= {"clean", "corruption_fog_5", "noise_64", "smoothed_clean", "smoothed_eot_pgd10"}
    certified = rows["certified_32"]
    held = ~np.isnan(certified.radius_l2)
    assert (certified.radius_l2[held] > 0).all() and not (held & ~certified.hits).any()
    shares = [c.accuracy.share for c in found.report.certified if c.model == "tiny"]
    assert shares == sorted(shares, reverse=True) and shares[0] == certified.accuracy.share
    assert found.measured.result("tiny", "smoothed_clean", ONNX) is None
