"""MI-, NI-, DI- and TI-FGSM: against the formulas worked out by hand, within the budget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.attacks.gradient import PGD, pgd, project
from lisard_ros.attacks.mifgsm import MIFGSM, GradientSmoothing, InputDiversity, mifgsm
from lisard_ros.attacks.model import Targeted, Untargeted
from lisard_ros.attacks.separable import Separable, blur, placed
from lisard_ros.errors import AttackError

EPS = 8 / 255
FORMS = {
    "MI": MIFGSM(),
    "NI": MIFGSM(nesterov=True),
    "DI": MIFGSM(diversity=InputDiversity(0.8, 0.5)),
    "TI": MIFGSM(smoothing=GradientSmoothing(2)),
    "all": MIFGSM(nesterov=True, diversity=InputDiversity(0.8, 0.5), smoothing=GradientSmoothing(1)),
}


def run(reference: Any, chosen: MIFGSM, seed: int = 0) -> Any:
    """Attack nine images."""
    network, x = reference.numpy(), reference.images(9)
    return mifgsm(network, x, Untargeted(reference.answers(network, x)), chosen, np.random.default_rng(seed))


@pytest.mark.parametrize("nesterov", [False, True])
def test_two_steps_by_hand(reference: Any, nesterov: bool) -> None:
    network, x = reference.numpy(), reference.images(3)
    criterion = Untargeted(reference.answers(network, x))

    def unit(at: np.ndarray) -> np.ndarray:
        slope = network.evaluate(at, criterion).gradient
        return slope / np.abs(slope).sum(axis=(1, 2, 3), keepdims=True)

    first = unit(x)
    one = project(x + EPS / 2 * np.sign(first), x, EPS)
    seen = np.clip(one + EPS / 2 * 0.7 * first, 0, 1) if nesterov else one
    second = 0.7 * first + unit(seen)
    expected = project(one + EPS / 2 * np.sign(second), x, EPS)
    chosen = MIFGSM(EPS, steps=2, decay=0.7, nesterov=nesterov)
    assert np.array_equal(mifgsm(network, x, criterion, chosen, np.random.default_rng(0)), expected)


def test_without_decay_it_is_pgd_from_the_image(reference: Any) -> None:
    network, x = reference.numpy(), reference.images(5)
    criterion = Untargeted(reference.answers(network, x))
    plain = pgd(network, x, criterion, PGD(EPS, EPS / 4, 4, random_start=False), np.random.default_rng(0))
    assert np.array_equal(mifgsm(network, x, criterion, MIFGSM(EPS, 4, 0.0), np.random.default_rng(0)), plain)


@pytest.mark.parametrize("form", FORMS)
def test_numpy_and_torch_make_the_same_images(reference: Any, form: str) -> None:
    torch = pytest.importorskip("torch")
    network, x = reference.numpy(), reference.images(6)
    for criterion in (Untargeted(reference.answers(network, x), "margin"), Targeted(np.full(6, 1))):
        by_numpy, by_torch = (
            mifgsm(model, given_x, criterion, FORMS[form], np.random.default_rng(5))
            for model, given_x in ((network, x), (reference.torch(network), torch.from_numpy(x)))
        )
        assert isinstance(by_torch, torch.Tensor) and np.abs(by_numpy - by_torch.numpy()).max() <= 1e-12


@pytest.mark.parametrize("form", FORMS)
def test_every_form_raises_the_loss(reference: Any, form: str) -> None:
    network, x = reference.numpy(), reference.images(9)
    criterion = Untargeted(reference.answers(network, x))
    made = run(reference, FORMS[form])
    assert (network.evaluate(made, criterion).loss > network.evaluate(x, criterion).loss).all()


@given(st.integers(0, 1000), st.floats(1e-3, 1.0), st.integers(1, 3), st.sampled_from(sorted(FORMS)))
@settings(max_examples=25, deadline=None)
def test_the_budget_holds(reference: Any, seed: int, eps: float, steps: int, form: str) -> None:
    chosen = MIFGSM(eps, steps, 1.0, None, FORMS[form].nesterov, FORMS[form].diversity, FORMS[form].smoothing)
    network, x = reference.numpy(seed), reference.images(3, seed)
    made = mifgsm(network, x, Untargeted(np.zeros(3, int)), chosen, np.random.default_rng(seed))
    assert np.abs(made - x).max() <= eps + 1e-12 and made.min() >= 0 and made.max() <= 1


def test_diversity_is_the_seeds_and_others_need_none(reference: Any) -> None:
    first, same, other = (run(reference, FORMS["DI"], seed) for seed in (1, 1, 2))
    assert np.array_equal(first, same) and not np.array_equal(first, other)
    assert np.array_equal(run(reference, FORMS["TI"], 1), run(reference, FORMS["TI"], 2))


def test_diversity_is_drawn_for_each_image(reference: Any) -> None:
    """One draw for all of them would decide all their answers at once."""
    network, alike = reference.numpy(), np.repeat(reference.images(1), 8, axis=0)
    made = mifgsm(network, alike, Untargeted(np.zeros(8, int)), FORMS["DI"], np.random.default_rng(0))
    assert len(np.unique(made.reshape(8, -1), axis=0)) > 1


def test_an_image_that_is_not_shrunk_is_left_as_it_is(reference: Any) -> None:
    chosen = [MIFGSM(diversity=InputDiversity(1e-12)), MIFGSM()]
    by_chance, plain = (run(reference, one) for one in chosen)
    assert np.array_equal(by_chance, plain)


def test_a_flat_network_moves_nothing(reference: Any) -> None:
    """A gradient of zeros has no direction: no NaN, no step."""
    network, x = reference.numpy(scale=0.0), reference.images(2)
    assert np.array_equal(mifgsm(network, x, Untargeted(np.zeros(2, int)), MIFGSM(), np.random.default_rng(0)), x)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MIFGSM(eps=0),
        lambda: MIFGSM(eps=float("nan")),
        lambda: MIFGSM(steps=0),
        lambda: MIFGSM(decay=-1),
        lambda: MIFGSM(step=0.0),
        lambda: MIFGSM(decay=float("nan")),
        lambda: InputDiversity(0),
        lambda: InputDiversity(0.5, 1),
        lambda: GradientSmoothing(0),
    ],
)
def test_impossible_settings_are_refused(make: Any) -> None:
    with pytest.raises(AttackError, match="impossible.*expected"):
        make()


# --- the linear maps ------------------------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.integers(1, 7), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_the_adjoint_is_the_adjoint(seed: int, size: int, radius: int) -> None:
    random = np.random.default_rng(seed)
    x, y = random.standard_normal((2, 2, 3, 7, 5))
    shrink = Separable(placed(7, size, 7 - size), placed(5, min(size, 5), 0))
    each = Separable(placed(7, [size, 3], [0, 4]), placed(5, [2, min(size, 5)], [1, 0]))
    for change in (shrink, each, Separable(blur(7, radius), blur(5, radius))):
        assert (change(x) * y).sum() == pytest.approx((x * change.adjoint(y)).sum(), abs=1e-9)


def test_placed_resizes_as_opencv_does() -> None:
    import cv2

    image = np.random.default_rng(0).random((32, 32)).astype(np.float32)
    made = Separable(placed(32, 29, 2), placed(32, 30, 1))(image[None, None].astype(float))[0, 0]
    assert np.abs(made[2:31, 1:31] - cv2.resize(image, (30, 29), interpolation=cv2.INTER_LINEAR)).max() < 1e-5
    both = placed(32, [29, 32], [2, 0])
    assert np.array_equal(both[0], placed(32, 29, 2)) and np.array_equal(both[1], np.eye(32))
    outside = made.copy()
    outside[2:31, 1:31] = 0
    assert not outside.any() and np.array_equal(placed(6, 6, 0), np.eye(6))


def test_blur_is_a_normalised_gaussian() -> None:
    matrix = blur(32, 3)
    inner = matrix[16]
    assert inner.sum() == pytest.approx(1) and np.count_nonzero(inner) == 7 and np.array_equal(matrix, matrix.T)
    assert inner[17] / inner[16] == pytest.approx(np.exp(-1 / (2 * 3))) and matrix[0].sum() < 1
