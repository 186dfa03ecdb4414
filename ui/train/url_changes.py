"""Changed settings of the training form as part of the URL, so that they survive a reload and a copied URL has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from core.config import TrainConfig, field_specs
from core.errors import ConfigError
from core.formatting import format_list
from ui.shared import formatting
from ui.shared.addresses import join_values, split_values
from ui.shared.state import load_from_url, save_to_url
from ui.train import form

CHANGES, PARAMETER = "train_changes", "set"  # session key and query parameter
_PENDING = "train_changes_to_set"  # session key
MAX_LENGTH = 1000  # of the parameter; more changes are those of the session alone


def encode(values: Mapping[str, Any]) -> str:
    """Values by field name as ``name~value~name~value``."""
    formats = {spec.name: spec.format for spec in field_specs()}
    return join_values(part for name in sorted(values) for part in (name, formats[name](values[name])))


def decode(text: str) -> tuple[dict[str, Any], list[str]]:
    """The inverse of :func:`encode`, and the names of fields that there are not or whose values are not valid."""
    specs = {spec.name: spec for spec in field_specs()}
    parts = split_values(text)
    values: dict[str, Any] = {}
    unknown = []
    for name, value in zip(parts[::2], [*parts[1::2], ""][: len(parts[::2])], strict=True):
        try:
            values[name] = specs[name].parse(value)
        except (KeyError, ConfigError):
            unknown.append(name)
    return values, unknown


def load(base: TrainConfig) -> None:
    """Set the fields that a new URL names, all others to those of the preset, and run the page again with them."""
    before = st.session_state.get(CHANGES)
    load_from_url(CHANGES, "", parameter=PARAMETER)
    text = st.session_state[CHANGES]
    if text and text != before:
        values, unknown = decode(text)
        st.session_state[_PENDING] = (values, unknown)
        form.reset_all(base)
        first = [name for name in ("minutes", "init_from") if name in values]
        for name in first:  # on which the other values of the preset auto depend
            form.set_value(base, name, values[name])
        if first:
            st.rerun()
    if _PENDING not in st.session_state:
        return
    values, unknown = st.session_state.pop(_PENDING)
    for name, value in values.items():
        form.set_value(base, name, value)
    if not unknown:
        st.rerun()
    names = formatting.plain(format_list(unknown))
    st.warning(f"Settings of the address that cannot be used are left out: {names}.", icon=":material/search_off:")


def save(state: form.FormState) -> None:
    """Write the changed settings into the URL; while one of them is not valid, the URL stays as it is."""
    if state.config is None:
        return
    values = state.config.values()
    text = encode({name: values[name] for name in state.changed})
    text = text if len(text) <= MAX_LENGTH else ""
    st.session_state[CHANGES] = text
    save_to_url(CHANGES, text, PARAMETER, "")
