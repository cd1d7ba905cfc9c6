"""The messages that node, launch files and doctor can show, collected from the source by `ast`.

A message is a list of its fixed parts: f"no image on {topic} for {seconds} s" is ["no image on ", " for ", " s"].
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# What an error is built with beside its first argument: shown behind it, and said by each call in its own words.
DETAILS = ("found", "expected", "cure")
# Texts of help and parameters, which are documented elsewhere.
DESCRIBED = ("ParameterSpec", "Argument", "Package", "DeclareLaunchArgument", "add_argument", "add_parser", "compile")
NOT_SHOWN = re.compile("HELP|SUMMARY")
LOGGED = {"info": 0, "warning": 0, "error": 0, "fatal": 0, "warn": 1, "frame_failed": 2}
LEAST_WORDS = 3


@dataclass(frozen=True)
class Message:
    """One message: where it is, and its fixed parts in their order."""

    place: str
    parts: tuple[str, ...]

    @property
    def words(self) -> str:
        """The message with ... for what changes."""
        return "...".join(self.parts)


def sentences(path: Path, name: str, within: str = "") -> Iterator[Message]:
    """Every text of a file that is a sentence: three words or more, no docstring and no description of a parameter.

    within: only those of the functions of this name.
    """
    whole = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(whole) if isinstance(node, ast.FunctionDef) and node.name == within]
    for tree in functions if within else [whole]:
        yield from _sentences(tree, name)


def _sentences(tree: ast.AST, name: str) -> Iterator[Message]:
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            skipped.update(id(child) for child in ast.iter_child_nodes(node))  # with all that is inside
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))  # a docstring
        elif isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and NOT_SHOWN.search(t.id) for t in node.targets
        ):
            skipped.add(id(node.value))
        elif isinstance(node, ast.Call) and called(node) in DESCRIBED:
            skipped.update(id(child) for child in ast.iter_child_nodes(node))
        elif isinstance(node, ast.Call) and called(node).endswith("Error"):
            skipped.update(id(keyword) for keyword in node.keywords if keyword.arg in DETAILS)
        elif parts := text_parts(node):
            skipped.update(id(child) for child in ast.iter_child_nodes(node))
            if len(" ".join(parts).split()) >= LEAST_WORDS:
                yield Message(f"{name}:{node.lineno}", parts)


def errors(path: Path, name: str) -> Iterator[Message]:
    """The first argument of every error that a file builds; of a helper that builds them, that of its calls."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    helpers: dict[str, int] = {}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            arguments = [argument.arg for argument in function.args.args]
            for call in calls(function):
                first = call.args[0] if call.args else None
                if called(call).endswith("Error") and isinstance(first, ast.Name) and first.id in arguments:
                    helpers[function.name] = arguments.index(first.id) - (arguments[0] == "self")
    for call in calls(tree):
        position = 0 if called(call).endswith("Error") else helpers.get(called(call))
        if position is not None and len(call.args) > position and (parts := text_parts(call.args[position])):
            yield Message(f"{name}:{call.lineno}", parts)
        if called(call) == "unknown_name":
            yield Message(f"{name}:{call.lineno}", (f"unknown {''.join(text_parts(call.args[0]))}",))


def log_lines(path: Path, name: str) -> Iterator[Message]:
    """The text of every call that logs."""
    for call in calls(ast.parse(path.read_text(encoding="utf-8"))):
        position = LOGGED.get(called(call))
        if position is not None and len(call.args) > position and (parts := text_parts(call.args[position])):
            yield Message(f"{name}:{call.lineno}", parts)


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Every call in a tree."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def called(call: ast.Call) -> str:
    """The last part of the name that is called."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def text_parts(node: ast.AST) -> tuple[str, ...]:
    """The fixed parts of a text; none for what is no text."""
    if isinstance(node, ast.Constant):
        return (node.value,) if isinstance(node.value, str) else ()
    if isinstance(node, ast.JoinedStr):
        return tuple(part.value for part in node.values if isinstance(part, ast.Constant) and part.value)
    return ()
