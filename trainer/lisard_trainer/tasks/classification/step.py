"""The loss of one batch: views, outputs, terms. Knows nothing of optimizers, epochs, files or processes.

The first view is the augmented image (perhaps with slight noise), the second the same with noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from lisard_ros.attacks.gradient import PGD, pgd
from lisard_ros.attacks.model import Criterion, ModelAnswer, Transform, Untargeted
from lisard_ros.attacks.objective import of_classes

from ...backbones import PROJECTOR, Outputs
from ...losses import augment, detail_mixing, dual_norm, lisard, terms
from ...losses.augment import Views
from ...recipes import Recipe
from ...training.divergence import StepLoss, arithmetic

# Gradient terms that compare an image with itself moved a little.
MOVING = ("slope", "logit_extrapolation", "curvature")
PARTS = ("clean", "noisy", "similarity", "consistency", "gradient")


@dataclass(frozen=True, eq=False)
class Context:
    """What a step needs beside network and images. epoch counts from 0.

    gather: embeddings of this process -> those of the whole batch, differentiable. guide: the network of cross.weights.
    """

    recipe: Recipe
    epoch: int
    generator: torch.Generator
    device: torch.device
    precision: str = "float32"
    gather: terms.Gather = terms.alone
    guide: nn.Module | None = None

    @property
    def alpha(self) -> float:
        """Share of the cross entropy in this epoch."""
        settings = self.recipe.loss
        if settings.alpha == "official":
            return lisard.alpha_official(self.epoch)
        if settings.alpha == "rising":
            return lisard.alpha_generalised(self.epoch + 1, self.recipe.optimizer.epochs)
        return settings.alpha_value

    @property
    def gradient_form(self) -> str:
        """The gradient term in this epoch."""
        settings = self.recipe.gradient
        return settings.form if self.epoch >= settings.after else "none"

    @property
    def precision_moved(self) -> str:
        """Arithmetic of the passes that a gradient term of MOVING compares."""
        wide = self.gradient_form in MOVING and self.recipe.gradient.precision == "float32"
        return "float32" if wide else self.precision

    @property
    def size_px(self) -> int:
        """Width of the images in this epoch."""
        share_done = self.epoch / self.recipe.optimizer.epochs
        return self.recipe.augment.size_px(self.recipe.data.size_px, share_done)


def views(dataset: Tensor, labels: Tensor, context: Context) -> Views:
    """Draws the views of images [N,3,H,W] in [0,1]."""
    recipe = context.recipe
    x = augment.clean_view(dataset, recipe.augment, context.generator, context.size_px)
    return detail_mixing.views(x, labels, recipe.views, recipe.noise, recipe.detail_mixing, context.generator)


def compute(network: nn.Module, seen: Views, context: Context) -> StepLoss:
    """Loss of one batch; the network is in train mode and its batch statistics move, unless they are frozen."""
    noisy = None if seen.noisy is None else seen.noisy.to(context.device)
    seen = Views(seen.first.to(context.device), noisy, seen.labels.to(context.device))
    if context.recipe.adversarial.form != "none":
        seen = replace(seen, first=attacked(network, seen, context))
    with _running_statistics(network) if context.recipe.batch_norm == "frozen" else nullcontext():
        return _one_view(network, seen, context) if seen.noisy is None else _two_views(network, seen, context)


def _one_view(network: nn.Module, seen: Views, context: Context) -> StepLoss:
    x = _tracked(seen.first, context)
    moved = _moved(network, seen, context)
    outputs = _outputs(network, [x], moved, context)
    ce = _cross_entropies(outputs[0], seen.labels, context)
    penalty = _penalty(network, [(x, ce)], outputs[0], list(zip(moved, outputs[1:], strict=True)), seen, context)
    total = ce.mean() + context.recipe.gradient.weight * penalty
    return StepLoss(total, _detached([ce.mean(), ce.mean(), None, None, penalty]), PARTS)


def _two_views(network: nn.Module, seen: Views, context: Context) -> StepLoss:
    assert seen.noisy is not None
    recipe = context.recipe
    inputs = [_tracked(seen.first, context), _tracked(seen.noisy, context)]
    moved = _moved(network, seen, context)
    clean, noisy, *extra = _outputs(network, inputs, moved, context)
    own = [_cross_entropies(outputs, seen.labels, context) for outputs in (clean, noisy)]
    similarity = _similarity(network, clean, noisy, context)
    consistency = _consistency(clean, noisy, recipe)
    tracked, pairs = list(zip(inputs, own, strict=True)), list(zip(moved, extra, strict=True))
    penalty = _penalty(network, tracked, clean, pairs, seen, context)
    total = lisard.combine(context.alpha, own[0].mean(), own[1].mean(), recipe.similarity.weight * similarity)
    total = total + recipe.consistency.weight * consistency + recipe.gradient.weight * penalty
    return StepLoss(total, _detached([own[0].mean(), own[1].mean(), similarity, consistency, penalty]), PARTS)


def _detached(parts: Sequence[Tensor | None]) -> Tensor:
    known = [part for part in parts if part is not None]
    return torch.stack([(known[0].new_zeros(()) if part is None else part).detach() for part in parts])


def _cross_entropies(outputs: Outputs, labels: Tensor, context: Context) -> Tensor:
    return lisard.cross_entropies(outputs.logits, labels, context.recipe.loss.label_smoothing)


# Forward ------------------------------------------------------------------------------------------------------------


def _outputs(network: nn.Module, views: Sequence[Tensor], moved: Sequence[Tensor], context: Context) -> list[Outputs]:
    """Of the views, then of the moved images: all in one batch, or the second view apart (as published).

    Moved images pass with the first view: a difference of their losses needs the same batch statistics.
    """
    if context.recipe.forward == "joined":
        return _together(network, [*views, *moved], context)
    with dual_norm.using(network, "clean"):
        first, *extra = _together(network, [views[0], *moved], context)
    with dual_norm.using(network, "noisy"):
        apart = [_forward(network, x, context, context.precision) for x in views[1:]]
    return [first, *apart, *extra]


def _together(network: nn.Module, inputs: Sequence[Tensor], context: Context) -> list[Outputs]:
    together = _forward(network, torch.cat(list(inputs)), context, context.precision_moved)
    sizes = [len(x) for x in inputs]
    embeddings, logits = together.embedding.split(sizes), together.logits.split(sizes)
    stages = [stage.split(sizes) for stage in together.stages]
    return [Outputs(tuple(s[i] for s in stages), z, y) for i, (z, y) in enumerate(zip(embeddings, logits, strict=True))]


def _forward(network: nn.Module, x: Tensor, context: Context, precision: str) -> Outputs:
    x = x.contiguous(memory_format=torch.channels_last)
    with arithmetic(context.device, precision):
        if context.recipe.similarity.layers == "stages":
            outputs: Outputs = network.forward_stages(x)  # type: ignore[operator]
            return outputs
        return Outputs((), *network(x))


# Similarity and consistency -----------------------------------------------------------------------------------------


def _similarity(network: nn.Module, clean: Outputs, noisy: Outputs, context: Context) -> Tensor:
    settings = context.recipe.similarity
    if settings.form == "none":
        return clean.logits.new_zeros(())
    pairs = [(_projected(network, clean.embedding, context), _projected(network, noisy.embedding, context))]
    if settings.layers == "stages":
        stages = zip(clean.stages[:-1], noisy.stages[:-1], strict=True)
        pairs += [(terms.pooled(one), terms.pooled(other)) for one, other in stages]
    return terms.mean([_compare(*pair, context) for pair in pairs])


def _compare(clean: Tensor, noisy: Tensor, context: Context) -> Tensor:
    """The term over features [N,d] of the two views."""
    settings = context.recipe.similarity
    columns, generator = None, context.generator
    if 0 < settings.features < clean.shape[1]:
        order = torch.randperm(clean.shape[1], generator=generator, device=generator.device)
        columns = order[: settings.features].to(context.device)
    clean, noisy = (context.gather(terms.chosen(side, columns)) for side in (clean, noisy))
    divisor = context.recipe.optimizer.batch_size if settings.divisor == "batch" else None
    official = settings.form == "official"
    with arithmetic(context.device, context.precision):
        term = terms.similarity(
            clean,
            noisy,
            settings.off_weight,
            normalise=not official,
            divisor=divisor,
            wide=settings.precision == "float32",
        )
    return term / settings.temperature if official else term


def _projected(network: nn.Module, z: Tensor, context: Context) -> Tensor:
    if context.recipe.similarity.projector != "used":
        return z
    head: Callable[[Tensor], Tensor] = getattr(network, PROJECTOR)
    with arithmetic(context.device, context.precision):
        return head(z)


def _consistency(clean: Outputs, noisy: Outputs, recipe: Recipe) -> Tensor:
    settings = recipe.consistency
    if settings.form == "cosine":
        return terms.cosine(clean.embedding, noisy.embedding)
    if settings.form == "kl":
        return terms.kl(clean.logits, noisy.logits, settings.temperature)
    return clean.logits.new_zeros(())


# Input gradients ----------------------------------------------------------------------------------------------------


def _tracked(x: Tensor, context: Context) -> Tensor:
    """x, ready for the terms that take the gradient by double backward."""
    return x.detach().requires_grad_(True) if context.gradient_form in ("l1", "views", "curvature") else x


def _moved(network: nn.Module, seen: Views, context: Context) -> list[Tensor]:
    """A share of the first view, moved a little along the sign of its gradient, for a pass with the first view.

    With cross.weights a second one comes along the gradient of that network.
    """
    settings, form = context.recipe.gradient, context.gradient_form
    if form not in MOVING or settings.statistics == "running":
        return []
    moved = _along(network, _share(seen.first, context), _share(seen.labels, context), context)
    if context.guide is None:
        return [moved.requires_grad_(True) if form == "curvature" else moved]
    return [moved, _along(context.guide, _cross(seen.first, context), _cross(seen.labels, context), context)]


def _along(network: nn.Module, x: Tensor, labels: Tensor, context: Context) -> Tensor:
    """Images moved by the step of the term, along the sign of the gradient that a network has there."""
    return x + context.recipe.gradient.distance_255 / 255 * input_gradient(network, x, labels, context).sign()


def _share(x: Tensor, context: Context) -> Tensor:
    """The first part of a batch; two rows at least, without which batch norm has no statistics."""
    return x[: max(2, round(context.recipe.gradient.share * len(x)))]


def _cross(x: Tensor, context: Context) -> Tensor:
    """The last part of a batch, for the term along the gradient of another network."""
    return x[len(x) - max(2, round(context.recipe.cross.share * len(x))) :]


def input_gradient(network: nn.Module, x: Tensor, labels: Tensor, context: Context) -> Tensor:
    """D cross entropy / d x of each image, detached; batch statistics are used and left as they were."""
    x = x.detach().requires_grad_(True)
    with _unmoved(network), _frozen(network):
        ce = lisard.cross_entropies(_forward(network, x, context, context.precision_moved).logits, labels)
        (gradient,) = torch.autograd.grad(ce.sum(), x)
    return gradient


def _penalty(
    network: nn.Module,
    tracked: Sequence[tuple[Tensor, Tensor]],
    first: Outputs,
    moved: Sequence[tuple[Tensor, Outputs]],
    seen: Views,
    context: Context,
) -> Tensor:
    """The gradient term. tracked: each view's images and losses; moved: the moved images and their outputs."""
    form = context.gradient_form
    if form in MOVING and context.recipe.gradient.statistics == "running":
        return _as_deployed(network, seen, context)
    if form == "l1":
        return terms.mean([terms.gradient_l1(own, x) for x, own in tracked])
    if form == "views":
        return terms.gradient_gap(*(_gradient(own, x) for x, own in tracked))
    if form in MOVING:
        own = _comparison(tracked[0], first.logits, *moved[0], _share(seen.labels, context), context)
        if context.guide is None:
            return own
        base, labels = _cross(first.logits, context), _cross(seen.labels, context)
        return own + context.recipe.cross.weight * _extrapolated(base, moved[1][1].logits, labels, context)
    return first.logits.new_zeros(())


