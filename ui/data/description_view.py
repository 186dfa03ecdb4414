"""The offer to write a ``dataset.json`` for a folder that has none, and its background job."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core.datasets.description import advise_description
from core.datasets.layouts.decathlon import FILE
from ui.shared import hashes, jobs
from ui.shared.errors import error_box
from ui.shared.jobs import Job
from ui.shared.paths import cache_root
from ui.shared.progress import progress


def offer_description(path: Path) -> None:
    """Render the button that writes the file, where images and label maps are recognised, and the state of its job."""
    try:
        if (path / FILE).exists() or not advise_description(path):
            return
    except OSError:
        return  # opening the folder reports the error
    job = _observe(path)
    if job.state == "running":
        progress("Reading label maps", lambda: _observe(path))
        return
    if job.state == "failed":
        error_box(job.message)
    if st.button(f"Write {FILE}", icon=":material/note_add:", type="primary"):
        jobs.start(_folder(path), ["check", str(path), "--write-description", "--json"])
        st.rerun()
    st.caption("It lists the images and label maps that were found, and names a class for each label value.")


def _observe(path: Path) -> Job:
    return jobs.observe(_folder(path), (path / FILE).exists())


def _folder(path: Path) -> Path:
    return cache_root() / "description" / hashes.short_hash(str(path))
