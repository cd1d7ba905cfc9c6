"""How commands print: JSON for machines, tables for people."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from lisard_ros.errors import UsageError


def to_json(value: Any) -> str:
    """Serialise dataclasses, a manifest's structs and what json knows, indented; NaN and infinity become null."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False)


def write_text(path: Path, text: str) -> None:
    """Write a result file; UsageError when it cannot be written."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            "cannot write the result",
            found=f"{path}: {error.strerror}",
            expected="a file in a folder that exists and is writable",
            cure="choose another file",
        ) from error


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out rows in columns, the first left-aligned, the others right-aligned."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "  ".join(_aligned(cell, width, n == 0) for n, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join(line.rstrip() for line in (lines[0], rule, *lines[1:]))


def _aligned(cell: str, width: int, left: bool) -> str:
    return cell.ljust(width) if left else cell.rjust(width)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {key: _plain(part) for key, part in asdict(value).items()}
    if hasattr(value, "__struct_fields__"):  # of msgspec, which `lisard doctor` must do without
        return {key: _plain(getattr(value, key)) for key in value.__struct_fields__}
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
