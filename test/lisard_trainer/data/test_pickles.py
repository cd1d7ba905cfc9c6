"""Pickles as data: what CIFAR's files hold is read as Python reads it, and nothing in a file can run or import."""

from __future__ import annotations

import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lisard_ros.errors import DataError
from lisard_trainer.data import pickles

NO_CODE = "expected a dictionary of arrays, numbers, text and lists, and no code"
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | st.binary(min_size=1)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3))
TYPES = ("u1", "<i2", ">i4", "<i8", "<f4", ">f8", "b1")


def read_bytes(tmp_path, raw):
    path = tmp_path / "batch"
    path.write_bytes(raw)
    return pickles.read(path)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(TEXT, VALUES, max_size=4), st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_reads_what_python_reads(tmp_path, content, protocol):
    assert read_bytes(tmp_path, pickle.dumps(content, protocol)) == content


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", TYPES)
def test_reads_arrays_of_every_protocol_and_order(tmp_path, kind, protocol):
    rows = np.arange(24).astype(kind).reshape(2, 3, 4)
    found = read_bytes(tmp_path, pickle.dumps({"c": rows, b"f": np.asfortranarray(rows)}, protocol))
    for name in ("c", "f"):
        assert np.array_equal(found[name], rows) and found[name].dtype == rows.dtype


def test_reads_what_python_2_wrote(tmp_path, as_python2):
    content = {"data": np.arange(256, dtype=np.uint8).reshape(2, 128), "labels": [3, -1], "name": "\xff" * 300}
    found = read_bytes(tmp_path, as_python2(content))
    assert np.array_equal(found.pop("data"), content.pop("data")) and found == content
    assert pickle.loads(as_python2(content), encoding="latin-1") == content


class Runs:
    """Pickles to a call."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


class Plain:
    """An ordinary object with a state."""

    def __init__(self):
        self.value = 1


def harmful(marker):
    """Pickles that would create the file `marker` if anything in them ran, by every way a pickle has."""
    command = f"touch {marker}"
    text = b"X" + struct.pack("<I", len(command)) + command.encode()
    return {
        "reduce": pickle.dumps({"data": Runs(os.system, command)}, 2),
        "reduce_5": pickle.dumps({"data": Runs(os.system, command)}, 5),
        "eval": pickle.dumps([Runs(eval, f"open({str(marker)!r}, 'w')")], 4),
        "stack_global": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text + b"\x85R.",
        "inst": b"(" + text + b"ios\nsystem\n.",
        "obj": b"(cos\nsystem\n" + text + b"o.",
        "newobj": b"\x80\x02cos\nsystem\n" + text + b"\x85\x81.",
        "newobj_ex": b"\x80\x04cos\nsystem\n" + text + b"\x85}\x92.",
        "persistent": b"P" + command.encode() + b"\n.",
        "binary_persistent": text + b"Q.",
        "extension": b"\x82\x01.",
        "numpy_load": b"cnumpy\nload\n" + text + b"\x85R.",
        "numpy_runstring": b"cnumpy.testing._private.utils\nrunstring\n" + text + b"}\x86R.",
        "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
        "codec": b"c_codecs\nencode\n" + text + b"X\x05\x00\x00\x00rot13\x86R.",
        "array_of_objects": pickle.dumps({"data": np.array([Runs(os.system, command)], dtype=object)}, 2),
        "structured": pickle.dumps({"data": np.zeros(2, [("a", "u1")])}, 2),
        "object": pickle.dumps({"data": Plain()}, 2),
        "state_of_a_dictionary": b"}}X\x0c\x00\x00\x00__setstate__cos\nsystem\nsb.",
        "state_of_a_name": b"cnumpy\nndarray\n}X\x01\x00\x00\x00aK\x01sb.",
        "call_of_a_list": b"]" + text + b"\x85R.",
        "set": pickle.dumps({"labels": {1, 2}}, 4),
        "buffer": b"\x80\x05\x97.",
    }


@pytest.mark.parametrize("kind", sorted(harmful("x")))
def test_nothing_in_a_pickle_runs(tmp_path, kind):
    marker = tmp_path / "ran"
    with pytest.raises(DataError, match=NO_CODE):
        read_bytes(tmp_path, harmful(marker)[kind])
    assert not marker.exists()


def test_the_harmful_pickles_would_harm(tmp_path):
    """The check above means something: Python's own reader runs them."""
    marker = tmp_path / "ran"
    pickle.loads(harmful(marker)["reduce"])
    assert marker.exists()


