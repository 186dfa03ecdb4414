"""The training form, made from the configuration's own fields: a widget for each, its unit and help, its error in plain
words, and a mark with a way back where it differs from the preset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from core.config import TrainConfig, field_specs, section_titles
from core.errors import ConfigError
from core.fields import FieldSpec
from core.models import MODELS
from ui.shared import formatting
from ui.shared.state import FORM_GENERATION

LABELS = {
    "sub_volume": "Sub-volume size", "samples_train": "Sub-volumes per epoch",
    "samples_val": "Sub-volumes per validation",
    "batch_size": "Batch size", "minutes": "Time budget", "fold": "Held-out fold", "model": "Network",
    "lr_schedule": "Learning-rate schedule", "ema": "Running average of weights", "norm": "Normalisation layer",
    "clip_norm": "Gradient norm limit", "whole_every": "Whole volumes every", "spacing_mm": "Voxel size",
    "rotation_deg": "Largest rotation", "elastic_voxels": "Elastic displacement", "init_from": "Start from",
    "checkpoint_minutes": "Checkpoint at least every", "normalisation": "Intensity normalisation",
    "resample": "Resampling",
}  # fmt: skip
COLUMN_WIDTH = 200
AUTOMATIC = "from the data"


@dataclass(frozen=True)
class Filled:
    """A form as it is filled in: the configuration, or what is wrong, by field ("" for what belongs to none)."""

    config: TrainConfig | None
    errors: dict[str, str]
    changed: frozenset[str]


def wrong(filled: Filled) -> str:
    """What needs another look, in one sentence: the fields by their names on screen."""
    names = [label(spec) for spec in field_specs() if spec.name in filled.errors]
    return (
        filled.errors.get("") or f"Another look is needed at: {', '.join(names)}. What is wrong stands below the field."
    )


def label(spec: FieldSpec) -> str:
    """What a field is called on screen, with its unit."""
    text = LABELS.get(spec.name, spec.name.replace("_", " ").capitalize())
    said = not spec.unit or spec.unit in ("share", "probability") or spec.unit in text.lower()
    return text if said else f"{text} ({spec.unit})"


def read(base: TrainConfig, fixed: Mapping[str, Any], options: Mapping[str, Sequence[str]]) -> Filled:
    """The configuration as the form is filled in now: ``base`` (the preset) with ``fixed`` values and what was edited.

    Reads the session only, so errors are known before the widgets are drawn.
    """
    values: dict[str, Any] = dict(fixed)
    errors: dict[str, str] = {}
    preset_values = base.values()
    for spec in _specs(fixed):
        key = _key(base, spec)
        if key not in st.session_state:
            continue
        try:
            values[spec.name] = _parse(spec, st.session_state[key])
        except ConfigError as error:
            errors[spec.name] = _plainly(spec.name, error)
    changed = {n for n, v in values.items() if n not in fixed and v != preset_values[n]} | set(errors)
    config = None
    if not errors:
        try:
            config = base.with_values(values)
        except ConfigError as error:
            name = str(error).partition(":")[0]
            name = name if name in preset_values else ""
            errors[name] = _plainly(name, error)
    return Filled(config, errors, frozenset(changed))


def draw(base: TrainConfig, filled: Filled, fixed: Mapping[str, Any], options: Mapping[str, Sequence[str]]) -> None:
    """Draw the fields: the usual ones first, the others by section, collapsed. ``options`` are the choices of fields
    that name something of the data set."""
    specs = _specs(fixed)
    with st.grid("auto", min_column_width=COLUMN_WIDTH, gap=("small", "small")) as grid:
        for spec in specs:
            if not spec.advanced:
                with grid.cell(), st.container(gap="xxsmall"):
                    _field(base, spec, filled, options)
    st.caption("Everything else, by section; the preset has chosen already.")
    with st.container(gap="xsmall"):
        for section, (title, sentence) in section_titles().items():
            inside = [s for s in specs if s.section == section and s.advanced]
            if not inside:
                continue
            edited = len(filled.changed & {s.name for s in inside})
            bad = any(s.name in filled.errors for s in inside)
            mark = f" :primary-badge[{edited} changed]" if edited else ""
            with st.expander(f"{title}{mark}{' :red-badge[look here]' if bad else ''}", key=f"section-{section}"):
                st.caption(sentence)
                with st.grid("auto", min_column_width=COLUMN_WIDTH, gap=("small", "small")) as grid:
                    for spec in inside:
                        with grid.cell(), st.container(gap="xxsmall"):
                            _field(base, spec, filled, options)


def reset_all(base: TrainConfig) -> None:
    """Forget every edit of this preset."""
    st.session_state[_generation_key(base)] = st.session_state.get(_generation_key(base), 0) + 1


def _field(base: TrainConfig, spec: FieldSpec, filled: Filled, options: Mapping[str, Sequence[str]]) -> None:
    value = base.values()[spec.name]
    shown = label(spec) + (" :primary[●]" if spec.name in filled.changed else "")
    help = f"{spec.help}. On the command line: `{spec.flag}`"
    common: dict[str, Any] = {"key": _key(base, spec), "help": help, "persist_state": "session"}
    if spec.name in options:
        st.multiselect(
            shown, options[spec.name], default=[v for v in value if v in options[spec.name]],
            placeholder="none" if spec.section == "split" else "all", **common,
        )  # fmt: skip
    elif spec.name == "model" or spec.choices:
        names = list(spec.choices or MODELS)
        st.selectbox(shown, names, index=names.index(value), **common)
    elif spec.type is bool:
        st.space(8)
        st.toggle(shown, value=value, **common)
    elif spec.type is int:
        st.number_input(shown, value=value, step=1, **common)
    else:
        st.text_input(shown, value=spec.format(value), placeholder=AUTOMATIC if spec.item_type else "none", **common)
    if spec.name in filled.errors:
        st.markdown(f":small[:red[{formatting.plain(filled.errors[spec.name])}]]")
    if spec.name in filled.changed:
        before = spec.format(value) or ("all" if spec.name in options else "automatic" if spec.item_type else "none")
        st.button(
            f"back to {before}", key=f"reset.{_key(base, spec)}", type="tertiary", icon=":material/undo:",
            on_click=_reset, args=(base, spec),
        )  # fmt: skip


def _specs(fixed: Mapping[str, Any]) -> list[FieldSpec]:
    return [spec for spec in field_specs() if spec.name not in fixed]


def _generation_key(base: TrainConfig) -> str:
    return f"{FORM_GENERATION}.{base.preset}"


def _key(base: TrainConfig, spec: FieldSpec) -> str:
    """The widget's key: edits belong to a preset, and a reset makes a new widget."""
    everything = st.session_state.get(_generation_key(base), 0)
    this = st.session_state.get(f"{_generation_key(base)}.{spec.name}", 0)
    return f"form.{base.preset}.{spec.name}.{everything}.{this}"


def _reset(base: TrainConfig, spec: FieldSpec) -> None:
    key = f"{_generation_key(base)}.{spec.name}"
    st.session_state[key] = st.session_state.get(key, 0) + 1


def _parse(spec: FieldSpec, raw: Any) -> Any:
    if raw is None:
        raise ConfigError(f"{spec.name}: expected a value, got nothing")
    if isinstance(raw, str) and not spec.choices:
        return spec.parse(raw)
    return spec.coerce(tuple(raw) if isinstance(raw, list) else raw)


def _plainly(name: str, error: ConfigError) -> str:
    text = str(error).removeprefix(f"{name}: ")
    return text[:1].upper() + text[1:]
