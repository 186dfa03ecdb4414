"""The search space of a sweep: fields of the configuration with a range or choices, from their specifications.

Text forms, as on the command line and in forms: ``learning_rate=1e-4:1e-2:log``, ``noise=0:0.2``, ``batch_size=1:4``,
``affine=0:1:0.25`` (in steps), ``loss=dice,dice_ce``, ``channels=16x32x64,32x64x128``, ``modalities=T1,T1+T2``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.config import TrainConfig, field_specs
from core.errors import ConfigError
from core.fields import FieldSpec
from core.losses import check_loss, unused_options
from core.models import architecture, architectures, check_indicator, missing_packages, unused_model_options

LOG = "log"
SPREAD = 10.0  # of a suggested logarithmic range: from the present value / SPREAD to the value * SPREAD
MAX_COMBINATIONS = 10_000  # a space with more is not enumerated
_LIST_SEPARATORS = {int: "x", float: "x", str: "+"}  # between the items of one value; values are separated by commas


@dataclass(frozen=True)
class Dimension:
    """A field that is searched.

    Attributes
    ----------
    name : str. The field.
    choices : tuple. Values to choose from; empty for a range.
    low, high : float. Bounds of a range, inclusive.
    log : bool. Whether values are drawn by orders of magnitude.
    step : float. Distance of the values from ``low`` on; 0: any value.
    """

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float = 0.0

    @property
    def spec(self) -> FieldSpec:
        """Specification of the field."""
        return _spec(self.name)

    @property
    def is_whole(self) -> bool:
        """Whether it is a range of whole numbers."""
        return not self.choices and self.spec.type is int

    @property
    def values(self) -> tuple[Any, ...] | None:
        """All values in order; ``None`` where there are too many to list them."""
        if self.choices:
            return self.choices
        step = self.step or float(self.is_whole)
        if not step:
            return None
        number = math.floor((self.high - self.low) / step + 1e-9) + 1
        if number > MAX_COMBINATIONS:
            return None
        return tuple(self.spec.coerce(round(self.low + n * step, 12)) for n in range(number))

    def contains(self, value: Any) -> bool:
        """Whether a value of the field is one of the space."""
        if self.choices:
            return value in self.choices
        if not self.low <= value <= self.high:
            return False
        offset = (value - self.low) / self.step if self.step else 0.0
        return abs(offset - round(offset)) < 1e-9

    @property
    def text(self) -> str:
        """The inverse of :func:`parse_dimension`, without the name."""
        if self.choices:
            return ",".join(choice_text(self.spec, value) for value in self.choices)
        bounds = f"{exact_number(self.low)}:{exact_number(self.high)}"
        return f"{bounds}:log" if self.log else f"{bounds}:{exact_number(self.step)}" if self.step else bounds

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        if self.choices:
            return {"field": self.name, "choices": [list(v) if isinstance(v, tuple) else v for v in self.choices]}
        return {"field": self.name, "low": self.low, "high": self.high, "log": self.log, "step": self.step}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Dimension:
        """Inverse of :meth:`to_json`.

        Raises
        ------
        ConfigError
            If there is no such field, or a value is not allowed.
        """
        spec = _spec(str(data["field"]))
        if "choices" in data:
            return cls(spec.name, tuple(spec.coerce(value) for value in data["choices"]))
        low, high, step = (float(data.get(key, 0.0)) for key in ("low", "high", "step"))
        return cls(spec.name, (), low, high, bool(data.get("log")), step)


Space = tuple[Dimension, ...]


# --- text -------------------------------------------------------------------------------------------------------------


def parse_space(texts: Iterable[str]) -> Space:
    """The search space of ``FIELD=VALUES`` texts.

    Raises
    ------
    ConfigError
        If a text is not understood, a field cannot be searched or is given twice, or a value is not allowed; the
        message names the field and its allowed values.
    """
    space: list[Dimension] = []
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not equals or not values.strip():
            example = f"{name or 'learning_rate'}={_example(name)}"
            raise ConfigError(f"search: expected FIELD=LOW:HIGH or FIELD=A,B,..., such as {example}; got {text!r}")
        dimension = parse_dimension(name, values)
        if any(other.name == name for other in space):
            raise ConfigError(f"search: expected each field once, got {name} twice")
        space.append(dimension)
    if not space:
        raise ConfigError("search: expected one or more fields to search, got none")
    return tuple(space)


def parse_dimension(name: str, text: str) -> Dimension:
    """A field and the text of its range or choices: ``1e-4:1e-2:log``, ``dice,dice_ce``.

    Raises
    ------
    ConfigError
        As :func:`parse_space`.
    """
    spec = _spec(name)
    if not spec.searchable:
        raise ConfigError(
            f"search: {name} decides what is measured or how long, and is the same in all trials; got {text.strip()!r}"
        )
    if is_number(spec) and ":" in text:
        return _parse_range(spec, text)
    parts = [part for part in text.split(",") if part.strip()]
    values = tuple(dict.fromkeys(_parse_value(spec, part) for part in parts))
    if len(values) < 2:
        what = "a range LOW:HIGH or two or more different values" if is_number(spec) else "two or more different values"
        same = f", which is {choice_text(spec, values[0])} each time" if len(parts) > 1 else ""
        raise ConfigError(f"search: {name}: expected {what}{_allowed(spec)}; got {text.strip()!r}{same}")
    return Dimension(name, values)


def _parse_range(spec: FieldSpec, text: str) -> Dimension:
    parts = [part.strip() for part in text.split(":")]
    if len(parts) > 3 or not all(parts):
        raise ConfigError(
            f"search: {spec.name}: expected LOW:HIGH, LOW:HIGH:log or LOW:HIGH:STEP{_allowed(spec)}; got {text!r}"
        )
    low, high = (float(_in_search(spec, part)) for part in parts[:2])
    log, step = parts[2:] == [LOG], 0.0
    if len(parts) == 3 and not log:
        try:
            step = float(parts[2])
        except ValueError:
            step = math.nan
        if not 0 < step <= high - low or (spec.type is int and step != int(step)):
            kind = "a whole step" if spec.type is int else "a step"
            raise ConfigError(
                f"search: {spec.name}: expected log or {kind} above 0 and at most {high - low:g}; got {parts[2]!r}"
            )
    if not low < high:
        raise ConfigError(f"search: {spec.name}: expected a range from low to high, got {low:.15g} to {high:.15g}")
    if log and low <= 0:
        raise ConfigError(f"search: {spec.name}: expected a range above 0 for log, got {low:.15g} to {high:.15g}")
    return Dimension(spec.name, (), low, high, log, step)


def _parse_value(spec: FieldSpec, text: str) -> Any:
    """One value; the items of a list are separated by ``x`` (numbers) or ``+`` (names)."""
    text = text.strip()
    if spec.item_type is not None:
        text = ",".join(text.split(_LIST_SEPARATORS[spec.item_type]))
    value = _in_search(spec, text)
    if spec.name == "model":
        try:
            return architecture(value).name
        except ConfigError as error:
            raise ConfigError(f"search: {error}") from None
    return value


def _in_search(spec: FieldSpec, text: str) -> Any:
    try:
        return spec.parse(text)
    except ConfigError as error:
        raise ConfigError(f"search: {error}") from None


def _allowed(spec: FieldSpec) -> str:
    if spec.choices:
        return f" out of {', '.join(spec.choices)}"
    if is_number(spec) and spec.minimum is not None and spec.maximum is not None:
        return f" from {spec.minimum:.15g} to {spec.maximum:.15g}"
    return " (true, false)" if spec.type is bool else ""


def _example(name: str) -> str:
    found = next((spec for spec in field_specs() if spec.name == name and spec.searchable), None)
    return (suggest(found, TrainConfig()) if found is not None else "") or "1e-4:1e-2:log"


def choice_text(spec: FieldSpec, value: Any) -> str:
    """Text of a value in a list of choices, such as ``16x32x64``."""
    if spec.item_type is not None:
        return _LIST_SEPARATORS[spec.item_type].join(map(str, value))
    return spec.format(value)


def exact_number(value: float) -> str:
    """A number with up to 6 significant digits if they state it exactly, else with all digits."""
    short = f"{value:.6g}"
    return short if float(short) == value else repr(value)


# --- suggestions ------------------------------------------------------------------------------------------------------


def is_number(spec: FieldSpec) -> bool:
    """Whether a field holds one number."""
    return spec.type in (int, float)


def searchable_specs(config: TrainConfig) -> list[FieldSpec]:
    """The fields that a sweep of this configuration can vary: not the options of other networks and losses."""
    unused = unused_fields(config.values())
    return [spec for spec in field_specs() if spec.searchable and spec.name not in unused]


def suggest(spec: FieldSpec, config: TrainConfig) -> str:
    """Suggested range or choices, around the value of a configuration; empty for a field without bounds or choices,
    such as a list of channels."""
    if options := suggested_choices(spec, config):
        return ",".join(choice_text(spec, value) for value in options)
    if not is_number(spec):
        return ""
    value = config.values()[spec.name]
    least = 1.0 if spec.type is int else 0.0
    lower = spec.minimum if spec.minimum is not None else 0.0
    upper = spec.maximum if spec.maximum is not None else math.inf
    if spec.log_scale:
        middle = value if value > 0 else spec.default or 1e-5
        low, high = max(middle / SPREAD, lower), min(middle * SPREAD, upper)
        return f"{exact_number(float(f'{low:.3g}'))}:{exact_number(float(f'{high:.3g}'))}:{LOG}"
    if upper <= 1.0:
        return f"{exact_number(lower)}:{exact_number(upper)}"
    value = max(value, spec.default, least)
    low, high = max(lower, value // 2 if spec.type is int else value / 2), min(upper, value * 2)
    return f"{exact_number(low)}:{exact_number(high)}" if low < high else ""


def suggested_choices(spec: FieldSpec, config: TrainConfig) -> list[Any]:
    """Values of a choice field that fit the rest of a configuration, and whose packages are installed; empty for other
    fields."""
    options: Sequence[Any] = spec.choices or ((False, True) if spec.type is bool else ())
    if spec.name == "model":
        options = [name for name, entry in architectures().items() if not missing_packages(entry)]
    return [value for value in options if is_valid({spec.name: value}, config)]


def is_valid(values: Mapping[str, Any], config: TrainConfig) -> bool:
    """Whether the values of a trial make a configuration."""
    try:
        changed = config.with_values(values)
        check_loss(changed.loss, changed.model)
        check_indicator(changed)
    except ConfigError:
        return False
    return True


# --- conditions and combinations --------------------------------------------------------------------------------------


def unused_fields(values: Mapping[str, Any]) -> set[str]:
    """Fields that the network and the loss of a configuration do not use."""
    return unused_options(values["loss"]) | unused_model_options(values["model"])


def conditions_first(space: Space) -> Space:
    """The space with the fields that decide whether others are used, model and loss, in front."""
    return tuple(sorted(space, key=lambda dimension: dimension.name not in ("model", "loss")))


def used_values(space: Space, values: Mapping[str, Any], base: TrainConfig) -> dict[str, Any]:
    """The values of a trial without those that its network and loss do not use.

    Parameters
    ----------
    space : tuple of Dimension.
    values : mapping. A value for each field of the space that is used, and perhaps for others.
    base : TrainConfig. Configuration of the sweep.
    """
    unused = unused_fields({**base.values(), **values})
    return {dimension.name: values[dimension.name] for dimension in space if dimension.name not in unused}


def combinations(space: Space, base: TrainConfig) -> Iterator[dict[str, Any]] | None:
    """All different combinations of values; ``None`` where there are more than :data:`MAX_COMBINATIONS`."""
    columns: list[Sequence[Any]] = []
    for dimension in space:
        if (values := dimension.values) is None:
            return None
        columns.append(values)
    if math.prod(map(len, columns)) > MAX_COMBINATIONS:
        return None
    return _different(space, columns, base)


def _different(space: Space, columns: Sequence[Sequence[Any]], base: TrainConfig) -> Iterator[dict[str, Any]]:
    seen: set[tuple[tuple[str, Any], ...]] = set()
    for row in itertools.product(*columns):
        values = used_values(space, dict(zip((d.name for d in space), row, strict=True)), base)
        if (key := key_of(values)) not in seen:
            seen.add(key)
            yield values


def key_of(values: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Values as a key; equal for trials that would be the same."""
    return tuple(sorted((name, _spec(name).coerce(value)) for name, value in values.items()))


def grid_of(space: Space, levels: int) -> Space:
    """The space for a grid: ranges that have no step take evenly spaced values.

    Parameters
    ----------
    levels : int. Number of values of a range without a step.
    """
    return tuple(_on_grid(dimension, levels) for dimension in space)


def _on_grid(dimension: Dimension, levels: int) -> Dimension:
    if dimension.choices or dimension.step or len(dimension.values or range(levels + 1)) <= levels:
        return dimension
    low, high = (math.log(v) if dimension.log else v for v in (dimension.low, dimension.high))
    points = [low + (high - low) * n / (levels - 1) for n in range(levels)]
    values = [float(f"{math.exp(point) if dimension.log else point:.6g}") for point in points]
    digits = 0 if dimension.is_whole else 12
    return replace(
        dimension, choices=tuple(dict.fromkeys(dimension.spec.coerce(round(value, digits)) for value in values))
    )


def _spec(name: str) -> FieldSpec:
    """The field of this name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    for spec in field_specs():
        if spec.name == name:
            return spec
    known = ", ".join(spec.name for spec in field_specs() if spec.searchable)
    raise ConfigError(f"search: expected a field of the configuration, got {name!r}; fields: {known}")
