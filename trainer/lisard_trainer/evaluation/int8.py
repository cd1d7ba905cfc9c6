"""What the int8 file of a bundle costs: its figures beside those of the fp32 model, and their paired difference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lisard_ros import host_cpu
from lisard_ros.bundle import Bundle, model_choice
from lisard_ros.evaluation.statistics import Interval

from .tables import SHORT_HASH, Table, points, texts


@dataclass(frozen=True)
class Int8Line:
    """Figures of both files in one condition, in [0,1], and int8 minus fp32 on the same n images."""

    condition: str
    n: int
    fp32: float
    int8: float
    difference: Interval


@dataclass(frozen=True)
class Int8Comparison:
    """What the bundle's int8 file costs, on clean images and on those of the gray-box attacks.

    metric: accuracy or AP50. instruction_sets: of the CPU, which decide how int8 is computed.
    """

    file: str
    sha256: str
    scheme: str
    instruction_sets: tuple[str, ...]
    metric: str
    lines: tuple[Int8Line, ...]


def compare(bundle: Bundle, metric: str, lines: Iterable[Int8Line]) -> Int8Comparison | None:
    """The comparison of a report; None where the int8 file was not asked."""
    lines = tuple(lines)
    if not lines:
        return None
    model = model_choice.pick(bundle.manifest, "int8")
    sha256 = bundle.manifest.files[model.file]
    return Int8Comparison(model.file, sha256, model.scheme, host_cpu.instruction_sets(), metric, lines)


def table(found: Int8Comparison | None, resampled: str) -> Table | None:
    """The table of the comparison, if there is one. resampled: what the intervals are over."""
    if found is None:
        return None
    rows = tuple(
        (line.condition, texts(line.n, f"{100 * line.fp32:.1f}", f"{100 * line.int8:.1f}", points(line.difference)))
        for line in found.lines
    )
    about = (
        f"All other figures are those of the fp32 model. {found.file} ({found.scheme}, sha256 "
        f"{found.sha256[:SHORT_HASH]}) answered the same images on ONNX Runtime, on a CPU with "
        f"{', '.join(found.instruction_sets) or 'unknown instruction sets'}. Attacks on the model itself are left out: "
        f"they were made on the fp32 model. Differences are paired, with 95 % intervals by bootstrap over {resampled}."
    )
    header = ("condition", "n", "fp32", "int8", "int8 minus fp32, points")
    return Table(f"int8 beside fp32: {found.metric} in %", about, header, rows)
