"""Configuration of a training run: frozen dataclasses that document and validate each field.

The sections are in :mod:`core.config_data`, :mod:`core.config_network` and :mod:`core.config_run`. Forms, command-line
flags and ``config.json`` are generated from the fields (:func:`field_specs`), so a new option is one new field. Field
names are unique over all sections. ``()`` means that :mod:`core.training.plan` derives the value from the data.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from core.config_data import AugmentConfig, DataConfig, SamplingConfig, SplitConfig
from core.config_network import LossConfig, ModelConfig, OptimConfig
from core.config_run import RunConfig, ValidationConfig
from core.errors import ConfigError, check_version
from core.fields import FieldSpec, specs_of

__all__ = [
    "AugmentConfig", "DataConfig", "LossConfig", "ModelConfig", "OptimConfig", "RunConfig", "SamplingConfig",
    "SplitConfig", "TrainConfig", "ValidationConfig", "changed_fields", "field_specs", "section_titles",
]  # fmt: skip

FORMAT_VERSION = 1
RECORDS = ("preset", "reasons")  # of :class:`TrainConfig`, besides the sections
# What a file means that lacks a field, where that is not the default: versions before the field behaved so.
WHERE_ABSENT = {"group_by": "none", "targets": "labels"}


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of a training run by section.

    Attributes
    ----------
    preset : str. The preset that the values started from.
    reasons : tuple of str. Why the preset chose its values, one line each; empty where it is the same for all data.
    """

    preset: str = "custom"
    reasons: tuple[str, ...] = ()
    data: DataConfig = field(default_factory=DataConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def with_values(self, values: Mapping[str, Any]) -> TrainConfig:
        """A copy with fields replaced: ``{"learning_rate": 0.01, "fold": 2}``.

        Raises
        ------
        ConfigError
            If a name is unknown or a value is invalid.
        """
        by_section: dict[str, dict[str, Any]] = {}
        section_of = _sections()
        for name, value in values.items():
            if name in RECORDS:
                continue
            if name not in section_of:
                raise ConfigError(f"expected a configuration field, got {name!r}; known: {', '.join(section_of)}")
            by_section.setdefault(section_of[name], {})[name] = value
        changed: dict[str, Any] = {
            section: dataclasses.replace(getattr(self, section), **part) for section, part in by_section.items()
        }
        if "preset" in values:
            changed["preset"] = str(values["preset"])
        if "reasons" in values:
            changed["reasons"] = tuple(str(reason) for reason in values["reasons"])
        return dataclasses.replace(self, **changed)

    @property
    def sub_volumes_per_step(self) -> int:
        """Sub-volumes per optimizer step, over all devices."""
        return self.sampling.batch_size * self.optim.accumulate * self.run.devices

    @property
    def swapped_classes(self) -> tuple[tuple[int, int], ...]:
        """Pairs of class indices that left-right mirroring exchanges, in a configuration with all classes resolved.

        Raises
        ------
        ConfigError
            If a name is not a class.
        """
        if self.augment.lateral != "swap":
            return ()
        classes = self.data.classes
        unknown = [name for name in self.augment.lateral_pairs if name not in classes]
        if unknown:
            raise ConfigError(f"lateral_pairs: expected classes out of {', '.join(classes)}; got {', '.join(unknown)}")
        return tuple((1 + classes.index(left), 1 + classes.index(right)) for left, right in self.augment.stated_pairs)

    def values(self) -> dict[str, Any]:
        """All fields as one flat dictionary."""
        return {spec.name: getattr(getattr(self, spec.section), spec.name) for spec in field_specs()}

    def to_json(self) -> dict[str, Any]:
        """JSON values by section, with the format version."""
        data = json.loads(json.dumps(dataclasses.asdict(self)))
        if not self.reasons:
            del data["reasons"]
        return {"version": FORMAT_VERSION, **data}

    @classmethod
    def from_json(cls, data: Any) -> TrainConfig:
        """The inverse of :meth:`to_json`; missing fields get their defaults, or what earlier versions did without them.

        Raises
        ------
        ConfigError
            If the data is not a configuration, has a newer version, or contains an unknown field or invalid value.
        """
        if not isinstance(data, dict) or not isinstance(data.get("version"), int):
            raise ConfigError("expected a configuration (an object with a version); the file is damaged")
        check_version(data["version"], FORMAT_VERSION, ConfigError, what="configuration version")
        defaults = _defaults()
        sections = {f.name for f in fields(cls)} - {*RECORDS}
        parts: dict[str, dict[str, Any]] = {}
        for name, value in WHERE_ABSENT.items():
            parts.setdefault(_sections()[name], {})[name] = value
        for name, part in data.items():
            if name in ("version", *RECORDS):
                continue
            if name not in sections or not isinstance(part, dict):
                raise ConfigError(f"expected the sections {sorted(sections)}, got {name!r}")
            unknown = sorted(set(part) - {f.name for f in fields(getattr(defaults, name))})
            if unknown:
                raise ConfigError(f"expected fields of the section {name}, got {', '.join(unknown)}")
            parts.setdefault(name, {}).update(part)
        records: dict[str, Any] = {"preset": data.get("preset", "custom")}
        if isinstance(data.get("reasons"), list):
            records["reasons"] = data["reasons"]
        read = {name: _read_section(name, part) for name, part in parts.items()}
        return dataclasses.replace(defaults, **read).with_values(records)


_read_sections: dict[tuple[str, str], Any] = {}  # by name and content: the runs of a root differ in few of them
MAX_READ_SECTIONS = 10_000


def _read_section(name: str, values: dict[str, Any]) -> Any:
    """A section with these values, which is read once in a process: that takes far longer than to compare its text.

    Raises
    ------
    ConfigError
        If a value is invalid.
    """
    key = name, repr(values)
    if key not in _read_sections:
        if len(_read_sections) >= MAX_READ_SECTIONS:
            _read_sections.clear()
        _read_sections[key] = dataclasses.replace(getattr(_defaults(), name), **values)
    return _read_sections[key]


@functools.cache
def field_specs() -> tuple[FieldSpec, ...]:
    """All fields of :class:`TrainConfig`, in order."""
    hints = typing.get_type_hints(TrainConfig)
    sections = [f.name for f in fields(TrainConfig) if f.name not in RECORDS]
    return tuple(spec for name in sections for spec in specs_of(hints[name], section=name))


@functools.cache
def _sections() -> Mapping[str, str]:
    """Section of each field."""
    return {spec.name: spec.section for spec in field_specs()}


@functools.cache
def _defaults() -> TrainConfig:
    """The default configuration, which every file is read into."""
    return TrainConfig()


def section_titles() -> dict[str, tuple[str, str]]:
    """``{section: (title, description)}``, parsed from the docstrings of the sections, in order."""
    hints = typing.get_type_hints(TrainConfig)
    titles = {}
    for f in fields(TrainConfig):
        if f.name not in RECORDS:
            title, _, sentence = (hints[f.name].__doc__ or "").strip().partition(": ")
            titles[f.name] = (title, sentence[:1].upper() + sentence[1:])
    return titles


def changed_fields(config: TrainConfig, base: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """``{field: (value in base, value in config)}`` of the fields that differ."""
    values, before = config.values(), base.values()
    return {name: (before[name], values[name]) for name in values if values[name] != before[name]}
