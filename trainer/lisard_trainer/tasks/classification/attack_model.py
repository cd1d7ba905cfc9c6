"""The attack model of measurements: bfloat16, folded batch norms and CUDA graphs save time on the same gradients."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from lisard_ros.attacks.model import ClassCriterion, Criterion, ModelAnswer, Transform, pick
from lisard_ros.attacks.objective import check, of_classes
from lisard_ros.attacks.torch_model import CHUNKS, TorchAttackModel, chunk_of, sign_of
from lisard_ros.errors import AttackError, one_line

from .cuda_graph import Answer, CapturedStep

__all__ = ["CHUNKS", "FastAttackModel", "TorchAttackModel", "chunk_of", "fastest"]
MOST_GRAPHS = 4  # shapes of batches that are captured; others are worked out as ever


class FastAttackModel(TorchAttackModel):
    """White box to a classifier that gives logits, by faster arithmetic.

    bf16: convolutions and products in bfloat16 (losses stay float32): faster where the processor has it, and a
    surrogate of the network, so judge the images with a model that does without. folded: batch norms become part of
    the convolutions before them: the same function up to rounding, in less time. graphed: on a GPU, the gradient of a
    cross entropy is captured once for each shape of batch (up to MOST_GRAPHS) and replayed.
    """

    def __init__(
        self, network: nn.Module, chunk: int = 0, *, bf16: bool = False, folded: bool = False, graphed: bool = False
    ) -> None:
        """Copy the network; AttackError if it cannot be copied, or folded."""
        super().__init__(network, chunk)
        if folded:
            self._network = _fold(self._network)
        self._bf16, self._graphed = bf16, graphed
        self._graphs: dict[torch.Size, CapturedStep] = {}

    def _differentiate(self, x: Tensor, criterion: Criterion, transform: Transform | None) -> ModelAnswer:
        classes = of_classes(criterion)
        known = x.shape in self._graphs or len(self._graphs) < MOST_GRAPHS
        if transform is None and classes.loss == "cross_entropy" and self._graphed and x.is_cuda and known:
            return self._replayed(x, classes)
        return super()._differentiate(x, criterion, transform)

    def _replayed(self, x: Tensor, criterion: ClassCriterion) -> ModelAnswer:
        graph = self._graphs.get(x.shape)
        classes = (
            self._query(x[:1], pick(criterion, slice(1)), None).scores.shape[1] if graph is None else graph.classes
        )
        check(criterion, len(x), classes)
        labels = torch.as_tensor(criterion.classes, device=x.device).long()
        if graph is None:
            graph = self._graphs[x.shape] = CapturedStep(self._step, x, labels)
        loss, scores, gradient = graph(x, labels)
        sign = sign_of(criterion)
        return ModelAnswer(sign * loss, scores, sign * gradient)

    def _step(self, x: Tensor, labels: Tensor) -> Answer:
        return self._differentiated(x, None, lambda logits: functional.cross_entropy(logits, labels, reduction="none"))

    def _logits(self, x: Tensor, transform: Transform | None) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16) if self._bf16 else nullcontext():
            logits = super()._logits(x, transform)
        return logits.float() if self._bf16 else logits


def fastest(network: nn.Module) -> FastAttackModel:
    """The attack model with folded batch norms, if the network allows it, whose gradients are replayed on a GPU."""
    try:
        return FastAttackModel(network, folded=True, graphed=True)
    except AttackError:
        return FastAttackModel(network, graphed=True)


def _fold(network: nn.Module) -> nn.Module:
    from torch.fx.experimental.optimization import fuse  # slow to import, and only needed here

    try:
        return fuse(network, inplace=True).requires_grad_(False)
    except (torch.fx.proxy.TraceError, TypeError, NotImplementedError) as error:
        raise AttackError(
            "batch norms cannot be folded into this network",
            found=one_line(error),
            expected="a forward without branches on the data",
            cure="use folded=False",
        ) from error
