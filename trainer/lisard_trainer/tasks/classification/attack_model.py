"""The torch attack model: what an attack may ask of a network that is at hand with its weights.

Losses are those of each picture; gradients are with respect to pixels in [0,1], never reduced over the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from lisard_ros.attacks.gradient import required
from lisard_ros.attacks.model import Criterion, Evaluation, Targeted, Transform, Untargeted, of_rows, pick
from lisard_ros.attacks.objective import check, objective, of_classes
from lisard_ros.errors import AttackError, one_line

from ...backbones import frozen_copy
from .cuda_graph import Answer, Graph

CHUNKS = {"cpu": 256, "cuda": 1024}  # pictures at once, by kind of device
MOST_GRAPHS = 4  # shapes of batches that are captured; others are worked out as ever


class TorchAttackModel:
    """White box to a classifier that gives logits.

    The attack model works on a copy of the network as it is now, in eval mode and with frozen parameters. The caller's
    network stays as it is; what it learns afterwards does not reach the copy.

    chunk: how many pictures go through at once (0: what suits the device); the answer does not depend on it, but for
    the last bits that other kernels give. bf16: convolutions and products in bfloat16 (losses stay float32): faster
    where the processor has it, and a surrogate of the network, so judge the images with a model that does without.
    folded: batch norms become part of the convolutions before them: the same function up to rounding, in
    less time. graphed: on a GPU, the gradient of a cross entropy is captured once for each shape of batch (up to
    MOST_GRAPHS) and replayed.
    """

    def __init__(
        self, network: nn.Module, chunk: int = 0, *, bf16: bool = False, folded: bool = False, graphed: bool = False
    ) -> None:
        """Copy the network; AttackError if it cannot be copied, or folded."""
        frozen = frozen_copy(network)
        self._network: nn.Module = _fold(frozen) if folded else frozen
        self._chunk, self._bf16, self._graphed = chunk, bf16, graphed
        self._graphs: dict[torch.Size, Graph] = {}

    def evaluate(
        self, x: Tensor, criterion: Criterion, transform: Transform | None = None, *, gradient: bool = True
    ) -> Evaluation:
        """Loss [N], scores (softmax) [N,K] and gradient like x, for pictures x [N,3,H,W] in [0,1]."""
        ask = self._differentiate if gradient else self._query
        chunk = self._chunk or chunk_of(x.device)
        rows = [slice(start, start + chunk) for start in range(0, max(1, len(x)), chunk)]
        answers = [ask(x[part].detach(), pick(criterion, part), of_rows(transform, part)) for part in rows]
        if len(answers) == 1:
            return answers[0]
        return Evaluation(
            torch.cat([a.loss for a in answers]),
            torch.cat([a.scores for a in answers]),
            torch.cat([required(a) for a in answers]) if gradient else None,
        )

    def _differentiate(self, x: Tensor, criterion: Criterion, transform: Transform | None) -> Evaluation:
        classes = of_classes(criterion)
        if transform is None and classes.loss == "cross_entropy" and self._may_replay(x):
            return self._replayed(x, classes)
        return Evaluation(*self._differentiated(x, transform, lambda logits: _loss(logits, criterion)))

    def _may_replay(self, x: Tensor) -> bool:
        return self._graphed and x.is_cuda and (x.shape in self._graphs or len(self._graphs) < MOST_GRAPHS)

    def _replayed(self, x: Tensor, criterion: Untargeted | Targeted) -> Evaluation:
        graph = self._graphs.get(x.shape)
        classes = (
            self._query(x[:1], pick(criterion, slice(1)), None).scores.shape[1] if graph is None else graph.classes
        )
        check(criterion, len(x), classes)
        labels = torch.as_tensor(criterion.classes, device=x.device).long()
        if graph is None:
            graph = self._graphs[x.shape] = Graph(self._step, x, labels)
        loss, scores, gradient = graph(x, labels)
        sign = _sign(criterion)
        return Evaluation(sign * loss, scores, sign * gradient)

    def _step(self, x: Tensor, labels: Tensor) -> Answer:
        return self._differentiated(x, None, lambda logits: functional.cross_entropy(logits, labels, reduction="none"))

    def _differentiated(self, x: Tensor, transform: Transform | None, loss_of: Callable[[Tensor], Tensor]) -> Answer:
        """Loss [N], scores [N,K] and gradient like x; x itself is left as it is."""
        pictures = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_(True)
        logits = self._logits(pictures, transform)
        loss = loss_of(logits)
        (gradient,) = torch.autograd.grad(loss.sum(), pictures)
        return loss.detach(), logits.detach().softmax(1), gradient.contiguous()

    @torch.no_grad()
    def _query(self, x: Tensor, criterion: Criterion, transform: Transform | None) -> Evaluation:
        logits = self._logits(x.contiguous(memory_format=torch.channels_last), transform)
        return Evaluation(_loss(logits, criterion), logits.softmax(1), None)

    def _logits(self, x: Tensor, transform: Transform | None) -> Tensor:
        with self._precision(x):
            logits = self._network(transform(x) if transform else x)
        return logits.float() if self._bf16 else logits

    def _precision(self, x: Tensor) -> AbstractContextManager[object]:
        return torch.autocast(x.device.type, torch.bfloat16) if self._bf16 else nullcontext()


def chunk_of(device: torch.device) -> int:
    """How many pictures at once suit a device: a GPU waits for Python in small batches."""
    return CHUNKS.get(device.type, CHUNKS["cpu"])


def fastest(network: nn.Module) -> TorchAttackModel:
    """The attack model with folded batch norms, if the network allows it, whose gradients are replayed on a GPU."""
    try:
        return TorchAttackModel(network, folded=True, graphed=True)
    except AttackError:
        return TorchAttackModel(network, graphed=True)


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


def _loss(logits: Tensor, criterion: Criterion) -> Tensor:
    criterion = of_classes(criterion)
    if criterion.loss != "cross_entropy":
        loss: Tensor = objective(logits, criterion)
        return loss
    check(criterion, *logits.shape)
    labels = torch.as_tensor(criterion.classes, device=logits.device).long()
    return _sign(criterion) * functional.cross_entropy(logits, labels, reduction="none")


def _sign(criterion: Untargeted | Targeted) -> float:
    """A target is to be reached, a label to be left."""
    return -1.0 if isinstance(criterion, Targeted) else 1.0
