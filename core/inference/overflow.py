"""Values that overflow in a lower precision are computed again in fp32: as NaN or infinity they would become classes.

fp16 ends at 65,504, which activations of a network that was trained in another precision may exceed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from core.errors import UserError

Result = TypeVar("Result")

NON_FINITE_ADVICE = "look for extreme intensities in the image, or take another checkpoint"


class NonFiniteLogitsError(UserError):
    """A network gives NaN or infinity for an image."""


def finite_or_fp32(compute: Callable[[str], Result], precision: str, finite: Callable[[Result], bool]) -> Result | None:
    """The result in a precision, or that in fp32 where it is not finite in a lower one.

    Parameters
    ----------
    compute : callable. Computes the result in the precision that it is called with.
    precision : str. "fp32", "bf16" or "fp16".
    finite : callable. Whether all values of a result are finite. Called once per computation.

    Returns
    -------
    ``None`` where the result is not finite in fp32 either.
    """
    for used in dict.fromkeys((precision, "fp32")):
        result = compute(used)
        if finite(result):
            return result
        del result  # before the next one needs the memory
    return None


def finite_logits(compute: Callable[[str], Tensor], precision: str) -> Tensor:
    """Logits in a precision, or in fp32 where they are not finite in a lower one; parameters are those of
    :func:`finite_or_fp32`. Waits for the device once per computation.

    Raises
    ------
    NonFiniteLogitsError
        If they are not finite in fp32 either.
    """
    logits = finite_or_fp32(compute, precision, is_finite)
    if logits is None:
        raise NonFiniteLogitsError(
            "the network gives values for this image that are not finite, in fp32 too, so it cannot be segmented; "
            + NON_FINITE_ADVICE
        )
    return logits


def is_finite(values: Tensor) -> bool:
    """Whether all values are finite; by their sum, which needs no copy. Synchronises with the device."""
    return bool(values.sum(dtype=torch.float32).isfinite())
