"""Documented, validated fields of frozen dataclasses: what forms and command-line flags are made from.

A dataclass that derives from :class:`Checked` declares its fields with :func:`option`; :func:`specs_of` gives them back
as :class:`FieldSpec`, which checks, reads and writes values.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import ConfigError


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    length: int | None = None,
    advanced: bool = True,
) -> Any:
    """Declare a documented field. Bounds are inclusive and hold for every item of a tuple; ``length`` is the number of
    items a non-empty tuple must have; ``advanced`` fields are collapsed in forms."""
    metadata = dict(help=help, unit=unit, minimum=minimum, maximum=maximum, length=length, advanced=advanced)
    return dataclasses.field(default=default, metadata=metadata)


class Checked:
    """Checks every field on construction; subclasses add what involves several fields in ``check``."""

    def __post_init__(self) -> None:
        cls: type = type(self)
        for spec in specs_of(cls, section=""):
            object.__setattr__(self, spec.name, spec.coerce(getattr(self, spec.name)))
        self.check()

    def check(self) -> None:
        """Rules that involve more than one field."""


@dataclass(frozen=True)
class FieldSpec:
    """One leaf field as forms and the command line need it."""

    section: str
    name: str
    type: Any
    default: Any
    help: str
    unit: str
    minimum: float | None
    maximum: float | None
    length: int | None
    advanced: bool

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed strings of a choice field, else empty."""
        return typing.get_args(self.type) if typing.get_origin(self.type) is Literal else ()

    @property
    def item_type(self) -> type | None:
        """The type of a tuple field's items, else ``None``."""
        return typing.get_args(self.type)[0] if typing.get_origin(self.type) is tuple else None

    @property
    def flag(self) -> str:
        """The command-line flag: ``--learning-rate``."""
        return "--" + self.name.replace("_", "-")

    def coerce(self, value: Any) -> Any:
        """Check a value and bring it to the field's type.

        Raises
        ------
        ConfigError
            If the value does not fit; the message names the field, what was expected and what was found.
        """
        if self.choices:
            if value not in self.choices:
                raise ConfigError(f"{self.name}: expected one of {', '.join(self.choices)}; got {value!r}")
            return value
        if self.item_type is not None:
            if not isinstance(value, (tuple, list)):
                raise ConfigError(f"{self.name}: expected a list, got {value!r}")
            if self.length is not None and len(value) not in (0, self.length):
                raise ConfigError(f"{self.name}: expected {self.length} values, got {len(value)}")
            return tuple(self._one(v, self.item_type) for v in value)
        return self._one(value, self.type)

    def parse(self, text: str) -> Any:
        """Read a command-line value: tuples as ``a,b,c`` (or ``64x64x32`` for sizes), booleans as true/false."""
        text = text.strip()
        if self.item_type is not None:
            separator = "x" if self.item_type is int and "x" in text and "," not in text else ","
            parts = [p.strip() for p in text.split(separator) if p.strip()]
            return self.coerce(tuple(self._number(p, self.item_type) for p in parts))
        if self.type is bool:
            known = {"true": True, "yes": True, "1": True, "on": True}
            known |= {"false": False, "no": False, "0": False, "off": False}
            if text.lower() not in known:
                raise ConfigError(f"{self.name}: expected true or false, got {text!r}")
            return known[text.lower()]
        return self.coerce(self._number(text, self.type))

    def format(self, value: Any) -> str:
        """The inverse of :meth:`parse`."""
        if isinstance(value, tuple):
            return ",".join(str(v) for v in value)
        return str(value).lower() if isinstance(value, bool) else str(value)

    def _number(self, text: str, kind: Any) -> Any:
        if kind not in (int, float):
            return text
        try:
            return kind(text)
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise ConfigError(f"{self.name}: expected {what}{self._range()}, got {text!r}") from None

    def _one(self, value: Any, kind: Any) -> Any:
        if kind is bool:
            if not isinstance(value, bool):
                raise ConfigError(f"{self.name}: expected true or false, got {value!r}")
            return value
        if kind is str:
            if not isinstance(value, str):
                raise ConfigError(f"{self.name}: expected text, got {value!r}")
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{self.name}: expected a number{self._range()}, got {value!r}")
        finite = isinstance(value, int) or math.isfinite(value)
        if kind is int and finite and value != int(value):
            raise ConfigError(f"{self.name}: expected a whole number{self._range()}, got {value!r}")
        low, high = self.minimum, self.maximum
        if not finite or (low is not None and value < low) or (high is not None and value > high):
            raise ConfigError(f"{self.name}: expected a number{self._range()}, got {value!r}")
        return kind(value)

    def _range(self) -> str:
        unit = f" ({self.unit})" if self.unit else ""
        if self.minimum is None or self.maximum is None:
            return unit
        return f" from {self.minimum:g} to {self.maximum:g}{unit}"


@functools.cache
def specs_of(cls: type, section: str) -> tuple[FieldSpec, ...]:
    hints = typing.get_type_hints(cls)
    assert not any(isinstance(hint, types.UnionType) for hint in hints.values())
    return tuple(FieldSpec(section, f.name, hints[f.name], f.default, **f.metadata) for f in dataclasses.fields(cls))
