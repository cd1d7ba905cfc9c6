"""Variants of a bundle: made, measured against fp32, taken only if they lose little, recorded in bundle.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lisard_engines import image_sets
from lisard_engines.verification import variants
from lisard_engines.verification.gate import Limits
from lisard_ros import backends
from lisard_ros import bundle as bundles
from lisard_ros.errors import BundleError, DataError, UsageError


@pytest.fixture
def request_for(small: Any) -> Any:
    def make(bundle: Any, *names: str, **options: Any) -> variants.BuildRequest:
        calibration = image_sets.read(small.images(), small.labels)
        return variants.BuildRequest(names, image_sets.of_bundle(bundle), calibration, **options)

    return make


def test_all_variants_become_entries_with_calibration_and_verdict(small: Any, request_for: Any, tmp_path: Path) -> None:
    bundle = small.bundle()
    added = variants.add(bundle, request_for(bundle, "fp16", "u8s8", "s8s8"), tmp_path / "out")
    again = bundles.read(tmp_path / "out")
    assert [(m.precision, m.scheme) for m in again.manifest.models] == [
        ("fp32", "plain"),
        ("fp16", "plain"),
        ("int8", "u8s8"),
        ("int8", "s8s8"),
    ]
    assert all(made.installed for made in added.made)
    for model in again.manifest.models[1:]:
        assert model.verification and model.verification.passed and model.verification.attacked == 24
        assert model.verification.max_abs_difference > 0
        assert model.sha256 == again.manifest.files[model.file]
    calibration = again.manifest.models[2].calibration
    assert calibration and calibration.pictures == 36 and calibration.data == "images"
    assert calibration.sha256 == image_sets.read(small.images(), small.labels).sha256
    assert again.manifest.models[1].calibration is None
    assert again.manifest.perturbations == bundle.manifest.perturbations


def test_making_them_again_replaces_them(small: Any, request_for: Any, tmp_path: Path) -> None:
    bundle = small.bundle()
    first = variants.add(bundle, request_for(bundle, "u8s8"), tmp_path / "out").bundle
    second = variants.add(first, request_for(first, "u8s8"), tmp_path / "out").bundle
    assert second.sha256 == first.sha256 and len(second.manifest.models) == 2


def test_a_variant_that_loses_too_much_is_left_out_unless_forced(small: Any, request_for: Any, tmp_path: Path) -> None:
    # Half precision tells numbers near 60000 apart by 32 only: all classes are equal then.
    bundle = small.bundle(small.network(offset=6e4))
    made = variants.add(bundle, request_for(bundle, "fp16", limits=Limits(0.0, 0.0)), tmp_path / "out")
    (only,) = made.made
    verdict = only.model.verification
    assert verdict and not verdict.passed and verdict.clean_loss_points > 50
    assert not only.installed and len(made.bundle.manifest.models) == 1
    with pytest.raises(BundleError, match="has no fp16 model for this backend: found fp32/plain"):
        backends.choose(made.bundle, "onnxruntime", 1, "fp16")
    forced = variants.add(
        bundle, request_for(bundle, "fp16", limits=Limits(0.0, 0.0), force=True), tmp_path / "forced"
    ).bundle
    backend = backends.choose(forced, "onnxruntime", 1, "fp16").backend
    assert "installed by force" in backend.warnings[0] and "points clean (limit 0)" in backend.warnings[0]


def test_the_precision_is_chosen_by_name_and_never_silently(small: Any, request_for: Any, tmp_path: Path) -> None:
    bundle = small.bundle()
    built = variants.add(bundle, request_for(bundle, "s8s8", "u8s8"), tmp_path / "out").bundle
    assert "fp32/plain" in backends.choose(built, threads=1).backend.description
    chosen = backends.choose(built, "onnxruntime", 1, "int8").backend
    assert "int8/u8s8" in chosen.description, "the scheme that is fast on CPUs"
    assert chosen.warnings == ()
    x = np.zeros((3, 3, small.side_px, small.side_px), np.float32)
    assert chosen.infer(x).shape == (3, 3)
    with pytest.raises(UsageError, match="unknown precision"):
        backends.choose(built, "onnxruntime", 1, "int4")


def test_int8_without_images_and_unknown_names_are_refused(small: Any) -> None:
    own = image_sets.of_bundle(small.bundle())
    with pytest.raises(UsageError, match="int8 needs real images"):
        variants.BuildRequest(("u8s8",), own)
    with pytest.raises(UsageError, match="did you mean 'u8s8'"):
        variants.BuildRequest(("u8s",), own)
    assert variants.BuildRequest(("fp16",), own).calibration is None


def test_what_cannot_be_judged_or_calibrated_is_refused_before_the_work(small: Any) -> None:
    """Regression: `lisard build` calibrated for a minute, and then said that there is nothing to compare on."""
    own = image_sets.of_bundle(small.bundle())
    many, few = image_sets.read(small.images(), ()), image_sets.read(small.images("few", 31), ())
    with pytest.raises(DataError, match="no images to compare on.*give --images FOLDER"):
        variants.BuildRequest(("u8s8",), image_sets.joined([]), many)
    with pytest.raises(DataError, match="too few images to calibrate int8: found 31"):
        variants.BuildRequest(("fp16", "u8s8"), own, few)
    assert variants.BuildRequest(("fp16",), own, few).names == ("fp16",), "fp16 needs no calibration"
