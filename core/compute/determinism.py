"""The switch that makes a run repeatable bit for bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

CUBLAS_WORKSPACE = ":4096:8"  # one of the two sizes with which cuBLAS promises the same result again


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """While the block runs, torch uses deterministic algorithms only, if ``wanted``.

    The same seed, build of torch, number of threads and device then give the same weights, bit for bit. An operator
    that has no deterministic form on the device raises a ``RuntimeError`` that names it. cuBLAS reads its setting when
    it is first used: call this before any work on a GPU.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic  # a module with a property, which type checkers do not see
    filled = memory.fill_uninitialized_memory
    benchmark, exact = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    memory.fill_uninitialized_memory = False  # nothing here reads memory that it did not write
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        memory.fill_uninitialized_memory = filled
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = benchmark, exact
