"""The version of the code behind a kept result: a hash of what its modules do, comments and docstrings left out."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
from pathlib import Path

import torch

_DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@functools.cache
def of(*modules: str, packages: tuple[str, ...] = ()) -> str:
    """Hash over the named modules of ours (their sub-modules included), the release of torch and those of packages."""
    digest = hashlib.sha256(torch.__version__.encode())
    for package in packages:
        digest.update(f"{package} {importlib.import_module(package).__version__}".encode())
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(module)
        folders = spec.submodule_search_locations or ()
        inside = sorted(path for folder in folders for path in Path(folder).rglob("*.py"))
        for path in inside or [Path(spec.origin)]:
            digest.update(path.name.encode() + meaning(path.read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:16]


def meaning(source: str) -> str:
    """The syntax tree without docstrings: the same for two sources that do the same line by line."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)
