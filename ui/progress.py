"""A progress bar for work in a child process."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from ui.jobs import Job


def progress(doing: str, observe: Callable[[], Job]) -> None:
    """Draw a bar that moves by itself; when the work is over the page is drawn again."""

    @st.fragment(run_every=1.0)
    def draw() -> None:
        job = observe()
        if job.state != "running":
            st.rerun()
        if job.total:
            st.progress(min(1.0, job.done / job.total), f"{doing}: {job.done} of {job.total}")
        else:
            st.progress(0.0, f"{doing}")

    draw()
