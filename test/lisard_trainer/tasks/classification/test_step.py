"""One step of every variant: it trains, its parts are what they say, and nothing that should stay put moves."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from lisard_ros.errors import UsageError
from lisard_trainer import data
from lisard_trainer.losses import dual_norm, lisard, terms
from lisard_trainer.tasks.classification import network as networks
from lisard_trainer.tasks.classification import step as steps

VARIANTS = {
    "plain": {"views": 1},
    "noise": {},
    "published": {"forward": "separate", "similarity": {"form": "official", "projector": "dead", "divisor": "batch"}},
    "normalised": {"similarity": {"form": "normalised", "off_weight": 0.1}},
    "projector": {"similarity": {"form": "normalised", "projector": "used", "projector_width": 24}},
    "stages": {"similarity": {"form": "normalised", "layers": "stages"}},
    "stages, projector": {
        "similarity": {"form": "normalised", "layers": "stages", "projector": "used", "projector_width": 24}
    },
    "smooth": {"activation": "silu", "gradient": {"form": "slope"}},
    "subset": {"similarity": {"form": "normalised", "features": 8}},
    "cosine": {"consistency": {"form": "cosine"}},
    "kl": {"consistency": {"form": "kl", "temperature": 2.0}},
    "dual": {"forward": "separate", "batch_norm": "dual"},
    "gradient": {"gradient": {"form": "l1"}},
    "slope": {"gradient": {"form": "slope", "share": 0.5}},
    "linear": {"forward": "separate", "gradient": {"form": "logit_extrapolation", "share": 0.5, "weight": 0.5}},
    "linear as deployed": {
        "forward": "separate",
        "gradient": {"form": "logit_extrapolation", "share": 0.5, "weight": 0.5, "statistics": "running"},
    },
    "frozen": {
        "forward": "separate",
        "batch_norm": "frozen",
        "init": {"weights": "elsewhere"},
        "gradient": {"form": "logit_extrapolation", "share": 0.5, "weight": 0.5},
    },
    "views": {"gradient": {"form": "views", "weight": 1.0}},
    "curvature": {"gradient": {"form": "curvature", "distance_255": 8.0}},
    "slope apart": {"forward": "separate", "gradient": {"form": "slope", "share": 0.5}},
    "curvature apart": {"forward": "separate", "batch_norm": "dual", "gradient": {"form": "curvature", "share": 0.5}},
    "plain slope": {"views": 1, "gradient": {"form": "slope"}},
    "pgd": {"views": 1, "adversarial": {"form": "pgd", "steps": 2}},
    "fgsm_rs": {"views": 1, "adversarial": {"form": "fgsm_rs"}},
}


@pytest.fixture
def prepare(split, make_recipe):
    """A network, views of the first training images, and their context."""

    def make(**changes):
        recipe = make_recipe(**changes)
        torch.manual_seed(0)
        network = networks.training(recipe, len(split.train.classes)).train()
        context = steps.Context(recipe, 0, torch.Generator().manual_seed(1), torch.device("cpu"))
        seen = steps.views(data.to_unit(split.train.images[::3][:12]), split.train.labels[::3][:12], context)
        return network, seen, context

    return make


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns_a_batch(prepare, variant):
    network, seen, context = prepare(**VARIANTS[variant])
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    totals = []
    for _ in range(8):
        loss = steps.compute(network, seen, context)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        totals.append(loss.part("clean"))
    assert all(torch.isfinite(p).all() for p in network.parameters())
    assert totals[-1] < totals[0]


@pytest.mark.parametrize(
    ("variant", "part"),
    [
        ("normalised", "similarity"),
        ("published", "similarity"),
        ("cosine", "consistency"),
        ("kl", "consistency"),
        ("gradient", "gradient"),
        ("slope", "gradient"),
        ("linear", "gradient"),
        ("views", "gradient"),
        ("curvature", "gradient"),
    ],
)
def test_a_term_is_reported_and_weighed(prepare, variant, part):
    network, seen, context = prepare(**VARIANTS[variant])
    loss = steps.compute(network, seen, context)
    assert loss.part(part) > 0
    silent = [name for name in steps.PARTS[2:] if name != part]
    assert all(loss.part(name) == 0 for name in silent)
    without = steps.compute(*prepare(forward=context.recipe.forward))
    assert loss.total.item() > without.total.item()


def test_total_is_the_published_combination(prepare):
    network, seen, context = prepare(forward="separate", similarity={"form": "official"}, loss={"alpha": "official"})
    loss = steps.compute(network, seen, context)
    alpha = 0.4975
    expected = alpha * (loss.part("clean") + loss.part("noisy")) + (1 - alpha) * loss.part("similarity")
    assert float(loss.total) == pytest.approx(expected, rel=1e-6)


def test_slope_equals_the_double_backward_for_a_small_distance(prepare):
    """Not to the last digit: the moved images take part in the batch statistics."""
    exact = steps.compute(*prepare(views=1, gradient={"form": "l1"})).part("gradient")
    near = steps.compute(*prepare(views=1, forward="joined", gradient={"form": "slope", "distance_255": 0.1}))
    assert near.part("gradient") == pytest.approx(exact, rel=0.35)


def test_slope_of_the_first_view_knows_nothing_of_a_second_that_passes_apart(prepare):
    alone = steps.compute(*prepare(views=1, gradient={"form": "slope"})).part("gradient")
    apart = steps.compute(*prepare(forward="separate", gradient={"form": "slope"})).part("gradient")
    assert alone > 0 and apart == pytest.approx(alone, rel=1e-5)


def test_linear_loss_grows_with_its_reach_and_begins_at_the_clean_loss(prepare):
    """At a reach of one step it is the cross entropy of the moved image itself; from there on it rises."""
    reached = [
        steps.compute(
            *prepare(gradient={"form": "logit_extrapolation", "distance_255": 0.1, "target_eps_255": reach})
        ).part("gradient")
        for reach in (0.1, 2.0, 8.0)
    ]
    clean = steps.compute(*prepare(gradient={"form": "logit_extrapolation"})).part("clean")
    assert reached[0] == pytest.approx(clean, abs=0.05)
    assert reached[0] < reached[1] < reached[2]


LINEAR = {"form": "logit_extrapolation", "share": 0.5, "distance_255": 0.5, "target_eps_255": 6}


def with_own_statistics(network, seen):
    """The network after it saw some batches: its running statistics are those of these images, roughly."""
    with torch.no_grad():
        for _ in range(20):
            network(torch.cat([seen.first, seen.noisy]))
    return network


def statistics(network):
    return {key: value.clone() for key, value in network.state_dict().items() if "running" in key or "batches" in key}


def linear_term_by_hand(network, x, labels, guide=None):
    """The linear term of a network in eval mode, by a derivative in double precision: CE(z + r/h (z(x + h s) - z)).

    guide: the network whose derivative gives s.
    """
    network = copy.deepcopy(network).double().eval()
    guide = network if guide is None else copy.deepcopy(guide).double().eval()
    x = x.double().requires_grad_(True)
    ce = torch.nn.functional.cross_entropy(guide(x)[1], labels, reduction="sum")
    (gradient,) = torch.autograd.grad(ce, x)
    with torch.no_grad():
        base, moved = network(x)[1].numpy(), network(x + 0.5 / 255 * gradient.sign())[1].numpy()
    reached = base + 12 * (moved - base)
    shifted = reached - reached.max(1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels.numpy()]
    return float((np.log(np.exp(shifted).sum(1)) - own).mean())


@pytest.mark.parametrize("how", ["frozen", "running"])
def test_the_term_of_running_statistics_is_that_of_the_deployed_network(prepare, how):
    changes = {"gradient": LINEAR | {"statistics": "running"}}
    if how == "frozen":
        changes = {"gradient": LINEAR, "batch_norm": "frozen", "init": {"weights": "elsewhere"}}
    network, seen, context = prepare(forward="separate", **changes)
    with_own_statistics(network, seen)
    half = len(seen.first) // 2
    found = steps.compute(network, seen, context).part("gradient")
    expected = linear_term_by_hand(network, seen.first[:half], seen.labels[:half])  # with what the views have moved
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("statistics_of", ["batch", "running"])
def test_the_cross_term_is_that_of_the_other_networks_direction(prepare, statistics_of):
    """Own direction on the first third, the other network's on the last half; it is left as it was."""
    cross = {"weights": "elsewhere", "share": 0.5, "weight": 3.0}
    gradient = LINEAR | {"statistics": statistics_of, "share": 1 / 3}
    frozen = {"batch_norm": "frozen", "init": {"weights": "elsewhere"}} if statistics_of == "batch" else {}
    network, seen, context = prepare(forward="separate", gradient=gradient, cross=cross, **frozen)
    torch.manual_seed(5)
    guide = networks.deployed(context.recipe, 3)
    with_own_statistics(network, seen)
    with_own_statistics(guide, seen).eval().requires_grad_(False)
    before = {key: value.clone() for key, value in guide.state_dict().items()}
    found = steps.compute(network, seen, replace(context, guide=guide)).part("gradient")
    own = linear_term_by_hand(network, seen.first[:4], seen.labels[:4])
    other = linear_term_by_hand(network, seen.first[6:], seen.labels[6:], guide)
    wrong = linear_term_by_hand(network, seen.first[6:], seen.labels[6:])
    assert found == pytest.approx(own + 3 * other, rel=1e-3) and abs(other - wrong) > 0.01
    assert all(torch.equal(value, before[key]) for key, value in guide.state_dict().items()) and not guide.training


