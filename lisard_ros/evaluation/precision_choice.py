"""Whether a CPU runs a bundle's int8 file or its fp32 file, when `precision` is `auto`.

An int8 file is taken only where its answers to the reference images agree with those of fp32 as well as when it was
verified, and where it is faster. Some CPUs add products of 8 bits in registers that saturate silently, so a file that
was verified on one CPU can be wrong on another. Both are measured once for each file and CPU, and kept in the cache.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import msgspec
import numpy as np
import onnxruntime as ort

from lisard_ros import host_cpu
from lisard_ros.backends import engine_cache
from lisard_ros.backends.onnx_runtime import OnnxRuntime
from lisard_ros.bundle import Bundle, model_choice
from lisard_ros.bundle.manifest import ModelFile, Verification
from lisard_ros.errors import LisardError
from lisard_ros.evaluation import references
from lisard_ros.evaluation.agreement import agreement
from lisard_ros.inference.preprocess import normalise, prepare

MOST_IMAGES = 32
FP32, INT8 = "fp32", "int8"
DIFFERENCE_SLACK = 1.1  # times the largest difference of the verification
AGREEMENT_SLACK = 0.02  # or one image, where that is more


class Int8Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was measured on this CPU: int8 beside fp32 on `images` reference images, medians of ms for each."""

    images: int
    agreement: float
    max_abs_difference: float
    fp32_ms: float
    int8_ms: float

    def disagreement(self, verified: Verification) -> str:
        """Say what is worse than in the verification; empty when nothing is."""
        allowed = verified.agreement - max(AGREEMENT_SLACK, 1 / self.images)
        if not self.agreement >= allowed:
            return f"{100 * self.agreement:.1f} % of the answers agree with fp32, {100 * verified.agreement:.1f} % did"
        if not self.max_abs_difference <= DIFFERENCE_SLACK * verified.max_abs_difference:
            return (
                f"outputs differ from fp32 by {self.max_abs_difference:.3g}, by at most "
                f"{verified.max_abs_difference:.3g} when it was verified"
            )
        return ""


@dataclass(frozen=True, slots=True)
class PrecisionChoice:
    """Which precision runs, and why. warning: what diagnostics must show as long as it runs."""

    precision: str
    reason: str
    warning: str = ""


def choose(bundle: Bundle, threads: int) -> PrecisionChoice:
    """Decide between fp32 and int8 for ONNX Runtime on this CPU.

    Args:
        bundle: The bundle, with its reference images.
        threads: Threads of the runtime, 1 or more.

    Raises:
        BundleError: The bundle has no fp32 model, or its reference images cannot be read.
    """
    fp32 = model_choice.pick(bundle.manifest, FP32)
    int8 = _verified_int8(bundle)
    if int8 is None or int8.verification is None:
        return PrecisionChoice(FP32, "the bundle has no verified int8 file for CPUs")
    if bundle.manifest.self_test is None:
        return PrecisionChoice(FP32, "the bundle has no reference images to check int8 with")
    file = _cache_file(fp32, int8, threads)
    try:
        check = msgspec.json.decode(file.read_bytes(), type=Int8Check)
    except (OSError, msgspec.DecodeError):
        try:
            check = _measured(bundle, fp32, int8, threads)
        except LisardError as error:
            return PrecisionChoice(FP32, "int8 could not be checked", f"int8 is not used: {error}")
        engine_cache.keep(file, msgspec.json.encode(check))
    worse = check.disagreement(int8.verification)
    if worse:
        return PrecisionChoice(FP32, "int8 does not agree with fp32 here", f"int8 is not used on this CPU: {worse}")
    times = f"{check.int8_ms:.1f} ms for an image, fp32 {check.fp32_ms:.1f} ms"
    if check.int8_ms >= check.fp32_ms:
        return PrecisionChoice(FP32, f"int8 is not faster here: {times}")
    return PrecisionChoice(INT8, f"int8 agrees with fp32 on {100 * check.agreement:.1f} % of the answers: {times}")


def _verified_int8(bundle: Bundle) -> ModelFile | None:
    """The int8 file for CPUs, if it was verified and passed; s8s8 is slow and inexact on CPUs."""
    for model in bundle.manifest.models:
        passed = model.verification is not None and model.verification.passed
        if (model.precision, model.scheme) == (INT8, "u8s8") and passed:
            return model
    return None


def _measured(bundle: Bundle, fp32: ModelFile, int8: ModelFile, threads: int) -> Int8Check:
    assert bundle.manifest.self_test is not None  # the caller has seen it
    frames = references.load(bundle, bundle.manifest.self_test).frames
    rows = references.spread(np.arange(len(frames)), MOST_IMAGES)
    spec = bundle.manifest.input
    x = normalise(prepare([frames[row].rgb() for row in rows], spec), spec)
    outputs, took_ms = [], []
    for model in (fp32, int8):
        backend = OnnxRuntime(bundle, threads, model)
        backend.infer(x[:1])  # the first run allocates
        parts, times = [], []
        for row in range(len(x)):
            begin_s = time.perf_counter()
            parts.append(backend.infer(x[row : row + 1]))
            times.append((time.perf_counter() - begin_s) * 1e3)
        backend.close()
        outputs.append(np.concatenate(parts))
        took_ms.append(median(times))
    return Int8Check(
        images=len(x),
        agreement=float(agreement(bundle, *outputs).mean()),
        max_abs_difference=float(np.abs(outputs[0] - outputs[1]).max()),
        fp32_ms=took_ms[0],
        int8_ms=took_ms[1],
    )


def _cache_file(fp32: ModelFile, int8: ModelFile, threads: int) -> Path:
    """Name the file of a check after everything that decides it."""
    key = (fp32.sha256, int8.sha256, ort.__version__, threads, *host_cpu.identity())
    digest = hashlib.sha256(repr(key).encode()).hexdigest()
    return engine_cache.cache_root() / "int8_checks" / f"{digest}.json"
