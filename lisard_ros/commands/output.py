"""How commands print and write: JSON for machines, tables for people, progress; paths are tried before the work."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from lisard_ros.errors import UsageError

REPORT_EVERY_S = 10.0
# A list of numbers that json laid out one a line; no string holds a line break.
_NUMBERS = re.compile(r"\[\n\s+-?[\d.eE+-]+(?:,\n\s+-?[\d.eE+-]+)*\n\s+\]")
_ARRAY = re.compile(r'"\\u0000array (\d+)"')  # the mark of a long array, in whose place its numbers go

Kind = Literal["file", "deep file", "folder", "bundle"]
_WRITTEN: dict[Kind, tuple[str, str]] = {
    "file": ("the result to", "a file in a folder that exists and is writable"),
    "deep file": ("the result to", "a file in a folder that exists or can be made"),
    "folder": ("to", "a folder that exists or can be made, and is writable"),
    "bundle": ("the bundle to", "a place in a folder that exists or can be made, and is writable"),
}


@dataclass(frozen=True, slots=True)
class OutputPath:
    """A path that a command is going to write.

    option: what the user calls it. kind: `file` in a folder that exists; `deep file`, whose folders are made; `folder`,
    made together with those above it, for files inside it; `bundle`, a folder that is written beside its place and then
    takes it.
    """

    option: str
    path: Path
    kind: Kind = "file"


def try_outputs(*outputs: OutputPath | None) -> None:
    """Try to write where a command will write, before it works for minutes; leaves nothing behind.

    Args:
        outputs: The paths; None for one that the user did not ask for.

    Raises:
        UsageError: A path cannot be written, or is given twice.
    """
    wanted = [output for output in outputs if output is not None]
    for number, output in enumerate(wanted):
        real, is_device = os.path.realpath(output.path), output.path.is_char_device()
        same = next((one for one in wanted[:number] if os.path.realpath(one.path) == real and not is_device), None)
        if same is not None:
            raise UsageError(
                f"{same.option} and {output.option} have the same path",
                found=output.path,
                expected="a path for each",
                cure="choose another path for one of them",
            )
        what, expected = _WRITTEN[output.kind]
        try:
            _try(output)
        except OSError as error:
            raise UsageError(
                f"cannot write {what} {output.option}",
                found=f"{output.path}: {error.strerror}",
                expected=expected,
                cure="choose another path",
            ) from error


def _try(output: OutputPath) -> None:
    path = Path(os.path.realpath(output.path))  # of a link to a file that is not there yet
    if output.kind in ("folder", "bundle"):
        _try_folder(path if output.kind == "folder" else path.parent)
    elif output.kind == "deep file" and not path.parent.exists():
        _try_folder(path.parent)
    elif not path.exists():
        with path.open("xb"):
            path.unlink()
    elif path.is_file() or path.is_dir():  # a terminal or a pipe is not opened: that would already be writing
        with path.open("ab"):
            pass


def _try_folder(folder: Path) -> None:
    """Write into the folder, or into the nearest one above it that exists."""
    nearest = next(above for above in (folder, *folder.parents) if above.exists())
    with tempfile.TemporaryFile(dir=nearest):
        pass


@contextmanager
def progress(total: int, what: str, unit: str) -> Iterator[Callable[[], None]]:
    """Show on stderr how far a long run is: a bar on a terminal, else a line every REPORT_EVERY_S seconds.

    Args:
        total: How many steps there are; 0 if nobody knows.
        what: What is done, such as `replay on onnxruntime`.
        unit: What a step is, such as `frame`.

    Yields:
        A function to call after each step.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm  # only here: `lisard doctor` must do without it

        with tqdm(total=total or None, unit=unit, desc=what) as bar:

            def advance() -> None:
                bar.update()

            yield advance
        return
    done, last = 0, time.monotonic()

    def step() -> None:
        nonlocal done, last
        done += 1
        if time.monotonic() - last >= REPORT_EVERY_S:
            last = time.monotonic()
            print(f"lisard: {what}: {done} {f'of {total} ' if total else ''}{unit}s", file=sys.stderr, flush=True)

    yield step


def to_json(value: Any) -> str:
    r"""Serialise dataclasses, a manifest's structs and what json knows, indented; NaN and infinity become null.

    Characters that the terminal cannot show, and file names that are no valid text, are written as \uXXXX.
    """
    arrays: list[array[Any]] = []
    plain = _plain(value, arrays)
    text = _NUMBERS.sub(lambda found: " ".join(found[0].split()), json.dumps(plain, indent=2, ensure_ascii=False))
    try:
        for encoding in ("utf-8", sys.stdout.encoding or "utf-8"):
            text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(plain, indent=2)
    return _ARRAY.sub(lambda found: _one_line(arrays[int(found[1])]), text)


def write_text(path: Path, text: str) -> None:
    """Write a result file whole: what was there stays until all of it is written.

    Raises:
        UsageError: It cannot be written.
    """
    target = Path(os.path.realpath(path))
    partial = target.with_name(f".lisard_{os.getpid()}.partial")
    # Nothing can take the place of a terminal or a pipe, or be written beside a file in a folder of somebody else.
    in_place = not (target.is_file() or not target.exists()) or not os.access(target.parent, os.W_OK)
    try:
        if in_place:
            target.write_text(text, encoding="utf-8")
            return
        try:
            partial.write_text(text, encoding="utf-8")
            if target.exists():
                shutil.copymode(target, partial)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            "cannot write the result",
            found=f"{path}: {error.strerror}",
            expected="a folder that exists and is writable, and room in it",
            cure="make room there, or choose another file",
        ) from error


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out rows in columns, the first left-aligned, the others right-aligned."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for row in cells:
        padded = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *padded[1:]]))
    rule = "  ".join("-" * width for width in widths)
    return "\n".join(line.rstrip() for line in (lines[0], rule, *lines[1:]))


def _one_line(numbers: array[Any]) -> str:
    return f"[ {', '.join(map(str, numbers))} ]" if numbers else "[]"


def _plain(value: Any, arrays: list[array[Any]]) -> Any:
    """Return what json knows. Arrays of whole numbers, which may be long, go to `arrays`; their place is marked."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name), arrays) for one in fields(value)}
    if hasattr(value, "__struct_fields__"):  # of msgspec, which `lisard doctor` must do without
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        return {key: _plain(getattr(value, name), arrays) for key, name in names}
    if isinstance(value, dict):
        return {str(key): _plain(part, arrays) for key, part in value.items()}
    if isinstance(value, array):
        if value.typecode in "fd":
            return [_plain(number, arrays) for number in value]
        arrays.append(value)
        return f"\0array {len(arrays) - 1}"
    if isinstance(value, (list, tuple)):
        return [_plain(part, arrays) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
