"""Patches in files and on live topics: lossless files, clear errors, the same place for the same image."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lisard_ros import injection
from lisard_ros.attacks import patch_store, store
from lisard_ros.attacks.patch import noise
from lisard_ros.attacks.patch_store import StoredPatch
from lisard_ros.attacks.placement import Placement
from lisard_ros.bundle.arrays import dump_arrays
from lisard_ros.bundle.manifest import InputSpec, Perturbation
from lisard_ros.errors import AttackError, BundleError

HOW = Placement("anywhere", 0.1, 0.3, turn_deg=10, contrast=0.1, brightness=0.05)
STORED = StoredPatch(patch_store.quantise(noise(6, 0)), HOW)
ABOUT = Perturbation(
    name="patch",
    file="patch.npz",
    kind="patch",
    attack="patch",
    knowledge="gray-box",
    eps_255=255.0,
    steps=5,
    seed=0,
    count=1,
    made_on="a test",
)


def png(stored: StoredPatch) -> bytes:
    """The print as a PNG file."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(stored.levels[::-1].transpose(1, 2, 0)))
    assert done
    return data.tobytes()


def test_files_are_lossless_and_deterministic() -> None:
    data = patch_store.dump(STORED)
    again = patch_store.read(data, "patch.npz")
    assert np.array_equal(again.levels, STORED.levels) and again.placement == HOW
    assert patch_store.dump(again) == data
    assert np.array_equal(patch_store.quantise(again.patch), STORED.levels)


def test_a_png_holds_the_print_and_is_placed_by_default() -> None:
    data = png(STORED)
    again = patch_store.read(data, "patch.png")
    assert np.array_equal(again.levels, STORED.levels) and again.placement == Placement()
    seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert seen[0, 1].tolist() == STORED.levels[::-1, 0, 1].tolist()  # OpenCV gives BGR


def npz(**arrays: np.ndarray) -> bytes:
    """A file with these arrays in the place of the good ones."""
    good = {"print": STORED.levels, "placement": np.array([0.1, 0.3, 10, 0.1, 0.05])}
    return dump_arrays({**good, **arrays})


FILES = {"npz": patch_store.dump(STORED), "png": png(STORED)}
WRONG = [
    (npz(print=np.zeros((3, 4, 5), np.uint8)), r"holds no patch: found uint8 \(3, 4, 5\), expected .*; make it again"),
    (npz(print=np.zeros((3, 0, 0), np.uint8)), "holds no patch"),
    (npz(print=np.zeros((3, 600, 600), np.uint8)), "holds no patch.*S <= 512"),
    (npz(print=np.zeros((3, 4, 4))), "holds no patch: found float64"),
    (store.dump(np.zeros((1, 3, 4, 4), np.int16), None), "holds no patch: found nothing"),
    (npz(placement=np.zeros(4)), "does not have the placement of the patch"),
    (npz(placement=np.array([0.1, 0.3, 10, 0.1, np.nan])), "impossible placement.*expected .*; make it again"),
    (npz(placement=np.array([0.1, 1.3, 10, 0.1, 0.0])), "impossible placement"),
    (b"", "not a plain .npz"),
    (png(STORED)[:40], "is no patch: found 6x6 px that cannot be read"),
    (png(STORED)[:12], "is no patch: found 0x0 px, expected a square PNG"),
    (cv2.imencode(".png", np.zeros((4, 5, 3), np.uint8))[1].tobytes(), "is no patch: found 5x4 px"),
    (cv2.imencode(".png", np.zeros((513, 513), np.uint8))[1].tobytes(), "is no patch: found 513x513 px"),
]


@pytest.mark.parametrize(("data", "what"), WRONG)
def test_what_is_no_patch_is_refused(data: bytes, what: str) -> None:
    with pytest.raises(BundleError, match=f"^mine.*{what}"):
        patch_store.read(data, "mine")


