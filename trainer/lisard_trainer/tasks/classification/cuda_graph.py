"""A gradient step captured once as a CUDA graph: its kernels start together instead of one by one.

Small networks leave a GPU waiting for Python to start the next kernel; a replay does not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # calls before the capture, so that libraries have chosen their kernels and taken their memory
Answer = tuple[Tensor, Tensor, Tensor]
Step = Callable[[Tensor, Tensor], Answer]


class CapturedStep:
    """`step` (images [N,3,H,W], labels int64 [N] -> loss, scores, gradient) for batches of one shape, on a GPU."""

    def __init__(self, step: Step, x: Tensor, labels: Tensor) -> None:
        """Captures the step on copies of a first batch, on the GPU where that lies."""
        self._x, self._labels = x.detach().clone(memory_format=torch.contiguous_format), labels.clone()
        with torch.cuda.device(x.device):
            self._capture(step)

    def _capture(self, step: Step) -> None:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                step(self._x, self._labels)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=_memory(torch.cuda.current_device())):
            self._answer = step(self._x, self._labels)

    @property
    def classes(self) -> int:
        """How many the scores are of."""
        return self._answer[1].shape[1]

    def __call__(self, x: Tensor, labels: Tensor) -> Answer:
        """The step on another batch of that shape; the answer is the caller's own."""
        with torch.cuda.device(x.device):
            self._x.copy_(x)
            self._labels.copy_(labels)
            self._graph.replay()
            loss, scores, gradient = self._answer
            return loss.clone(), scores.clone(), gradient.clone()


@functools.cache
def _memory(device: int) -> Any:
    """What all graphs of a GPU work in: they replay one at a time, and answers are copied out before the next."""
    return torch.cuda.graph_pool_handle()
