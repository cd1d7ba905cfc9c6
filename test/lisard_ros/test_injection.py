"""The injection stage: what is applied to what, and that nothing counts that was not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lisard_ros import corruptions, injection
from lisard_ros.attacks import store
from lisard_ros.bundle.manifest import InputSpec
from lisard_ros.errors import AttackError
from lisard_ros.frames import Frame


@pytest.fixture
def bundle(tiny: Any) -> Any:
    """With a stored and a universal perturbation."""
    return tiny.armed()


def batch(tiny: Any, bundle: Any, frames: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Prepared images and their keys."""
    prepared = tiny.pipeline(bundle).prepare(frames)
    return prepared.x, prepared.keys()


def test_a_bundle_offers_clean_noise_and_its_own(bundle: Any, tiny: Any) -> None:
    assert injection.names(bundle) == ("clean", "noise", "fgsm", "universal")
    assert injection.names(tiny.classifier()) == ("clean", "noise")
    assert [injection.make(bundle, n).name for n in injection.names(bundle)] == list(injection.names(bundle))
    assert [injection.make(bundle, n).knowledge for n in injection.names(bundle)] == [
        "none",
        "none",
        "gray-box",
        "gray-box",
    ]


def test_an_unknown_injection_is_answered_with_the_nearest(bundle: Any) -> None:
    with pytest.raises(AttackError, match="unknown injection of bundle tiny: .*did you mean 'universal'"):
        injection.make(bundle, "univresal")


def test_stored_perturbations_apply_only_to_their_own_pixels(
    tiny: Any, bundle: Any, coloured: tuple[Frame, ...], road_frames: tuple[Frame, ...]
) -> None:
    frames = [coloured[3], *road_frames[:2], coloured[0]]
    x, keys = batch(tiny, bundle, frames)
    injected = injection.make(bundle, "fgsm").apply(x, keys)
    assert injected.applied.tolist() == [True, False, False, True]
    assert np.array_equal(injected.x[1:3], x[1:3])
    deltas = store.load(bundle, store.find(bundle, "fgsm")).deltas
    assert np.array_equal(injected.x[0], store.add(x[:1], deltas[3:4])[0])
    assert np.array_equal(injected.x[3], store.add(x[3:], deltas[:1])[0])


def test_one_changed_grey_level_is_another_image(tiny: Any, bundle: Any, coloured: tuple[Frame, ...]) -> None:
    changed = coloured[0].image.copy()
    changed[19, 19, 2] ^= 1
    x, keys = batch(tiny, bundle, [Frame(changed, "rgb", 0, "", "c")])
    injected = injection.make(bundle, "fgsm").apply(x, keys)
    assert not injected.applied.any() and np.array_equal(injected.x, x)


def test_the_colour_order_of_the_camera_does_not_matter(tiny: Any, bundle: Any, coloured: tuple[Frame, ...]) -> None:
    bgr = Frame(np.ascontiguousarray(coloured[0].image[..., ::-1]), "bgr", 0, "", "c")
    x, keys = batch(tiny, bundle, [bgr])
    assert injection.make(bundle, "fgsm").apply(x, keys).applied.all()


def test_the_universal_perturbation_applies_to_everything(
    tiny: Any, bundle: Any, road_frames: tuple[Frame, ...]
) -> None:
    x, _ = batch(tiny, bundle, road_frames)
    injected = injection.make(bundle, "universal").apply(x, ())
    assert injected.applied.all()
    assert np.array_equal(injected.x, store.add(x, store.load(bundle, store.find(bundle, "universal")).deltas))


def test_clean_changes_nothing(tiny: Any, bundle: Any, coloured: tuple[Frame, ...]) -> None:
    x, _ = batch(tiny, bundle, coloured)
    injected = injection.make(bundle, "clean").apply(x, ())
    assert np.array_equal(injected.x, x) and injected.applied.all()


def test_no_injection_writes_to_the_clean_batch(tiny: Any, bundle: Any, coloured: tuple[Frame, ...]) -> None:
    x, keys = batch(tiny, bundle, coloured)
    x.flags.writeable = False
    for name in injection.names(bundle):
        injected = injection.make(bundle, name).apply(x, keys)
        assert injected.x.dtype == np.float32 and injected.x.min() >= 0 and injected.x.max() <= 1


def test_an_empty_batch_stays_empty(tiny: Any, bundle: Any) -> None:
    x, keys = batch(tiny, bundle, [])
    for name in injection.names(bundle):
        injected = injection.make(bundle, name).apply(x, keys)
        assert injected.x.shape == (0, 3, 16, 16) and injected.applied.shape == (0,)


