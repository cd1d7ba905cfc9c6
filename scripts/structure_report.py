"""Figures about the structure of the code, of one commit or several side by side.

    python3 scripts/structure_report.py                              # this checkout, uncommitted changes included
    python3 scripts/structure_report.py --ref 2cdd207 --ref HEAD     # before and after
    python3 scripts/structure_report.py --names                      # also which class names stand for several classes

Counted are the Python files of the three packages, by their syntax trees. Nothing is imported, so commits of any age
can be read. Standard library only. Exit status 2 for a usage error.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prose

ROOT = Path(__file__).resolve().parent.parent
# Import package -> the folder that holds it.
PACKAGES = {"lisard_ros": ".", "lisard_trainer": "trainer", "lisard_engines": "engines"}
NODE = "lisard_ros.node"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Graph = dict[str, set[str]]


@dataclass(frozen=True)
class Module:
    """One file. name: as it is imported (`__init__.py` has the name of its folder); lines: as `wc -l` counts."""

    name: str
    is_package: bool
    lines: int
    text: str
    tree: ast.Module

    @property
    def folder(self) -> str:
        """The package that it lies in, dotted."""
        return self.name if self.is_package else self.name.rpartition(".")[0]


def modules_of(root: Path) -> dict[str, Module]:
    """Name -> module, of all packages of a checkout that are there."""
    found = {}
    for package, place in PACKAGES.items():
        for file in sorted((root / place / package).rglob("*.py")):
            parts = file.relative_to(root / place).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            text = file.read_text(encoding="utf-8")
            found[name] = Module(name, is_package, text.count("\n"), text, ast.parse(text))
    return found


# Imports --------------------------------------------------------------------------------------------------------------


def import_graph(modules: Mapping[str, Module], everywhere: bool = False) -> Graph:
    """Module -> modules that it imports when it is imported itself; everywhere: also inside functions.

    What only type checkers import (`if TYPE_CHECKING:`) does not count. `from package import name` is an arrow to the
    module `package.name` if there is one, else to `package`.
    """
    return {name: set(_imported(module, modules, everywhere)) - {name} for name, module in modules.items()}


def _imported(module: Module, modules: Mapping[str, Module], everywhere: bool) -> Iterator[str]:
    for node in _statements(module.tree.body, everywhere):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            base = _base(module, node)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in modules or base in modules:
                    yield inner if inner in modules else base


def _base(module: Module, node: ast.ImportFrom) -> str:
    """What `from ... import` names, written out in full."""
    if not node.level:
        return node.module or ""
    parts = module.folder.split(".")
    return ".".join(parts[: len(parts) - node.level + 1] + ([node.module] if node.module else []))


def _statements(body: Sequence[ast.stmt], everywhere: bool) -> Iterator[ast.stmt]:
    """All statements, those inside functions only if `everywhere`, none of `if TYPE_CHECKING:`."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        if isinstance(node, FUNCTIONS) and not everywhere:
            continue
        for part in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(node, part, []), everywhere)
        for handler in getattr(node, "handlers", []):
            yield from _statements(handler.body, everywhere)


def circles(graph: Graph) -> list[list[str]]:
    """Groups of nodes of which each reaches all others (strongly connected components, Tarjan 1972), each sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            group, stack[at:] = stack[at:], []
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(found)


def folder_graph(graph: Graph, modules: Mapping[str, Module], top_apart: bool = False) -> Graph:
    """Folder -> folders whose modules its own import. A folder and the folders inside it are different ones.

    top_apart: each module at the top of an import package stands for itself, since the top is a facade and a ground
    floor at once: `cli` imports what imports `errors`.
    """

    def place(name: str) -> str:
        return name if top_apart and modules[name].folder in PACKAGES else modules[name].folder

    folders: Graph = defaultdict(set)
    for name, others in graph.items():
        folders[place(name)] |= {place(other) for other in others} - {place(name)}
    return dict(folders)


def room_arrows(graph: Graph, package: str) -> int:
    """Arrows between the rooms of a package: its direct sub-packages and its direct modules."""
    depth = package.count(".") + 1
    rooms = {
        (_room(a, depth), _room(b, depth))
        for a, others in graph.items()
        for b in others
        if a.startswith(f"{package}.") and b.startswith(f"{package}.")
    }
    return sum(a != b for a, b in rooms)


def _room(name: str, depth: int) -> str:
    return name.split(".")[depth]


# Names and functions --------------------------------------------------------------------------------------------------


def class_names(modules: Mapping[str, Module]) -> dict[str, list[str]]:
    """Class name -> modules with a class of that name, for names that stand for several classes."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, module in modules.items():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(name)
    return {name: places for name, places in sorted(found.items()) if len(places) > 1}


def count_classes(modules: Mapping[str, Module]) -> int:
    """All classes, those inside functions and classes too."""
    return sum(isinstance(node, ast.ClassDef) for module in modules.values() for node in ast.walk(module.tree))


def functions(modules: Mapping[str, Module]) -> list[tuple[int, str]]:
    """Lines of each function and method from `def` to its end, with its place; functions inside functions count too."""
    return sorted(
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{name}.{node.name}")
        for name, module in modules.items()
        for node in ast.walk(module.tree)
        if isinstance(node, FUNCTIONS)
    )