BROKEN = {
    "empty": (b"", "pickle exhausted before seeing STOP"),
    "text": (b"not a pickle", "opcode"),
    "no_dictionary": (pickle.dumps([1, 2]), "a pickled list"),
    "key": (pickle.dumps({1: 2}), "a key of type int"),
    "nothing": (b".", "an instruction without its operand"),
    "no_mark": (b"t.", "an instruction without its mark"),
    "below_the_mark": (b"](a.", "an instruction without its operand"),
    "no_memory": (b"h\x05.", "a reference to nothing"),
    "odd_pairs": (b"(K\x01d.", "key and value pairs"),
    "items_of_a_number": (b"K\x01K\x02a.", "list items for a int"),
    "array_named": (b"}X\x01\x00\x00\x00acnumpy\nndarray\ns.", "a description of an array without the array"),
    "array_unbuilt": (
        b"}X\x01\x00\x00\x00acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87Rs.",
        "an array without content",
    ),
    "huge_text": (b"X\xff\xff\xff\x7fabc.", "expected 2147483647 bytes"),
    "name": (b"cnumpy\nmatrix\n.", "the name numpy matrix"),
}


@pytest.mark.parametrize("kind", sorted(BROKEN))
def test_broken_pickles_are_named(tmp_path, kind):
    raw, found = BROKEN[kind]
    with pytest.raises(DataError, match=f"pickle .*batch: found .*{found}.*{NO_CODE}; take the file"):
        read_bytes(tmp_path, raw)


@pytest.mark.parametrize(
    "shape, content, found",
    [
        ((2, 3), b"12345", "shape .2, 3. with 5 bytes"),
        ((-1, -6), b"123456", "impossible shape"),
        ((1,) * 5, b"1", "impossible shape"),
        ((1 << 40, 1 << 40), b"", "with 0 bytes"),
    ],
)
def test_arrays_that_contradict_themselves(tmp_path, shape, content, found):
    whole = pickle.dumps({"data": np.zeros(6, np.uint8)}, 3)
    spoilt = whole.replace(pickle.dumps((6,), 3)[2:-1].split(b"q")[0], pickle.dumps(shape, 3)[2:-1].split(b"q")[0])
    spoilt = spoilt.replace(b"C\x06" + bytes(6), b"C" + bytes([len(content)]) + content)
    with pytest.raises(DataError, match=found):
        read_bytes(tmp_path, spoilt)


def test_a_small_file_cannot_ask_for_much_memory(tmp_path):
    repeated = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    raw = b"X\x00\x10\x00\x00" + b"a" * 4096 + b"q\x00" + repeated * 2000 + b"}."
    with pytest.raises(DataError, match="more content than the file can hold"):
        read_bytes(tmp_path, raw)
    assert read_bytes(tmp_path, b"}r\xff\xff\xff\xff.") == {}


def test_deep_nesting_and_cycles_are_data(tmp_path):
    found = read_bytes(tmp_path, b"}X\x01\x00\x00\x00aK\x01" + b"\x85" * 20_000 + b"s.")
    assert isinstance(found["a"], tuple)
    found = read_bytes(tmp_path, b"}X\x01\x00\x00\x00a]q\x00h\x00as.")
    assert found["a"][0] is found["a"]


VALID = [
    pickle.dumps({"data": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": [1, 2, 3], b"n": b"xyz", "f": 1.5}, p)
    for p in (0, 2, 3, 5)
]
PIECES = [
    *(bytes([code]) for code in range(256)),
    *(b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"c_codecs\nencode\n"),
    *(b"U\x02u1", b"U\x01b", b"K\x00", b"K\x01", b"\x85", b"\x86", b"\x87", b"(", b"]", b"}", b")", b"R", b"b", b"N"),
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(VALID),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 6), st.binary(max_size=6)), min_size=1, max_size=4),
)
def test_changed_bytes_give_data_or_an_error(tmp_path, raw, changes):
    for position, length, inserted in changes:
        at = position % (len(raw) + 1)
        raw = raw[:at] + inserted + raw[at + length :]
    try:
        assert isinstance(read_bytes(tmp_path, raw), dict)
    except DataError as error:
        assert NO_CODE in str(error)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES), max_size=25))
def test_any_program_gives_data_or_an_error(tmp_path, pieces):
    try:
        assert isinstance(read_bytes(tmp_path, b"".join(pieces) + b"."), dict)
    except DataError as error:
        assert NO_CODE in str(error)
