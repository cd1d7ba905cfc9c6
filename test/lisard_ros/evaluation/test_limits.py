"""Limits: how they are written, and that an accuracy needs evidence to hold one."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lisard_ros.errors import UsageError
from lisard_ros.evaluation import limits
from lisard_ros.evaluation.limits import Limit, judge_latency, judge_most, judge_share
from lisard_ros.evaluation.statistics import clustered_counts, percentiles, proportion


def test_words_and_files(tmp_path: Path) -> None:
    wanted = (Limit("clean", 0.8), Limit("corruption/fog/3", 0.5), Limit("p95_ms", 50))
    assert limits.parse("clean=0.8, corruption/fog/3=0.5,p95_ms=50,") == wanted
    (tmp_path / "limits.yaml").write_text("clean: 0.8\ncorruption/fog/3: 0.5\np95_ms: 50\n")
    (tmp_path / "limits.json").write_text(json.dumps({"clean": 0.8, "corruption/fog/3": 0.5, "p95_ms": 50}))
    assert limits.parse(str(tmp_path / "limits.yaml")) == limits.parse(str(tmp_path / "limits.json")) == wanted


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("clean=80", "found '80', expected a share from 0 to 1"),
        ("clean=x", "expected a share"),
        ("clean=nan", "expected a share"),
        ("p95_ms=0", "expected milliseconds above 0"),
        ("p95_ms=inf", "expected milliseconds"),
        ("clean=0.5,clean=0.6", "clean twice"),
        ("=0.5", "the limit of no metric|unknown"),
        ("none.yaml", "limits none.yaml: found"),
        ("clean=0.5,noise", "the limit of no metric"),
    ],
)
def test_limits_that_cannot_be_used(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        limits.require_known(limits.parse(words), ["clean", "noise"])


@pytest.mark.parametrize("text", ["[1]", "a: {", "", "clean: [1]"])
def test_files_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    (tmp_path / "limits.yaml").write_text(text)
    with pytest.raises(UsageError, match="limit"):
        limits.parse(str(tmp_path / "limits.yaml"))


def test_an_unknown_metric_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown metric of a limit: found 'nosie'.*did you mean 'noise'"):
        limits.require_known([Limit("nosie", 0.5)], ["clean", "noise"])


def test_an_accuracy_is_judged_by_its_lower_bound() -> None:
    """Regression: 87.5 % [64.0, 96.5] of 16 held a limit of 81.2 %."""
    verdict = judge_share(Limit("clean", 0.812), proportion(14, 16), 16)
    assert not verdict.passed and verdict.reason == "the lower bound of 87.5 % [64.0, 96.5] n=16 is below 81.2 %"
    assert str(verdict).startswith("clean>=0.812: BROKEN: the lower bound")
    assert judge_share(Limit("clean", 0.63), proportion(14, 16), 16).passed


def test_few_blocks_are_not_enough_evidence() -> None:
    share = clustered_counts([100] * 4, [100] * 4, range(4))
    verdict = judge_share(Limit("clean", 0.2), share, 4)
    assert not verdict.passed and verdict.reason.startswith("not enough evidence: 100.0 %")
    assert judge_share(Limit("clean", 0.2), share, 4, by_image=True).passed
    assert judge_share(Limit("clean", 0.2), share, 5).passed
    assert judge_share(Limit("clean", 0.2), proportion(0, 0), 9).reason == "no data"


def test_latency_is_judged_by_its_value() -> None:
    measured = percentiles([1.0, 2.0, 3.0])
    assert judge_latency(Limit("p50_ms", 2.0), measured).passed
    assert judge_latency(Limit("max_ms", 2.9), measured).reason == "3 ms"
    assert not judge_latency(Limit("p50_ms", 2.0), percentiles([])).passed
    assert judge_most(Limit("failed", 0.1), 0.2).reason == "0.2" and not judge_most(Limit("failed", 1), math.nan).passed
