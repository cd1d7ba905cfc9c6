"""What all networks share: stem, stages, pooling and head; their outputs; and the classifier that a bundle holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

PROJECTOR = "projector"  # name of the head that only training has


@dataclass(frozen=True)
class Spec:
    """What a network was made from: a name of the registry, classes, side of the images, and activation by name."""

    name: str
    classes: int
    size_px: int
    activation: str


class Outputs(NamedTuple):
    """Feature maps [N,C,h,w] after each stage, shallow to deep; embedding [N,d]; logits [N,K]."""

    stages: tuple[Tensor, ...]
    embedding: Tensor
    logits: Tensor


class Backbone(nn.Module):
    """stem -> stages -> last -> mean over positions -> head; images [N,3,H,W] in [0,1], of any size that fits.

    stage_widths: channels after each stage. `last` (convolution or norm after the stages, if the network has one) gives
    the map of `width` channels whose mean is the embedding. dropout acts between embedding and head, in training.
    """

    spec: Spec

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        stage_widths: Sequence[int],
        classes: int,
        last: nn.Module | None = None,
        width: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.classes, self.stage_widths = classes, tuple(stage_widths)
        self.width = width or self.stage_widths[-1]
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.last = last or nn.Identity()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.Linear(self.width, classes)

    def features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Feature maps [N,C,h,w] after each stage, shallow to deep."""
        maps, features = [], self.stem(x)
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return tuple(maps)

    def forward_stages(self, x: Tensor) -> Outputs:
        """The outputs of every stage besides embedding and logits."""
        maps = self.features(x)
        embedding = self.last(maps[-1]).mean(dim=(2, 3))
        return Outputs(maps, embedding, self.head(self.dropout(embedding)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding [N,d] and logits [N,K]."""
        _, embedding, logits = self.forward_stages(x)
        return embedding, logits


class Classifier(nn.Module):
    """A backbone that gives its logits alone: what a bundle's ONNX file and PyTorch model compute."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)[1]
