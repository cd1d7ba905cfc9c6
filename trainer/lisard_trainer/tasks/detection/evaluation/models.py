"""The detectors under test, each checked to have the bundle's classes and input size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from torch import nn

from lisard_ros.bundle.manifest import Manifest
from lisard_ros.errors import BundleError

from ....evaluation.models import ModelLoader, ModelSource, ModelUnderTest
from ....training.checkpoint import Checkpoint


@dataclass(frozen=True)
class DetectorSource(ModelSource):
    """The same with the hash of the training images."""

    data_sha256: str


DetectorUnderTest: TypeAlias = ModelUnderTest[DetectorSource]


class DetectorLoader(ModelLoader[DetectorSource]):
    """Networks [N,3,H,W] -> raw boxes [N,P,5+C]."""

    def describe_bundle(self, source: ModelSource, manifest: Manifest) -> DetectorSource:
        """Its training images by the card."""
        return DetectorSource(**vars(source), data_sha256=manifest.card.data_sha256 if manifest.card else "")

    def describe_checkpoint(self, source: ModelSource, saved: Checkpoint) -> DetectorSource:
        """Its training images."""
        return DetectorSource(**vars(source), data_sha256=saved.data_sha256)

    def bundle_network(self, twin: nn.Module, manifest: Manifest) -> nn.Module:
        """The network itself: only bundles of our own training can be evaluated."""
        spec = manifest.input
        if (spec.colour, spec.mean, spec.std, spec.resize) != ("rgb", (0, 0, 0), (1, 1, 1), "letterbox"):
            raise BundleError(
                f"bundle {manifest.name}",
                found=f"input {spec}",
                expected="RGB in [0,1], letterboxed",
                cure="evaluate bundles that `lisard train` exported",
            )
        return twin.eval().requires_grad_(False)

    def surrogate_title(self, name: str) -> str:
        """`surrogate`, and its name if it has one."""
        return f"surrogate {name}".strip()