# --- noise ----------------------------------------------------------------------------------------------------------


def test_noise_is_the_seeds() -> None:
    x = np.full((2, 3, 16, 16), 0.5, np.float32)
    first, same, other = (injection.NoiseInjection(16, seed).apply(x, ()).x for seed in (1, 1, 2))
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_noise_goes_on_from_batch_to_batch() -> None:
    noise, x = injection.NoiseInjection(16, 1), np.full((1, 3, 16, 16), 0.5, np.float32)
    assert not np.array_equal(noise.apply(x, ()).x, noise.apply(x, ()).x)


@pytest.mark.parametrize("sigma", [1.0, 8.0, 16.0])
def test_noise_has_the_deviation_that_was_asked_for(sigma: float) -> None:
    x = np.full((8, 3, 64, 64), 0.5, np.float32)
    change = (injection.NoiseInjection(sigma, 0).apply(x, ()).x - x) * 255
    assert abs(change.std() - sigma) < 0.02 * sigma and abs(change.mean()) < 0.02 * sigma


@pytest.mark.parametrize("sigma", [0.0, -1.0, 256.0, float("nan"), float("inf")])
def test_impossible_noise_is_refused(sigma: float) -> None:
    with pytest.raises(AttackError, match="noise out of range"):
        injection.NoiseInjection(sigma, 0)


def test_a_negative_seed_is_refused() -> None:
    """Regression: NumPy's ValueError reached the user as a traceback."""
    with pytest.raises(AttackError, match="seed of the noise is negative"):
        injection.NoiseInjection(16, -1)


# --- corruptions ----------------------------------------------------------------------------------------------------


def test_every_corruption_can_be_made_by_name_for_every_bundle(tiny: Any) -> None:
    bundle = tiny.classifier()
    assert len(injection.CORRUPTIONS) == 75 and not set(injection.CORRUPTIONS) & set(injection.names(bundle))
    for name in ("corruption/fog/3", "corruption/jpeg_compression/5"):
        made = injection.make(bundle, name)
        assert (made.name, made.knowledge, made.needs_keys) == (name, "none", False)


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_a_corruption_is_that_of_the_images_on_the_models_grid(colour: Any) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (3, 24, 32, 3), np.uint8)
    planes = rgb.transpose(0, 3, 1, 2)
    x = np.ascontiguousarray(planes if colour == "rgb" else planes[:, ::-1], np.float32) / np.float32(255)
    made = injection.Corrupted("corruption/snow/2", InputSpec(width=32, height=24, colour=colour), 7)
    injected = made.apply(x, ())
    found = np.rint(injected.x * 255).astype(np.uint8)
    found = found if colour == "rgb" else found[:, ::-1]
    assert np.array_equal(found.transpose(0, 2, 3, 1), corruptions.corrupt(rgb, "snow", 2, 7))
    assert injected.applied.all() and injected.x.flags.c_contiguous and injected.x.dtype == np.float32
    assert np.array_equal(made.apply(x[1:2], ()).x, injected.x[1:2]), "an image gets the same whenever it comes"


def test_corruptions_leave_the_clean_batch_alone_and_take_an_empty_one(tiny: Any, coloured: tuple[Frame, ...]) -> None:
    bundle = tiny.classifier()
    x, _ = batch(tiny, bundle, coloured)
    x.flags.writeable = False
    made = injection.make(bundle, "corruption/contrast/4")
    injected = made.apply(x, ())
    assert injected.x.min() >= 0 and injected.x.max() <= 1 and not np.array_equal(injected.x, x)
    assert made.apply(x[:0], ()).x.shape == (0, 3, 16, 16)


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("corruption/fgo/3", "corruption/fog/3"),
        ("corruptoin/snow/1", "corruption/snow/1"),
        ("corruption/fog/6", "corruption/fog/"),
        ("corruption/fog", "corruption/fog/"),
        ("fog/2", "corruption/fog/2"),
    ],
)
def test_a_misspelt_corruption_is_answered_with_the_nearest(tiny: Any, name: str, guess: str) -> None:
    with pytest.raises(AttackError, match=f"corruption/NAME/SEVERITY, .*; did you mean '{guess}"):
        injection.make(tiny.classifier(), name)


def test_a_corruption_with_a_negative_seed_is_refused(tiny: Any) -> None:
    with pytest.raises(AttackError, match="seed of a corruption"):
        injection.make(tiny.classifier(), "corruption/fog/1", seed=-1)
