"""Cameras share a batch only where that was measured to be faster; the times are kept, and measured again when lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from lisard_ros.backends import Choice, engine_cache
from lisard_ros.backends.onnx_runtime import OnnxRuntime
from lisard_ros.inference import batching
from lisard_ros.inference.pipeline import Pipeline, open_pipeline


class Slow:
    """A backend that takes `fixed_s` for each call and `each_s` for each image of a clock by hand; counts its calls."""

    now_s = 0.0
    name, description, warnings = "slow", "slow 1", ()

    def __init__(self, fixed_s: float, each_s: float) -> None:
        self._fixed_s, self._each_s, self.calls = fixed_s, each_s, 0

    def infer(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        self.calls += 1
        Slow.now_s += self._fixed_s + self._each_s * len(x)
        return np.zeros((len(x), 3), np.float32)

    def close(self) -> None:
        """Nothing to free."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache; times are those of `Slow`."""
    monkeypatch.setattr(batching.time, "perf_counter", lambda: Slow.now_s)
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"


def pipeline(tiny: Any, backend: Slow, halved: Slow | None = None) -> Pipeline:
    return Pipeline(tiny.classifier(), Choice(backend, "given", halved=halved))


GPU, CPU = (0.1, 0.0), (0.0, 0.03)


def test_a_batch_that_costs_as_much_as_one_image_is_shared(tiny: Any, cache: Path) -> None:
    choice = batching.choose(pipeline(tiny, Slow(*GPU)), 4)
    assert choice.images == 4 and choice.reason.startswith("cameras share a batch: ")
    assert batching.choose(pipeline(tiny, Slow(*GPU)), 30).images == batching.MOST_IMAGES


def test_a_batch_that_costs_as_much_as_its_images_is_not_shared(tiny: Any, cache: Path) -> None:
    assert batching.choose(pipeline(tiny, Slow(*CPU)), 4).images == 1


@pytest.mark.parametrize(("each_s", "side_by_side"), [(0.02, True), (0.03, True), (0.04, False)])
def test_frames_that_wait_are_answered_side_by_side_where_that_is_no_slower(
    tiny: Any, cache: Path, each_s: float, side_by_side: bool
) -> None:
    """The clock by hand counts both calls one after the other, so this is the time of a pair for each image."""
    for cameras in (1, 4):
        choice = batching.choose(pipeline(tiny, Slow(*CPU), Slow(0.0, each_s)), cameras)
        assert (choice.images, choice.side_by_side) == (1, side_by_side)
        assert f"{each_s * 1e3:.1f} ms each side by side" in choice.reason
        rested_ms = pytest.approx([30.0, each_s * 1e3] if side_by_side else [0.0, 0.0])
        assert [choice.rested_ms, choice.rested_half_ms] == rested_ms


def test_a_batch_that_is_faster_than_side_by_side_is_shared(tiny: Any, cache: Path) -> None:
    choice = batching.choose(pipeline(tiny, Slow(*GPU), Slow(*GPU)), 4)
    assert (choice.images, choice.side_by_side) == (4, False)


def test_one_camera_is_not_measured(tiny: Any, cache: Path) -> None:
    backend = Slow(*GPU)
    assert batching.choose(pipeline(tiny, backend), 1) == batching.BatchChoice(1, "one camera")
    assert backend.calls == 0 and not cache.exists()


def test_times_are_measured_once_for_each_machine_model_and_number_of_cameras(tiny: Any, cache: Path) -> None:
    first, again, other = Slow(*GPU), Slow(*CPU), Slow(*CPU)
    other.description = "slow 2"
    batching.choose(pipeline(tiny, first), 4)
    assert batching.choose(pipeline(tiny, again), 4).images == 4 and again.calls == 0, "from the cache"
    assert batching.choose(pipeline(tiny, other), 4).images == 1 and other.calls > 0
    assert batching.choose(pipeline(tiny, again), 2).images == 1 and again.calls > 0


def test_the_model_for_frames_side_by_side_is_loaded_only_where_it_is_measured_or_used(
    tiny: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    bundle = tiny.classifier()
    halved = OnnxRuntime.halved

    def counted(backend: OnnxRuntime) -> OnnxRuntime:
        opened.append(1)
        return halved(backend)

    monkeypatch.setattr(OnnxRuntime, "halved", counted)
    for pair_ms, loads in ((2.0, 1), (9.0, 0)):
        one = open_pipeline(bundle, backend="onnxruntime", threads=2)
        file = batching._file(one, 1, True)
        times = batching.BatchTimes(
            images=1, alone_ms=2.0, batch_ms=2.0, pair_ms=pair_ms, rested_ms=3.0, rested_half_ms=2.0
        )
        engine_cache.keep(file, msgspec.json.encode(times))
        opened.clear()
        assert batching.choose(one, 1).side_by_side == bool(loads)
        assert len(opened) == loads and (one.choice.halved is not None) == bool(loads)
        file.unlink()
        batching.choose(one, 1)
        assert len(opened) == 1, "measured"
        one.close()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1, 2]", b'{"images": 4, "alone_ms": "x", "batch_ms": 1}'])
def test_a_damaged_cache_is_measured_again(tiny: Any, cache: Path, content: bytes) -> None:
    batching.choose(pipeline(tiny, Slow(*GPU)), 4)
    (file,) = (cache / "batches").iterdir()
    file.write_bytes(content)
    backend = Slow(*CPU)
    assert batching.choose(pipeline(tiny, backend), 4).images == 1 and backend.calls > 0
    assert batching.choose(pipeline(tiny, Slow(*GPU)), 4).images == 1, "and kept"


def test_a_cache_that_cannot_be_written_is_no_hindrance(
    tiny: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path / "file"))
    assert batching.choose(pipeline(tiny, Slow(*GPU)), 4).images == 4


def test_a_late_answer_counts_for_more_than_an_early_one_makes_up_for() -> None:
    assert batching.root_mean_square([1.0, 1.0, 1.0, 5.0]) > batching.root_mean_square([2.0, 2.0, 2.0, 2.0])
    assert batching.root_mean_square([3.0]) == 3.0


def test_the_detector_in_front_decides(tiny: Any, cache: Path) -> None:
    rows = np.array([[1, 2, 7, 14, 1, 0.9, 0]], np.float32)
    detector = tiny.pipeline(tiny.detector(rows, labels=("sign", "person")))
    slow = Pipeline(detector.bundle, Choice(Slow(*CPU), "given"))
    classifier = tiny.pipeline(tiny.classifier(roi_classes=("sign",)))
    both = Pipeline(classifier.bundle, replace(classifier.choice, backend=Slow(*GPU)), detector=slow)
    assert batching.choose(both, 4).images == 1
