"""The training form: for each field of the configuration a widget with unit, help, error and reset."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from core.config import TrainConfig, field_specs, section_titles
from core.datasets import DataOptions
from core.errors import ConfigError, UserError
from core.fields import FieldSpec
from core.losses import LOSSES, check_loss, unused_options
from core.models import architecture, architectures, check_indicator, unused_model_options
from core.presets import AUTO
from ui.shared import cache, formatting

COLUMN_WIDTH = 200  # px
AUTOMATIC = "from the data"
GENERATION = "form_generation"  # session key; counts resets, see _key
BEFORE = "form_base"  # session key; the preset of the last run of the page, see keep_changes


@dataclass(frozen=True)
class FormState:
    """The current values of the form.

    Attributes
    ----------
    config : TrainConfig, optional. The configuration; ``None`` if a value is not valid.
    errors : dict. Message by field name; the key is "" for an error that belongs to no field.
    changed : frozenset of str. Fields that differ from the preset.
    """

    config: TrainConfig | None
    errors: dict[str, str]
    changed: frozenset[str]


def error_summary(form: FormState) -> str:
    """One sentence that names the fields with errors by their labels."""
    labels = [spec.label for spec in field_specs() if spec.name in form.errors]
    return form.errors.get("") or f"Not valid: {', '.join(labels)}. The reason is below each field."


def read(base: TrainConfig, fixed: Mapping[str, Any]) -> FormState:
    """Read the form from the session; errors are known before the widgets are rendered.

    Parameters
    ----------
    base : TrainConfig. The preset.
    fixed : mapping. Values by field name that the form does not offer.
    """
    values: dict[str, Any] = dict(fixed)
    errors: dict[str, str] = {}
    preset_values = base.values()
    for spec in _specs(base, fixed):
        key = _key(base, spec)
        if key not in st.session_state:
            continue
        try:
            values[spec.name] = _parse(spec, st.session_state[key])
        except ConfigError as error:
            errors[spec.name] = _message(spec.name, error)
    changed = {n for n, v in values.items() if n not in fixed and v != preset_values[n]} | set(errors)
    config = None
    if not errors:
        try:
            config = base.with_values(values)
            check_loss(config.loss, config.model)
            check_indicator(config)
        except ConfigError as error:
            config = None
            name = str(error).partition(":")[0]
            name = name if name in preset_values else ""
            errors[name] = _message(name, error)
    if config is not None:
        try:
            cache.initial_network(config.run.init_from)
        except UserError as error:
            config, errors["init_from"] = None, _message("init_from", error)
    return FormState(config, errors, frozenset(changed))


def render(base: TrainConfig, form: FormState, fixed: Mapping[str, Any], options: Mapping[str, Sequence[str]]) -> None:
    """Render the usual fields, then the advanced ones in collapsed sections.

    Parameters
    ----------
    base, fixed : as in :func:`read`.
    form : FormState. Errors and changes to mark.
    options : mapping. Choices, by field name, of fields whose values are names from the data set.
    """
    specs = _specs(base, fixed)
    _fields(base, form, [s for s in specs if not s.advanced], options)
    st.caption("All other settings, by section. The preset has a value for each.")
    with st.container(gap="xsmall"):
        for section, (title, sentence) in section_titles().items():
            advanced = [s for s in specs if s.section == section and s.advanced]
            if not advanced:
                continue
            changed = len(form.changed & {s.name for s in advanced})
            badges = f" :primary-badge[{changed} changed]" if changed else ""
            badges += " :red-badge[error]" if any(s.name in form.errors for s in advanced) else ""
            with st.expander(f"{title}{badges}", key=f"section-{section}"):
                st.caption(sentence)
                _fields(base, form, advanced, options)


def keep_changes(base: TrainConfig) -> None:
    """Carry values that were changed by hand over to the new widgets where the preset ``auto`` chooses other values."""
    before: TrainConfig | None = st.session_state.get(BEFORE)
    st.session_state[BEFORE] = base
    if before is None or before.preset != base.preset or base.preset != AUTO:
        return
    chosen = before.values()
    for spec in field_specs():
        old, new = _key(before, spec), _key(base, spec)
        if old == new or spec.name in DataOptions.names() or old not in st.session_state:
            continue
        if st.session_state[old] != _widget_value(spec, chosen[spec.name]):
            st.session_state[new] = st.session_state[old]
        else:
            st.session_state.pop(new, None)


def changed_values(names: Collection[str]) -> dict[str, Any]:
    """Valid values of fields that were changed by hand before the choices of the preset ``auto`` are known anew."""
    before: TrainConfig | None = st.session_state.get(BEFORE)
    if before is None or before.preset != AUTO:
        return {}
    values = {name: field_value(before, name) for name in names}
    chosen = before.values()
    return {name: value for name, value in values.items() if value is not None and value != chosen[name]}


def reset_all(base: TrainConfig) -> None:
    """Discard all changes to a preset (callback of a button)."""
    st.session_state[_generation_key(base)] = st.session_state.get(_generation_key(base), 0) + 1


def set_value(base: TrainConfig, name: str, value: Any) -> None:
    """Set the widget of a field (callback of a button)."""
    spec = _spec(name)
    st.session_state[_key(base, spec)] = _widget_value(spec, value)


def field_value(base: TrainConfig, name: str) -> Any:
    """The value of a field in the form: that of the preset until it is changed; ``None`` if it is not valid."""
    spec = _spec(name)
    key = _key(base, spec)
    if key not in st.session_state:
        return base.values()[name]
    try:
        return _parse(spec, st.session_state[key])
    except ConfigError:
        return None


def _fields(
    base: TrainConfig, form: FormState, specs: Sequence[FieldSpec], options: Mapping[str, Sequence[str]]
) -> None:
    with st.grid("auto", min_column_width=COLUMN_WIDTH, gap=("small", "small")) as grid:
        for spec in specs:
            with grid.cell(), st.container(gap="xxsmall"):
                _field(base, form, spec, options)


def _field(base: TrainConfig, form: FormState, spec: FieldSpec, options: Mapping[str, Sequence[str]]) -> None:
    """The widget of a field, its error, and a button that resets it if it was changed."""
    value = base.values()[spec.name]
    label = spec.label_with_unit
    help = f"{spec.help}. On the command line: `{spec.flag}`"
    common: dict[str, Any] = {"key": _key(base, spec), "help": help, "persist_state": "session"}
    if spec.name in options:
        choices = options[spec.name]
        st.multiselect(label, choices, [v for v in value if v in choices], placeholder=_no_names(spec), **common)
    elif spec.name == "model" or spec.choices:
        entries = LOSSES if spec.name == "loss" else architectures() if spec.name == "model" else {}
        names = list(entries or spec.choices)
        value = architecture(value).name if spec.name == "model" else value
        chosen = st.selectbox(label, names, index=names.index(value), format_func=spec.in_words, **common)
        if chosen in entries:
            st.caption(formatting.sentence(entries[chosen].help))
    elif spec.type is bool:
        st.space(8)
        st.toggle(label, value=value, **common)
    elif spec.type is int:
        empty = spec.is_special(value)
        st.number_input(label, value=None if empty else value, step=1, placeholder=spec.special_word or None, **common)
    else:
        placeholder = spec.special_word or (AUTOMATIC if spec.item_type else "none")
        st.text_input(label, value=_text(spec, value), placeholder=placeholder, **common)
    if spec.name in form.errors:
        st.markdown(f":small[:red[{formatting.plain(form.errors[spec.name])}]]")
    if spec.name in form.changed:
        preset_value = spec.in_words(value) or (
            _no_names(spec) if spec.name in options else "automatic" if spec.item_type else "none"
        )
        st.button(
            f"back to {preset_value}",
            key=f"reset.{_key(base, spec)}",
            type="tertiary",
            icon=":material/undo:",
            on_click=_reset,
            args=(base, spec),
        )


def _spec(name: str) -> FieldSpec:
    return next(spec for spec in field_specs() if spec.name == name)


def _widget_value(spec: FieldSpec, value: Any) -> Any:
    """The value as the widget of the field holds it."""
    if spec.item_type is str:
        return list(value)
    if spec.type is int and spec.is_special(value):
        return None
    if spec.name == "model":
        with contextlib.suppress(ConfigError):  # its name where it is known by another one
            return architecture(value).name
    if spec.choices or spec.type in (bool, int) or spec.name == "model":
        return value
    return _text(spec, value)


def _text(spec: FieldSpec, value: Any) -> str:
    """The value as a text field holds it."""
    return "" if spec.is_special(value) else spec.format(value)


def _no_names(spec: FieldSpec) -> str:
    """What an empty list of names from the data set means."""
    return {"data": "all", "augment": "automatic"}.get(spec.section, "none")


def _specs(base: TrainConfig, fixed: Mapping[str, Any]) -> list[FieldSpec]:
    """The fields that the form offers: options that the chosen network or loss does not use have the values of the
    preset."""
    hidden = unused_options(field_value(base, "loss") or base.loss.loss)
    hidden |= unused_model_options(field_value(base, "model") or base.model.model)
    return [spec for spec in field_specs() if spec.name not in fixed and spec.name not in hidden]


def _generation_key(base: TrainConfig) -> str:
    return f"{GENERATION}.{base.preset}"


def _key(base: TrainConfig, spec: FieldSpec) -> str:
    """Key of a field's widget: changes belong to a preset, and a reset changes the key, which makes a new widget."""
    form_generation = st.session_state.get(_generation_key(base), 0)
    field_generation = st.session_state.get(f"{_generation_key(base)}.{spec.name}", 0)
    # Options of reading are chosen for each data set on the Data page, and values of the preset auto for the data, the
    # time and the device: another choice makes a new widget.
    varies = spec.name in DataOptions.names() or base.preset == AUTO
    chosen = f".{base.values()[spec.name]}" if varies else ""
    return f"form.{base.preset}.{spec.name}{chosen}.{form_generation}.{field_generation}"


def _reset(base: TrainConfig, spec: FieldSpec) -> None:
    key = f"{_generation_key(base)}.{spec.name}"
    st.session_state[key] = st.session_state.get(key, 0) + 1


def _parse(spec: FieldSpec, raw: Any) -> Any:
    if spec.special_word and isinstance(raw, str | None) and (raw or "").strip().lower() in ("", spec.special_word):
        return spec.coerce(spec.special_value)
    if raw is None:
        raise ConfigError(f"{spec.name}: expected a value, got nothing")
    if isinstance(raw, str) and not spec.choices:
        return spec.parse(raw)
    return spec.coerce(tuple(raw) if isinstance(raw, list) else raw)


def _message(name: str, error: UserError) -> str:
    """The message of an error without the field's name, which is the label beside it."""
    return formatting.sentence(str(error).removeprefix(f"{name}: "))
