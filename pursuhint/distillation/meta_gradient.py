"""Search for the pathways of DistPro: meta-optimisation on held-out samples (Deng et al., 2022).

The weights of the pathways do not enter the loss on held-out samples directly, but the student that a
training step leaves behind depends on them. `validation_after_step` writes this down, `meta_gradient`
differentiates it, and `search_pathways` goes down that gradient while the student trains. For a recipe,
`pursuhint.study.pathway_search` does all of it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.base import check_choice, check_non_negative, check_positive

if TYPE_CHECKING:
    from pursuhint.data.batch import Batch
    from pursuhint.distillation.distiller import Distiller

__all__ = ["search_pathways"]

Method = Literal["differences", "exact"]
TrainLoss = Callable[[Mapping[str, Tensor], Tensor], Tensor]
ValidationLoss = Callable[[Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True)
class AfterStep:
    """What a training step leads to.

    Attributes:
        train_loss: before the step, scalar.
        validation_loss: after the step, scalar.
        weights: after the step.
    """

    train_loss: Tensor
    validation_loss: Tensor
    weights: Mapping[str, Tensor]


def validation_after_step(
    train_loss: TrainLoss,
    validation_loss: ValidationLoss,
    weights: Mapping[str, Tensor],
    alpha: Tensor,
    *,
    lr: float,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    buffers: Mapping[str, Tensor] | None = None,
    differentiable: bool = True,
) -> AfterStep:
    r"""Loss on held-out samples after one step of gradient descent, :math:`w' = w - \eta (\mu b + \nabla_w
    L + \gamma w)`.

    Args:
        train_loss: from weights and :math:`\alpha`, scalar.
        validation_loss: from weights, scalar.
        weights: by name, requiring gradients.
        alpha: what the step depends on, requiring gradients if ``differentiable``.
        lr: :math:`\eta`, above 0.
        weight_decay: :math:`\gamma`, at least 0.
        momentum: :math:`\mu`, at least 0.
        buffers: :math:`b`, the optimiser's memory of past gradients, by name; what is missing is zero.
        differentiable: keep what is needed to differentiate the result by ``alpha``. Otherwise the weights
            after the step are leaves, which gradients can be taken of.
    """
    check_positive(lr=lr)
    check_non_negative(weight_decay=weight_decay, momentum=momentum)
    loss = train_loss(weights, alpha)
    gradients = torch.autograd.grad(
        loss, list(weights.values()), create_graph=differentiable, materialize_grads=True
    )
    stepped = {}
    for (name, weight), gradient in zip(weights.items(), gradients):
        direction = gradient + weight_decay * weight
        if buffers and name in buffers:
            direction = direction + momentum * buffers[name]
        after = weight - lr * direction
        stepped[name] = after if differentiable else after.detach().requires_grad_()
    return AfterStep(loss, validation_loss(stepped), stepped)


def meta_gradient(
    train_loss: TrainLoss,
    validation_loss: ValidationLoss,
    weights: Mapping[str, Tensor],
    alpha: Tensor,
    *,
    lr: float,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    buffers: Mapping[str, Tensor] | None = None,
    method: Method = "differences",
    radius: float = 0.01,
) -> Tensor:
    r"""How the loss on held-out samples after a training step changes with :math:`\alpha`.

    With :math:`v` the gradient of that loss at :math:`w'`, it is
    :math:`-\eta \, \partial_\alpha \langle \nabla_w L(w, \alpha), v \rangle`. ``"exact"`` differentiates
    twice; ``"differences"``, as the authors do, takes :math:`\nabla_\alpha L` at :math:`w \pm R v` with
    :math:`R` = ``radius`` :math:`/ \lVert v \rVert`, which needs no second derivatives. Both at the weights
    as they are: the authors' code takes the differences at :math:`w'`, because its copy of the weights
    shares their memory.

    Args:
        train_loss: as in `validation_after_step`.
        validation_loss: the same.
        weights: by name; left as they are.
        alpha: left as it is.
        lr: as in `validation_after_step`.
        weight_decay: the same.
        momentum: the same.
        buffers: the same.
        method: ``"differences"`` or ``"exact"``.
        radius: distance of the differences, above 0.

    Returns:
        The shape of ``alpha``.
    """
    check_choice(Method, method=method)
    check_positive(radius=radius)
    weights = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    alpha = alpha.detach().requires_grad_()
    after = validation_after_step(
        train_loss,
        validation_loss,
        weights,
        alpha,
        lr=lr,
        weight_decay=weight_decay,
        momentum=momentum,
        buffers=buffers,
        differentiable=method == "exact",
    )
    if method == "exact":
        (gradient,) = torch.autograd.grad(after.validation_loss, alpha, materialize_grads=True)
        return gradient
    direction = torch.autograd.grad(
        after.validation_loss, list(after.weights.values()), materialize_grads=True
    )
    length = torch.stack([part.square().sum() for part in direction]).sum().sqrt()
    if not length > 0:
        return torch.zeros_like(alpha)
    distance = radius / length
    ends = []
    for sign in (1, -1):
        moved = {
            name: weight.detach() + sign * distance * part
            for (name, weight), part in zip(weights.items(), direction)
        }
        ends.append(torch.autograd.grad(train_loss(moved, alpha), alpha, materialize_grads=True)[0])
    return -lr * (ends[0] - ends[1]) / (2 * distance)


def search_pathways(
    distiller: Distiller,
    term: str,
    train: Callable[[int], Iterable[Batch]],
    validation: Callable[[int], Iterable[Batch]],
    *,
    epochs: int = 40,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    alpha_lr: float = 0.1,
    method: Method = "differences",
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
        epochs: at least 1.
        lr: of the training step, above 0.
        momentum: of the training step, in [0, 1).
        weight_decay: of the training step, at least 0.
        alpha_lr: of the step of :math:`\alpha`, above 0.
        method: of the gradient, see `meta_gradient`.
        on_epoch: called with the number of a finished epoch and its :math:`\alpha`.

    Returns:
        The process, (epochs, pathways): :math:`\alpha` after every epoch, for ``PathwayLoss(process=...)``.

    Raises:
        PursuhintError: there is no such term, or a value is out of its range.

    Example:
        >>> terms = {"distpro": LossConfig(options={"weighting": "softmax"})}
        >>> task = {"num_classes": 100, "num_samples": 50_000, "example": images}
        >>> distiller = Distiller.build(student, teacher, losses=terms, plan=plan, **task)
        >>> train, held_out = (make_loader(data, split, batch_size=128, training=True) for split in splits)
        >>> process = search_pathways(distiller, "distpro", train.epoch, held_out.epoch, epochs=40)
        >>> options = {"process": process.tolist()}  # of the loss that the student is then trained with
    """
    check_positive(epochs=epochs, alpha_lr=alpha_lr)
    alpha = getattr(dict(distiller.losses.items()).get(term), "alpha", None)
    if not isinstance(alpha, nn.Parameter):
        raise PursuhintError(f"the distiller has no term {term!r} with pathways to search")
    weights = {name: weight for name, weight in distiller.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.SGD(
        list(weights.values()), lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=momentum > 0
    )
    searcher = torch.optim.Adam([alpha], lr=alpha_lr, betas=(0.5, 0.999))
    process = []
    for epoch in range(epochs):
        distiller.train()
        held_out = itertools.chain.from_iterable(map(validation, itertools.repeat(epoch)))
        for batch in train(epoch):
            alpha.grad = meta_gradient(
                *_losses(distiller, f"losses.{term}.alpha", batch, next(held_out)),
                weights,
                alpha,
                lr=lr,
                weight_decay=weight_decay,
                momentum=momentum,
                buffers={
                    name: optimizer.state[weight]["momentum_buffer"]
                    for name, weight in weights.items()
                    if optimizer.state[weight].get("momentum_buffer") is not None
                },
                method=method,
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


def _losses(
    distiller: Distiller, alpha_name: str, batch: Batch, held_out: Batch
) -> tuple[TrainLoss, ValidationLoss]:
    """Both losses as functions of the weights, without a trace in statistics and random numbers."""

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
            logits = torch.func.functional_call(distiller.student, own, (held_out.images,))
        return F.cross_entropy(logits, held_out.labels)

    return train_loss, validation_loss