def test_frozen_batch_norm_keeps_its_statistics_and_its_views_apart(prepare):
    """Scales and shifts get gradients, statistics stay, the network trains on, and no image changes another's loss."""
    network, seen, context = prepare(forward="separate", batch_norm="frozen", init={"weights": "elsewhere"})
    before = statistics(with_own_statistics(network, seen))
    steps.compute(network, seen, context).total.backward()
    after = statistics(network)
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert all(p.grad is not None for p in network.parameters())
    assert all(module.training for module in network.modules())
    fewer = replace(seen, first=seen.first[:6], noisy=seen.noisy[:6], labels=seen.labels[:6])
    rest = replace(seen, first=seen.first[6:], noisy=seen.noisy[6:], labels=seen.labels[6:])
    whole, *halves = (steps.compute(network, one, context).part("noisy") for one in (seen, fewer, rest))
    assert whole == pytest.approx(sum(halves) / 2, rel=1e-5)


def test_running_statistics_of_the_term_move_by_the_views_alone(prepare):
    """The passes of the term leave no trace: afterwards the statistics are those of a step without it."""
    found = []
    for settings in ({"form": "none"}, LINEAR | {"statistics": "running"}):
        network, seen, context = prepare(forward="separate", gradient=settings)
        steps.compute(network, seen, context)
        found.append(statistics(network))
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())


