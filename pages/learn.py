"""Learn: how a network comes to name every voxel of a brain, in six chapters with figures to touch."""

from __future__ import annotations

import streamlit as st

from core.errors import UserError
from core.paths import ready_made
from ui.learn import chapters, network_chapter
from ui.learn.subject_data import cached_lesson
from ui.shared import cache, demo_jobs
from ui.shared.errors import error_box
from ui.shared.state import demo_folder

FIRST_SUBJECT = "subject-1"


def held_out() -> str:
    """A subject of the demo data: one that the ready-made model has not learned from, where there is such a model."""
    try:
        split = cache.description(ready_made()).split
    except UserError:
        return FIRST_SUBJECT
    return next(iter([*split.get("test", []), *split.get("val", []), FIRST_SUBJECT]))


st.title("Learn", anchor=False)
st.markdown(
    "How a network comes to name every voxel of a brain: six short chapters, and figures that can be moved. The "
    "subject is *synthetic*: made from a template, with the contrasts of a six-month-old as in iSEG-2017.",
    width=chapters.READING,
)
chapters.contents()

subject, folder = held_out(), demo_folder()
dataset, lesson = None, None
if cache.demo_is_there() and not cache.demo_has(subject):
    subject = FIRST_SUBJECT  # a finished folder with fewer subjects
doing = f"Making {subject}, a few seconds"
if chapters.made(doing, lambda: demo_jobs.demo_subject(subject), lambda: demo_jobs.start_demo_subject(subject)):
    try:
        dataset, lesson = cache.dataset(folder), cached_lesson(folder, subject)
    except UserError as error:
        error_box(error)

chapters.contrast(lesson, folder, subject)
chapters.convolution(lesson)
chapters.sub_volumes(lesson, dataset, subject)
chapters.dice(lesson)
chapters.imbalance(lesson)
network_chapter.chapter(lesson, dataset, subject)
