"""Memory of the logits of a whole volume."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from core.compute.tracing import AllocationTracer
from core.inference.sliding_window import InferenceOptions, predict_logits
from core.types import Size3


class LiveBytes(AllocationTracer):
    """Bytes of real tensors: their values are read."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return func(*args)
        return super().__torch_dispatch__(func, types, args, kwargs)


@pytest.mark.parametrize("shape", [(30, 26, 28), (30, 26, 5)], ids=["large", "thin"])
def test_logits_of_a_volume_are_held_once(shape: Size3) -> None:
    """Of tiles that are padded in a thin volume, too: the padding is not held."""
    network, image = nn.Conv3d(1, 40, 1), F.pad(torch.rand(1, *shape) + 0.1, [6] * 6)
    with LiveBytes() as live:
        logits = predict_logits(network, image, InferenceOptions("tiles", (8, 8, 8)))
    assert logits.shape == (40, *image.shape[1:]) and logits.is_contiguous()
    assert live.peak < 1.3 * logits.numel() * logits.element_size()
