"""Patches: where they may lie, what laying changes, its exact derivative, and one ascent for NumPy and torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.attacks import patch as patches
from lisard_ros.attacks import placement as places
from lisard_ros.attacks.model import BoxCriterion, Untargeted
from lisard_ros.attacks.patch import PatchSettings
from lisard_ros.attacks.placement import PatchPlacement, PatchRenderer, Placement, PlacementRegions
from lisard_ros.errors import AttackError

WIDTH, HEIGHT = 48, 40
SHARES = st.floats(0.02, 0.9)


def sources(count: int, seed: int = 0) -> list[np.random.Generator]:
    """One for each image."""
    return [np.random.default_rng([seed, row]) for row in range(count)]


@st.composite
def regions(draw: Any) -> PlacementRegions:
    """Two images, perhaps with padding, with up to four boxes each, which may overlap or be slender."""
    boxes, known = np.zeros((2, 4, 4)), np.zeros((2, 4), bool)
    top = draw(st.integers(0, 8))
    for row in range(2):
        for number in range(draw(st.integers(0, 4))):
            left, upper = draw(st.floats(0, WIDTH - 6)), draw(st.floats(top, HEIGHT - 6))
            width, height = draw(st.floats(1, WIDTH - left)), draw(st.floats(1, HEIGHT - upper))
            boxes[row, number], known[row, number] = (left, upper, left + width, upper + height), True
    return PlacementRegions(np.tile(np.array([0.0, top, WIDTH, HEIGHT]), (2, 1)), boxes, known)


@st.composite
def placement_draws(draw: Any) -> Placement:
    """Any that is allowed."""
    where = draw(st.sampled_from(places.WHERE))
    low, high = sorted((draw(SHARES), draw(SHARES)))
    hides = high if where == "on" else draw(st.sampled_from([0.0, 0.1]))
    return Placement(where, low, high, hides, draw(st.floats(0, 180)), draw(st.floats(0, 0.5)), draw(st.floats(0, 0.5)))


# --- where ----------------------------------------------------------------------------------------------------------


@given(regions(), placement_draws(), st.integers(0, 9))
@settings(max_examples=200, deadline=None)
def test_spots_are_within_the_image_and_hide_no_more_than_declared(
    at: PlacementRegions, how: Placement, seed: int
) -> None:
    placements = places.draw(how, at, sources(2, seed))
    assert placements == places.draw(how, at, sources(2, seed))
    laid = PatchRenderer(placements, 4, (WIDTH, HEIGHT)).render(np.zeros((2, 3, HEIGHT, WIDTH)), np.ones((3, 4, 4)))
    for placed in placements:
        left, top, right, bottom = at.content[placed.row]
        assert left - 1e-6 <= placed.x_px - placed.half_px and placed.x_px + placed.half_px <= right + 1e-6
        assert top - 1e-6 <= placed.y_px - placed.half_px and placed.y_px + placed.half_px <= bottom + 1e-6
        assert placed.side_px >= places.MIN_SIDE_PX and abs(placed.turn_rad) <= math.radians(how.turn_deg) + 1e-9
        assert abs(placed.contrast - 1) <= how.contrast and abs(placed.light) <= how.brightness
    hidden = places.hidden_shares(at, placements)
    assert hidden.max(initial=0) <= how.hides + 1e-6
    if how.hides == 0:  # not one pixel of any box
        for row, number in zip(*np.nonzero(at.known), strict=True):
            # A box that reaches into a pixel by less than rounding counts for nothing there.
            left, top, right, bottom = at.boxes[row, number] + np.array([1, 1, -1, -1]) * 1e-6
            inner = laid[row, :, math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)]
            assert not inner.any()
    for row in range(2):
        most = 1 if how.where == "anywhere" else at.known[row].sum()
        assert sum(placed.row == row for placed in placements) <= most


def one_box(*corners: float) -> PlacementRegions:
    """One image with one box."""
    return PlacementRegions(np.array([[0.0, 0, WIDTH, HEIGHT]]), np.array([[corners]]), np.ones((1, 1), bool))


def test_a_patch_on_a_box_lies_in_it_and_one_beside_touches_nothing_but_is_near() -> None:
    at = one_box(15, 10, 33, 28)
    for seed in range(50):
        (on,) = places.draw(places.on_boxes(0.2), at, sources(1, seed))
        assert on.x_px - on.half_px >= 15 and on.x_px + on.half_px <= 33 and on.box == 0
        assert 0.1 * 18**2 - 1e-6 <= on.side_px**2 <= 0.2 * 18**2 + 1e-6
        (beside,) = places.draw(places.beside_boxes(0.2), at, sources(1, seed))
        apart = max(15 - beside.x_px, beside.x_px - 33, 10 - beside.y_px, beside.y_px - 28)
        assert beside.half_px < apart <= beside.half_px + 1 + beside.side_px / 2
        assert places.hidden_shares(at, [beside]).max() == 0


def test_where_there_is_no_room_there_is_no_patch() -> None:
    assert places.draw(places.beside_boxes(1.0), one_box(2, 2, WIDTH - 2, HEIGHT - 2), sources(1)) == ()
    assert places.draw(places.on_boxes(0.2), one_box(2, 2, 6, 6), sources(1)) == ()  # a speck
    assert (
        places.draw(
            places.on_boxes(0.2),
            PlacementRegions(np.zeros((1, 4)), np.zeros((1, 0, 4)), np.zeros((1, 0), bool)),
            sources(1),
        )
        == ()
    )


def test_a_draw_depends_on_pixels_and_seed_alone() -> None:
    x = (np.random.default_rng(0).integers(0, 256, (3, 3, HEIGHT, WIDTH)) / 255).astype(np.float32)
    at = places.regions_of(x)
    placements = places.draw(Placement(), at, places.randoms_of(x, 5))
    alone = places.draw(Placement(), at.rows(slice(2, 3)), places.randoms_of(x[2:], 5))
    assert (alone[0].x_px, alone[0].turn_rad) == (placements[2].x_px, placements[2].turn_rad)
    assert places.draw(Placement(), at, places.randoms_of(x, 6)) != placements


@pytest.mark.parametrize(
    "wrong",
    [
        {"share_low": 0.0},
        {"share_low": 0.2, "share_high": 0.1},
        {"share_high": math.nan},
        {"share_high": 1.5},
        {"hides": -0.1},
        {"hides": 1.1},
        {"turn_deg": 181},
        {"contrast": 1.0},
        {"brightness": -0.1},
        {"where": "besides"},
        {"where": "on", "share_high": 0.3, "hides": 0.2},
    ],
)
def test_impossible_placements_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(AttackError, match="expected"):
        Placement(**wrong)


# --- laying ---------------------------------------------------------------------------------------------------------

STRAIGHT = PatchPlacement(0, -1, 20.0, 16.0, 16.0, 0.0, 1.0, 0.0)


def test_an_upright_patch_of_one_pixel_a_print_is_pasted() -> None:
    x = np.random.default_rng(0).random((2, 3, HEIGHT, WIDTH))
    patch = patches.noise(16, 1)
    laid = PatchRenderer([STRAIGHT], 16, (WIDTH, HEIGHT)).render(x, patch)
    expected = x.copy()
    expected[0, :, 8:24, 12:28] = patch
    assert np.allclose(laid, expected, atol=1e-12)


def test_a_quarter_turn_turns_it_clockwise() -> None:
    patch = patches.noise(16, 1)
    turned = PatchPlacement(0, -1, 20.0, 16.0, 16.0, math.pi / 2, 1.0, 0.0)
    laid = PatchRenderer([turned], 16, (WIDTH, HEIGHT)).render(np.zeros((1, 3, HEIGHT, WIDTH)), patch)
    assert np.allclose(laid[0, :, 8:24, 12:28], np.rot90(patch, -1, (1, 2)), atol=1e-12)


def test_shrunk_to_half_it_shows_means() -> None:
    patch = patches.noise(32, 1)
    laid = PatchRenderer([STRAIGHT], 32, (WIDTH, HEIGHT)).render(np.zeros((1, 3, HEIGHT, WIDTH)), patch)
    assert np.allclose(laid[0, :, 8:24, 12:28], patch.reshape(3, 16, 2, 16, 2).mean((2, 4)), atol=1e-12)


@given(regions(), placement_draws(), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_values_stay_in_range_and_pixels_outside_keep_their_bits(
    at: PlacementRegions, how: Placement, seed: int
) -> None:
    x = np.random.default_rng(seed).random((2, 3, HEIGHT, WIDTH)).astype(np.float32)
    before = x.copy()
    placements = places.draw(how, at, sources(2, seed))
    laid = PatchRenderer(placements, 5, (WIDTH, HEIGHT)).render(x, patches.noise(5, seed))
    assert laid.dtype == np.float32 and laid.min() >= 0 and laid.max() <= 1 and np.array_equal(x, before)
    far = np.ones((2, HEIGHT, WIDTH), bool)
    down, across = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for placed in placements:
        reach = placed.side_px / 2 * math.sqrt(2) + 1
        far[placed.row] &= np.hypot(across - placed.x_px, down - placed.y_px) > reach
    assert np.array_equal(np.moveaxis(laid, 1, -1)[far], np.moveaxis(x, 1, -1)[far])


def test_a_patch_covers_its_area() -> None:
    for turn in (0.0, 0.2, 0.7):
        placed = PatchPlacement(0, -1, 24.3, 20.6, 15.5, turn, 1.0, 0.0)
        laid = PatchRenderer([placed], 8, (WIDTH, HEIGHT)).render(np.zeros((1, 3, HEIGHT, WIDTH)), np.ones((3, 8, 8)))
        assert laid[0, 0].sum() == pytest.approx(15.5**2, rel=0.02)


OVERLAPPING = [
    PatchPlacement(0, -1, 20.2, 16.7, 14.0, 0.3, 1.1, 0.05),
    PatchPlacement(0, -1, 26.0, 20.0, 9.0, -0.2, 0.9, -0.1),
    PatchPlacement(1, -1, 30.0, 12.0, 4.0, 0.1, 1.0, 0.0),
]


def test_pull_is_the_derivative_of_lay() -> None:
    """Against central differences, with patches over each other and light that clips."""
    random = np.random.default_rng(3)
    x, weights = random.random((2, 3, HEIGHT, WIDTH)), random.standard_normal((2, 3, HEIGHT, WIDTH))
    renderer, patch = PatchRenderer(OVERLAPPING, 6, (WIDTH, HEIGHT)), patches.noise(6, 2)
    product = renderer.vjp(weights, patch)
    for place in np.ndindex(patch.shape):
        step = np.zeros_like(patch)
        step[place] = 1e-6
        up, down = ((weights * renderer.render(x, patch + s)).sum() for s in (step, -step))
        assert product[place] == pytest.approx((up - down) / 2e-6, abs=1e-5)


def test_pull_sees_nothing_outside_the_patch() -> None:
    renderer, patch = PatchRenderer(OVERLAPPING, 6, (WIDTH, HEIGHT)), patches.noise(6, 2)
    weights = np.random.default_rng(0).standard_normal((2, 3, HEIGHT, WIDTH))
    touched = renderer.render(np.ones_like(weights), np.zeros((3, 6, 6))) != 1
    assert 0 < touched.sum() < touched.size / 4
    assert np.array_equal(renderer.vjp(np.where(touched, weights, 1e9), patch), renderer.vjp(weights, patch))
    before = weights.copy()
    renderer.vjp(weights, patch)
    assert np.array_equal(weights, before)


def test_numpy_and_torch_lay_the_same() -> None:
    torch = pytest.importorskip("torch")
    x, patch = np.random.default_rng(0).random((2, 3, HEIGHT, WIDTH)), patches.noise(6, 2)
    renderer = PatchRenderer(OVERLAPPING, 6, (WIDTH, HEIGHT))
    laid = renderer.render(torch.from_numpy(x), patch)
    assert isinstance(laid, torch.Tensor) and np.array_equal(laid.numpy(), renderer.render(x, patch))
    assert np.array_equal(renderer.vjp(torch.from_numpy(x), patch), renderer.vjp(x, patch))
    assert renderer.render(torch.from_numpy(x).float(), patch).dtype == torch.float32


# --- the ascent -----------------------------------------------------------------------------------------------------

SMALL = PatchSettings(Placement("anywhere", 0.3, 0.6, turn_deg=10), side=3, steps=40, batch=8, rate=0.05)


@pytest.fixture
def problem(reference: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, np.ndarray, Untargeted]:
    """The reference network and images that it knows; patches of 3 px are large there."""
    monkeypatch.setattr(places, "MIN_SIDE_PX", 1.0)
    network, x = reference.numpy(), reference.images(24)
    return network, x, Untargeted(reference.answers(network, x))


def mean_loss(network: Any, x: np.ndarray, criterion: Untargeted, patch: np.ndarray) -> float:
    """With placements that no ascent saw."""
    placements = places.draw(SMALL.placement, places.regions_of(x), places.randoms_of(x, 99))
    laid = PatchRenderer(placements, 3, (x.shape[3], x.shape[2])).render(x, patch)
    return float(network.evaluate(laid, criterion, gradient=False).loss.mean())


def test_an_ascent_raises_the_loss_at_fresh_placements(problem: Any) -> None:
    network, x, criterion = problem
    made = patches.patch(network, x, places.regions_of(x), criterion, SMALL, seed=1)
    assert made.shape == (3, 3, 3) and made.min() >= 0 and made.max() <= 1
    start = mean_loss(network, x, criterion, patches.noise(3, 1))
    assert mean_loss(network, x, criterion, made) > start + 0.05
    assert mean_loss(network, x, criterion, made) > max(
        mean_loss(network, x, criterion, patches.noise(3, n)) for n in range(20)
    )
    assert network.gradients == 40 * 8


def test_numpy_and_torch_make_the_same_patch(problem: Any, reference: Any) -> None:
    torch = pytest.importorskip("torch")
    network, x, criterion = problem
    by_numpy = patches.patch(network, x, places.regions_of(x), criterion, SMALL, seed=1)
    images = torch.from_numpy(x)
    by_torch = patches.patch(reference.torch(network), images, places.regions_of(images), criterion, SMALL, seed=1)
    assert np.abs(by_numpy - by_torch).max() <= 1e-9


def test_an_ascent_in_parts_is_the_same_one(problem: Any) -> None:
    network, x, criterion = problem
    at = places.regions_of(x)
    whole = patches.patch(network, x, at, criterion, SMALL, seed=1)
    state = patches.begin(SMALL, 1)
    for steps in (1, 15, 30):
        state = patches.ascend(network, x, at, criterion, SMALL, 1, state, steps)
    assert state.steps == 40 and np.array_equal(state.patch, whole)
    assert not np.array_equal(patches.patch(network, x, at, criterion, SMALL, seed=2), whole)


def test_impossible_settings_are_refused(problem: Any) -> None:
    network, x, criterion = problem
    for wrong in ({"side": 0}, {"steps": 0}, {"batch": 0}, {"rate": math.nan}, {"side": 513}):
        with pytest.raises(AttackError, match="impossible settings of a patch"):
            PatchSettings(Placement(), **wrong)
    with pytest.raises(AttackError, match="no images"):
        patches.patch(network, x[:0], places.regions_of(x[:0]), criterion, SMALL, 0)


def test_a_criterion_of_boxes_gives_the_sites() -> None:
    criterion = BoxCriterion(np.array([[[1.0, 2, 3, 4], [0, 0, 0, 0]]]), np.array([[0, -1]]))
    at = places.regions_of(np.zeros((1, 3, 8, 9)), criterion)
    assert at.known.tolist() == [[True, False]] and at.content.tolist() == [[0, 0, 9, 8]]
