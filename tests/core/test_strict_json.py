"""Strict JSON: NaN becomes null; conversion of numpy, paths, sets and dataclasses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.strict_json import dumps


@dataclass
class Point:
    x: float
    name: str


def test_non_finite_numbers_become_null() -> None:
    value = {"a": float("nan"), "b": [float("inf"), -float("inf"), np.float32("nan")], "c": np.array([1.5, np.nan])}
    assert json.loads(dumps(value)) == {"a": None, "b": [None, None, None], "c": [1.5, None]}


def test_other_types_are_converted() -> None:
    value: dict[Any, Any] = {1: (np.int64(2), True, None, "ü"), "p": Path("a/b"), "s": {3, 1}, "e": np.bool_(True)}
    value["d"] = Point(float("nan"), "n")
    expected = {"1": [2, True, None, "ü"], "p": str(Path("a/b")), "d": {"x": None, "name": "n"}, "s": [1, 3], "e": True}
    assert json.loads(dumps(value)) == expected
    assert "ü" in dumps("ü")


def test_unsupported_type_raises() -> None:
    with pytest.raises(TypeError, match="got object"):
        dumps({"a": object()})
