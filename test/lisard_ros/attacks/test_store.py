"""Stored perturbations: whole grey levels within the budget, lossless files, and no pickles."""

from __future__ import annotations

import io
import math
import os
import pickle
import zipfile
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lisard_ros.attacks import store
from lisard_ros.bundle import arrays as bundle_arrays
from lisard_ros.bundle.arrays import dump_arrays, load_arrays
from lisard_ros.errors import AttackError, BundleError

LEVELS = hnp.arrays(np.uint8, (2, 3, 4, 4))
CHANGES = hnp.arrays(np.float64, (2, 3, 4, 4), elements=st.floats(-2, 2))


@given(LEVELS, CHANGES, st.floats(1, 40))
def test_deltas_stay_in_the_budget_and_the_image(levels: np.ndarray, change: np.ndarray, eps: float) -> None:
    x = levels / 255
    deltas = store.quantise(x, x + change, eps)
    assert deltas.dtype == np.int16 and np.abs(deltas).max(initial=0) <= eps + 1e-9
    assert (levels + deltas >= 0).all() and (levels + deltas <= 255).all()


@given(LEVELS, hnp.arrays(np.int16, (2, 3, 4, 4), elements=st.integers(-8, 8)))
def test_an_attack_in_whole_levels_is_kept_as_it_is(levels: np.ndarray, deltas: np.ndarray) -> None:
    wanted = np.clip(levels.astype(np.int16) + deltas, 0, 255)
    x = (levels / 255).astype(np.float32)
    found = store.quantise(x, (wanted / 255).astype(np.float32), 8)
    assert np.array_equal(found, wanted - levels)
    assert np.array_equal(np.rint(store.add(x, found) * 255), wanted)


def test_rounding_comes_before_clamping() -> None:
    """8.4 and 7.6 levels both become 8; 8.6 would round to 9 and is clamped to 8."""
    x = np.full((1, 3, 1, 1), 100 / 255)
    attacked = x + np.array([8.4, 7.6, 8.6]).reshape(1, 3, 1, 1) / 255
    assert store.quantise(x, attacked, 8).ravel().tolist() == [8, 8, 8]
    assert store.quantise(x, attacked, 8.9).ravel().tolist() == [8, 8, 8]
    assert store.quantise(x, x + 30 / 255, 255 * (8 / 255)).ravel().tolist() == [8, 8, 8]


@given(LEVELS, hnp.arrays(np.int16, (2, 3, 4, 4), elements=st.integers(-255, 255)))
def test_add_is_exact_on_the_8_bit_grid(levels: np.ndarray, deltas: np.ndarray) -> None:
    x = levels.astype(np.float32) / np.float32(255)
    found = store.add(x, deltas)
    expected = np.clip(levels.astype(np.int16) + deltas, 0, 255).astype(np.float32) / np.float32(255)
    assert found.dtype == np.float32 and np.array_equal(found, expected)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_attack_that_is_not_finite_is_refused(bad: float) -> None:
    """Regression: NaN became an arbitrary int16."""
    x = np.zeros((1, 3, 2, 2))
    with pytest.raises(AttackError, match="not finite"):
        store.quantise(x, x + bad, 8)


# --- files ----------------------------------------------------------------------------------------------------------


@given(hnp.arrays(np.int16, (3, 3, 2, 2), elements=st.integers(-255, 255)))
def test_files_are_lossless_and_deterministic(deltas: np.ndarray) -> None:
    keys = [format(n, "064x") for n in range(3)]
    data = store.dump(deltas, keys)
    arrays = load_arrays(data, "x")
    assert np.array_equal(arrays["deltas"], deltas) and [k.decode() for k in arrays["keys"]] == keys
    assert store.dump(deltas.copy(order="F"), keys) == data
    assert set(load_arrays(store.dump(deltas, None), "x")) == {"deltas"}


def test_numpy_reads_our_files_and_we_read_numpys() -> None:
    deltas = np.arange(24, dtype=np.int16).reshape(2, 3, 2, 2)
    with np.load(io.BytesIO(store.dump(deltas, None)), allow_pickle=False) as archive:
        assert np.array_equal(archive["deltas"], deltas)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, deltas=deltas)
    assert np.array_equal(load_arrays(buffer.getvalue(), "x")["deltas"], deltas)


class Mine:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        """path: the file."""
        self.path = path

    def __reduce__(self) -> Any:
        """What unpickling calls."""
        return os.mkdir, (self.path,)


def test_pickles_are_refused_and_never_run(tmp_path: Any) -> None:
    mine = Mine(str(tmp_path / "ran"))
    objects = io.BytesIO()
    np.savez(objects, deltas=np.array([mine], dtype=object))
    member = io.BytesIO()
    with zipfile.ZipFile(member, "w") as archive:
        archive.writestr("deltas.npy", pickle.dumps(mine))
    for data in (objects.getvalue(), member.getvalue(), pickle.dumps(mine)):
        with pytest.raises(BundleError, match="not a plain .npz: found .*, expected arrays without pickled objects"):
            load_arrays(data, "x.npz")
    assert not (tmp_path / "ran").exists()


