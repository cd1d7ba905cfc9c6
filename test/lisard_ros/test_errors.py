"""Messages say what is wrong, what was found, what was expected, and the cure."""

from __future__ import annotations

import pytest

from lisard_ros import errors


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({}, "broken"),
        ({"found": 3}, "broken: found 3"),
        ({"found": 0, "expected": 1}, "broken: found 0, expected 1"),
        ({"found": "a", "expected": "b", "cure": "do c"}, "broken: found a, expected b; do c"),
        ({"cure": "do c"}, "broken; do c"),
    ],
)
def test_the_sentence_holds_what_is_known(parts: dict[str, object], sentence: str) -> None:
    assert str(errors.LisardError("broken", **parts)) == sentence  # type: ignore[arg-type]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    error = errors.unknown_name("colour", "rde", ["green", "red"], errors.DataError)
    assert isinstance(error, errors.DataError)
    assert str(error) == "unknown colour: found 'rde', expected one of green, red; did you mean 'red'?"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\n   second\tthird"), "first second third"),
        (ValueError(), "ValueError"),
        (OSError("x" * 400), "x" * 300),
    ],
)
def test_what_others_say_becomes_one_line(error: Exception, line: str) -> None:
    assert errors.one_line(error) == line


def test_a_name_like_no_other_gets_no_guess() -> None:
    assert errors.unknown_name("colour", "xxxxxxxx", ["red"]).cure is None


@pytest.mark.parametrize(
    "kind",
    [
        errors.BundleError,
        errors.ImageError,
        errors.BackendError,
        errors.OutputError,
        errors.AttackError,
        errors.DataError,
        errors.UsageError,
    ],
)
def test_every_error_is_of_the_one_family(kind: type[errors.LisardError]) -> None:
    assert issubclass(kind, errors.LisardError)
