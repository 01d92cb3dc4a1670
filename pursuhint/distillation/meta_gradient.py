"""Search for the pathways of DistPro: meta-optimisation on held-out samples (Deng et al., 2022).

The loss on held-out samples depends on the weights of the pathways through one training step of the student.
`validation_after_step` computes this dependence, `meta_gradient` its gradient, and `search_pathways` descends
along that gradient while the student trains. `pursuhint.study.search_process` does so for a recipe.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint._util.attention import twice_differentiable
from pursuhint.errors import PursuhintError
from pursuhint.features.logits import LogitsReader
from pursuhint.losses.checks import check_choice, check_non_negative, check_positive

if TYPE_CHECKING:
    from pursuhint.data.batch import Batch
    from pursuhint.distillation.distiller import Distiller

__all__ = ["Method", "SearchOptions", "SgdStep", "search_pathways"]

Method = Literal["differences", "exact"]
TrainLoss = Callable[[Mapping[str, Tensor], Tensor], Tensor]
ValidationLoss = Callable[[Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class BilevelLosses:
    r"""The two losses of a bilevel problem.

    Attributes:
        train: inner loss, scalar, from weights and :math:`\alpha`.
        validation: outer loss, on held-out samples, scalar, from weights.
    """

    train: TrainLoss
    validation: ValidationLoss


@dataclass(frozen=True)
class SgdStep:
    r"""One step of gradient descent, :math:`w' = w - \eta (\mu b + \nabla_w L + \gamma w)`.

    Attributes:
        lr: :math:`\eta`, above 0.
        weight_decay: :math:`\gamma`, at least 0.
        momentum: :math:`\mu`, at least 0.
        buffers: :math:`b`, the optimiser's momentum buffers by name of the weight; missing ones are zero.

    Raises:
        PursuhintError: a value is out of its range.
    """

    lr: float
    weight_decay: float = 0.0
    momentum: float = 0.0
    buffers: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_positive(lr=self.lr)
        check_non_negative(weight_decay=self.weight_decay, momentum=self.momentum)

    def __call__(self, weights: Mapping[str, Tensor], gradients: Iterable[Tensor]) -> dict[str, Tensor]:
        """The weights after the step, by name.

        Args:
            weights: before the step, by name.
            gradients: of the loss, in the order of the weights.
        """
        stepped = {}
        for (name, weight), gradient in zip(weights.items(), gradients):
            direction = gradient + self.weight_decay * weight
            if name in self.buffers:
                direction = direction + self.momentum * self.buffers[name]
            stepped[name] = weight - self.lr * direction
        return stepped


@dataclass(frozen=True)
class SearchOptions:
    r"""How the weights of pathways are searched; the defaults are the paper's.

    Attributes:
        epochs: of the search, at least 1.
        step: of the student, with Nesterov momentum in [0, 1); without buffers.
        alpha_lr: learning rate of :math:`\alpha`, above 0.
        method: of the gradient, see `meta_gradient`.

    Raises:
        PursuhintError: a value is out of its range.
    """

    epochs: int = 40
    step: SgdStep = SgdStep(lr=0.1, momentum=0.9, weight_decay=5e-4)
    alpha_lr: float = 0.1
    method: Method = "differences"

    def __post_init__(self) -> None:
        check_positive(epochs=self.epochs, alpha_lr=self.alpha_lr)
        check_choice(Method, method=self.method)


@dataclass(frozen=True)
class AfterStep:
    """Losses and weights of one training step.

    Attributes:
        train_loss: before the step, scalar.
        validation_loss: after the step, scalar.
        weights: after the step.
    """

    train_loss: Tensor
    validation_loss: Tensor
    weights: Mapping[str, Tensor]


def validation_after_step(
    losses: BilevelLosses,
    weights: Mapping[str, Tensor],
    alpha: Tensor,
    *,
    step: SgdStep,
    differentiable: bool = True,
) -> AfterStep:
    r"""Loss on held-out samples after one training step, :math:`L_{val}(w'(\alpha))`.

    Args:
        losses: of the training step and of the held-out samples.
        weights: by name, requiring gradients.
        alpha: :math:`\alpha`, requiring gradients if ``differentiable``.
        step: from :math:`w` to :math:`w'`.
        differentiable: keep the graph that differentiates the result by ``alpha``. Otherwise the weights
            after the step are leaves, by which the result can be differentiated.
    """
    with twice_differentiable(differentiable):
        train_loss = losses.train(weights, alpha)
    gradients = torch.autograd.grad(
        train_loss, list(weights.values()), create_graph=differentiable, materialize_grads=True
    )
    stepped = step(weights, gradients)
    if not differentiable:
        stepped = {name: weight.detach().requires_grad_() for name, weight in stepped.items()}
    return AfterStep(train_loss, losses.validation(stepped), stepped)


def meta_gradient(
    losses: BilevelLosses,
    weights: Mapping[str, Tensor],
    alpha: Tensor,
    *,
    step: SgdStep,
    method: Method = "differences",
    radius: float = 0.01,
) -> Tensor:
    r"""Gradient by :math:`\alpha` of the loss on held-out samples after a training step.

    With :math:`v` the gradient of that loss at :math:`w'`, it is
    :math:`-\eta \, \partial_\alpha \langle \nabla_w L(w, \alpha), v \rangle`. ``"exact"`` differentiates
    twice; ``"differences"``, as the authors do, takes :math:`\nabla_\alpha L` at :math:`w \pm R v` with
    :math:`R` = ``radius`` :math:`/ \lVert v \rVert`, which needs no second derivatives. Both are taken at
    :math:`w`: the authors' code takes the differences at :math:`w'`, because its copy of the weights shares
    their memory.

    Args:
        losses: as in `validation_after_step`.
        weights: by name; left unchanged.
        alpha: left unchanged.
        step: as in `validation_after_step`.
        method: ``"differences"`` or ``"exact"``.
        radius: distance of the differences, above 0.

    Returns:
        The shape of ``alpha``.

    Raises:
        PursuhintError: ``method`` or ``radius`` is out of its range.
    """
    check_choice(Method, method=method)
    check_positive(radius=radius)
    weights = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    alpha = alpha.detach().requires_grad_()
    after = validation_after_step(losses, weights, alpha, step=step, differentiable=method == "exact")
    if method == "exact":
        (gradient,) = torch.autograd.grad(after.validation_loss, alpha, materialize_grads=True)
        return gradient
    # v, the gradient of the validation loss by w', and its length over all weights
    direction = torch.autograd.grad(
        after.validation_loss, list(after.weights.values()), materialize_grads=True
    )
    length = torch.stack([part.square().sum() for part in direction]).sum().sqrt()
    if not length > 0:
        return torch.zeros_like(alpha)
    distance = radius / length  # R
    ends = []
    for sign in (1, -1):  # the gradient of L by alpha, at w + R v and w - R v
        moved = {
            name: weight.detach() + sign * distance * part
            for (name, weight), part in zip(weights.items(), direction)
        }
        ends.append(torch.autograd.grad(losses.train(moved, alpha), alpha, materialize_grads=True)[0])
    return -step.lr * (ends[0] - ends[1]) / (2 * distance)


def search_pathways(
    distiller: Distiller,
    term: str,
    *,
    train: Callable[[int], Iterable[Batch]],
    validation: Callable[[int], Iterable[Batch]],
    options: SearchOptions | None = None,
    on_epoch: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    r"""Learn the weights of pathways on held-out samples while the student trains.

    Each iteration is one step of :math:`\alpha` (Adam, betas 0.5 and 0.999) down the gradient of the
    cross-entropy on a held-out batch after a training step, and then that training step (SGD with Nesterov
    momentum). Student and connectors are trained on the way. The authors hold 20 % of the training set out.

    Args:
        distiller: with the pathway loss among its terms. Build that with ``weighting="softmax"``.
        term: name of that term; it has a parameter ``alpha``.
        train: batches of an epoch, numbered from 0.
        validation: held-out batches of an epoch; begun anew when there are fewer.
        options: epochs, steps and method; None for the paper's.
        on_epoch: called with the number of a finished epoch and its :math:`\alpha`.

    Returns:
        The process, (epochs, pathways): :math:`\alpha` after every epoch, for ``PathwayLoss(process=...)``.

    Raises:
        PursuhintError: the distiller has no such term.

    Example:
        >>> terms = {"distpro": LossConfig(options={"weighting": "softmax"})}
        >>> task = {"num_classes": 100, "num_samples": 50_000, "example": images}
        >>> distiller = Distiller.build(student, teacher, losses=terms, plan=plan, **task)
        >>> train, held_out = (make_loader(data, split, batch_size=128, training=True) for split in splits)
        >>> process = search_pathways(distiller, "distpro", train=train.epoch, validation=held_out.epoch)
        >>> options = {"process": process.tolist()}  # of the loss that the student is then trained with
    """
    options = SearchOptions() if options is None else options
    alpha = getattr(dict(distiller.losses.items()).get(term), "alpha", None)
    if not isinstance(alpha, nn.Parameter):
        raise PursuhintError(f"the distiller has no term {term!r} with pathways to search")
    weights = {name: weight for name, weight in distiller.named_parameters() if weight.requires_grad}
    step = options.step
    optimizer = torch.optim.SGD(
        list(weights.values()),
        lr=step.lr,
        momentum=step.momentum,
        weight_decay=step.weight_decay,
        nesterov=step.momentum > 0,
    )
    searcher = torch.optim.Adam([alpha], lr=options.alpha_lr, betas=(0.5, 0.999))
    process = []
    for epoch in range(options.epochs):
        distiller.train()
        held_out = itertools.chain.from_iterable(map(validation, itertools.repeat(epoch)))
        for batch in train(epoch):
            alpha.grad = meta_gradient(
                _losses(distiller, f"losses.{term}.alpha", batch, next(held_out)),
                weights,
                alpha,
                step=replace(step, buffers=_momentum_buffers(optimizer, weights)),
                method=options.method,
            )
            searcher.step()
            distiller.zero_grad(set_to_none=True)
            distiller(batch).total.backward()
            optimizer.step()
            distiller.zero_grad(set_to_none=True)
        process.append(alpha.detach().clone())
        if on_epoch is not None:
            on_epoch(epoch, process[-1])
    return torch.stack(process)


def _momentum_buffers(
    optimizer: torch.optim.Optimizer, weights: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Momentum buffers by name of the weight; a weight has none before its first step."""
    found = {name: optimizer.state[weight].get("momentum_buffer") for name, weight in weights.items()}
    return {name: buffer for name, buffer in found.items() if buffer is not None}


def _losses(distiller: Distiller, alpha_name: str, batch: Batch, held_out: Batch) -> BilevelLosses:
    """Both losses as functions of the weights; statistics and random numbers stay unchanged."""

    reader = LogitsReader(distiller.student)

    def buffers() -> dict[str, Tensor]:
        return {name: buffer.clone() for name, buffer in distiller.named_buffers()}

    def forked() -> contextlib.AbstractContextManager[None]:
        devices = [batch.images.device] if batch.images.device.type == "cuda" else []
        return torch.random.fork_rng(devices)

    def train_loss(weights: Mapping[str, Tensor], alpha: Tensor) -> Tensor:
        with forked():
            tensors = {**buffers(), **weights, alpha_name: alpha}
            total: Tensor = torch.func.functional_call(distiller, tensors, (batch,)).total
        return total

    def validation_loss(weights: Mapping[str, Tensor]) -> Tensor:
        prefix = "student."
        own = {
            name.removeprefix(prefix): tensor
            for name, tensor in {**buffers(), **weights}.items()
            if name.startswith(prefix)
        }
        with forked():
            output = torch.func.functional_call(distiller.student, own, (held_out.images,))
            logits = reader.read(output, held_out.images)
        return F.cross_entropy(logits, held_out.labels)

    return BilevelLosses(train_loss, validation_loss)