@given(
    st.sampled_from(["npz", "png"]),
    st.lists(st.tuples(st.integers(0, 800), st.integers(0, 255)), max_size=6),
    st.integers(0, 300),
)
@settings(max_examples=150, deadline=None)
def test_fuzz_damaged_files(kind: str, edits: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(FILES[kind])
    for place, value in edits:
        data[place % len(data)] = value
    try:
        found = patch_store.read(bytes(data[: len(data) - cut]), "mine")
    except BundleError as error:
        assert "mine" in str(error)
    else:
        assert found.levels.dtype == np.uint8 and found.levels.shape[0] == 3


def test_numpy_writes_files_that_are_read() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, print=STORED.levels, placement=np.array([0.1, 0.3, 10, 0.1, 0.05]))
    assert patch_store.read(buffer.getvalue(), "x").placement == HOW


# --- injected -------------------------------------------------------------------------------------------------------


def images(count: int) -> np.ndarray:
    """On the 8-bit grid."""
    return np.random.default_rng(1).integers(0, 256, (count, 3, 24, 32)).astype(np.float32) / np.float32(255)


def test_the_patch_lies_somewhere_in_every_image_and_there_again() -> None:
    x = images(4)
    x.flags.writeable = False
    made, other = (injection.Patched(ABOUT, STORED, InputSpec(width=32, height=24), seed) for seed in (3, 4))
    injected = made.apply(x, ())
    levels = injected.x * 255
    assert injected.applied.all() and injected.x.dtype == np.float32 and np.abs(levels - np.rint(levels)).max() < 1e-4
    share = (injected.x != x).any(axis=1).mean(axis=(1, 2))
    assert share.min() > 0.08 and share.max() < 0.45  # the edges of a turned patch touch more pixels
    assert np.array_equal(made.apply(x[2:], ()).x, injected.x[2:])
    assert not np.array_equal(other.apply(x, ()).x, injected.x)
    assert made.apply(x[:0], ()).x.shape == (0, 3, 24, 32)


def test_the_print_is_red_where_it_is_red_in_either_order_of_colours() -> None:
    planes = np.stack([np.full((4, 4), level, np.uint8) for level in (255, 0, 0)])
    red = StoredPatch(planes, Placement(contrast=0, brightness=0))
    x = np.full((1, 3, 24, 32), 128 / 255, np.float32)
    for colour, channel in (("rgb", 0), ("bgr", 2)):
        spec = InputSpec(width=32, height=24, colour=colour)  # type: ignore[arg-type]
        seen = injection.Patched(ABOUT, red, spec, 0).apply(x, ()).x[0]
        assert seen[channel].max() == 1 and seen[1].max() < 0.51 and seen[1].min() == 0


def test_a_bundle_offers_its_patch(tiny: Any) -> None:
    bundle = tiny.classifier("patched", None, {"patch.npz": patch_store.dump(STORED)}, perturbations=(ABOUT,))
    assert injection.names(bundle) == ("clean", "noise", "patch")
    made = injection.make(bundle, "patch", seed=1)
    assert (made.name, made.knowledge, made.needs_keys) == ("patch", "gray-box", False)
    x = np.full((2, 3, 16, 16), 0.2, np.float32)
    assert made.apply(x, ()).applied.all()
    with pytest.raises(AttackError, match="seed of a patch is negative"):
        injection.make(bundle, "patch", seed=-1)


def test_an_image_too_small_for_it_does_not_count() -> None:
    made = injection.Patched(ABOUT, STORED, InputSpec(width=4, height=4), 0)
    x = np.full((2, 3, 4, 4), 0.2, np.float32)
    injected = made.apply(x, ())
    assert not injected.applied.any() and np.allclose(injected.x, x)


def test_a_bundle_whose_patch_is_damaged_says_so(tiny: Any) -> None:
    bundle = tiny.classifier("damaged", None, {"patch.npz": b"PK"}, perturbations=(ABOUT,))
    with pytest.raises(BundleError, match="patch.npz is not a plain .npz"):
        injection.make(bundle, "patch")
