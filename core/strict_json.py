"""Strict JSON (RFC 8259): NaN and infinities become ``null``."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np


def dumps(value: Any, *, indent: int | None = None) -> str:
    """Serialise to strict JSON.

    numpy scalars and arrays, paths, tuples, sets (sorted) and dataclasses are converted; keys become strings.

    Raises
    ------
    TypeError
        If a value cannot be represented.
    """
    content = plain(value)
    text = json.dumps(content, indent=indent, allow_nan=False, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # parts of a file name in another encoding: as escapes
        return json.dumps(content, indent=indent, allow_nan=False)
    return text


def plain(value: Any) -> Any:
    """Convert a value to dictionaries, lists, strings, finite numbers, booleans and ``None``.

    Raises
    ------
    TypeError
        If a value cannot be represented.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return [plain(v) for v in sorted(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"expected a value that JSON can hold, got {type(value).__name__}")
