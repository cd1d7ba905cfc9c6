"""Limits against what a replay found: every camera and backend that a limit concerns must hold it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lisard_ros.bags import live
from lisard_ros.bags.blocks import FRAME
from lisard_ros.bags.report import ACCURACY, AGREEMENT, CameraResult, Replay
from lisard_ros.evaluation.limits import (
    AGREEMENT_PREFIX,
    FAILED,
    LATENCIES,
    LIVE_PREFIX,
    Limit,
    Verdict,
    judge_latency,
    judge_most,
    judge_share,
)
from lisard_ros.injection import CLEAN


def metrics(injections: Sequence[str], is_live: bool = False) -> tuple[str, ...]:
    """Return the metrics that limits of a replay may name.

    Args:
        injections: Names besides `clean`.
        is_live: The recording is also played through a node.
    """
    names = (CLEAN, *injections)
    of_node = [LIVE_PREFIX + name for name in live.METRICS] if is_live else ()
    return (*names, *(AGREEMENT_PREFIX + name for name in names), *LATENCIES, FAILED, *of_node)


def judge(report: Replay, limits: Sequence[Limit]) -> tuple[Verdict, ...]:
    """Judge all limits, in their order; one verdict for each camera and backend that a limit concerns."""
    return tuple(verdict for limit in limits for verdict in _verdicts(report, limit))


def _verdicts(report: Replay, limit: Limit) -> Iterator[Verdict]:
    several = len({(row.topic, row.model) for row in report.rows}) > 1

    def where(row: CameraResult) -> str:
        return f"{row.topic}, {report.titles[row.model]}" if several else ""

    clean = [row for row in report.rows if row.injection == CLEAN]
    if limit.metric in LATENCIES:
        yield from (judge_latency(limit, row.latency["total"], where(row)) for row in clean)
        return
    if limit.metric.startswith(LIVE_PREFIX):
        cameras = report.live.cameras if report.live is not None else ()
        share = limit.metric.removeprefix(LIVE_PREFIX)
        yield from (judge_most(limit, one.share(share), one.topic if len(cameras) > 1 else "") for one in cameras)
        return
    if limit.metric == FAILED:
        yield from (judge_most(limit, sum(row.failed.values()) / row.frames, where(row)) for row in clean)
        return
    name = limit.metric.removeprefix(AGREEMENT_PREFIX)
    kind = AGREEMENT if name != limit.metric else ACCURACY
    of_name = [row for row in report.rows if row.injection == name]
    judged = [row for row in of_name if row.judged == kind]
    for row in judged:
        yield judge_share(limit, row.score, row.blocks, where(row), by_image=report.by == FRAME)
    if not judged:
        labels = "the recording has no labels" if kind == ACCURACY else f"{name} is judged by {_kinds(of_name)}"
        yield Verdict(limit.metric, limit.value, "", float("nan"), False, f"no {kind} was measured: {labels}")


def _kinds(rows: Sequence[CameraResult]) -> str:
    return ", ".join(dict.fromkeys(row.judged for row in rows)) or "nothing"
