"""Square attack: queries alone, squares of the published sizes, only ever better."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.attacks.model import Untargeted
from lisard_ros.attacks.objective import fooled
from lisard_ros.attacks.square import Square, side_px, square
from lisard_ros.errors import AttackError

EPS = 8 / 255


def run(reference: Any, chosen: Square, seed: int = 3) -> Any:
    """Attack twelve images of a network that gives no gradients."""
    network, x = reference.numpy(gradient=False), reference.images(12)
    criterion = Untargeted(reference.answers(network, x), "margin")
    return square(network, x, criterion, chosen, np.random.default_rng(seed)), network, x, criterion


def test_the_report_holds_when_asked_again(reference: Any) -> None:
    made, network, x, criterion = run(reference, Square(EPS, 200))
    asked, answer = network.queries, network.evaluate(made.x, criterion)
    assert np.abs(made.x - x).max() <= EPS + 1e-12 and made.x.min() >= 0 and made.x.max() <= 1
    assert np.allclose(answer.loss, made.loss) and np.array_equal(fooled(answer.scores, criterion), made.fooled)
    assert 0 < made.fooled.sum() < 12 and made.queries.sum() == asked and not made.gradients.any()
    assert (made.queries[~made.fooled] == 200).all() and (made.queries[made.fooled] <= 200).all()


def test_every_pixel_is_at_the_edge_of_the_budget(reference: Any) -> None:
    made, _, x, _ = run(reference, Square(EPS, 30))
    edges = np.stack([np.clip(x - EPS, 0, 1), np.clip(x + EPS, 0, 1)])
    assert np.allclose(np.abs(made.x - edges).min(axis=0), 0)


@given(st.integers(0, 500), st.integers(1, 40))
@settings(max_examples=15, deadline=None)
def test_an_image_gets_worse_or_stays(reference: Any, seed: int, queries: int) -> None:
    """The first query paints stripes; all later ones can only raise the margin."""
    stripes, more = (run(reference, Square(EPS, n), seed)[0] for n in (1, 1 + queries))
    assert (more.loss >= stripes.loss).all() and (more.fooled >= stripes.fooled).all()


@given(st.integers(0, 1000), st.floats(1e-3, 1.0), st.floats(0.01, 1.0))
@settings(max_examples=20, deadline=None)
def test_the_budget_holds(reference: Any, seed: int, eps: float, share: float) -> None:
    network, x = reference.numpy(seed), reference.images(3, seed)
    criterion = Untargeted(reference.answers(network, x), "margin")
    made = square(network, x, criterion, Square(eps, 15, share), np.random.default_rng(seed)).x
    assert np.abs(made - x).max() <= eps + 1e-12 and made.min() >= 0 and made.max() <= 1


def test_the_published_sizes() -> None:
    """32 x 32 pixels, 10,000 queries, 0.8 of the image at first, halved at the published queries."""
    at = {
        1: 0.8,
        10: 0.8,
        11: 0.4,
        51: 0.2,
        201: 0.1,
        501: 0.05,
        1001: 0.025,
        2001: 0.0125,
        4001: 0.8 / 128,
        6001: 0.8 / 256,
        8001: 0.8 / 512,
    }
    for query, share in at.items():
        assert side_px(0.8, query, 10_000, 32, 32) == max(1, round((share * 1024) ** 0.5))
    assert side_px(0.8, 6, 5000, 32, 32) == side_px(0.8, 12, 10_000, 32, 32)
    assert side_px(1.0, 1, 100, 32, 8) == 7 and side_px(0.5, 1, 100, 1, 8) == 1


def test_numpy_and_torch_make_the_same_images(reference: Any) -> None:
    torch = pytest.importorskip("torch")
    made, network, x, criterion = run(reference, Square(EPS, 25))
    again = square(reference.torch(network), torch.from_numpy(x), criterion, Square(EPS, 25), np.random.default_rng(3))
    assert np.abs(made.x - again.x.numpy()).max() <= 1e-12 and np.array_equal(made.queries, again.queries)


def test_the_seed_decides(reference: Any) -> None:
    first, same, other = (run(reference, Square(EPS, 20), seed)[0].x for seed in (1, 1, 2))
    assert np.array_equal(first, same) and not np.array_equal(first, other)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Square(eps=0),
        lambda: Square(eps=float("nan")),
        lambda: Square(queries=0),
        lambda: Square(share=0.0),
        lambda: Square(share=1.5),
    ],
)
def test_impossible_settings_are_refused(make: Any) -> None:
    with pytest.raises(AttackError, match="impossible.*expected"):
        make()


def test_no_images_no_work(reference: Any) -> None:
    network, x = reference.numpy(), reference.images(0)
    assert len(square(network, x, Untargeted(np.zeros(0, int)), Square(), np.random.default_rng(0)).loss) == 0