def npy(array: np.ndarray) -> bytes:
    """The bytes of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz_of(member: bytes) -> bytes:
    """An .npz whose only member has these bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("deltas.npy", member)
    return buffer.getvalue()


HEADER = npy(np.zeros((2, 2), np.int16))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK",
        npy(np.zeros(3)),
        npz_of(b""),
        npz_of(b"\x93NUMPY"),
        npz_of(HEADER[:-3]),
        npz_of(HEADER.replace(b"(2, 2)", b"(9**9,")),
        npz_of(HEADER.replace(b"'<i2'", b"'|O8'")),
        npz_of(HEADER.replace(b"(2, 2), ", b"(99999999999, 99999999), "[:8])),
        npz_of(HEADER.replace(b"{", b"(")),
    ],
)
def test_damaged_files_are_refused(data: bytes) -> None:
    """Regression: a bare .npy raised TypeError."""
    with pytest.raises(BundleError, match="not a plain .npz"):
        load_arrays(data, "x.npz")


def test_a_file_that_unpacks_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_arrays, "MAX_FILE_BYTES", 1000)
    with pytest.raises(BundleError, match="unpacks too large"):
        load_arrays(store.dump(np.zeros((1, 3, 20, 20), np.int16), None), "x.npz")


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 300))
@settings(max_examples=200)
def test_fuzz_damaged_files(edits: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(store.dump(np.ones((2, 3, 4, 4), np.int16), ["0" * 64, "1" * 64]))
    for place, value in edits:
        data[place % len(data)] = value
    try:
        load_arrays(bytes(data[: len(data) - cut]), "x.npz")
    except BundleError as error:
        assert "x.npz" in str(error)


# --- against the manifest -------------------------------------------------------------------------------------------


def test_load_checks_and_indexes(tiny: Any) -> None:
    bundle = tiny.armed()
    stored = store.load(bundle, store.find(bundle, "fgsm"))
    assert stored.deltas.shape == (12, 3, 16, 16) and sorted(stored.rows.values()) == list(range(12))
    shared = store.load(bundle, store.find(bundle, "universal"))
    assert shared.deltas.shape == (1, 3, 16, 16) and shared.rows == {}


def test_an_unknown_name_says_what_there_is(tiny: Any) -> None:
    with pytest.raises(AttackError, match="no perturbation 'pgd': found fgsm, universal; make one"):
        store.find(tiny.armed(), "pgd")
    with pytest.raises(AttackError, match="found none"):
        store.find(tiny.classifier(), "pgd")


def load_changed(tiny: Any, arrays: dict[str, np.ndarray] | None, **changes: Any) -> Any:
    """Load the stored set of a bundle whose file or manifest entry was changed."""
    good = tiny.armed()
    about = msgspec.structs.replace(good.manifest.perturbations[0], **changes)
    data = good.data("stored.npz") if arrays is None else dump_arrays(arrays)
    bundle = tiny.classifier("changed", None, {"stored.npz": data}, perturbations=(about,))
    return store.load(bundle, about)


DELTAS = np.zeros((12, 3, 16, 16), np.int16)
KEYS = np.array([b"0" * 64] * 12, "S64")


@pytest.mark.parametrize(
    ("arrays", "changes", "what"),
    [
        ({"keys": KEYS}, {}, "is not the perturbation: found nothing"),
        ({"deltas": DELTAS[:11], "keys": KEYS}, {}, "is not the perturbation"),
        ({"deltas": DELTAS[:, :, :8], "keys": KEYS}, {}, "is not the perturbation"),
        ({"deltas": DELTAS.astype(np.float32), "keys": KEYS}, {}, "is not the perturbation: found float32"),
        ({"deltas": DELTAS + np.int16(9), "keys": KEYS}, {}, "leaves its budget: found 9/255"),
        ({"deltas": DELTAS + np.int16(-32768), "keys": KEYS}, {}, "leaves its budget: found 32768/255"),
        ({"deltas": DELTAS}, {}, "has no image hashes: found nothing"),
        ({"deltas": DELTAS, "keys": KEYS[:5]}, {}, "has no image hashes"),
        ({"deltas": DELTAS, "keys": np.array(b"0" * 64, "S64")}, {}, "has no image hashes"),
        ({"deltas": DELTAS, "keys": np.zeros(12)}, {}, "has no image hashes"),
        (None, {"eps_255": 7.5}, "leaves its budget: found 8/255, expected <= 7.5/255"),
        (None, {"kind": "universal"}, "is not universal: found 12 deltas, expected 1"),
        (None, {"count": 13}, "is not the perturbation"),
    ],
)
def test_what_contradicts_the_manifest_is_refused(
    tiny: Any, arrays: dict[str, np.ndarray] | None, changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(BundleError, match=what):
        load_changed(tiny, arrays, **changes)
