"""Configuration: validation of every field and of combinations, parsing and formatting of text, JSON."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from core.config import (
    FORMAT_VERSION,
    RECORDS,
    DataConfig,
    LossConfig,
    OptimConfig,
    RunConfig,
    SplitConfig,
    TrainConfig,
    changed_fields,
    field_specs,
    section_titles,
)
from core.config_data import NO_FOLD
from core.errors import ConfigError
from core.fields import FieldSpec

SPECS = field_specs()
BY_NAME = {spec.name: spec for spec in SPECS}
# Values of other fields with which the whole range of a field is valid.
COMPANIONS: dict[str, dict[str, Any]] = {"fold": {"folds": 0}}
HUGE = 10**400  # above the range of float


def kind(spec: FieldSpec) -> Any:
    return spec.item_type or spec.type


def ids(specs: list[FieldSpec]) -> dict[str, Any]:
    return dict(argvalues=specs, ids=[spec.name for spec in specs])


NUMBERS = [s for s in SPECS if kind(s) in (int, float)]
TUPLES = [s for s in SPECS if s.item_type]
CHOICES = [s for s in SPECS if s.choices]
FLAGS = [s for s in SPECS if s.type is bool]
TEXTS = [s for s in SPECS if kind(s) is str]


def configured(spec: FieldSpec, value: Any) -> Any:
    """The value of the field in a configuration made with ``value``."""
    config = TrainConfig().with_values({**COMPANIONS.get(spec.name, {}), spec.name: value})
    return getattr(getattr(config, spec.section), spec.name)


def as_field_value(spec: FieldSpec, item: Any) -> Any:
    """The item itself, or a tuple of it for a tuple field."""
    return (item,) * (spec.length or 2) if spec.item_type else item


def assert_rejected(spec: FieldSpec, value: Any, message: str = "expected") -> None:
    with pytest.raises(ConfigError, match=f"^{spec.name}: {message}"):
        configured(spec, value)


# --- fields -----------------------------------------------------------------------------------------------------------


def test_every_field_has_a_supported_type() -> None:
    assert {s.name for s in [*NUMBERS, *CHOICES, *FLAGS, *TEXTS]} == BY_NAME.keys()


def test_field_names_are_unique_over_all_sections() -> None:
    assert len(BY_NAME) == len(SPECS)
    sections = [f.name for f in fields(TrainConfig) if f.name not in RECORDS]
    assert list(dict.fromkeys(s.section for s in SPECS)) == sections == list(section_titles())
    for section in sections:
        part = getattr(TrainConfig(), section)
        assert [f.name for f in fields(part)] == [s.name for s in SPECS if s.section == section]
    assert not BY_NAME.keys() & {*RECORDS, "version"}


@pytest.mark.parametrize("spec", **ids(list(SPECS)))
def test_default_is_valid_and_has_the_type_of_the_field(spec: FieldSpec) -> None:
    assert spec.flag == "--" + spec.name.replace("_", "-")
    assert configured(spec, spec.default) == spec.default
    expected = tuple if spec.item_type else str if spec.choices else spec.type
    assert type(spec.default) is expected


def test_section_titles_are_the_docstrings_split_at_the_colon() -> None:
    assert section_titles()["model"] == ("Network", "Architecture and width.")
    assert all(title and description for title, description in section_titles().values())


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", **ids(NUMBERS))
def test_numbers_are_accepted_at_their_bounds_and_rejected_beyond(spec: FieldSpec) -> None:
    low, high = spec.minimum, spec.maximum
    assert low is not None
    assert high is not None
    assert low < high
    for bound in (low, high):
        value = configured(spec, as_field_value(spec, bound))
        assert value == as_field_value(spec, bound)
        assert all(type(v) is kind(spec) for v in (value if spec.item_type else [value]))
    step = 1 if kind(spec) is int else 1e-9
    span = f"expected a number from {low:.15g} to {high:.15g}"
    for outside in (low - step * max(1, abs(low)), high + step * max(1, abs(high)), -HUGE, HUGE):
        if not spec.is_special(outside):
            assert_rejected(spec, as_field_value(spec, outside), span.replace("+", r"\+"))


@pytest.mark.parametrize("spec", **ids(NUMBERS))
def test_number_field_rejects_other_types_and_non_finite_numbers(spec: FieldSpec) -> None:
    values: list[Any] = [True, False, math.nan, math.inf, -math.inf, "1", None, [], (1,), {}, 1j, b"1"]
    for value in values:
        assert_rejected(spec, as_field_value(spec, value))


@pytest.mark.parametrize("spec", **ids([s for s in NUMBERS if kind(s) is int]))
def test_integer_field_converts_whole_floats_and_rejects_others(spec: FieldSpec) -> None:
    assert spec.minimum is not None
    value = configured(spec, as_field_value(spec, float(spec.minimum + 2)))
    assert value == as_field_value(spec, int(spec.minimum) + 2)
    assert all(type(v) is int for v in (value if spec.item_type else [value]))
    assert_rejected(spec, as_field_value(spec, spec.minimum + 0.5), "expected a whole number")


@pytest.mark.parametrize("spec", **ids(CHOICES))
def test_choice_field_accepts_its_choices_only(spec: FieldSpec) -> None:
    assert spec.default in spec.choices
    assert [configured(spec, choice) for choice in spec.choices] == list(spec.choices)
    for value in ("", spec.choices[0].upper() + "X", spec.choices[0] + " ", None, 0, True, [spec.choices[0]]):
        assert_rejected(spec, value, f"expected one of {', '.join(spec.choices)}; got ")


@pytest.mark.parametrize("spec", **ids(FLAGS))
def test_boolean_field_accepts_booleans_only(spec: FieldSpec) -> None:
    assert configured(spec, True) is True
    assert configured(spec, False) is False
    others: list[Any] = [0, 1, "true", None, 1.0, []]
    for value in others:
        assert_rejected(spec, value, "expected true or false")


@pytest.mark.parametrize("spec", **ids(TEXTS))
def test_text_field_accepts_strings_only(spec: FieldSpec) -> None:
    assert configured(spec, as_field_value(spec, "Größe 1")) == as_field_value(spec, "Größe 1")
    for value in (None, 1, True, b"x"):
        assert_rejected(spec, as_field_value(spec, value), "expected text")


@pytest.mark.parametrize("spec", **ids(TUPLES))
def test_tuple_field_accepts_lists_of_an_allowed_length(spec: FieldSpec) -> None:
    item = "x" if spec.item_type is str else spec.minimum
    items = [item] * (spec.length or 2)
    assert configured(spec, items) == tuple(items)
    assert configured(spec, []) == ()
    for value in ("abc", item, None, {item: 1}, {item}):
        assert_rejected(spec, value, "expected a list")
    if spec.length:
        for count in (1, spec.length - 1, spec.length + 1):
            assert_rejected(spec, [item] * count, f"expected {spec.length} values, got {count}")


def test_sections_are_validated_on_construction_and_frozen() -> None:
    with pytest.raises(ConfigError, match=r"learning_rate: expected a number from 1e-12 to 100, got -1"):
        OptimConfig(learning_rate=-1)
    with pytest.raises(ConfigError, match=r"spacing_mm: expected a number from 0.0001 to 100 \(mm\), got 0"):
        DataConfig(spacing_mm=(1, 1, 0))
    assert DataConfig(spacing_mm=[1, 1, 2]).spacing_mm == (1.0, 1.0, 2.0)  # type: ignore[arg-type]
    assert type(LossConfig(dice_smooth=1).dice_smooth) is float
    with pytest.raises(FrozenInstanceError):
        RunConfig().epochs = 3  # type: ignore[misc]
    assert hash(TrainConfig()) == hash(TrainConfig())


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", **ids(list(SPECS)))
def test_format_and_parse_are_inverse(spec: FieldSpec) -> None:
    values = [spec.default, *spec.choices]
    if spec.type is bool:
        values += [True, False]
    elif kind(spec) is str and not spec.choices:
        values += [as_field_value(spec, "Größe_1")] + ([("a",), ("a", "b c")] if spec.item_type else [])
    elif kind(spec) in (int, float):
        values += [as_field_value(spec, kind(spec)(bound)) for bound in (spec.minimum, spec.maximum)]
    for value in values:
        parsed = spec.parse(spec.format(value))
        assert parsed == value
        assert type(parsed) is type(value)


def test_parsing_examples() -> None:
    cases: dict[str, dict[str, Any]] = {
        "sub_volume": {"64x64x32": (64, 64, 32), "64,64,32": (64, 64, 32), " 64 , 64 , 32 ": (64, 64, 32), "": ()},
        "spacing_mm": {"1,1,1.5": (1.0, 1.0, 1.5), "1e0,1,2": (1.0, 1.0, 2.0)},
        "modalities": {"T1": ("T1",), "T1, T2": ("T1", "T2"), "T1x": ("T1x",), "": ()},
        "draw_once": dict.fromkeys(("true", "Yes", "1", "on"), True)
        | dict.fromkeys(("FALSE", "no", "0", "off"), False),
        "learning_rate": {"1e-3": 1e-3, " .5 ": 0.5, "1": 1.0},
        "epochs": {"7": 7, " 7 ": 7},
        "norm": {"batch": "batch", " group ": "group"},
    }
    for name, texts in cases.items():
        for text, value in texts.items():
            assert BY_NAME[name].parse(text) == value


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("epochs", "many", r"expected a whole number from 1 to 1000000 \(epochs\), got 'many'"),
        ("epochs", "1.5", "expected a whole number"),
        ("epochs", "", "expected a whole number"),
        ("epochs", "0", r"expected a number from 1 to 1000000 \(epochs\), got 0"),
        ("epochs", "9" * 400, "expected a number"),
        ("epochs", "9" * 5000, "expected a whole number"),
        ("learning_rate", "fast", "expected a number from 1e-12 to 100, got 'fast'"),
        ("learning_rate", "nan", "expected a number"),
        ("learning_rate", "1e999", "expected a number"),
        ("sub_volume", "64x64", "expected 3 values, got 2"),
        ("sub_volume", "64x64xa", "expected a whole number.*got 'a'"),
        ("sub_volume", "4x64x64", r"expected a number from 8 to 1024 \(voxels\), got 4"),
        ("draw_once", "maybe", "expected true or false, got 'maybe'"),
        ("norm", "layer", "expected one of batch, instance, group; got 'layer'"),
    ],
)
def test_parsing_rejects_invalid_text(name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: {message}"):
        BY_NAME[name].parse(text)


# --- changed copies, JSON ---------------------------------------------------------------------------------------------


def test_with_values_changes_only_the_given_fields() -> None:
    base = TrainConfig()
    changed = base.with_values({"learning_rate": 0.01, "fold": 2, "preset": "mine", "momentum": 0.9})
    assert (changed.optim.learning_rate, changed.optim.momentum, changed.split.fold) == (0.01, 0.9, 2)
    assert (changed.preset, base.preset) == ("mine", "custom")
    assert base == TrainConfig()
    assert changed_fields(changed, base) == {"fold": (0, 2), "learning_rate": (1e-3, 0.01), "momentum": (0.0, 0.9)}
    assert base.with_values({}) == base
    assert base.with_values(changed.values()).with_values({"preset": "mine"}) == changed
    assert list(base.values()) == [spec.name for spec in SPECS]


def test_with_values_rejects_unknown_names() -> None:
    with pytest.raises(ConfigError, match=r"expected a configuration field, got 'lr'; known: path, .*_minutes"):
        TrainConfig().with_values({"lr": 0.1})
    with pytest.raises(ConfigError, match="got 'optim'"):
        TrainConfig().with_values({"optim": OptimConfig()})


def test_every_field_has_a_label_in_words_of_its_own() -> None:
    labels = [spec.label for spec in field_specs()]
    assert len(set(labels)) == len(labels)
    for spec in field_specs():
        assert spec.label[:1].isupper() and "_" not in spec.label and len(spec.label.split()) < 9, spec.name
        assert spec.unit != "probability" or spec.label.startswith("Probability of"), spec.name
        assert set(spec.texts) <= set(spec.choices), spec.name
        assert not spec.special_word or spec.coerce(spec.special_value) == spec.special_value, spec.name


def test_values_are_shown_in_words() -> None:
    specs = {spec.name: spec for spec in field_specs()}
    assert specs["minutes"].label_with_unit == "Time budget (minutes)"
    assert specs["flip"].label_with_unit == "Probability of a left-right flip"
    assert specs["minutes"].in_words(0.0) == "none" and specs["minutes"].in_words(2.0) == "2.0"
    assert specs["loss"].in_words("dice_ce") == "Dice and cross-entropy"
    assert specs["lr_schedule"].in_words("trapezoid") == "trapezoid"


def _changed(spec: FieldSpec) -> Any:
    """A value other than the default."""
    if spec.choices:
        return spec.choices[-1] if spec.default != spec.choices[-1] else spec.choices[0]
    if spec.type is bool:
        return not spec.default
    if kind(spec) is str:
        return as_field_value(spec, f"other {spec.name}")
    assert spec.minimum is not None
    assert spec.maximum is not None
    number = spec.minimum if spec.default != spec.minimum else spec.maximum
    return as_field_value(spec, 1 if spec.name == "fold" else kind(spec)(number))


def test_json_round_trip() -> None:
    values = {spec.name: _changed(spec) for spec in SPECS}
    values["minutes"] = 0.0  # a deterministic run has no time budget
    values["whole_every"] = 7  # patience needs whole-volume validation
    values["acceleration"] = "compile"  # CUDA graphs need a single device
    config = TrainConfig().with_values({**values, "preset": "mine"})
    assert changed_fields(config, TrainConfig()).keys() == BY_NAME.keys() - {"minutes"}
    for original in (config, TrainConfig()):
        data = original.to_json()
        assert data["version"] == FORMAT_VERSION
        assert TrainConfig.from_json(json.loads(json.dumps(data, allow_nan=False))) == original
        assert data == json.loads(json.dumps(data))  # lists, no tuples


def test_missing_json_fields_get_their_defaults_or_what_versions_without_them_did() -> None:
    before = TrainConfig().with_values({"group_by": "none", "targets": "labels"})
    assert TrainConfig.from_json({"version": 1}) == before
    some = TrainConfig.from_json({"version": 1, "optim": {"momentum": 0.9}, "loss": {}})
    assert some == before.with_values({"momentum": 0.9})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "an object with a version"),
        ([], "an object with a version"),
        ({}, "an object with a version"),
        ({"version": "1"}, "an object with a version"),
        ({"version": None}, "an object with a version"),
        (
            {"version": FORMAT_VERSION + 1, "novelty": {}},
            f"version {FORMAT_VERSION} or older, got {FORMAT_VERSION + 1}",
        ),
        ({"version": 1, "novelty": {}}, "expected the sections .*'optim'.* got 'novelty'"),
        ({"version": 1, "optim": []}, "expected the sections .* got 'optim'"),
        ({"version": 1, "optim": {"lr": 1}}, "expected fields of the section optim, got lr"),
        ({"version": 1, "optim": {"epochs": 1}}, "expected fields of the section optim, got epochs"),
        ({"version": 1, "optim": {"preset": "mine"}}, "expected fields of the section optim, got preset"),
        ({"version": 1, "optim": {"momentum": 2}}, "momentum: expected a number from 0 to 0.9999, got 2"),
        ({"version": 1, "optim": {"momentum": None}}, "momentum: expected a number"),
        ({"version": 1, "optim": {"momentum": math.nan}}, "momentum: expected a number"),
        ({"version": 1, "run": {"epochs": HUGE}}, "epochs: expected a number"),
        ({"version": 1, "split": {"folds": 1}}, "folds: expected 0"),
    ],
)
def test_invalid_json_is_rejected(data: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig.from_json(data)


def test_no_fold_is_a_word_on_the_command_line_and_a_number_in_the_file() -> None:
    spec = BY_NAME["fold"]
    assert spec.parse("none") == spec.parse("None") == NO_FOLD
    assert spec.format(NO_FOLD) == spec.in_words(NO_FOLD) == "none" and spec.format(0) == "0"
    config = TrainConfig().with_values({"folds": 0, "fold": NO_FOLD})
    assert config.split.holds_out_nothing and TrainConfig.from_json(config.to_json()) == config
    assert not SplitConfig(folds=0).holds_out_nothing  # leave one out, as ever
    with pytest.raises(ConfigError, match="fold: expected a number from 0 to 999, or none, got -2"):
        SplitConfig(fold=-2)
    with pytest.raises(ConfigError, match="expected a fold with val_subjects"):
        SplitConfig(fold=NO_FOLD, val_subjects=("a",))
    assert BY_NAME["samples_val"].parse("none") == 0
