"""A PyTorch classifier under attack: losses of each image, and gradients in its pixels.

torch is imported when the first network is wrapped, so that the runtime does not need it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lisard_ros.attacks.gradient import required
from lisard_ros.attacks.model import (
    Array,
    ClassCriterion,
    Criterion,
    ModelAnswer,
    Targeted,
    Transform,
    numbers,
    of_rows,
    pick,
)
from lisard_ros.attacks.objective import check, objective, of_classes
from lisard_ros.errors import AttackError, one_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

CHUNKS = {"cpu": 256, "cuda": 1024}  # images at once, by kind of device
FILTER_DIMS = 4  # [out, in, h, w]


class TorchAttackModel:
    """White box to a classifier that gives logits.

    It works on a copy of the network as it is now, in eval mode and with frozen parameters. The caller's network stays
    as it is; what it learns afterwards does not reach the copy.
    """

    def __init__(self, network: nn.Module, chunk: int = 0) -> None:
        """Copy the network.

        Args:
            network: Maps images [N, C, H, W] in [0, 1] to logits [N, K]; normalises them (mean and std) itself.
            chunk: How many images go through at once; 0: what suits the device. The answer does not depend on it, but
                for the last bits that other kernels give.

        Raises:
            AttackError: It is no torch network, or it cannot be copied.
        """
        self._network: nn.Module = frozen_copy(network)
        self._chunk = chunk

    def evaluate(
        self, x: Array, criterion: Criterion, transform: Transform | None = None, *, gradient: bool = True
    ) -> ModelAnswer:
        """Answer an attack.

        Args:
            x: Images [N, C, H, W] in [0, 1]: a tensor on the network's device, or a NumPy array.
            criterion: What the attacker wants, of the N images.
            transform: Differentiable change applied to x before the network.
            gradient: False spares the work of the gradient.

        Returns:
            Loss [N], scores (softmax) [N, K], and the gradient like x. Tensors for a tensor, else NumPy.

        Raises:
            AttackError: The criterion does not fit the images or the network, or the network gives no logits.
        """
        import torch

        if not isinstance(x, torch.Tensor):
            return self._evaluate_numpy(np.asarray(x), criterion, transform, gradient)
        ask = self._differentiate if gradient else self._query
        chunk = self._chunk or chunk_of(x.device)
        rows = [slice(start, start + chunk) for start in range(0, max(1, len(x)), chunk)]
        answers = [ask(x[part].detach(), pick(criterion, part), of_rows(transform, part)) for part in rows]
        if len(answers) == 1:
            return answers[0]
        return ModelAnswer(
            torch.cat([a.loss for a in answers]),
            torch.cat([a.scores for a in answers]),
            torch.cat([required(a) for a in answers]) if gradient else None,
        )

    def _evaluate_numpy(
        self, x: NDArray[np.floating], criterion: Criterion, transform: Transform | None, gradient: bool
    ) -> ModelAnswer:
        import torch

        like = next((p for p in self._network.parameters() if p.is_floating_point()), torch.empty(0))
        answer = self.evaluate(
            torch.as_tensor(x, dtype=like.dtype, device=like.device), criterion, transform, gradient=gradient
        )
        slope = None if answer.gradient is None else numbers(answer.gradient).astype(x.dtype)
        return ModelAnswer(numbers(answer.loss), numbers(answer.scores), slope)

    def _differentiate(self, x: Tensor, criterion: Criterion, transform: Transform | None) -> ModelAnswer:
        return ModelAnswer(*self._differentiated(x, transform, lambda logits: _loss(logits, criterion)))

    def _differentiated(
        self, x: Tensor, transform: Transform | None, loss_of: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss [N], scores [N, K] and gradient like x; x itself is left as it is."""
        import torch

        with torch.enable_grad():
            images = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_(True)
            logits = self._logits(images, transform)
            loss = loss_of(logits)
            (gradient,) = torch.autograd.grad(loss.sum(), images)
        return loss.detach(), logits.detach().softmax(1), gradient.contiguous()

    def _query(self, x: Tensor, criterion: Criterion, transform: Transform | None) -> ModelAnswer:
        import torch

        with torch.no_grad():
            logits = self._logits(x.contiguous(memory_format=torch.channels_last), transform)
            return ModelAnswer(_loss(logits, criterion), logits.softmax(1), None)

    def _logits(self, x: Tensor, transform: Transform | None) -> Tensor:
        logits: Tensor = self._network(transform(x) if transform else x)
        shape = getattr(logits, "shape", None)
        if shape is None or len(shape) != 2:
            raise AttackError(
                "the network does not give logits",
                found=type(logits).__name__ if shape is None else f"shape {tuple(shape)}",
                expected="one tensor [N, K]",
                cure="wrap the network so that its forward returns the logits alone",
            )
        return logits