def private_helpers(modules: Mapping[str, Module]) -> tuple[int, int]:
    """Functions and methods with one leading underscore, and those of them that their module names exactly once."""
    count = once = 0
    for module in modules.values():
        used: Counter[str] = Counter()
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Name):
                used[node.id] += 1
            elif isinstance(node, ast.Attribute):
                used[node.attr] += 1
        names = [node.name for node in ast.walk(module.tree) if isinstance(node, FUNCTIONS)]
        helpers = [name for name in names if name.startswith("_") and not name.startswith("__")]
        count += len(helpers)
        once += sum(used[name] == 1 for name in helpers)
    return count, once


# The report -----------------------------------------------------------------------------------------------------------


def figures(root: Path) -> dict[str, Any]:
    """Name -> figure, of one checkout; lists under names that end with `:`."""
    modules = modules_of(root)
    graph, everywhere = import_graph(modules), import_graph(modules, everywhere=True)
    folders = folder_graph(everywhere, modules, top_apart=True)
    several, lengths = class_names(modules), functions(modules)
    lines = {
        package: sum(m.lines for name, m in modules.items() if name.split(".")[0] == package) for package in PACKAGES
    }
    helpers, once = private_helpers(modules)
    readme = (root / "README.md").read_text(encoding="utf-8")
    pages = prose.read(root, prose.guides(root))
    told, all_told = (prose.lengths(one) for one in (pages["README.md"], [s for page in pages.values() for s in page]))
    return {
        **{f"lines of {package}": count for package, count in lines.items()},
        "lines, all": sum(lines.values()),
        "modules": len(modules),
        "modules under 60 lines": sum(0 < module.lines < 60 and not module.is_package for module in modules.values()),
        "flat modules in lisard_trainer": sum(
            not m.is_package and m.folder == "lisard_trainer" for m in modules.values()
        ),
        "import circles of modules": len(circles(everywhere)),
        "import circles of modules:": circles(everywhere),
        "those at import time alone": len(circles(graph)),
        "those at import time alone:": circles(graph),
        "import circles of folders": len(circles(folders)),
        "import circles of folders:": circles(folders),
        "arrows between folders": sum(map(len, folder_graph(everywhere, modules).values())),
        "arrows between rooms of lisard_trainer": room_arrows(everywhere, "lisard_trainer"),
        "classes": count_classes(modules),
        "class names that stand for several": len(several),
        "class names that stand for several:": several,
        "classes under such names": sum(map(len, several.values())),
        "functions": len(lengths),
        "function lines, median": statistics.median(count for count, _ in lengths) if lengths else 0,
        "function lines, p90": lengths[-(-9 * len(lengths) // 10) - 1][0] if lengths else 0,
        "function lines, longest": lengths[-1][0] if lengths else 0,
        "function lines, longest:": [place for _, place in lengths[-1:]],
        "private helpers": helpers,
        "private helpers named once": once,
        "Callable[[ in node": sum(m.text.count("Callable[[") for n, m in modules.items() if n.startswith(NODE)),
        "words of the README": prose.word_count(readme),
        "README words a sentence, median": told.median,
        "README words a sentence, p90": told.p90,
        "README and guides, median": all_told.median,
        "README and guides, p90": all_told.p90,
    }


@contextmanager
def at(commit: str) -> Iterator[Path]:
    """A temporary folder with the files of a commit; UsageError if git knows no such commit."""
    words = ["git", "-C", str(ROOT), "archive", "--format=tar", commit]
    done = subprocess.run(words, capture_output=True)
    if done.returncode:
        raise UsageError(f"--ref {commit}: {done.stderr.decode(errors='replace').strip()}; give a commit")
    with tempfile.TemporaryDirectory(prefix="structure_") as folder:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


class UsageError(Exception):
    """The command line cannot be followed."""


def table(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """One row for each figure, one column for each commit; lists are left to `details`."""
    names = [name for name in next(iter(reports.values())) if not name.endswith(":")]
    rows = [["", *reports], *([name, *(f"{report[name]:g}" for report in reports.values())] for name in names)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def details(title: str, report: Mapping[str, Any]) -> Iterator[str]:
    """Lines with what the lists of a report hold."""
    for name, content in report.items():
        if name.endswith(":") and content:
            yield f"\n{title}, {name}"
            entries = content.items() if isinstance(content, Mapping) else enumerate(content, 1)
            yield from (f"  {key}: {_joined(value)}" for key, value in entries)


def _joined(value: Any) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def main(words: Sequence[str] | None = None) -> int:
    """Prints the figures; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--ref", action="append", default=[], metavar="COMMIT", help="a commit in place of this checkout; repeatable"
    )
    parser.add_argument(
        "--names", action="store_true", help="also list circles, repeated class names, longest function"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here, by commit")
    args = parser.parse_args(words)
    reports = {}
    try:
        for commit in args.ref:
            with at(commit) as folder:
                reports[commit] = figures(folder)
    except UsageError as error:
        print(f"structure_report: error: {error}", file=sys.stderr)
        return 2
    reports = reports or {"checkout": figures(ROOT)}
    print(table(reports))
    if args.names:
        print(*(line for title, report in reports.items() for line in details(title, report)), sep="\n")
    if args.json:
        args.json.write_text(json.dumps(reports, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
