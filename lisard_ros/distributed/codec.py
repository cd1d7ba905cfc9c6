"""What a replay in slices keeps and sends, as bytes: msgpack of plain values and known classes, nothing unpickled."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec

from lisard_ros.bags.blocks import BlockRule, FrameLog
from lisard_ros.bags.evaluation_state import (
    CameraState,
    Cell,
    Condition,
    EvaluationState,
    MatrixModelInfo,
    Numbering,
    ThingAnswers,
    Things,
)
from lisard_ros.bags.labels import Truth
from lisard_ros.bags.report import FrameFailure
from lisard_ros.bags.tracks import Track, TrackedBox
from lisard_ros.distributed.plan import FrameSlice, SliceResult
from lisard_ros.evaluation.average_precision import Ranked
from lisard_ros.evaluation.latency_histogram import LatencyHistogram
from lisard_ros.frames import Region
from lisard_ros.reporting.album import Example
from lisard_ros.reporting.display import FrameImage, Overlay

_KNOWN: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        BlockRule,
        CameraState,
        Cell,
        Condition,
        EvaluationState,
        Example,
        FrameFailure,
        FrameImage,
        FrameLog,
        FrameSlice,
        LatencyHistogram,
        MatrixModelInfo,
        Numbering,
        Overlay,
        Ranked,
        Region,
        SliceResult,
        ThingAnswers,
        Things,
        Track,
        TrackedBox,
        Truth,
    )
}

DAMAGED = (msgspec.DecodeError, LookupError, TypeError, ValueError, RecursionError)  # what `unpack` raises


def pack(value: Any) -> bytes:
    """Return a value as bytes."""
    return msgspec.msgpack.encode(_plain(value))


def unpack(data: bytes) -> Any:
    """Return the value that `pack` was given; one of DAMAGED for other bytes."""
    return _restored(msgspec.msgpack.decode(data))


def _plain(value: Any) -> Any:
    """Turn a value into what msgpack knows; lists that begin with a tag stand for everything else."""
    if isinstance(value, array):
        return ["array", value.typecode, value.tobytes()]
    if isinstance(value, Counter):
        return ["counter", [[_plain(key), count] for key, count in value.items()]]
    if isinstance(value, Mapping):
        return ["dict", [[_plain(key), _plain(one)] for key, one in value.items()]]
    if isinstance(value, tuple):
        return ["tuple", [_plain(one) for one in value]]
    if isinstance(value, list):
        return ["list", [_plain(one) for one in value]]
    if is_dataclass(value):
        name = type(value).__name__
        return ["object", name, [[one.name, _plain(getattr(value, one.name))] for one in fields(value)]]
    return value


def _restored(value: Any) -> Any:
    """Return the value that `_plain` was given; LookupError, TypeError or ValueError for anything else."""
    if not isinstance(value, list):
        return value
    tag, *content = value
    if tag == "array":
        made: array[Any] = array(content[0])
        made.frombytes(content[1])
        return made
    if tag == "counter":
        return Counter({_restored(key): count for key, count in content[0]})
    if tag == "dict":
        return {_restored(key): _restored(one) for key, one in content[0]}
    if tag in ("tuple", "list"):
        items = [_restored(one) for one in content[0]]
        return tuple(items) if tag == "tuple" else items
    if tag != "object":
        raise ValueError(f"unknown tag {tag!r}")
    values = {name: _restored(one) for name, one in content[1]}
    return _KNOWN[content[0]](**values)
