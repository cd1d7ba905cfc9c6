"""From a YAML file to a frozen dataclass: every key and type is checked, and a mistake is named with its key."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import yaml

from lisard_ros.errors import LisardError, UsageError, nearest, one_line

from . import aliases

K = TypeVar("K")
LARGEST = torch.finfo(torch.float32).max


class _Loader(yaml.SafeLoader):
    """YAML in which a key stands once, and 1e-3 is a number (as in YAML 1.2; PyYAML reads 1.1)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuses a key that is there twice: the first value would silently be lost."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def content(path: Path) -> Any:
    """What the YAML file says; UsageError names a file that is missing or broken."""
    if not path.is_file():
        raise UsageError(f"recipe {path}", found="no such file", expected="a YAML file", cure="see trainer/recipes")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  a SafeLoader
    except UnicodeDecodeError as error:
        raise UsageError(
            f"recipe {path}",
            found=f"bytes that are not UTF-8 ({error})",
            expected="YAML in UTF-8",
            cure="save the file as UTF-8",
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UsageError(
            f"recipe {path}", found=f"broken YAML ({one_line(error)})", expected="YAML", cure="see trainer/recipes"
        ) from error


@dataclass(frozen=True)
class Change:
    """One replaced value of a recipe. keys: the path to it; text: as it was given."""

    keys: tuple[str, ...]
    value: Any
    text: str


def read_change(text: str) -> Change:
    """KEY=VALUE, or SECTION.KEY=VALUE, the value as in YAML."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise _unusable(text, "KEY=VALUE, for example optimizer.epochs=5")
    try:
        read = yaml.load(value, _Loader)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _unusable(text, f"a value as in YAML ({one_line(error)})") from error
    return Change(tuple(key.split(".")), read, text)


def with_changes(mapping: dict[str, Any], changes: Iterable[Change], kind: type) -> dict[str, Any]:
    """The mapping of a recipe of a type, in the names of today, with some values replaced."""
    changed: set[str] = set()
    for change in changes:
        keys, value = _with_current_names(change, kind)
        dotted = ".".join(keys)
        if dotted in changed:
            raise _unusable(change.text, f"a value for {dotted} once")
        changed.add(dotted)
        mapping = _replaced(mapping, keys, value, change.text)
    return mapping


def _with_current_names(change: Change, kind: type) -> tuple[list[str], Any]:
    """Path and value of a change in the names of today."""
    inner = change.value
    for key in reversed(change.keys):
        inner = {key: inner}
    names: list[str] = []
    inner = aliases.with_current_names(inner, kind)
    for _ in change.keys:
        ((name, inner),) = inner.items()
        names.append(name)
    return names, inner


def _replaced(mapping: Any, keys: Sequence[str], value: Any, change: str) -> dict[str, Any]:
    if not isinstance(mapping, dict):
        raise _unusable(change, f"a section before .{keys[0]}, not a single value")
    inner = _replaced(mapping.get(keys[0], {}), keys[1:], value, change) if keys[1:] else value
    return {**mapping, keys[0]: inner}


def _unusable(change: str, expected: str) -> UsageError:
    return UsageError("--set", found=change, expected=expected, cure="--print shows the keys")


def fill(kind: type[K], given: dict[str, Any], prefix: str = "") -> K:
    """A frozen dataclass from a mapping, every key and type checked. prefix: of the section, with its dot."""
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in given.items():
        if key not in hints:
            raise _in_a_section(str(key), hints) or _unknown(str(key), hints, prefix[:-1])
        values[key] = _convert(hints[key], value, prefix + key)
    return kind(**values)


def _unknown(key: str, hints: Mapping[str, Any], section: str) -> LisardError:
    """The error of a key that a section does not have, with the nearest one; a former name stands for its new one."""
    former = aliases.former_names(section, hints)
    guess = nearest(key, sorted([*hints, *former]))
    return UsageError(
        f"unknown recipe key in {section}" if section else "unknown recipe key",
        found=repr(key),
        expected="one of " + ", ".join(sorted(hints)),
        cure=f"did you mean {former.get(guess, guess)!r}?" if guess else None,
    )


def _in_a_section(key: str, hints: Mapping[str, Any]) -> LisardError | None:
    """The error of a key that stands, so or nearly so, in a section of these, without its section."""
    known: dict[str, list[str]] = {}
    for section, hint in hints.items():
        names = [field.name for field in dataclasses.fields(hint)] if dataclasses.is_dataclass(hint) else []
        for name, new in [*zip(names, names, strict=True), *aliases.former_names(section, names).items()]:
            known.setdefault(name, []).append(f"{section}.{new}")
    guess = nearest(key, [*known, *hints])
    if guess not in known:
        return None
    full = " or ".join(known[guess])
    if guess == key:
        return UsageError(f"unknown recipe key {key}", found="no section", expected=full, cure="give the section too")
    return UsageError(
        f"unknown recipe key {key}",
        found="no such key",
        expected="one that --print shows",
        cure=f"did you mean {full}?",
    )


def _convert(hint: Any, value: Any, key: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, dict):
            raise _wrong(key, value, "a mapping of keys")
        return fill(hint, value, key + ".")
    if typing.get_origin(hint) is Literal:
        return _one_of(typing.get_args(hint), value, key)
    if isinstance(hint, types.GenericAlias) and typing.get_origin(hint) is tuple:
        wanted = isinstance(value, list | tuple) and all(type(item) is int and item > 0 for item in value)
        if not wanted or not value:
            raise _wrong(key, value, "a list of positive integers")
        return tuple(value)
    if hint is str and value is None:
        return ""  # what YAML makes of nothing
    if hint is float and type(value) in (int, float):
        if not abs(value) <= LARGEST:
            raise _wrong(key, value, f"a number of at most {LARGEST:.2g}, which 32 bits can hold")
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise _wrong(key, value, hint.__name__)
    return value


def _one_of(options: tuple[Any, ...], value: Any, key: str) -> Any:
    if not any(value == option and type(value) is type(option) for option in options):
        names = [str(option) for option in options]
        former = aliases.VALUES.get(key, {})
        guess = nearest(str(value), [*names, *former])
        cure = f"did you mean {former.get(guess, guess)!r}?" if guess else None
        raise UsageError(f"recipe key {key}", found=repr(value), expected="one of " + ", ".join(names), cure=cure)
    return value


def _wrong(key: str, value: Any, expected: str) -> UsageError:
    return UsageError(f"recipe key {key}", found=repr(value), expected=expected)
