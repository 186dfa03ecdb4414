"""Muon: momentum whose direction is made orthogonal, for the kernels of hidden convolutions; AdamW for all the rest.

A kernel (out, in, i, j, k) is taken as a matrix (out, in * i * j * k). Its momentum U S V' is replaced by U V': every
direction of the update is equally long, so rare ones are learnt as fast as common ones. U V' is approached by the
quintic Newton-Schulz iteration, matrix products alone (K. Jordan et al.: Muon, an optimizer for hidden layers in neural
networks, 2024, kellerjordan.github.io/posts/muon). First layer, classifier, biases and the scales of normalisation are
no such matrices; AdamW moves them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic, by the authors: steep at 0, singular values end near 1
ITERATIONS = 5
ADAM_SHARE = 0.1  # learning rate of AdamW's part, relative to the kernels'
BETAS = (0.9, 0.999)
EPSILON = 1e-8


class Muon(torch.optim.Optimizer):
    """The optimizer.

    Parameters
    ----------
    model : its trainable parameters are sorted into the two kinds.
    lr : of the kernels; AdamW's part takes a tenth of it.
    momentum : of the kernels; Nesterov's form.
    weight_decay : decoupled, of all parameters.

    Attributes
    ----------
    found_inf : float32 scalar on the device, or ``None``; where it is 1, :meth:`step` changes nothing, state included,
        as in torch's fused optimizers.

    Notes
    -----
    Every group has a ``rate_share``: whoever sets ``lr`` multiplies by it. All state is tensors.
    """

    def __init__(self, model: nn.Module, lr: float, momentum: float, weight_decay: float) -> None:
        kernels, rest = sort_parameters(model)
        groups: list[dict[str, Any]] = [
            {"params": kernels, "orthogonal": True, "rate_share": 1.0, "lr": lr},
            {"params": rest, "orthogonal": False, "rate_share": ADAM_SHARE, "lr": lr * ADAM_SHARE},
        ]
        # "fused": torch leaves a stored "step" on the CPU without it (Optimizer.load_state_dict).
        defaults = {"momentum": momentum, "weight_decay": weight_decay, "fused": True}
        super().__init__([g for g in groups if g["params"]], defaults)
        self.found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # the loss is never evaluated again
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            given = [p for p in group["params"] if p.grad is not None]
            if not given:
                continue
            move = self._orthogonal if group["orthogonal"] else self._adam
            move(given, group)

    def _orthogonal(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        rate, part = group["lr"], 1 - group["momentum"]
        if self.found_inf is not None:
            good = 1 - self.found_inf
            # Not a product: what is not finite stays so in a product with 0.
            gradients = [torch.where(good > 0, gradient, 0) for gradient in gradients]
            rate, part = rate * good, part * good
        for p in parameters:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_mul_(buffers, 1 - part)
        torch._foreach_add_(buffers, torch._foreach_mul(gradients, part))
        directions = torch._foreach_lerp(gradients, buffers, group["momentum"])
        moves = [m.view_as(p) for m, p in zip(orthogonal([d.flatten(1) for d in directions]), parameters, strict=True)]
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        torch._foreach_mul_(moves, rate)
        torch._foreach_sub_(parameters, moves)

    def _adam(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for p in parameters:
            state = self.state[p]
            if not state:
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
            fused=True, found_inf=self.found_inf, amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=group["lr"],
            weight_decay=group["weight_decay"], eps=EPSILON, maximize=False,
        )  # fmt: skip


def sort_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable parameters: kernels of hidden convolutions, and the rest (first layer, classifier, vectors)."""
    convolutions = [m for m in model.modules() if isinstance(m, (nn.Conv3d, nn.ConvTranspose3d))]
    outer = {id(c.weight) for c in (*convolutions[:1], *convolutions[-1:])}
    trainable = [p for p in model.parameters() if p.requires_grad]
    kernels = [p for p in trainable if p.ndim > 1 and id(p) not in outer]
    chosen = {id(p) for p in kernels}
    return kernels, [p for p in trainable if id(p) not in chosen]


def orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """The orthogonal factors of matrices (rows, columns), about: singular values between 0.7 and 1.2; those of a tall
    one are longer by sqrt(rows / columns), so that its outputs move as far as a wide one's. Same types; computed in
    float32. A matrix of zeros stays one.

    With X of unit length the iteration is X <- (a + b G + c G G) X, where G = X X'. All these factors are polynomials
    of the first G and commute: only G and their product Q are iterated, small squares, those of one size together, and
    X is needed at the beginning and at the end.
    """
    a, b, c = COEFFICIENTS
    wide = [m.float() if len(m) <= m.shape[1] else m.float().T for m in matrices]
    lengths = torch._foreach_norm(wide)
    torch._foreach_add_(lengths, 1e-7)
    wide = [x / length for x, length in zip(wide, lengths, strict=True)]
    by_size: dict[int, list[int]] = {}
    for n, x in enumerate(wide):
        by_size.setdefault(len(x), []).append(n)
    for size, numbers in by_size.items():
        gram = torch.stack([wide[n] @ wide[n].T for n in numbers])
        q = identity = torch.eye(size, device=gram.device)
        for iteration in range(ITERATIONS):
            factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c).add_(identity, alpha=a)
            q = factor @ q if iteration else factor
            if iteration < ITERATIONS - 1:
                gram = factor @ gram @ factor
        for n, one in zip(numbers, q, strict=True):
            wide[n] = one @ wide[n]
    return [_as_it_was(x, matrix) for x, matrix in zip(wide, matrices, strict=True)]


def _as_it_was(x: Tensor, matrix: Tensor) -> Tensor:
    """A wide factor in the shape and type of its matrix."""
    rows, columns = matrix.shape
    return (x if rows <= columns else (x.T * math.sqrt(rows / columns)).contiguous()).to(matrix.dtype)
