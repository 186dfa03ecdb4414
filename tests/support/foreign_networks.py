"""Networks whose weights are written as by other programs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from core.config import ModelConfig
from core.models.build import build_model


def network(seed: int = 0, in_channels: int = 1, classes: int = 3, **values: Any) -> nn.Module:
    """A small network with batch norm, with random values in all tensors."""
    torch.manual_seed(seed)
    model = build_model(ModelConfig(**{"channels": (2, 4), "norm": "batch", **values}), in_channels, classes)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.normal_()
        else:
            tensor.fill_(seed + 7)
    return model


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
        for a, b in ((one[name].contiguous(), other[name].contiguous()) for name in one)
    )
