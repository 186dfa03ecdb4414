"""A progress bar for work in a child process."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from ui.shared.jobs import Job


def progress(doing: str, observe: Callable[[], Job], things: bool = False) -> None:
    """Draw a bar that moves by itself; when the work is over the page is drawn again.

    ``things``: what is counted are things (subjects, files), which are named by number; else it is a share.
    """

    @st.fragment(run_every=1.0)
    def draw() -> None:
        job = observe()
        if job.state != "running":
            st.rerun()
        share = min(1.0, job.done / job.total) if job.total else 0.0
        where = f": {job.done} of {job.total}" if things and job.total else f": {share:.0%}" if share else ""
        st.progress(share, doing + where)

    draw()
