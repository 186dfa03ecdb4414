"""The select box for a model; the address and all pages share the choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import streamlit as st

from core.runs import matching_ids
from ui.shared.cache import Model
from ui.shared.network_code import show_code_changes
from ui.shared.query_params import query_params
from ui.shared.state import MODEL, load_from_url, save_to_url


def choose_model(
    models: Mapping[str, Model],
    default: str,
    label: str = "Model",
    label_visibility: Literal["visible", "collapsed"] = "visible",
    width: int | Literal["stretch"] = "stretch",
) -> Model:
    """Render the select box and return the chosen model; below it a warning where the code of its network has changed.

    Parameters
    ----------
    models : mapping. Models by key, at least one.
    default : str. Key of the model that is chosen unless the address (by key, name, or beginning of a key) or another
        page has chosen one of ``models``.
    """
    matching = matching_ids(query_params.get(MODEL, ""), {key: model.name for key, model in models.items()})
    if len(matching) == 1:
        query_params[MODEL] = matching[0]
    load_from_url(MODEL, default, allowed=tuple(models), ambiguous=len(matching) > 1)
    if st.session_state[MODEL] not in models:  # chosen on another page that offers other models
        st.session_state[MODEL] = default
    key = st.selectbox(
        label,
        list(models),
        key=MODEL,
        persist_state="session",
        label_visibility=label_visibility,
        width=width,
        format_func=lambda k: models[k].name if k in models else str(k),
    )
    model = models.get(key) or models[default]
    save_to_url(MODEL, model.key)
    show_code_changes(model.path)
    return model
