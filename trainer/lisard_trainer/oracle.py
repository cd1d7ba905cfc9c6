"""The torch oracle: what an attack may ask of a network that is at hand with its weights.

Loss is the cross entropy of each picture; gradients are with respect to pixels in [0,1], never reduced over the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from lisard_ros.injection.oracle import Evaluation, Goal, Target, Transform

DEFAULT_CHUNK = 256


class TorchOracle:
    """White box to a classifier that gives logits. The network is put in eval mode with frozen parameters.

    chunk: how many pictures go through at once; the answer does not depend on it.
    """

    def __init__(self, network: nn.Module, chunk: int = DEFAULT_CHUNK) -> None:
        """Take over the network: it is no longer trainable afterwards."""
        frozen = network.eval().requires_grad_(False)
        self._network: nn.Module = frozen.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._chunk = chunk

    def evaluate(self, x: Tensor, goal: Goal, transform: Transform | None = None) -> Evaluation:
        """Loss [N], scores (softmax) [N,K] and gradient like x, for pictures x [N,3,H,W] in [0,1]."""
        indices = torch.as_tensor(goal.indices, device=x.device).long()
        sign = -1.0 if isinstance(goal, Target) else 1.0
        parts = zip(x.split(self._chunk), indices.split(self._chunk), strict=True)
        answers = [self._part(pictures, labels, sign, transform) for pictures, labels in parts]
        loss, scores, gradient = (torch.cat(column) for column in zip(*answers, strict=True))
        return Evaluation(loss, scores, gradient)

    def _part(
        self, x: Tensor, labels: Tensor, sign: float, transform: Transform | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        pictures = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_(True)
        logits = self._network(transform(pictures) if transform else pictures)
        loss = sign * functional.cross_entropy(logits, labels, reduction="none")
        (gradient,) = torch.autograd.grad(loss.sum(), pictures)
        return loss.detach(), logits.detach().softmax(1), gradient.contiguous()