def _comparison(
    tracked: tuple[Tensor, Tensor], logits: Tensor, x: Tensor, outputs: Outputs, labels: Tensor, context: Context
) -> Tensor:
    """A gradient term of MOVING. tracked, logits: of the first view; x, outputs: of its share that was moved."""
    settings = context.recipe.gradient
    if settings.form == "logit_extrapolation":
        return _extrapolated(_share(logits, context), outputs.logits, labels, context)
    first, ce = tracked
    moved_ce = _cross_entropies(outputs, labels, context)
    if settings.form == "slope":
        return terms.slope(moved_ce, _share(ce, context), settings.distance_255 / 255)
    return terms.gradient_gap(_share(_gradient(ce, first), context), _gradient(moved_ce, x))


def _as_deployed(network: nn.Module, seen: Views, context: Context) -> Tensor:
    """The linear term of the network with its running statistics; images and moved images in one pass."""

    def term(guide: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
        base, moved = _together(network, [x, _along(guide, x, labels, context)], context)
        return _extrapolated(base.logits, moved.logits, labels, context)

    with _running_statistics(network):
        own = term(network, _share(seen.first, context), _share(seen.labels, context))
        if context.guide is None:
            return own
        cross = term(context.guide, _cross(seen.first, context), _cross(seen.labels, context))
    return own + context.recipe.cross.weight * cross


def _extrapolated(base: Tensor, moved: Tensor, labels: Tensor, context: Context) -> Tensor:
    """Mean cross entropy of logits that go on from an image's as far as the recipe reaches."""
    settings = context.recipe.gradient
    reached = terms.extrapolated(base, moved, settings.target_eps_255 / settings.distance_255)
    return lisard.cross_entropies(reached, labels).mean()


def _gradient(ce: Tensor, x: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(ce.sum(), x, create_graph=True)
    return gradient


@contextmanager
def _unmoved(network: nn.Module) -> Iterator[None]:
    """Running statistics are not updated inside the block."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._NormBase) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


@contextmanager
def _running_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norm uses its running statistics inside the block, and leaves them as they are."""
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._NormBase) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for the weights inside the block."""
    trained = [p for p in network.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


# Adversarial training (the reference) --------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class TrainingAttackModel:
    """The network as it trains, for attacks: its mode is kept, its batch statistics and weights stay as they are."""

    network: nn.Module
    context: Context

    def evaluate(
        self, x: Tensor, criterion: Criterion, transform: Transform | None = None, *, gradient: bool = True
    ) -> ModelAnswer:
        """Cross entropy and its gradient, which is worked out whether it is wanted or not."""
        labels = torch.as_tensor(of_classes(criterion).classes, device=x.device)
        x = x.detach().requires_grad_(True)
        with _unmoved(self.network), _frozen(self.network):
            seen = transform(x) if transform else x
            logits = _forward(self.network, seen, self.context, self.context.precision).logits
            ce = lisard.cross_entropies(logits, labels)
            (found,) = torch.autograd.grad(ce.sum(), x)
        return ModelAnswer(ce.detach(), logits.detach().softmax(1), found if gradient else None)


def attacked(network: nn.Module, seen: Views, context: Context) -> Tensor:
    """The first view under the attack of an adversarial training: PGD in eval mode, or one step from a random start."""
    settings = context.recipe.adversarial
    eps = settings.eps_255 / 255
    single = settings.form == "fgsm_rs"
    # Wong et al. 2020 (arXiv 2001.03994), algorithm 3: a step of 1.25 eps.
    how = PGD(eps, 1.25 * eps, 1) if single else PGD(eps, settings.step_255 / 255, settings.steps)
    mode = network.training
    network.train(single)
    source = context.generator
    random = np.random.default_rng(int(torch.randint(2**31, (1,), generator=source, device=source.device)))
    criterion = Untargeted(seen.labels.cpu().numpy())
    found: Tensor = pgd(TrainingAttackModel(network, context), seen.first.clamp(0, 1), criterion, how, random)
    network.train(mode)
    return found
