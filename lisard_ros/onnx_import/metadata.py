"""What the metadata of an ONNX file hold, as the package ultralytics writes them: task, labels, size, licence.

The values are Python literals in text: names "{0: 'person', 1: 'car'}", imgsz "[640, 640]" (height, width).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_LITERAL_CHARACTERS = 1 << 20  # thousands of labels; longer text is none that an exporter wrote


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the metadata hold; None or '' where they hold nothing.

    task: in the words of the file, such as `detect`. labels: in the order of the model's classes. size_px: width and
    height. batch: images that the export was made for. package: what wrote the file. unread: keys whose values could
    not be read.
    """

    task: str | None = None
    labels: tuple[str, ...] | None = None
    size_px: tuple[int, int] | None = None
    stride_px: int | None = None
    batch: int | None = None
    package: str = ""
    licence: str = ""
    attribution: str = ""
    unread: tuple[str, ...] = ()


def read_facts(metadata: Mapping[str, str]) -> FileFacts:
    """Read the metadata of an ONNX file.

    Args:
        metadata: Key to text, as ONNX Runtime gives them.

    Returns:
        The facts. What cannot be read counts as missing and is named in `unread`.
    """
    values = {key: _literal(metadata[key]) for key in ("names", "imgsz", "stride", "batch") if metadata.get(key)}
    labels, size_px = _labels(values.get("names")), _size(values.get("imgsz"))
    stride_px, batch = _count(values.get("stride")), _count(values.get("batch"))
    read = {"names": labels, "imgsz": size_px, "stride": stride_px, "batch": batch}
    described = metadata.get("description", "").strip()
    author = metadata.get("author", "").strip()
    return FileFacts(
        task=metadata.get("task", "").strip().lower() or None,
        labels=labels,
        size_px=size_px,
        stride_px=stride_px,
        batch=batch,
        package="ultralytics" if "ultralytics" in f"{described} {author}".lower() else "",
        licence=metadata.get("license", "").strip(),
        attribution=", ".join(filter(None, (described, author))),
        unread=tuple(key for key in values if read[key] is None),
    )


def unique(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Number labels that repeat: ImageNet has two classes `crane`, and a bundle tells its classes by their labels."""
    given, numbered = set(labels), []
    seen: set[str] = set()
    for label in labels:
        name, number = label, 2
        while name in seen or (name != label and name in given):
            name, number = f"{label}_{number}", number + 1
        seen.add(name)
        numbered.append(name)
    return tuple(numbered)


def _literal(text: str) -> Any:
    if len(text) > MAX_LITERAL_CHARACTERS:
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _labels(value: Any) -> tuple[str, ...] | None:
    """A dict from 0, 1, ... to names, or a list of names; None for anything else."""
    if isinstance(value, dict):
        try:
            named = {int(key): name for key, name in value.items()}
        except (TypeError, ValueError):
            return None
        if sorted(named) != list(range(len(named))):
            return None
        value = [named[index] for index in range(len(named))]
    if not isinstance(value, (list, tuple)) or not value:
        return None
    words = tuple(word.strip() for word in value if isinstance(word, str))
    return words if len(words) == len(value) and all(words) else None


def _size(value: Any) -> tuple[int, int] | None:
    """[height, width], or one number for a square."""
    sides = [value, value] if isinstance(value, int) else value
    if not isinstance(sides, (list, tuple)) or len(sides) != 2 or not all(_count(side) for side in sides):
        return None
    return sides[1], sides[0]


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
