"""No injection changes the model, its bundle, or the answers that follow: bytes before and after each of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lisard_engines.gradient import derive
from lisard_ros import injection as stage
from lisard_ros.evaluation import references
from lisard_ros.frames import Frame
from lisard_ros.inference.pipeline import Pipeline, open_pipeline

ROOT = Path(__file__).resolve().parents[2]
CORRUPTIONS = ("corruption/fog/3", "corruption/motion_blur/3", "corruption/jpeg_compression/3")
# Attacks of many steps take seconds on a detector and go through the same code.
COMPUTED = {
    "traffic_signs": ("attack/fgsm", "attack/apgd20", "attack/square100/2", "attack/uniform"),
    "road_signs": ("attack/fgsm", "attack/uniform"),
}


def hashes(pipeline: Pipeline) -> dict[str, str]:
    """Hashes of the bundle in memory and on the disk."""
    memory = {f"memory {name}": data for name, data in pipeline.bundle.contents.items()}
    disk = {f"disk {file.name}": file.read_bytes() for file in sorted(pipeline.bundle.path.iterdir())}
    return {name: hashlib.sha256(data).hexdigest() for name, data in {**memory, **disk}.items()}


def outputs(pipeline: Pipeline, frame: Frame) -> bytes:
    """What the engine gives for one clean frame, in a batch of one."""
    return pipeline.infer(pipeline.prepare([frame])).outputs.tobytes()


@pytest.mark.parametrize("name", COMPUTED)
def test_weights_engine_and_answers_are_the_same_after_each_injection(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISARD_CACHE", str(tmp_path))
    pipeline = open_pipeline(ROOT / "models" / name, threads=1)
    derive.provide(pipeline.bundle)
    sources = stage.AttackSources(engine=pipeline.choice.backend, threads=1)
    test = pipeline.bundle.manifest.self_test
    assert test is not None
    frame = references.load(pipeline.bundle, test).frames[0]
    pixels = frame.image.copy()
    before, clean = hashes(pipeline), outputs(pipeline, frame)
    for wanted in (*stage.names(pipeline.bundle), *CORRUPTIONS, *COMPUTED[name]):
        (attacked,) = pipeline.attack([frame], stage.make(pipeline.bundle, wanted, sources=sources))
        assert attacked.injection == wanted
        assert outputs(pipeline, frame) == clean, wanted
        assert hashes(pipeline) == before, wanted
        assert np.array_equal(frame.image, pixels), wanted
    pipeline.close()
