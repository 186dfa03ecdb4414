"""Documented and validated fields of frozen dataclasses; forms and command-line flags are generated from them.

A subclass of :class:`Checked` declares its fields with :func:`option`; :func:`specs_of` returns them as
:class:`FieldSpec`, which validates, parses and formats values.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from core.errors import ConfigError

KIND_WORDS = {int: ("a whole number", "whole numbers"), float: ("a number", "numbers"), str: ("text", "texts")}
BOOLEANS = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}


def option(  # noqa: PLR0913 - one parameter per property of a field, given by name
    default: Any,
    label: str,
    help: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    length: int | None = None,
    advanced: bool = True,
    special_word: str = "",
    special_value: int = 0,
    texts: Mapping[str, str] | None = None,
    searchable: bool = True,
    log_scale: bool = False,
) -> Any:
    """Declare a field.

    Parameters
    ----------
    default : Any. Default value.
    label : str. Name in forms, in words.
    help : str. Description in forms and in ``--help``.
    unit : str. Unit of the value.
    minimum, maximum : float or None. Inclusive bounds, for each item of a tuple.
    length : int or None. Number of items of a non-empty tuple.
    advanced : bool. Whether forms show the field in the collapsed part.
    special_word : str. Word for ``special_value`` in forms and on the command line, such as "none"; empty for none.
    special_value : int. Value with a meaning of its own, such as "no limit"; it is allowed outside of the bounds.
    texts : mapping. Words for choices in forms, by value; other choices are shown as they are, with spaces for
        underscores.
    searchable : bool. Whether a sweep may vary the field; not where it decides what is measured, or the budget.
    log_scale : bool. Whether a sweep varies it by orders of magnitude.
    """
    metadata = dict(
        help=help,
        label=label,
        unit=unit,
        minimum=minimum,
        maximum=maximum,
        length=length,
        advanced=advanced,
        special_word=special_word,
        special_value=special_value,
        texts=types.MappingProxyType(dict(texts or {})),
        searchable=searchable,
        log_scale=log_scale,
    )
    return dataclasses.field(default=default, metadata=metadata)


class Checked:
    """Base of dataclasses that validate their fields on construction."""

    def __post_init__(self) -> None:
        cls: type = type(self)
        for spec in specs_of(cls, section=""):
            object.__setattr__(self, spec.name, spec.coerce(getattr(self, spec.name)))
        self.check()

    def check(self) -> None:
        """Validate combinations of fields; for subclasses to override."""


@dataclass(frozen=True)
class FieldSpec:
    """Specification of one field. The attributes are the parameters of :func:`option`; ``section`` is the name of the
    configuration section, ``type`` the annotation."""

    section: str
    name: str
    type: Any
    default: Any
    help: str
    label: str
    unit: str
    minimum: float | None
    maximum: float | None
    length: int | None
    advanced: bool
    special_word: str
    special_value: int
    texts: Mapping[str, str]
    searchable: bool
    log_scale: bool

    @property
    def label_with_unit(self) -> str:
        """The label with the unit, unless the label says it: ``Time budget (minutes)``."""
        said = not self.unit or self.unit in self.label.lower()
        return self.label if said else f"{self.label} ({self.unit})"

    @functools.cached_property
    def choices(self) -> tuple[str, ...]:
        """Allowed values of a choice field; empty for other fields."""
        return typing.get_args(self.type) if typing.get_origin(self.type) is Literal else ()

    @functools.cached_property
    def item_type(self) -> type | None:
        """Type of the items of a tuple field; ``None`` for other fields."""
        return typing.get_args(self.type)[0] if typing.get_origin(self.type) is tuple else None

    @property
    def flag(self) -> str:
        """Command-line flag, such as ``--learning-rate``."""
        return "--" + self.name.replace("_", "-")

    def in_words(self, value: Any) -> str:
        """A value as forms show it: a choice in words, the word for no amount; else as :meth:`format`."""
        if self.choices:
            return self.texts.get(value, str(value).replace("_", " "))
        return self.special_word if self.is_special(value) else self.format(value)

    def is_special(self, value: Any) -> bool:
        """Whether a value is the one that :attr:`special_word` is the word for."""
        return bool(self.special_word) and value == self.special_value

    def coerce(self, value: Any) -> Any:
        """Validate a value and convert it to the field's type.

        Raises
        ------
        ConfigError
            If the value is invalid; the message names the field, what was expected and what was found.
        """
        if self.choices:
            if value not in self.choices:
                raise ConfigError(f"{self.name}: expected one of {', '.join(self.choices)}; got {value!r}")
            return value
        if self.item_type is not None:
            if not isinstance(value, (tuple, list)):
                raise ConfigError(f"{self.name}: expected a list of {KIND_WORDS[self.item_type][1]}, got {value!r}")
            if self.length is not None and len(value) not in (0, self.length):
                raise ConfigError(f"{self.name}: expected {self.length} values, got {len(value)}")
            return tuple(self._coerce_scalar(v, self.item_type) for v in value)
        return self._coerce_scalar(value, self.type)

    def parse(self, text: str) -> Any:
        """Convert command-line text: tuples as ``a,b,c`` (or ``64x64x32`` for sizes), booleans as true/false."""
        text = text.strip()
        if self.item_type is not None:
            separator = "x" if self.item_type is int and "x" in text and "," not in text else ","
            parts = [p.strip() for p in text.split(separator) if p.strip()]
            return self.coerce(tuple(self._parse_scalar(p, self.item_type) for p in parts))
        if self.type is bool:
            if text.lower() not in BOOLEANS:
                raise ConfigError(f"{self.name}: expected true or false, got {text!r}")
            return BOOLEANS[text.lower()]
        if self.special_word and text.lower() == self.special_word:
            return self.coerce(self.special_value)
        return self.coerce(self._parse_scalar(text, self.type))

    def format(self, value: Any) -> str:
        """The inverse of :meth:`parse`."""
        if isinstance(value, tuple):
            return ",".join(str(v) for v in value)
        if self.special_value and self.is_special(value):
            return self.special_word
        return str(value).lower() if isinstance(value, bool) else str(value)

    def _parse_scalar(self, text: str, kind: Any) -> Any:
        if kind not in (int, float):
            return text
        try:
            return kind(text)
        except ValueError:
            raise ConfigError(f"{self.name}: expected {KIND_WORDS[kind][0]}{self._range()}, got {text!r}") from None

    def _coerce_scalar(self, value: Any, kind: Any) -> Any:
        if kind is bool:
            if not isinstance(value, bool):
                raise ConfigError(f"{self.name}: expected true or false, got {value!r}")
            return value
        if kind is str:
            if not isinstance(value, str):
                raise ConfigError(f"{self.name}: expected text, got {value!r}")
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{self.name}: expected {KIND_WORDS[kind][0]}{self._range()}, got {value!r}")
        finite = isinstance(value, int) or math.isfinite(value)
        if kind is int and finite and value != int(value):
            raise ConfigError(f"{self.name}: expected a whole number{self._range()}, got {value!r}")
        if self.is_special(value):
            return kind(value)
        low, high = self.minimum, self.maximum
        if not finite or (low is not None and value < low) or (high is not None and value > high):
            raise ConfigError(f"{self.name}: expected a number{self._range()}, got {value!r}")
        return kind(value)

    def _range(self) -> str:
        unit = f" ({self.unit})" if self.unit else ""
        if self.minimum is None:
            return unit
        word = f", or {self.special_word}" if self.special_value else ""
        span = (
            f"of {self.minimum:.15g} or more"
            if self.maximum is None
            else f"from {self.minimum:.15g} to {self.maximum:.15g}"
        )
        return f" {span}{unit}{word}"


@functools.cache
def specs_of(cls: type, section: str) -> tuple[FieldSpec, ...]:
    """The fields of a :class:`Checked` dataclass, in order."""
    hints = typing.get_type_hints(cls)
    assert not any(isinstance(hint, types.UnionType) for hint in hints.values())
    return tuple(FieldSpec(section, f.name, hints[f.name], f.default, **f.metadata) for f in dataclasses.fields(cls))