@pytest.mark.parametrize("guided", [False, True])
def test_the_gradient_of_the_term_as_deployed_equals_finite_differences(prepare, guided):
    """In double precision, in the weights of the last layer and in a scale of batch norm. Its direction is held."""
    changes = {"activation": "softplus", "gradient": LINEAR | {"statistics": "running", "weight": 1.0, "share": 1.0}}
    network, seen, context = prepare(forward="separate", precision="float64", **changes)
    with_own_statistics(network, seen).double()
    seen = replace(seen, first=seen.first.double())
    if guided:
        torch.manual_seed(5)
        context = replace(context, guide=networks.deployed(context.recipe, 3).double().eval().requires_grad_(False))
    term = steps._as_deployed(network, seen, context)
    scale = next(p for name, p in network.named_parameters() if name.endswith("weight") and p.ndim == 1)
    parameters = (network.get_parameter("head.weight"), scale)
    for parameter, gradient in zip(parameters, torch.autograd.grad(term, parameters), strict=True):
        place = tuple(0 for _ in parameter.shape)
        sides = []
        for change in (1e-6, -1e-6):
            with torch.no_grad():
                parameter[place] += change
            sides.append(float(steps._as_deployed(network, seen, context)))
            with torch.no_grad():
                parameter[place] -= change
        assert (sides[0] - sides[1]) / 2e-6 == pytest.approx(float(gradient[place]), rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("form", ["l1", "slope", "logit_extrapolation", "views", "curvature"])
def test_a_gradient_term_waits_for_its_epoch(prepare, form):
    """Before that epoch the step is that of the noise alone; from then on the term counts."""
    network, seen, context = prepare(gradient={"form": form, "after": 3}, optimizer={"epochs": 4})
    before = steps.compute(network, seen, replace(context, epoch=2))
    without = steps.compute(*prepare())
    assert before.part("gradient") == 0 and before.total.item() == without.total.item()
    assert steps.compute(network, seen, replace(context, epoch=3)).part("gradient") > 0


def test_input_gradient_leaves_the_network_as_it_was(prepare):
    network, seen, context = prepare()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    gradient = steps.input_gradient(network, seen.first, seen.labels, context)
    assert gradient.shape == seen.first.shape and gradient.abs().sum() > 0
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in network.parameters()) and network.training


