"""The preset ``auto`` on the Train page: its choices for the data, the device that trains and the rest of the form."""

from __future__ import annotations

import contextlib
import dataclasses

import streamlit as st

from core.config import ModelConfig, TrainConfig
from core.datasets import DataOptions
from core.errors import ConfigError, UserError
from core.presets import AUTO, preset
from core.runs.expected_place import expected_place
from core.training.auto_network import Work
from core.training.auto_preset import OTHERS_FOLLOW, Recipe, choose, work_of
from ui.shared import cache, formatting
from ui.shared.cache import DatasetSummary
from ui.shared.legend import facts_list
from ui.shared.paths import runs_root
from ui.train import form


def recipe(base: TrainConfig, summary: DatasetSummary, engine: str) -> Recipe | None:
    """The choices for the values of the form that ``auto`` leaves to the user; ``None`` for any other preset, and
    where the form or the split cannot be used, which the page shows elsewhere.

    Parameters
    ----------
    base : TrainConfig. The preset, before it knows the data.
    summary : DatasetSummary. The data set.
    engine : str. Name of the engine that is to train.
    """
    if base.preset != AUTO:
        return None
    try:
        chosen = choose(base, _work(base, summary, engine)).values
        left = [name for name in base.values() if name not in chosen]
        given = {name: form.field_value(base, name) for name in left}
        config = base.with_values({name: value for name, value in given.items() if value is not None})
        work = _work(config, summary, engine)
        initial = _initial_network(config)
        names = {*chosen, *(dataclasses.asdict(initial) if initial else ())}
        with contextlib.suppress(ConfigError):  # changed fields that do not go together, as the form shows
            return choose(config, work, form.changed_values(names), initial)
        return choose(config, work, initial=initial)
    except (ConfigError, UserError):
        return None


def with_reasons(state: form.FormState, choices: Recipe | None) -> form.FormState:
    """The form with the reasons in its configuration; they name what was changed by hand."""
    if choices is None or state.config is None:
        return state
    reasons = choices.reasons(state.config, state.changed)
    return dataclasses.replace(state, config=state.config.with_values({"reasons": reasons}))


def command_base(base: TrainConfig, state: form.FormState) -> TrainConfig | None:
    """The configuration that a command begins with: without the options of reading that were chosen on the Data page.
    ``None`` where ``auto`` would choose otherwise on the command line, so that all values have to be written out."""
    if base.preset == AUTO and set(OTHERS_FOLLOW) & set(state.changed):
        return None
    of_preset = preset(base.preset).values()
    return base.with_values({name: of_preset[name] for name in DataOptions.names()})


def render_reasons(config: TrainConfig) -> None:
    """Show why the preset chose its values, if it chose any for this data."""
    if not config.reasons:
        return
    with st.expander("Chosen for this time and this data", icon=":material/tune:", expanded=True):
        lines = [reason.partition(": ")[::2] for reason in config.reasons]
        facts_list([(topic, formatting.sentence(text)) for topic, text in lines])


def _work(config: TrainConfig, summary: DatasetSummary, engine: str) -> Work:
    place = expected_place(runs_root(), engine, config.run.device)
    return work_of(config, summary.labelled, summary.shapes, summary.spacings_mm, place)


def _initial_network(config: TrainConfig) -> ModelConfig | None:
    """That of the initial weights; ``None`` too where they cannot be used, which the form shows."""
    try:
        return cache.initial_network(config.run.init_from)
    except UserError:
        return None
