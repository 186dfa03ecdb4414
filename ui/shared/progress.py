"""Progress bar of a background job."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from ui.shared.formatting import plain
from ui.shared.jobs import Job


def progress(label: str, observe: Callable[[], Job], show_counts: bool = False) -> None:
    """Show a bar that updates itself; the page runs again when the job has ended.

    Parameters
    ----------
    label : str. Text of the bar: the activity of the job. What the job itself says that it does now is added.
    observe : callable. Returns the state of the job.
    show_counts : bool. Whether progress is shown as "3 of 10" instead of a percentage.
    """

    @st.fragment(run_every=1.0)
    def bar() -> None:
        job = observe()
        if job.state != "running":
            st.rerun()
        share = min(1.0, job.done / job.total) if job.total else 0.0
        text = f"{label} {plain(job.message)}" if job.message else label
        if show_counts and job.total:
            st.progress(share, f"{text}: {job.done} of {job.total}")
        else:
            st.progress(share, f"{text}: {share:.0%}" if share else text)

    bar()
