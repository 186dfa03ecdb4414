"""The choice whether the postprocessing that is stored with the network is applied."""

from __future__ import annotations

import streamlit as st

from ui.predict.model_choice import Network

POSTPROCESS = "predict_postprocess"  # session key


def choose_postprocessing(network: Network) -> bool:
    """Render a checkbox, checked at first; nothing, and true, for a network without postprocessing."""
    rules = network.metadata.postprocessing
    if not rules:
        return True
    return st.checkbox(
        "Postprocessing",
        value=True,
        key=POSTPROCESS,
        persist_state="session",
        help=f"What is stored with the model: {rules.text}.",
    )
