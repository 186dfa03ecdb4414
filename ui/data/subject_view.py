"""One subject on the Data page, slice by slice: its choice and the viewer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from core.datasets import DataOptions
from ui.shared.state import load_from_url, save_to_url
from ui.viewer.component import ViewerOptions, viewer
from ui.viewer.scenes import subject_scene

SUBJECT = "data_subject"  # session key, one for each data set


def choose_subject(choice: str, ids: Sequence[str]) -> str:
    """Render the select box for a subject of a data set."""
    key = f"{SUBJECT}-{choice}"
    load_from_url(key, ids[0], ids, "subject")
    subject = st.selectbox("Subject", ids, key=key, width=170, label_visibility="collapsed") or ids[0]
    save_to_url(key, subject, "subject")
    return subject


def show_subject(path: Path, subject: str, options: DataOptions) -> None:
    """Render the viewer: the image, and the label map below it, if there is one.

    Raises
    ------
    UserError
        If the subject cannot be read.
    """
    scene = subject_scene(path, subject, options=options)
    rows = ("image", "truth") if scene.layers else ("image",)
    viewer(scene, "data", ViewerOptions(rows=rows, name=subject))
