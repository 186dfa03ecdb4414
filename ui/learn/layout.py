"""Layout of the Learn page: texts and headings of the chapters (chapters.md), and results of background jobs."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from ui.shared import jobs
from ui.shared.errors import error_box
from ui.shared.progress import progress

TEXTS = Path(__file__).with_name("chapters.md")
TEXT_WIDTH = 760  # pixels of a line of text


@functools.cache
def chapter_texts() -> dict[str, tuple[str, str]]:
    """Title and text of each chapter by its anchor, in order."""
    chapters = re.findall(r"^# ([a-z-]+): (.+)\n((?:(?!# ).*\n?)*)", TEXTS.read_text("utf-8"), re.MULTILINE)
    return {anchor: (title, text.strip()) for anchor, title, text in chapters}


def table_of_contents() -> None:
    """Links to the chapters."""
    with st.grid(3, min_column_width=230, gap="xsmall"):
        for number, (anchor, (title, _)) in enumerate(chapter_texts().items(), start=1):
            st.markdown(f"{number}  [{title}](#{anchor})")


def chapter_heading(anchor: str) -> None:
    """Number, title and text of a chapter."""
    title, text = chapter_texts()[anchor]
    st.space("small")
    st.header(f"{list(chapter_texts()).index(anchor) + 1}  {title}", anchor=anchor)
    st.markdown(text, width=TEXT_WIDTH)


def no_subject_note() -> None:
    """A note in place of a figure of the synthetic subject."""
    st.caption("This figure needs the synthetic subject; see the top of the page.")


def job_finished(title: str, observe: Callable[[], jobs.Job], start: Callable[[], None]) -> bool:
    """Start a background job unless it ran before, and show its progress or its failure.

    Parameters
    ----------
    title : str. Markdown. What the job does.
    observe : callable. Returns the state of the job.
    start : callable. Starts the job.

    Returns
    -------
    bool. Whether the result of the job exists.
    """
    job = observe()
    if job.state == "none":
        start()
        job = observe()
    if job.state == "running":
        progress(title, observe)
    elif job.state == "failed":
        error_box(job.message, context=f"{title} failed")
        if st.button("Try again", key=f"again-{title}", icon=":material/refresh:"):
            start()
            st.rerun()
    return job.state == "done"