@pytest.mark.parametrize("variant", ["pgd", "fgsm_rs"])
def test_attacked_images_stay_in_the_budget_and_raise_the_loss(prepare, variant):
    network, seen, context = prepare(**VARIANTS[variant])
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = steps.attacked(network, seen, context)
    assert float((found - seen.first).abs().max()) <= 8 / 255 + 1e-6
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items()) and network.training
    assert float((found - seen.first).abs().mean()) > 1 / 255
    network.train(variant == "fgsm_rs")  # as the attack saw it
    losses_before, losses_after = (of_images(network, x, seen.labels) for x in (seen.first, found))
    assert losses_after > losses_before


@torch.no_grad()
def of_images(network, x, labels):
    """Mean cross entropy."""
    return float(torch.nn.functional.cross_entropy(network(x)[1], labels))


@pytest.mark.parametrize("variant", ["pgd", "fgsm_rs"])
def test_adversarial_training_learns_from_attacked_images(prepare, variant):
    """Its loss is that of the attacked images and not of the clean ones."""
    network, seen, context = prepare(**VARIANTS[variant])
    network.eval()  # so that a pass leaves no trace; `attacked` chooses its own mode
    state = context.generator.get_state()
    found = steps.attacked(network, seen, context)
    context.generator.set_state(state)
    part = steps.compute(network, seen, context).part("clean")
    assert part == pytest.approx(of_images(network, found, seen.labels), rel=1e-5)
    assert part != pytest.approx(of_images(network, seen.first, seen.labels), rel=1e-5)


def embeddings(network, seen):
    """Of both views in one pass, as `forward: joined` has them."""
    z = network(torch.cat([seen.first, seen.noisy]))[0]
    return z[: len(seen.first)], z[len(seen.first) :]


def test_published_term_is_that_of_the_published_code(prepare):
    """Barlow Twins' sum over the temperature, divided by the rows or by the configured batch."""
    for divisor, by in (("rows", 12), ("batch", 20)):
        network, seen, context = prepare(
            similarity={"form": "official", "divisor": divisor, "temperature": 50.0},
            optimizer={"epochs": 3, "batch_size": 20, "max_lr": 0.1},
        )
        network.eval()
        found = steps.compute(network, seen, context).part("similarity")
        expected = lisard.compare(*embeddings(network, seen), divisor=by).barlow(0.0051) / 50
        assert found == pytest.approx(float(expected), rel=1e-4)


def test_correlation_is_rounded_only_where_the_recipe_says_so(prepare):
    """Under bfloat16 the published correlation is that of the run's arithmetic, ours never below 32 bit."""
    found = []
    for precision in ("float32", "autocast"):
        network, seen, context = prepare(similarity={"form": "normalised", "precision": precision})
        found.append(steps.compute(network, seen, replace(context, precision="bfloat16")).part("similarity"))
    assert found[0] != found[1] and found[0] == pytest.approx(found[1], rel=0.2)


@pytest.mark.parametrize("forward", ["joined", "separate"])
@pytest.mark.parametrize("form", steps.MOVING)
def test_a_step_of_half_a_grey_level_survives_where_the_recipe_says_so(prepare, form, forward):
    """bfloat16 has one value for every grey level of a bright pixel, and none between two."""
    found = {}
    for precision, arithmetic in (("float32", "float32"), ("float32", "bfloat16"), ("autocast", "bfloat16")):
        settings = {"form": form, "distance_255": 0.5, "share": 0.5, "precision": precision}
        network, seen, context = prepare(gradient=settings, forward=forward)
        step = steps.compute(network, seen, replace(context, precision=arithmetic))
        step.total.backward()
        found[precision, arithmetic] = step.part("gradient")
    exact, kept, rounded = found.values()
    assert kept == pytest.approx(exact, rel=1e-4) and abs(rounded - exact) > 10 * abs(kept - exact)


def test_a_subset_of_features_is_what_is_correlated(prepare):
    """Of 8 features the matrix has 64 entries: the term is that of the very columns that the generator draws."""
    network, seen, context = prepare(**VARIANTS["subset"])
    network.eval()
    state = context.generator.get_state()
    found = steps.compute(network, seen, context).part("similarity")
    context.generator.set_state(state)
    columns = torch.randperm(network.width, generator=context.generator)[:8]
    clean, noisy = (z[:, columns] for z in embeddings(network, seen))
    settings = context.recipe.similarity
    expected = terms.similarity(clean, noisy, settings.off_weight, normalise=True)
    assert found == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"alpha": "constant", "alpha_value": 0.3}, [0.3, 0.3, 0.3]),
        ({"alpha": "rising"}, [0.5, 0.625, 0.875]),
        ({"alpha": "official"}, [0.4975, 0.5, 0.505]),
    ],
)
def test_alpha_of_an_epoch(make_recipe, settings, expected):
    """rising: from one half in the first epoch, 1 / (2 epochs) more in each; official: over 200, counted from 0."""
    recipe = make_recipe(loss=settings, optimizer={"epochs": 4, "batch_size": 15})
    found = [steps.Context(recipe, epoch, torch.Generator(), torch.device("cpu")).alpha for epoch in (0, 1, 3)]
    assert found == pytest.approx(expected)


