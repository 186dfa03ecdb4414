"""Limits of sizes that environment variables set."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Literal

from core.errors import UserError

BYTES = {"bytes": 1, "GB": 10**9}  # of a unit


@dataclass(frozen=True)
class SizeLimit:
    """A limit that an environment variable sets.

    Attributes
    ----------
    variable : str. Its name.
    default : int. The limit where it is not set, in the unit.
    unit : str. "bytes", of which it states a whole number, or "GB".
    error : type. Error for a value that is no limit.
    may_be_zero : bool. Whether 0 is a limit.
    """

    variable: str
    default: int
    unit: Literal["bytes", "GB"]
    error: type[UserError]
    may_be_zero: bool = False

    def nbytes(self) -> int:
        """The limit in bytes.

        Raises
        ------
        UserError
            If the variable is not a number of this unit.
        """
        text = os.environ.get(self.variable, "").strip()
        try:
            value = self._number(text) if text else self.default
            if not math.isfinite(value) or value < 0 or not (value or self.may_be_zero):
                raise ValueError
        except (ValueError, OverflowError):
            kind = "whole number" if self.unit == "bytes" else "number"
            least = "" if self.may_be_zero else " above 0"
            raise self.error(f"{self.variable}: expected a {kind} of {self.unit}{least}, got {text!r}") from None
        return int(value * BYTES[self.unit])

    def _number(self, text: str) -> float:
        return int(text) if self.unit == "bytes" else float(text)
