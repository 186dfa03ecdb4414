"""Bit-for-bit reproducible runs: torch's deterministic algorithms."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

CUBLAS_WORKSPACE = ":4096:8"  # one of the two settings with which cuBLAS is deterministic


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """A context in which torch uses deterministic algorithms only, if ``enabled``.

    The same seed, build of torch, number of threads and device then give the same weights, bit for bit. An operator
    without a deterministic implementation on the device raises a ``RuntimeError`` that names it. Enter the context
    before any work on a GPU: cuBLAS reads its setting when it is initialised.
    """
    if not enabled:
        yield
        return
    algorithms = torch.are_deterministic_algorithms_enabled()
    utils: Any = torch.utils.deterministic  # a module with a property, which type checkers do not see
    fill = utils.fill_uninitialized_memory
    benchmark, cudnn_deterministic = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    utils.fill_uninitialized_memory = False  # slow, and no code here reads memory before writing it
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(algorithms)
        utils.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = benchmark, cudnn_deterministic