def test_dual_norm_keeps_statistics_apart_and_deploys_its_clean_half(prepare):
    network, seen, context = prepare(**VARIANTS["dual"])
    steps.compute(network, seen, context)
    norm = next(module for module in network.modules() if isinstance(module, dual_norm.DualBatchNorm))
    assert not torch.equal(norm.clean.running_var, norm.noisy.running_var) and norm.view == "clean"
    deployed = networks.deployable(context.recipe, 3, network.state_dict()).eval()
    network.eval()
    assert torch.equal(deployed(seen.first)[1], network(seen.first)[1])


def test_projector_is_left_behind_at_deployment(prepare):
    network, seen, context = prepare(**VARIANTS["projector"])
    deployed = networks.deployable(context.recipe, 3, network.state_dict())
    assert not any(key.startswith(networks.PROJECTOR) for key in deployed.state_dict())


def test_dead_projector_has_no_part_in_the_loss(prepare):
    network, seen, context = prepare(**VARIANTS["published"])
    steps.compute(network, seen, context).total.backward()
    assert all(p.grad is None for name, p in network.named_parameters() if name.startswith(networks.PROJECTOR))


def test_stages_count_in_the_similarity(prepare):
    """The mean over the pooled stages and the embedding is another number than the embedding's alone."""
    alone, all_layers = (
        steps.compute(*prepare(**VARIANTS[variant])).part("similarity") for variant in ("normalised", "stages")
    )
    assert alone > 0 and all_layers > 0 and alone != all_layers


def test_gathered_embeddings_make_the_correlation(prepare):
    """What `gather` adds counts: twice the same rows give the same correlation, other rows another."""
    network, seen, context = prepare(**VARIANTS["normalised"])
    network.eval()
    alone = steps.compute(network, seen, context).part("similarity")
    twice = steps.Context(**{**context.__dict__, "gather": lambda z: torch.cat([z, z])})
    assert steps.compute(network, seen, twice).part("similarity") == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_norm": "dual"}, "recipe key batch_norm: found dual, expected views: 2 and forward: separate"),
        ({"views": 1, "similarity": {"form": "normalised"}}, "recipe key views: found 1, expected 2"),
        ({"gradient": {"form": "slope", "share": 0.0}}, "recipe key gradient.share: found 0.0, expected above 0"),
        ({"gradient": {"form": "slope", "distance_255": 0.0}}, "recipe key gradient.distance_255: found 0.0"),
        (
            {"gradient": {"form": "logit_extrapolation", "target_eps_255": 0.0}},
            "recipe key gradient.target_eps_255: found 0.0",
        ),
        ({"gradient": {"form": "slope", "after": 4}, "optimizer": {"epochs": 4}}, "found 4, expected fewer than the 4"),
        ({"gradient": {"form": "slope", "after": -1}}, "recipe key gradient.after: found -1"),
        (
            {"augment": {"early_px": 16}, "network": "vgg19_bn", "data": {"size_px": 32}},
            "recipe key augment.early_px: found 16, expected 32 or more",
        ),
        ({"augment": {"crop_padding_px": 10**12}}, "found 1000000000000, expected at most data.size_px"),
        ({"network": "resnet9"}, "unknown network: found 'resnet9', .*did you mean"),
        ({"name": "../elsewhere"}, "recipe key name: found '../elsewhere', expected a name for a folder"),
        ({"batch_norm": "frozen"}, "recipe key batch_norm: found frozen, with weights drawn at random"),
        (
            {"gradient": {"form": "slope", "statistics": "running"}},
            "recipe key gradient.statistics: found running, expected form: logit_extrapolation",
        ),
        ({"cross": {"weights": "runs/x"}}, "recipe key cross.weights: found runs/x, expected gradient.form: logit_"),
        ({"cross": {"share": 0.0}}, "recipe key cross.share: found 0.0, expected above 0"),
        ({"seed": -1}, "recipe key seed: found -1, expected 0 to"),
    ],
)
def test_combinations_that_mean_nothing_are_refused(make_recipe, changes, message):
    with pytest.raises(UsageError, match=message):
        make_recipe(**changes)
