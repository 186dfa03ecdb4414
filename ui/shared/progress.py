"""Progress bar of a background job."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from ui.shared.jobs import Job


def progress(label: str, observe: Callable[[], Job], show_counts: bool = False) -> None:
    """Show a bar that updates itself; the page runs again when the job has ended.

    Parameters
    ----------
    label : str. Text of the bar: the activity of the job.
    observe : callable. Returns the state of the job.
    show_counts : bool. Whether progress is shown as "3 of 10" instead of a percentage.
    """

    @st.fragment(run_every=1.0)
    def bar() -> None:
        job = observe()
        if job.state != "running":
            st.rerun()
        share = min(1.0, job.done / job.total) if job.total else 0.0
        if show_counts and job.total:
            st.progress(share, f"{label}: {job.done} of {job.total}")
        else:
            st.progress(share, f"{label}: {share:.0%}" if share else label)

    bar()
