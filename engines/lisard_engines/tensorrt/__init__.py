"""Builders of TensorRT engines behind one interface: an ONNX file in, the bytes of an engine out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lisard_ros.errors import UsageError

RTX_TARGETS = (86, 89, 120)  # RTX 30, 40 and 50 series: one engine serves all three
MAX_BATCH = 64


@dataclass(frozen=True, slots=True)
class Batches:
    """The optimisation profile: the smallest, the usual and the largest batch."""

    least: int = 1
    usual: int = 1
    most: int = 8

    def __post_init__(self) -> None:
        """Refuse an order that no profile can have."""
        if not 1 <= self.least <= self.usual <= self.most <= MAX_BATCH:
            raise UsageError(
                "batches of the profile out of order",
                found=self,
                expected=f"1 <= least <= usual <= most <= {MAX_BATCH}",
            )


@dataclass(frozen=True, slots=True)
class BuilderSettings:
    """What decides an engine besides the ONNX file.

    level: how long the builder searches, 0 to 5. dla_core: -1 for the GPU alone; layers that DLA cannot run fall back
    to the GPU. targets: compute capabilities of TensorRT-RTX engines; classic TensorRT builds for the device at hand.
    """

    batches: Batches = Batches()
    workspace_mib: int = 1024
    level: int = 3
    dla_core: int = -1
    targets: tuple[int, ...] = RTX_TARGETS

    def __post_init__(self) -> None:
        """Refuse what no builder takes."""
        if not (1 <= self.workspace_mib <= 1 << 20 and 0 <= self.level <= 5 and -1 <= self.dla_core <= 7):
            raise UsageError(
                "settings of the builder out of range",
                found=self,
                expected="workspace 1 MiB to 1 TiB, level 0..5, DLA core -1..7",
            )


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """An engine and how it was built. log: TensorRT's warnings. timing_cache: for the next build, or b''."""

    engine: bytes
    seconds: float
    layers: int
    log: tuple[str, ...]
    timing_cache: bytes = b""


Progress = Callable[[str], None]


class EngineBuilder(Protocol):
    """Turns ONNX files into engines with one TensorRT product."""

    product: str
    version: str

    def device(self) -> tuple[str, int]:
        """Return what engines are built for: a name, and the compute capability (0 for several)."""

    def build(self, data: bytes, name: str, timing_cache: bytes, progress: Progress) -> Built:
        """Build an engine from the bytes of an ONNX file; BackendError with TensorRT's own words when it cannot."""
