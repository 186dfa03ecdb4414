"""Muon optimizer for the weights of hidden convolutions, linear layers and attention, with AdamW for the rest.

A kernel (out, in, i, j, k) is treated as a matrix (out, in * i * j * k). Its momentum, with the singular value
decomposition U S V', is replaced by U V': all directions of the update have the same length, so rare ones are learnt
as fast as common ones. U V' is approximated by the quintic Newton-Schulz iteration, which needs only matrix products
(K. Jordan et al.: Muon, an optimizer for hidden layers in neural networks, 2024, kellerjordan.github.io/posts/muon).
Layers that read the image or give an output (logits, those of deep supervision, a reconstruction), biases,
normalisation scales, embeddings and parameters that belong to no such layer, as tables of position biases, are updated
by AdamW.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from core.models.blocks import SegmentationNetwork, weighted_layers

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic, by the authors: steep at 0, singular values end near 1
ITERATIONS = 5
ADAMW_LR_SCALE = 0.1  # learning rate of the AdamW group, relative to that of the kernels
BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Muon(torch.optim.Optimizer):
    """Muon for hidden kernels, AdamW for the rest.

    Parameters
    ----------
    model : Module. Its trainable parameters are split into the two groups.
    lr : float. Learning rate of the kernels; the AdamW group has a tenth of it.
    momentum : float. Nesterov momentum of the kernels.
    weight_decay : float. Decoupled, for all parameters.

    Attributes
    ----------
    found_inf : Tensor, float32 scalar, or None. Where it is 1, :meth:`step` changes neither parameters nor state, as in
        torch's fused optimizers.

    Notes
    -----
    Each group has an ``lr_scale`` by which a new ``lr`` has to be multiplied. All state is tensors.
    """

    def __init__(self, model: nn.Module, lr: float, momentum: float, weight_decay: float) -> None:
        kernels, others = split_parameters(model)
        groups: list[dict[str, Any]] = [
            {"params": kernels, "orthogonalise": True, "lr_scale": 1.0, "lr": lr},
            {"params": others, "orthogonalise": False, "lr_scale": ADAMW_LR_SCALE, "lr": lr * ADAMW_LR_SCALE},
        ]
        # Without "fused", Optimizer.load_state_dict leaves a stored "step" on the CPU.
        defaults = {"momentum": momentum, "weight_decay": weight_decay, "fused": True}
        super().__init__([g for g in groups if g["params"]], defaults)
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # closures are not supported
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            update = self._muon_step if group["orthogonalise"] else self._adamw_step
            update(parameters, group)

    def _muon_step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        lr, weight = group["lr"], 1 - group["momentum"]
        if self.found_inf is not None:
            finite = 1 - self.found_inf
            # torch.where, since a non-finite value times 0 is NaN.
            gradients = [torch.where(finite > 0, gradient, 0) for gradient in gradients]
            lr, weight = lr * finite, weight * finite
        for p in parameters:
            if "momentum_buffer" not in self.state[p]:
                self.state[p].clear()  # of a checkpoint whose optimizer had the parameter in the other group
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_mul_(buffers, 1 - weight)
        torch._foreach_add_(buffers, torch._foreach_mul(gradients, weight))
        nesterov = torch._foreach_lerp(gradients, buffers, group["momentum"])
        orthogonal = orthogonalise([d.flatten(1) for d in nesterov])
        updates = [u.view_as(p) for u, p in zip(orthogonal, parameters, strict=True)]
        torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
        torch._foreach_mul_(updates, lr)
        torch._foreach_sub_(parameters, updates)

    def _adamw_step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for p in parameters:
            state = self.state[p]
            if "step" not in state:
                state.clear()  # as above
                state["step"] = torch.zeros((), device=p.device)
                state["exp_avg"] = torch.zeros_like(p)
                state["exp_avg_sq"] = torch.zeros_like(p)
        states = [self.state[p] for p in parameters]
        adamw(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            [s["step"] for s in states],
            fused=True,
            found_inf=self.found_inf,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=EPSILON,
            maximize=False,
        )


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable parameters: weights of hidden convolutions, linear layers and attention, and the rest.

    Parameters
    ----------
    model : Module. Of one that is no :class:`core.models.blocks.SegmentationNetwork` the first layer is taken for the
        only one that reads the image, and the last for the only one that gives an output.
    """
    layers = weighted_layers(model)
    if isinstance(model, SegmentationNetwork):
        outer = [*model.layers_reading_image(), *model.layers_giving_outputs()]
    else:
        outer = [*layers[:1], *layers[-1:]]
    weights = {id(layer.weight) for layer in layers} - {id(layer.weight) for layer in outer}
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            projections = module.in_proj_weight, module.q_proj_weight, module.k_proj_weight, module.v_proj_weight
            weights |= {id(weight) for weight in projections if weight is not None}
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [p for p in trainable if id(p) in weights], [p for p in trainable if id(p) not in weights]


def orthogonalise(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Approximate orthogonal factors U V' of matrices, with singular values between 0.7 and 1.2.

    Parameters
    ----------
    matrices : sequence of Tensor, shape (row, column). Each is divided by its norm first.

    Returns
    -------
    list of Tensor. Same shapes and types, computed in float32. Factors of tall matrices are scaled by
    sqrt(rows / columns), so that their outputs change as much as those of wide ones. A matrix of zeros stays zero.

    Notes
    -----
    With X of unit norm the iteration is X <- (a I + b G + c G G) X, where G = X X'. All factors are polynomials of the
    first G and commute. So only G and the product Q of the factors are iterated, small squares that are batched by
    size; X is needed at the beginning and the end.
    """
    a, b, c = COEFFICIENTS
    wide = [m.float() if len(m) <= m.shape[1] else m.float().T for m in matrices]
    norms = torch._foreach_norm(wide)
    torch._foreach_add_(norms, 1e-7)
    wide = [x / norm for x, norm in zip(wide, norms, strict=True)]
    by_rows: dict[int, list[int]] = {}
    for n, x in enumerate(wide):
        by_rows.setdefault(len(x), []).append(n)
    for rows, numbers in by_rows.items():
        gram = torch.stack([wide[n] @ wide[n].T for n in numbers])
        q = identity = torch.eye(rows, device=gram.device)
        for iteration in range(ITERATIONS):
            factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c).add_(identity, alpha=a)
            q = factor @ q if iteration else factor
            if iteration < ITERATIONS - 1:
                gram = factor @ gram @ factor
        for n, q_of_matrix in zip(numbers, q, strict=True):
            wide[n] = q_of_matrix @ wide[n]
    return [_restore_shape(x, matrix) for x, matrix in zip(wide, matrices, strict=True)]


def _restore_shape(x: Tensor, matrix: Tensor) -> Tensor:
    """A wide factor in the orientation and type of its matrix."""
    rows, columns = matrix.shape
    return (x if rows <= columns else (x.T * math.sqrt(rows / columns)).contiguous()).to(matrix.dtype)