def from_torch(network: nn.Module, *, chunk: int = 0) -> TorchAttackModel:
    """Make a PyTorch classifier ready to be attacked.

    The network is copied: its mode, gradients, weights and memory layout stay as they are.

    Args:
        network: Maps images [N, C, H, W] in [0, 1] to logits [N, K]; normalises them (mean and std) itself.
        chunk: How many images go through at once; 0: 256 on a processor, 1024 on a GPU.

    Returns:
        An attack model for every attack of this package, for tensors on the network's device and for NumPy arrays.

    Raises:
        AttackError: It is no torch network, or it cannot be copied.

    Examples:
        >>> import numpy as np, torch
        >>> from lisard_ros import attacks
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 4))
        >>> images, labels = np.full((2, 3, 8, 8), 0.5, np.float32), np.array([0, 3])
        >>> model = attacks.from_torch(net)
        >>> answer = model.evaluate(images, attacks.Untargeted(labels))
        >>> answer.scores.shape, answer.gradient.shape
        ((2, 4), (2, 3, 8, 8))
        >>> net.training
        True
    """
    return TorchAttackModel(network, chunk)


def chunk_of(device: torch.device) -> int:
    """How many images at once suit a device: a GPU waits for Python in small batches."""
    return CHUNKS.get(device.type, CHUNKS["cpu"])


def channels_last(network: nn.Module) -> None:
    """Lay out every filter as images in that layout want it, which is faster; values stay."""
    import torch

    for tensor in chain(network.parameters(), network.buffers()):
        if tensor.ndim == FILTER_DIMS:
            tensor.data = tensor.data.to(tensor.device, memory_format=torch.channels_last)


def frozen_copy(network: nn.Module) -> nn.Module:
    """Copy a network for an attack.

    Args:
        network: Any network; it is not changed.

    Returns:
        The copy, in eval mode, with frozen parameters and filters laid out for speed.

    Raises:
        AttackError: It is no torch network, or holds tensors that cannot be copied.
    """
    from torch import nn

    if not isinstance(network, nn.Module):
        raise AttackError("not a torch network", found=type(network).__name__, expected="a torch.nn.Module")
    try:
        copied = copy.deepcopy(network)
    except (RuntimeError, TypeError) as error:
        raise AttackError(
            "the network cannot be copied",
            found=one_line(error),
            expected="a network that copy.deepcopy takes",
            cure="build another one of the same kind and load the weights into it (load_state_dict)",
        ) from error
    channels_last(copied)
    return copied.eval().requires_grad_(False)


def sign_of(criterion: ClassCriterion) -> float:
    """A target is to be reached, a label to be left."""
    return -1.0 if isinstance(criterion, Targeted) else 1.0


def _loss(logits: Tensor, criterion: Criterion) -> Tensor:
    import torch
    from torch.nn import functional

    criterion = of_classes(criterion)
    if criterion.loss != "cross_entropy":
        loss: Tensor = objective(logits, criterion)
        return loss
    check(criterion, *logits.shape)
    labels = torch.as_tensor(criterion.classes, device=logits.device).long()
    return sign_of(criterion) * functional.cross_entropy(logits, labels, reduction="none")
