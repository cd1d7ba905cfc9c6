"""Limits that a release must hold, and the one rule by which they are judged.

An accuracy holds a limit if the lower bound of its 95 % interval does, and only over enough independent blocks of
images; what is measured exactly, such as a latency, is judged by its value. Replay, `lisard attack run` and the node
use this.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from lisard_ros.errors import UsageError, nearest, one_line, unknown_name
from lisard_ros.evaluation.statistics import Percentiles, Proportion

LEAST_BLOCKS = 5
DEFAULT_BLOCK_S = 10.0  # frames of so many seconds are one block: a vehicle has left the scene by then
LATENCIES = ("p50_ms", "p95_ms", "p99_ms", "max_ms")
FAILED = "failed"
AGREEMENT_PREFIX = "agreement/"
LIVE_PREFIX = "live/"
FIGURES = (*LATENCIES, FAILED)  # of a self test as a whole, not of one of its cases
NOT_ENOUGH_EVIDENCE = "not enough evidence"


@dataclass(frozen=True, slots=True)
class Limit:
    """What a metric must reach, or for latencies, `failed` and live/METRIC must not exceed.

    metric: an injection or `clean` (accuracy), agreement/INJECTION, one of LATENCIES (of clean answers), FAILED (the
    share of frames without an answer), or live/METRIC (a share of the frames that were played through a node). value: a
    share in [0, 1], or milliseconds.
    """

    metric: str
    value: float

    @property
    def is_latency(self) -> bool:
        """Whether the value is in milliseconds."""
        return self.metric in LATENCIES

    @property
    def is_upper(self) -> bool:
        """Whether the value must not be exceeded."""
        return self.is_latency or self.metric == FAILED or self.metric.startswith(LIVE_PREFIX)

    def __str__(self) -> str:
        """METRIC>=VALUE or METRIC<=VALUE."""
        return f"{self.metric}{'<=' if self.is_upper else '>='}{self.value:g}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a limit holds. judged: the number compared with it, NaN where there is none. where: camera and backend.

    reason: why it does not hold, '' where it does.
    """

    metric: str
    limit: float
    where: str
    judged: float
    passed: bool
    reason: str

    def __str__(self) -> str:
        """One line for people."""
        where = f" on {self.where}" if self.where else ""
        return f"{Limit(self.metric, self.limit)}{where}: {'holds' if self.passed else f'BROKEN: {self.reason}'}"


def parse(words: str) -> tuple[Limit, ...]:
    """Read METRIC=VALUE,METRIC=VALUE,... or a YAML or JSON file of such pairs.

    Args:
        words: The pairs, or the path of a file: what has no `=` is a path.

    Raises:
        UsageError: No pair, a metric twice, or a value that is no number or out of range.

    Examples:
        >>> [str(limit) for limit in parse("clean=0.8,p95_ms=50")]
        ['clean>=0.8', 'p95_ms<=50']
    """
    if "=" in words:
        parts = [word.rpartition("=") for word in words.split(",") if word.strip()]
        pairs = [(name.strip(), value.strip()) for name, _, value in parts]
    else:
        pairs = _of_file(Path(words))
    if not pairs:
        raise UsageError("limits", found=repr(words), expected="METRIC=VALUE,..., or a file of METRIC: VALUE")
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError("limits", found=f"{twice} twice", expected="each metric once")
    return tuple(_limit(name, value) for name, value in pairs)


def _of_file(path: Path) -> list[tuple[str, str]]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(
            f"limits {path}",
            found=getattr(error, "strerror", None) or one_line(error),
            expected="METRIC=VALUE,..., or a YAML or JSON file",
            cure="check the path, or write the limits out: --limits clean=0.8,p95_ms=50",
        ) from error
    if not isinstance(content, dict):
        raise UsageError(f"limits {path}", found=type(content).__name__, expected="pairs of METRIC: VALUE")
    return [(str(name), str(value)) for name, value in content.items()]


def _limit(metric: str, text: str) -> Limit:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    latency = metric in LATENCIES
    if not (0 < value < math.inf if latency else 0 <= value <= 1):
        expected = "milliseconds above 0" if latency else "a share from 0 to 1"
        guess = None if latency else nearest(metric, LATENCIES)
        cure = f"did you mean '{guess}', in milliseconds?" if guess else "such as clean=0.8,p95_ms=50"
        raise UsageError(f"the limit of {metric or 'no metric'}", found=repr(text), expected=expected, cure=cure)
    return Limit(metric, value)


def require_known(limits: Iterable[Limit], metrics: Sequence[str]) -> None:
    """Refuse limits of metrics that are not measured, with the nearest name."""
    for limit in limits:
        if limit.metric not in metrics:
            raise unknown_name("metric of a limit", limit.metric, metrics)


def judge_share(limit: Limit, share: Proportion, blocks: int, where: str = "", by_image: bool = False) -> Verdict:
    """Judge an accuracy or agreement by the lower bound of its interval.

    Args:
        limit: The least share.
        share: What was measured, with an interval that allows for the blocks.
        blocks: How many independent blocks it was measured over.
        where: Camera and backend, for the verdict.
        by_image: The user vouches that images are independent, so that few blocks are no obstacle.
    """
    reason = ""
    if not share.n:
        reason = "no data"
    elif not limit.value:
        reason = ""  # it is only measured
    elif blocks < LEAST_BLOCKS and not by_image:
        reason = f"{NOT_ENOUGH_EVIDENCE}: {share} in {blocks} independent blocks, {LEAST_BLOCKS} are needed"
    elif share.low < limit.value:
        reason = f"the lower bound of {share} is below {100 * limit.value:g} %"
    return Verdict(limit.metric, limit.value, where, share.low, not reason, reason)


def judge_most(limit: Limit, value: float, where: str = "") -> Verdict:
    """Judge what must not exceed its limit, by its value; NaN (nothing was measured) does not hold."""
    unit = " ms" if limit.is_latency else ""
    reason = "no data" if math.isnan(value) else f"{value:.4g}{unit}" if value > limit.value else ""
    return Verdict(limit.metric, limit.value, where, value, not reason, reason)


def judge_latency(limit: Limit, measured: Percentiles, where: str = "") -> Verdict:
    """Judge one of LATENCIES."""
    return judge_most(limit, float(getattr(measured, limit.metric)), where)
