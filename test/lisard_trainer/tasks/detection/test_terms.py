"""The terms of LISArD for a detector: against definitions in NumPy, invariances, gradients, switches, balance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lisard_ros.errors import UsageError
from lisard_trainer import recipes
from lisard_trainer.tasks.detection import assign, balance, losses, network, step, terms
from lisard_trainer.tasks.detection.network import Parts

TORCH = torch.Generator().manual_seed(0)


def recipe(**changes):
    data = {"width_px": 64, "height_px": 64}
    base = {"name": "t", "task": "detection", "network": "resnet10q", "neck": 16, "depth": 1, "data": data}
    return recipes.from_mapping({**base, **changes})


def correlation(a: np.ndarray, b: np.ndarray, off_weight: float) -> float:
    """The normalised term by its definition."""
    a, b = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (a, b))
    c = a.T @ b / len(a)
    width = len(c)
    off = (c**2).sum() - (np.diag(c) ** 2).sum()
    return ((np.diag(c) - 1) ** 2).sum() / width + off_weight * off / (width * (width - 1))


def assigned(rows, columns, count=84, images=2):
    rows, columns = torch.tensor(rows), torch.tensor(columns)
    silent = torch.zeros(images, count, dtype=torch.bool)
    return assign.Assignment(rows, columns, torch.zeros(len(rows), 4), rows * 0, rows * 0.0, silent)


def parts(seed, count=84):
    random = torch.Generator().manual_seed(seed)
    maps = tuple(torch.randn(2, 6, s, s, generator=random, dtype=torch.float64) for s in (8, 4, 2))
    features = [torch.randn(2, count, 5, generator=random, dtype=torch.float64) for _ in range(2)]
    output = torch.randn(2, count, 8, generator=random, dtype=torch.float64)
    low = torch.rand(2, count, 2, generator=random, dtype=torch.float64) * 40
    output[..., :4] = torch.cat([low, low + 5 + torch.rand(2, count, 2, generator=random, dtype=torch.float64) * 20], 2)
    return Parts(maps, features[0], features[1], output)


def test_levels_are_the_mean_correlation_over_all_positions_when_all_are_sampled():
    clean, noisy = parts(0), parts(1)
    inside = [torch.ones(2, s * s, dtype=torch.bool) for s in (8, 4, 2)]
    found = terms.levels(clean.maps, noisy.maps, inside, 10_000, 0.1, TORCH)
    rows = [[m.permute(0, 2, 3, 1).reshape(-1, 6).numpy() for m in side.maps] for side in (clean, noisy)]
    expected = np.mean([correlation(a, b, 0.1) for a, b in zip(*rows, strict=True)])
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_instances_are_the_mean_correlation_of_both_branches():
    clean, noisy, own = parts(0), parts(1), assigned([0, 0, 1, 1, 1, 0], [3, 9, 11, 40, 83, 20])
    pick = (own.rows, own.columns)
    pairs = [(clean.class_features, noisy.class_features), (clean.box_features, noisy.box_features)]
    expected = np.mean([correlation(a[pick].numpy(), b[pick].numpy(), 0.2) for a, b in pairs])
    assert float(terms.instances(clean, noisy, own, 0.2)) == pytest.approx(expected, rel=1e-9)


def test_equal_views_cost_only_what_is_correlated_within():
    clean, own = parts(0), assigned([0, 1], [3, 9])
    assert terms.class_agreement(clean.output, clean.output, own) == pytest.approx(0, abs=1e-9)
    assert terms.box_agreement(clean.output, clean.output, own) == pytest.approx(0, abs=1e-5)
    inside = [torch.ones(2, s * s, dtype=torch.bool) for s in (8, 4, 2)]
    assert terms.levels(clean.maps, clean.maps, inside, 10_000, 0.0, TORCH) < 1e-6


def test_correlations_do_not_depend_on_scale_and_offset_of_a_channel():
    clean, noisy, own = parts(0), parts(1), assigned([0, 0, 1, 1], [3, 9, 11, 40])
    moved = noisy._replace(class_features=noisy.class_features * 3 + 7, box_features=noisy.box_features * 0.5 - 1)
    first, second = (terms.instances(clean, side, own, 0.1) for side in (noisy, moved))
    assert float(first) == pytest.approx(float(second), rel=1e-3)


def test_agreements_are_divergences_with_a_silent_teacher():
    clean, noisy, own = parts(0), parts(1), assigned([0, 1], [3, 9])
    clean = clean._replace(output=clean.output.requires_grad_(True))
    noisy = noisy._replace(output=noisy.output.requires_grad_(True))
    p, q = (side.output[..., 4].sigmoid().detach().numpy() for side in (clean, noisy))
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    pc, qc = (side.output[own.rows, own.columns, 5:].sigmoid().detach().numpy() for side in (clean, noisy))
    classes = (pc * np.log(pc / qc) + (1 - pc) * np.log((1 - pc) / (1 - qc))).sum()
    found = terms.class_agreement(clean.output, noisy.output, own)
    assert float(found.detach()) == pytest.approx((kl.sum() + classes) / 2, rel=1e-9)
    (found + terms.box_agreement(clean.output, noisy.output, own)).backward()
    assert clean.output.grad is None and noisy.output.grad.abs().sum() > 0


def test_terms_pass_a_gradient_check():
    clean, noisy, own = parts(0), parts(1), assigned([0, 0, 1, 1], [3, 9, 11, 40])

    def classes(output):
        return terms.class_agreement(clean.output, output, own)

    def instances(features):
        return terms.instances(clean, noisy._replace(class_features=features), own, 0.1)

    check = torch.autograd.gradcheck
    assert check(classes, (noisy.output.clone().requires_grad_(True),), fast_mode=True)
    assert check(instances, (noisy.class_features.clone().requires_grad_(True),), fast_mode=True)


@pytest.mark.parametrize(
    ("covered", "samples", "least", "expected"),
    [
        (50, 40, 10, (20, 20)),  # half of them inside
        (4, 40, 10, (4, 6)),  # few inside: others until there are enough
        (0, 40, 10, (0, 10)),
        (100, 40, 10, (20, 0)),  # nothing outside
        (3, 1000, 1000, (3, 97)),  # no more than there are
    ],
)
def test_samples_are_half_inside_boxes(covered, samples, least, expected):
    inside = torch.arange(100) < covered
    chosen = terms.sample(inside, samples, least, torch.Generator().manual_seed(1))
    assert len(chosen.unique()) == len(chosen)
    assert (int(inside[chosen].sum()), int((~inside[chosen]).sum())) == expected


def test_without_assigned_positions_terms_are_zero():
    clean, noisy, none = parts(0), parts(1), assigned([], [])
    none = assign.Assignment(*(v.long() if v.ndim == 1 and n < 2 else v for n, v in enumerate(vars(none).values())))
    assert terms.instances(clean, noisy, none, 0.1) == 0 and terms.box_agreement(clean.output, noisy.output, none) == 0


# The step ------------------------------------------------------------------------------------------------------------

FULL = {"levels": {"ratio": 0.2}, "instances": {"ratio": 0.3}, "agreement": {"classes": 0.1, "boxes": 0.4}}


def seen(generator):
    x = torch.rand(2, 3, 64, 64, generator=generator)
    boxes = torch.tensor([[[4.0, 4, 30, 30], [30, 34, 60, 60]], [[8, 8, 17, 16], [0, 0, 64, 62]]])
    noisy = x + 0.2 * torch.randn(x.shape, generator=generator)
    return step.BoxedViews(x, noisy, torch.tensor([[0, 1], [2, 0]]), boxes)


def one_step(own, measure=True, noisy=True):
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    made = network.training(own, 3).train()
    views = seen(generator)
    views = views if noisy else step.BoxedViews(views.first, None, views.labels, views.boxes)
    return made, step.compute(made, views, own, generator, "float32", measure)


@pytest.mark.parametrize("name", ["levels", "instances", "classes", "boxes"])
def test_each_term_is_a_switch_and_pulls_by_its_ratio(name):
    changes = {"agreement": {name: 0.25}} if name in ("classes", "boxes") else {name: {"ratio": 0.25}}
    made, found = one_step(recipe(**changes))
    number = ("levels", "instances", "classes", "boxes").index(name)
    weights = made.balance.weights.tolist()
    assert [w > 0 for w in weights] == [n == number for n in range(4)]
    assert [float(p) > 0 for p in found.parts[2:]] == [n == number for n in range(4)]
    detection = (found.parts[0] + found.parts[1]) / 2
    expected = float(detection + weights[number] * found.parts[2 + number])
    assert float(found.total.detach()) == pytest.approx(expected, rel=1e-5)


def test_without_terms_the_total_is_the_detection_loss():
    _, found = one_step(recipe())
    assert float(found.total.detach()) == pytest.approx(float(found.parts[:2].mean()), rel=1e-6)
    assert (found.parts[2:] == 0).all()
    _, weighted = one_step(recipe(noisy_weight=0.0))
    assert float(weighted.total.detach()) == pytest.approx(float(found.parts[0]), rel=1e-5)


def test_one_view_is_the_clean_one():
    _, alone = one_step(recipe(views=1), noisy=False)
    assert alone.parts[0] == alone.parts[1] == alone.total


def test_every_weight_of_the_network_is_trained():
    made, found = one_step(recipe(**FULL))
    found.total.backward()
    lacking = [name for name, p in made.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # No box is large enough for the coarsest level, which then learns that there is nothing (its objectness).
    silent = ("heads.2.class", "heads.2.boxes")
    assert all(name.startswith(silent) for name in lacking), lacking


def test_the_balance_is_what_was_asked_for():
    places = [torch.ones(3, requires_grad=True)]
    own = balance.RatioWeights((0.5, 0.0), 0.8)
    own.measure((places[0] * 4).sum(), [(places[0] * 2).sum(), (places[0] * 9).sum()], places)
    assert own.weights.tolist() == pytest.approx([1.0, 0.0])  # 0.5 x 4 / 2
    own.measure((places[0] * 8).sum(), [(places[0] * 2).sum()] * 2, places)
    assert own.weights[0] == pytest.approx(2.0**0.2)
    assert float(own.total([torch.tensor(3.0), torch.tensor(1e9)])) == pytest.approx(3 * 2.0**0.2)


def test_the_balance_skips_a_term_without_a_gradient():
    places = [torch.ones(3, requires_grad=True)]
    own = balance.RatioWeights((0.5,), 0.8)
    own.measure(places[0].sum(), [torch.zeros(())], places)
    assert own.weights.tolist() == [0.0]


def test_deployed_networks_leave_the_balance_behind():
    own = recipe(**FULL)
    made, _ = one_step(own)
    deployed = network.deployable(own, 3, made.state_dict())
    assert isinstance(deployed, network.Detector) and not any("balance" in key for key in deployed.state_dict())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"views": 1, "levels": {"ratio": 0.1}}, "recipe key views"),
        ({"levels": {"ratio": -0.1}}, "recipe key levels.ratio: found -0.1, expected 0 or more"),
        ({"levels": {"samples": 1}}, "recipe key levels.samples: found 1, expected 2 or more"),
        ({"agreement": {"boxes": -1}}, "recipe key agreement.boxes"),
        ({"loss": {"box": -1}}, "recipe key loss.box"),
        ({"balance": {"every": 0}}, "recipe key balance.every"),
        ({"balance": {"ema_decay": 1}}, "recipe key balance.ema_decay: .*expected 0 or more, below 1"),
        ({"levels": {"rato": 0.1}}, "key in levels: .*did you mean 'ratio'"),
        ({"task": "detektion"}, "did you mean 'detection'"),
        ({"neck": 0}, "recipe key neck: found 0, expected 1 or more"),
    ],
)
def test_recipes_that_are_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        recipe(**changes)


def test_a_recipe_survives_yaml_and_json():
    import json

    import yaml

    own = recipe(**FULL)
    assert recipes.from_mapping(yaml.safe_load(own.as_yaml())) == own == recipes.from_mapping(json.loads(own.as_json()))


def test_weights_of_the_loss_are_the_recipe_s():
    _, first = one_step(recipe())
    _, second = one_step(recipe(loss={"box": 0.0, "classes": 0.0}))
    assert second.total < first.total and losses.Weights().box == 5.0
