"""The choice of a backend: by policy, announced, never silently another one."""

from __future__ import annotations

import os
from typing import Any

import pytest

from lisard_ros import backends
from lisard_ros.errors import BackendError, UsageError


def test_auto_says_what_it_took_and_why(tiny: Any) -> None:
    choice = backends.choose(tiny.classifier(), threads=1)
    assert choice.backend.name == "onnxruntime" and choice.reason.startswith("auto: ONNX Runtime")


def test_a_name_is_obeyed(tiny: Any) -> None:
    assert backends.choose(tiny.classifier(), "onnxruntime", 1).reason == "onnxruntime: asked for by name"


def test_an_unknown_policy_is_answered_with_the_nearest(tiny: Any) -> None:
    with pytest.raises(UsageError, match="found 'onnxruntme', .*did you mean 'onnxruntime'"):
        backends.choose(tiny.classifier(), "onnxruntme")


@pytest.mark.parametrize("threads", [-1, backends.MAX_THREADS + 1])
def test_an_impossible_number_of_threads_is_refused(tiny: Any, threads: int) -> None:
    with pytest.raises(UsageError, match=f"found {threads}"):
        backends.choose(tiny.classifier(), threads=threads)


def test_a_bundle_without_a_pytorch_model_is_never_answered_by_another_backend(tiny: Any) -> None:
    with pytest.raises(BackendError, match="has no PyTorch model: .*; use backend onnxruntime"):
        backends.choose(tiny.classifier(), "torch")


def test_every_core_is_used_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 2), (4, 4), (64, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        assert backends.default_threads() == threads
