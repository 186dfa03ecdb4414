"""A warning where the code of a user's own network is gone, or has changed since a model was trained; its code is not
run for it."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core.checkpointing.ensemble_metadata import is_ensemble, read_members
from core.errors import UserError
from core.models import MODELS
from core.models.own_source import code_change
from ui.shared import cache, formatting


def show_code_changes(checkpoint: Path) -> None:
    """Render a warning for each network of a checkpoint, or of an ensemble, whose code is gone or has changed; a
    checkpoint that cannot be read has none here."""
    try:
        metadata = cache.checkpoint_metadata(checkpoint)
        members = [m.metadata for m in read_members(checkpoint)] if is_ensemble(metadata) else [metadata]
    except UserError:
        return
    named = [(m.train_config.model.model, m.network_code) for m in members]
    changes = [code_change(name, recorded) for name, recorded in named if name not in MODELS]
    for change in dict.fromkeys(filter(None, changes)):
        st.warning(formatting.plain(formatting.sentence(change)) + ".", icon=":material/code_off:")
