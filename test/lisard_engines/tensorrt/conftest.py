"""The shipped models, with all variants, for the builders."""

from __future__ import annotations

from pathlib import Path

import pytest

from lisard_engines import image_sets
from lisard_engines.quantization import fp16, int8
from lisard_ros import bundle as bundles
from lisard_ros.bundle import Bundle

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session", params=sorted(path.parent.name for path in ROOT.glob("models/*/bundle.json")))
def shipped(request: pytest.FixtureRequest) -> Bundle:
    """Each bundle of models/."""
    return bundles.read(ROOT / "models" / request.param)


@pytest.fixture(scope="session")
def variants_of_shipped(shipped: Bundle) -> dict[str, bytes]:
    """Its ONNX file in fp32, fp16 and both schemes of int8, calibrated on its own images or those of data/."""
    data = shipped.data(next(m.file for m in shipped.manifest.models if m.precision == "fp32"))
    real = image_sets.of_bundle(shipped)
    if len(real) < int8.MIN_IMAGES:
        real = image_sets.read(ROOT / "data" / "gtsrb_tracks", shipped.manifest.labels, 64)
    spec = shipped.manifest.input
    return {
        "fp32": data,
        "fp16": fp16.to_fp16(data, "m"),
        "u8s8": int8.to_int8(data, "m", "u8s8", real.spread(48), spec),
        "s8s8": int8.to_int8(data, "m", "s8s8", real.spread(48), spec),
    }
