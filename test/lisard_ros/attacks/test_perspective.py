"""Patches in perspective: within their area, no larger than asked for, repeatable, and flat where nothing is tilted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros.attacks import perspective
from lisard_ros.attacks.patch import noise
from lisard_ros.attacks.perspective import PatchView, SeenPatch
from lisard_ros.attacks.placement import MIN_SIDE_PX, PatchPlacement, PatchRenderer
from lisard_ros.errors import AttackError

WIDTH, HEIGHT = 64, 48
PLACES: tuple[perspective.Place, ...] = ("object", "fixed")


def random(seed: int) -> np.random.Generator:
    """A source."""
    return np.random.default_rng(seed)


def flat(left: float, top: float, side: float) -> SeenPatch:
    """An upright square."""
    return SeenPatch(np.array([[left, top], [left + side, top], [left + side, top + side], [left, top + side]]))


@st.composite
def views(draw: Any) -> PatchView:
    """Any that is allowed, in the light that a print is in."""
    share, turn, tilt = draw(st.floats(0.01, 1)), draw(st.floats(0, 180)), draw(st.floats(0, 60))
    return PatchView(draw(st.sampled_from(PLACES)), share, turn, tilt, draw(st.floats(0, 0.9)), draw(st.floats(0, 0.9)))


@st.composite
def boxes(draw: Any) -> np.ndarray:
    """A box in the image, perhaps slender or without area."""
    left, top = draw(st.floats(0, WIDTH - 1)), draw(st.floats(0, HEIGHT - 1))
    return np.array([[left, top, draw(st.floats(left, WIDTH)), draw(st.floats(top, HEIGHT))]])


def convex(corners: np.ndarray) -> bool:
    """Whether the corners go round clockwise, as a print does that shows its front."""
    ahead = np.roll(corners, -1, axis=0) - corners
    after = np.roll(ahead, -1, axis=0)
    return bool((ahead[:, 0] * after[:, 1] - ahead[:, 1] * after[:, 0] > 0).all())


@given(views(), boxes(), st.integers(0, 99))
@settings(max_examples=100)
def test_a_patch_lies_within_its_area_and_budget(view: PatchView, area: np.ndarray, seed: int) -> None:
    seen = perspective.draw_views(view, area, random(seed), random(0))
    again = perspective.draw_views(view, area, random(seed), random(0))
    assert len(seen) <= 1 and [one.corners_px.tolist() for one in seen] == [one.corners_px.tolist() for one in again]
    image = np.full((3, HEIGHT, WIDTH), 0.25)
    laid = perspective.lay(image, noise(6, 0), seen)
    assert laid.min() >= 0 and laid.max() <= 1
    left, top, right, bottom = area[0]
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)] = False
    assert (laid[:, outside] == 0.25).all()
    size = float((right - left) * (bottom - top))
    for one in seen:
        assert (one.corners_px >= [left, top]).all() and (one.corners_px <= [right, bottom]).all()
        assert MIN_SIDE_PX**2 - 1e-6 <= one.area_px <= view.share * size + 1e-6
        assert convex(one.corners_px)
        assert abs(one.contrast - 1) <= view.contrast and abs(one.light) <= view.brightness


def test_a_patch_has_the_share_that_was_asked_for_where_it_fits() -> None:
    for place in PLACES:
        (seen,) = perspective.draw_views(PatchView(place, 0.2), np.array([[8.0, 4, 56, 44]]), random(1), random(0))
        assert seen.area_px == pytest.approx(0.2 * 48 * 40)
        shown = perspective.lay(np.zeros((3, HEIGHT, WIDTH)), np.ones((3, 4, 4)), [SeenPatch(seen.corners_px)])
        assert shown[0].sum() == pytest.approx(seen.area_px, rel=0.03), (
            "a pixel is covered as far as the patch covers it"
        )


def test_a_fixed_place_is_that_of_the_seed_and_an_object_has_another_one_each_time() -> None:
    area = np.array([[0.0, 0, WIDTH, HEIGHT]])

    def middles(place: perspective.Place, fixed: int) -> np.ndarray:
        view = PatchView(place, 0.1)
        views = [perspective.draw_views(view, area, random(seed), random(fixed))[0] for seed in range(20)]
        assert len({tuple(one.corners_px.ravel()) for one in views}) == 20, "the view changes"
        return np.array([(one.corners_px.min(axis=0) + one.corners_px.max(axis=0)) / 2 for one in views])

    assert np.ptp(middles("fixed", 3), axis=0).max() < 1e-9
    assert not np.allclose(middles("fixed", 3)[0], middles("fixed", 4)[0])
    assert np.ptp(middles("object", 3), axis=0).min() > 10


def test_without_turn_and_tilt_it_is_pasted() -> None:
    patch, image = noise(8, 1), np.random.default_rng(2).random((3, HEIGHT, WIDTH))
    pasted = image.copy()
    pasted[:, 7:15, 20:28] = patch
    np.testing.assert_allclose(perspective.lay(image, patch, [flat(20, 7, 8)]), pasted, atol=1e-12)
    half = perspective.lay(image, patch, [flat(20, 7, 4)])[:, 7:11, 20:24]
    np.testing.assert_allclose(half, patch.reshape(3, 4, 2, 4, 2).mean(axis=(2, 4)), atol=1e-12)
    view = PatchView("object", 1.0, 0.0, 0.0, 0.0, 0.0)
    (upright,) = perspective.draw_views(view, np.array([[20.0, 7, 28, 15]]), random(0), random(0))
    np.testing.assert_allclose(upright.corners_px, flat(20, 7, 8).corners_px, atol=1e-9)


def test_a_turned_patch_is_what_the_maker_of_patches_renders() -> None:
    patch, image, turn = noise(6, 3), np.random.default_rng(4).random((3, HEIGHT, WIDTH)), 0.3
    placed = PatchPlacement(0, -1, 30.0, 20.0, 15.0, turn, 0.9, 0.05)
    rendered = PatchRenderer([placed], 6, (WIDTH, HEIGHT)).render(image[None], patch)[0]
    cosine, sine = math.cos(turn), math.sin(turn)
    around = np.array([[-7.5, -7.5], [7.5, -7.5], [7.5, 7.5], [-7.5, 7.5]])
    corners = around @ np.array([[cosine, sine], [-sine, cosine]]) + [30, 20]
    laid = perspective.lay(image, patch, [SeenPatch(corners, 0.9, 0.05)])
    assert np.abs(laid - rendered).mean() < 1e-4, "only points on the edge of a print may fall to either side"


def test_light_is_clipped_and_later_patches_lie_above() -> None:
    image, patch = np.zeros((3, HEIGHT, WIDTH)), np.full((3, 2, 2), 0.5)
    bright = SeenPatch(flat(10, 10, 6).corners_px, light=0.9)
    dark = SeenPatch(flat(13, 10, 6).corners_px, light=-0.25)
    laid = perspective.lay(image, patch, [bright, dark])
    assert laid[0, 12, 11] == pytest.approx(1.0) and laid[0, 12, 15] == pytest.approx(0.25)


def test_padding_is_what_has_one_value_at_the_edges() -> None:
    image = np.full((3, HEIGHT, WIDTH), np.float32(114) / np.float32(255))
    assert perspective.content_of(image, 114 / 255).tolist() == [0, 0, WIDTH, HEIGHT]
    image[1, 8:40, 5:60] = 0.9
    image[:, 20, 20] = np.float32(114) / np.float32(255)
    assert perspective.content_of(image, 114 / 255).tolist() == [5, 8, 60, 40]


@pytest.mark.parametrize(
    "wrong",
    [{"share": 0}, {"share": 1.1}, {"share": math.nan}, {"turn_deg": -1}, {"tilt_deg": 61}, {"contrast": 1}]
    + [{"brightness": -0.1}, {"brightness": math.inf}],
)
def test_impossible_views_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(AttackError, match="impossible view of a patch"):
        PatchView(**{"place": "object", "share": 0.1, **wrong})  # type: ignore[arg-type]
