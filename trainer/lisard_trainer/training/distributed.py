"""Training in several processes that together do what one would: batch statistics, embeddings, gradients, figures.

Each process holds an equal share of the rows of every batch. Sums run over all of them, and gradients flow through the
sums, so that the loss and its gradient are those of the whole batch.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

from lisard_ros.errors import DataError, UsageError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Team:
    """The processes of a training; one that trains alone is a team of one. `rank` counts from 0."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and talks to people."""
        return self.rank == 0

    def check_batch(self, batch: int) -> None:
        """Every process needs the same number of rows."""
        if batch % self.size:
            raise DataError(
                "batch size",
                found=f"{batch} for {self.size} processes",
                expected=f"a multiple of {self.size}",
                cure="change optimizer.batch_size in the recipe or --nproc-per-node",
            )

    def rows(self, x: Tensor) -> Tensor:
        """This process's rows of a whole batch: every size-th, so that the first rows of all are those of the batch.

        Up to size - 1 rows at the end of an odd last batch belong to none.
        """
        return x[self.rank : len(x) // self.size * self.size : self.size]

    def gather(self, x: Tensor) -> Tensor:
        """Rows [n, ...] of each process -> those of all [size n, ...] in order of rank; gradients flow back."""
        return x if self.size == 1 else _Gather.apply(x)  # type: ignore[no-any-return]

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces each gradient by its mean over the processes: the gradient of the mean loss. One exchange.

        DistributedDataParallel would overlap this with the backward pass, but takes neither two forward passes with
        batch norms of their own, nor parameters that no loss reaches (the dead projector).
        """
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        parts = flat.div_(self.size).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def mean(self, x: Tensor) -> Tensor:
        """Mean over the processes, without gradient."""
        return self.total(x) / self.size

    def total(self, x: Tensor) -> Tensor:
        """Sum over the processes, without gradient."""
        x = x.detach().clone()
        if self.size > 1:
            distributed.all_reduce(x)
        return x

    def adopt(self, value: Any) -> Any:
        """The value that the leading process holds."""
        if self.size == 1:
            return value
        held = [value]
        distributed.broadcast_object_list(held)
        return held[0]


def leads() -> bool:
    """Whether this process is the first of those that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def launch(device: str) -> tuple[Fabric, Team]:
    """Connects the processes that torchrun started (or none) and chooses this one's device: auto, cpu, cuda, cuda:N."""
    kind, _, index = _device(device).partition(":")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(size)))
    if index and size > 1:
        raise UsageError("--device", found=device, expected="cpu or cuda", cure="torchrun gives each process a GPU")
    from lightning_fabric import Fabric  # a second and more to import, so not before a training begins

    # On a GPU it advises fewer bits for products in float32, which are the correlations that a recipe wants exact.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator=kind,
        devices=[int(index)] if index else local,
        num_nodes=size // local,
        strategy="ddp" if size > 1 else "auto",
        precision="32-true",
    )
    fabric.launch()
    return fabric, Team(fabric.global_rank, fabric.world_size)


def _device(name: str) -> str:
    found = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if found else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or not (index == "" or (index.isdigit() and kind == "cuda")):
        raise UsageError("--device", found=name, expected="auto, cpu, cuda or cuda:NUMBER")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UsageError("--device", found=name, expected=f"one of {torch.cuda.device_count()} GPUs", cure="use cpu")
    return name


class _Gather(torch.autograd.Function):
    """Rows of every process; backward adds what the processes say of this one's rows, and can be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _OwnRowsOfSum.apply(gradient)  # type: ignore[no-any-return]


class _OwnRowsOfSum(torch.autograd.Function):
    """The sum over the processes of [size n, ...], of which each keeps its own rows [n, ...]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.chunk(distributed.get_world_size())[distributed.get_rank()].clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Gather.apply(gradient)  # type: ignore[no-any-return]


# Batch norm -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and population variance [C] over `count` values, differentiable."""

    mean: Tensor
    variance: Tensor
    count: int


def moments(x: Tensor) -> Moments:
    """Moments of x [n,C] or [n,C,h,w] over the rows (and pixels) of every process.

    Each process sends its own mean and variance, which combine without cancellation (Chan et al. 1979): one exchange.
    """
    axes = [axis for axis in range(x.ndim) if axis != 1]
    variance, mean = torch.var_mean(x, axes, correction=0)
    means, variances = _Gather.apply(torch.stack([mean, variance])[None]).unbind(1)
    whole = means.mean(0)
    spread = variances.mean(0) + (means - whole).square().mean(0)
    return Moments(whole, spread, x.numel() // x.shape[1] * len(means))


class WholeBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the rows of every process (equally many in each). torch's SyncBatchNorm needs GPUs."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in (2, 4):
            raise ValueError(f"expected [n,C] or [n,C,h,w], found {list(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Input [n,C] or [n,C,h,w]; like nn.BatchNorm, in 32 bit inside at least."""
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        self._check_input_dim(input)
        x = input if input.dtype == torch.float64 else input.float()
        found = moments(x)
        if self.training and self.track_running_stats:
            self._follow(found)
        scale = (found.variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = -found.mean * scale if self.bias is None else self.bias - found.mean * scale
        shape = [1, -1, *[1] * (x.ndim - 2)]
        return (x * scale.view(shape) + shift.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _follow(self, found: Moments) -> None:
        """Running statistics as nn.BatchNorm keeps them: the variance without bias."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = found.variance * (found.count / max(1, found.count - 1))
        self.running_mean.lerp_(found.mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


def share_statistics(network: nn.Module) -> None:
    """Replaces every batch norm by one over all processes, in place; parameters and names of weights stay."""
    for name, child in list(network.named_children()):
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            whole = WholeBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            whole._parameters.update(child._parameters)
            whole._buffers.update(child._buffers)
            setattr(network, name, whole.train(child.training))
        else:
            share_statistics(child)
