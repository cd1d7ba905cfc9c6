"""The common corruptions: repeatable, typed errors, any size, and severities that rise in effect on real images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from lisard_ros import corruptions
from lisard_ros.errors import AttackError
from lisard_ros.frames import Frame

ROOT = Path(__file__).resolve().parents[3]
TRACKS = ROOT / "data" / "gtsrb_tracks"
Batch = NDArray[np.uint8]
PUBLISHED = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)


@pytest.fixture(scope="module")
def signs() -> Batch:
    """Thirty real sign crops, 32 x 32 RGB, one from each track."""
    files = [sorted(folder.glob("*.png"))[0] for folder in sorted(TRACKS.iterdir()) if folder.is_dir()]
    return np.stack([cv2.imread(str(file))[..., ::-1] for file in files]).astype(np.uint8)


@pytest.fixture(scope="module")
def roads(road_frames: tuple[Frame, ...]) -> Batch:
    """Two real road images, 300 x 224 RGB."""
    return np.stack([cv2.resize(frame.rgb(), (300, 224), interpolation=cv2.INTER_AREA) for frame in road_frames[2:4]])


def rms(x: Batch, y: Batch) -> float:
    """Mean over the images of the root mean squared difference, in grey levels."""
    difference = x.astype(np.float32) - y.astype(np.float32)
    return float(np.sqrt((difference**2).mean((1, 2, 3))).mean())


def dissimilarity(x: Batch, y: Batch) -> float:
    """1 - structural similarity (Wang et al. 2004, eq. 13, Gaussian window of 1.5 px), mean over the images."""
    return float(np.mean([1 - _similarity(a, b) for a, b in zip(_grey(x), _grey(y), strict=True)]))


def _grey(x: Batch) -> NDArray[np.float32]:
    return x.astype(np.float32).mean(3)


def _similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    def around(z: NDArray[np.float32]) -> NDArray[np.float32]:
        return cv2.GaussianBlur(z, (0, 0), 1.5)

    mean_a, mean_b = around(a), around(b)
    var_a, var_b = around(a * a) - mean_a**2, around(b * b) - mean_b**2
    both = around(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    light = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float((light * (2 * both + c2) / (var_a + var_b + c2)).mean())


def test_they_are_the_published_fifteen() -> None:
    assert corruptions.NAMES == PUBLISHED


def test_the_document_states_the_time_of_each() -> None:
    text = (ROOT / "docs" / "corruptions.md").read_text(encoding="utf-8")
    assert all(text.count(f"| {name} |") >= 1 for name in corruptions.NAMES), "run: python3 bench/corruptions.py tables"
    assert (ROOT / "docs" / "corruptions.png").stat().st_size <= 300_000


@pytest.mark.parametrize("name", corruptions.NAMES)
def test_severity_rises_in_effect_on_sign_crops(signs: Batch, name: str) -> None:
    _assert_rises(signs, name)


@pytest.mark.parametrize("name", corruptions.NAMES)
def test_severity_rises_in_effect_on_road_images(roads: Batch, name: str) -> None:
    _assert_rises(roads, name)


def _assert_rises(x: Batch, name: str) -> None:
    changed = [corruptions.corrupt(x, name, severity) for severity in corruptions.SEVERITIES]
    distances = [rms(x, y) for y in changed]
    dissimilarities = [dissimilarity(x, y) for y in changed]
    assert distances[0] > 0 and np.all(np.diff(distances) > 0), distances
    assert np.all(np.diff(dissimilarities) > 0), dissimilarities
    assert distances[-1] < 128, "an image remains"


@pytest.mark.parametrize("name", corruptions.NAMES)
def test_an_image_gets_the_same_whatever_batch_it_is_in(signs: Batch, name: str) -> None:
    together = corruptions.corrupt(signs[:4], name, 3, seed=5)
    alone = np.concatenate([corruptions.corrupt(signs[i : i + 1], name, 3, seed=5) for i in (2, 0)])
    assert np.array_equal(alone, together[[2, 0]])
    assert np.array_equal(corruptions.corrupt(signs[:4], name, 3, seed=5), together)


@pytest.mark.parametrize("name", [n for n in corruptions.NAMES if corruptions.find(n).random])
def test_another_seed_is_another_draw(signs: Batch, name: str) -> None:
    first, second = (corruptions.corrupt(signs[:2], name, 3, seed) for seed in (0, 1))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", [n for n in corruptions.NAMES if not corruptions.find(n).random])
def test_without_a_draw_the_seed_does_not_matter(signs: Batch, name: str) -> None:
    first, second = (corruptions.corrupt(signs[:2], name, 3, seed) for seed in (0, 1))
    assert np.array_equal(first, second)


def test_the_images_given_are_not_written_to(signs: Batch) -> None:
    x = signs[:1].copy()
    x.flags.writeable = False
    for name in corruptions.NAMES:
        corruptions.corrupt(x, name, 5)
    assert np.array_equal(x, signs[:1])


@given(
    x=arrays.arrays(np.uint8, st.tuples(st.integers(0, 2), st.integers(1, 40), st.integers(1, 40), st.just(3))),
    name=st.sampled_from(corruptions.NAMES),
    severity=st.sampled_from(corruptions.SEVERITIES),
    seed=st.integers(0, 2**63),
)
def test_any_size_and_content_gives_a_batch_like_it(x: Batch, name: str, severity: int, seed: int) -> None:
    y = corruptions.corrupt(x, name, severity, seed)
    assert y.shape == x.shape and y.dtype == np.uint8


def test_views_and_large_batches_are_taken(signs: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = corruptions.corrupt(np.ascontiguousarray(signs[::3, :, ::-1]), "fog", 2)
    assert np.array_equal(corruptions.corrupt(signs[::3, :, ::-1], "fog", 2), whole)
    monkeypatch.setattr(corruptions, "_CHUNK_VALUES", 10_000)
    assert np.array_equal(corruptions.corrupt(signs[::3, :, ::-1], "fog", 2), whole)


# --- how strength follows size --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", corruptions.NAMES)
def test_published_sizes_have_the_strengths_of_the_table(name: str) -> None:
    found = corruptions.find(name)
    for severity in corruptions.SEVERITIES:
        for row, side in ((found.small, 32), (found.large, 224)):
            assert _values(found.strength(severity, side, side)) == pytest.approx(_values(row[severity - 1]))


def _values(strength: Any) -> tuple[float, ...]:
    return tuple(getattr(strength, name) for name in strength.__slots__)


def test_between_the_sizes_strength_is_between_and_lengths_grow_above() -> None:
    blur = corruptions.find("defocus_blur")
    radii = [blur.strength(3, side, side).radius_px for side in (16, 32, 64, 128, 224, 448)]
    assert radii[0] == radii[1] and np.all(np.diff(radii[1:]) > 0) and radii[-1] == pytest.approx(2 * radii[-2])
    noise = corruptions.find("gaussian_noise")
    assert noise.strength(3, 224, 224) == noise.strength(3, 480, 640)


# --- wrong use ------------------------------------------------------------------------------------------------------


def test_an_unknown_name_is_answered_with_the_nearest(signs: Batch) -> None:
    with pytest.raises(AttackError, match="unknown corruption: .*did you mean 'frost'"):
        corruptions.corrupt(signs, "frots", 1)


@pytest.mark.parametrize("name", [None, 3, ["fog"], b"fog"])
def test_a_name_that_is_no_text_is_refused(signs: Batch, name: Any) -> None:
    """Regression: looking for the nearest name failed with a TypeError."""
    with pytest.raises(AttackError, match="the name of a corruption is not a string: found .*, expected one of .*fog"):
        corruptions.corrupt(signs, name, 1)


@pytest.mark.parametrize("severity", [0, 6, -1, True, 2.5, "3", None])
def test_a_severity_out_of_range_is_refused(signs: Batch, severity: Any) -> None:
    with pytest.raises(AttackError, match="severity of a corruption out of range: .*1 .*5"):
        corruptions.corrupt(signs, "fog", severity)


@pytest.mark.parametrize("seed", [-1, 1.5, None])
def test_a_seed_that_is_none_is_refused(signs: Batch, seed: Any) -> None:
    with pytest.raises(AttackError, match="seed of a corruption"):
        corruptions.corrupt(signs, "fog", 1, seed)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((1, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((1, 3, 8, 8), np.uint8),
        np.zeros((1, 0, 8, 3), np.uint8),
        [[1]],
        None,
    ],
)
def test_what_is_no_batch_of_images_is_refused(x: Any) -> None:
    with pytest.raises(AttackError, match="no batch of images"):
        corruptions.corrupt(x, "fog", 1)
