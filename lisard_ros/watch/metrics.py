"""The board as metrics for Prometheus, by its own client library."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lisard_ros.statuses import StatusView
from lisard_ros.watch.board import Board
from lisard_ros.watch.views import QUANTILES, CameraCard

OUTCOMES = ("answered", "replaced", "too_old", "failed", "lost_in_transport")
COPIES = ("replaced", "answered", "not_applicable", "no_regions", "failed")
STAGES = ("wait", "decode", "preprocess", "infer", "postprocess", "publish", "total")
INJECTION, SELF_TEST = "injection", "self_test"


def text(board: Board) -> bytes:
    """Return the page that Prometheus reads, in its text format 0.0.4."""
    registry = CollectorRegistry()
    registry.register(_BoardCollector(board))
    return generate_latest(registry)


class _BoardCollector(Collector):
    """Reads the board at the moment of the request."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        page, _ = self._board.view()
        yield GaugeMetricFamily("lisard_up", "1 while the perception node reports", value=float(page.alive))
        yield from _of_cameras(page.cameras)
        statuses = {status.name: status for status in page.statuses}
        levels = GaugeMetricFamily("lisard_status_level", "0 ok, 1 warning, 2 error", labels=["status"])
        for status in (*page.statuses, *(camera.status for camera in page.cameras)):
            levels.add_metric([status.name], status.level)
        yield levels
        if INJECTION in statuses:
            yield from _of_injection(statuses[INJECTION])
        passed = statuses[SELF_TEST].value("passed") if SELF_TEST in statuses else ""
        if passed:
            help_text = "1 if the last self test passed"
            yield GaugeMetricFamily("lisard_self_test_passed", help_text, value=float(passed == "1"))


def _of_cameras(cameras: tuple[CameraCard, ...]) -> Iterator[Metric]:
    frames = CounterMetricFamily("lisard_frames", "Images by what became of them", labels=["camera", "outcome"])
    rates = GaugeMetricFamily("lisard_rate_hz", "Answers per second", labels=["camera"])
    latency = GaugeMetricFamily(
        "lisard_latency_ms", "Percentiles of the last answers, by stage", labels=["camera", "stage", "quantile"]
    )
    for camera in cameras:
        values = dict(camera.status.values)
        for outcome in OUTCOMES:
            if outcome in values:
                frames.add_metric([camera.name, outcome], float(values[outcome]))
        if "rate_hz" in values:
            rates.add_metric([camera.name], float(values["rate_hz"]))
        for stage in STAGES:
            for name, quantile in QUANTILES.items():
                if (key := f"{stage}_{name}_ms") in values:
                    latency.add_metric([camera.name, stage, str(quantile)], float(values[key]))
    yield from (frames, rates, latency)


def _of_injection(status: StatusView) -> Iterator[Metric]:
    on = float(status.value("enabled") == "true")
    yield GaugeMetricFamily("lisard_injection_enabled", "1 while injection is on", value=on)
    copies = CounterMetricFamily("lisard_injected_copies", "Attacked copies by what became of them", labels=["outcome"])
    for outcome in COPIES:
        if status.value(outcome):
            copies.add_metric([outcome], float(status.value(outcome)))
    yield copies
