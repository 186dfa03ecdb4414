"""The search on the Train page: which settings to search, between which values, and with how many trials."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from core.config import TrainConfig
from core.errors import ConfigError, UserError
from core.fields import FieldSpec, specs_of
from core.formatting import format_duration
from core.presets import command_line
from core.runs.store.engine_records import LOCAL
from core.runs.sweeps import submit_sweep
from core.sweeps.settings import SweepOptions, SweepSettings, check_sweep, objective
from core.sweeps.space import (
    Dimension,
    choice_text,
    is_number,
    parse_dimension,
    searchable_specs,
    suggest,
    suggested_choices,
)
from ui.shared import formatting
from ui.shared.errors import error_box
from ui.shared.navigation import go_to
from ui.shared.paths import runs_root
from ui.shared.state import GROUP

FIELDS = "search_fields"  # session key
RANGE_HELP = (
    "LOW:HIGH, LOW:HIGH:log for values by orders of magnitude, LOW:HIGH:STEP, or values separated by commas. "
    "On the command line: "
)
LIST_HELP = "Values separated by commas, the items of one by x: 16x32x64, 32x64x128. On the command line: "


def render(
    config: TrainConfig,
    base: TrainConfig | None,
    name: str,
    options: Mapping[str, Sequence[str]],
    can_start: bool,
    engine: str = LOCAL,
) -> None:
    """Render the choice of the search, its error, and the button that starts it.

    Parameters
    ----------
    config : TrainConfig. What the trials share.
    base : TrainConfig, optional. What its preset is on this data, as in :func:`core.presets.command_line`.
    name : str. Name for the sweep.
    options : mapping. By field name the names of the data set that it can hold; such fields cannot be searched here.
    can_start : bool. Whether training with the configuration can start.
    engine : str. Name of the engine that trains the trials.
    """
    with st.expander("Search for better settings", icon=":material/tune:", key="search"):
        st.caption(
            "Trains many networks with different values, and compares them by their mean Dice on "
            f"{objective(config)}: same fold, seed and budget."
        )
        specs = {spec.name: spec for spec in searchable_specs(config) if spec.name not in options}
        chosen = st.multiselect(
            "Settings to search",
            list(specs),
            format_func=lambda field: specs[field].label if field in specs else field,
            key=FIELDS,
            persist_state="session",
            placeholder="Choose settings",
        )
        space: list[Dimension] = []
        valid = True
        for spec in (specs[field] for field in chosen if field in specs):
            dimension = _dimension(spec, config)
            valid = valid and dimension is not None
            space += [dimension] if dimension is not None else []
        search = _options()
        if not space or not valid or search is None:
            st.caption("Choose one or more settings, and two or more values or a range of each.")
            return
        settings = SweepSettings(tuple(space), search, engine="" if engine == LOCAL else engine)
        try:
            check_sweep(settings, config)
        except ConfigError as error:
            st.markdown(f":small[:red[{formatting.plain(str(error))}]]")
            return
        if config.run.minutes:
            longest = format_duration(search.trials * config.run.minutes * 60)
            number = formatting.count(search.trials, "trial")
            st.caption(f"{number} of {config.run.minutes:g} minutes: {longest} at most, one after another.")
        if st.button("Start the search", type="primary", icon=":material/search:", disabled=not can_start):
            _start(config, settings, name)
        st.code(_command(config, base, settings, name), language="bash", wrap_lines=True)


def _dimension(spec: FieldSpec, config: TrainConfig) -> Dimension | None:
    """The range or choices of a field; ``None`` where what is typed is not one, which is said below it."""
    key = f"search.{config.preset}.{spec.name}"
    try:
        if choices := suggested_choices(spec, config):
            words = {choice_text(spec, value): spec.in_words(value) for value in choices}
            texts = st.multiselect(
                spec.label, list(words), list(words) if len(words) <= 6 else [], format_func=words.__getitem__, key=key,
                persist_state="session", placeholder="Choose two or more",
            )  # fmt: skip
            return parse_dimension(spec.name, ",".join(texts)) if texts else None
        help = f"{RANGE_HELP if is_number(spec) else LIST_HELP}`--search {spec.name}=...`"
        text = st.text_input(
            spec.label_with_unit, suggest(spec, config), key=key, help=help, persist_state="session",
            placeholder="two or more values",
        )  # fmt: skip
        return parse_dimension(spec.name, text) if text else None
    except ConfigError as error:
        st.markdown(f":small[:red[{formatting.plain(str(error))}]]")
        return None


def _options() -> SweepOptions | None:
    """Number of trials, choice of values and pruning; ``None`` where a value is not allowed."""
    values: dict[str, Any] = {}
    with st.grid("auto", min_column_width=150, gap=("small", "small")) as grid:
        for spec in specs_of(SweepOptions, section=""):
            common: dict[str, Any] = {"key": f"search.{spec.name}", "help": spec.help, "persist_state": "session"}
            with grid.cell():
                if spec.choices:
                    index = spec.choices.index(spec.default)
                    values[spec.name] = st.selectbox(
                        spec.label, spec.choices, index, format_func=spec.in_words, **common
                    )
                else:
                    values[spec.name] = st.number_input(spec.label, value=spec.default, step=1, **common)
    try:
        return SweepOptions(**values)
    except ConfigError as error:
        st.markdown(f":small[:red[{formatting.plain(str(error))}]]")
        return None


def _command(config: TrainConfig, base: TrainConfig | None, settings: SweepSettings, name: str) -> str:
    """The command line that starts the same sweep."""
    parts = []
    for dimension in settings.space:
        parts += ["--search", f"{dimension.name}={dimension.text}"]
    for spec in specs_of(SweepOptions, section=""):
        value = getattr(settings.options, spec.name)
        parts += [spec.flag, spec.format(value)] if value != spec.default or spec.name == "trials" else []
    parts += ["--engine", settings.engine] if settings.engine else []
    return f"{command_line(config, 'sweep', name, base=base)} {shlex.join(parts)}"


def _start(config: TrainConfig, settings: SweepSettings, name: str) -> None:
    try:
        group = submit_sweep(runs_root(), config, settings, name)
    except UserError as error:
        error_box(error)
    else:
        go_to("runs", **{GROUP: group.id})
