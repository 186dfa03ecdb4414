"""The Learn page: how a network labels every voxel of a brain, in six chapters with interactive figures."""

from __future__ import annotations

import streamlit as st

from core.errors import UserError
from core.paths import demo_folder, demo_model_path
from ui.learn import chapters, network_chapter
from ui.learn.layout import TEXT_WIDTH, job_finished, table_of_contents
from ui.learn.subject_data import cached_subject_data
from ui.shared import cache, demo_jobs
from ui.shared.data_choice import FIRST_DEMO_SUBJECT, held_out_demo_subject
from ui.shared.errors import error_box


def choose_subject() -> str:
    """A demo subject held out from the training of the ready-made model, if the demo data has it or can get it."""
    try:
        subject = held_out_demo_subject(cache.checkpoint_metadata(demo_model_path()))
    except UserError:
        return FIRST_DEMO_SUBJECT
    complete_without_it = cache.demo_exists() and not cache.demo_subject_exists(subject)
    return FIRST_DEMO_SUBJECT if complete_without_it else subject


st.title("Learn", anchor=False)
st.markdown(
    "How a network labels every voxel of a brain: six short chapters with interactive figures. The subject is "
    "*synthetic*: made from a template, with the contrasts of a six-month-old as in iSEG-2017.",
    width=TEXT_WIDTH,
)
table_of_contents()

demo_jobs.install_example()
subject, folder = choose_subject(), demo_folder()
dataset, data = None, None
subject_exists = job_finished(
    f"Making {subject}, a few seconds",
    lambda: demo_jobs.observe_demo_subject(subject),
    lambda: demo_jobs.start_demo_subject(subject),
)
if subject_exists:
    try:
        dataset, data = cache.dataset(folder), cached_subject_data(folder, subject)
    except UserError as error:
        error_box(error)

chapters.contrast(data, folder, subject)
chapters.convolution(data)
chapters.sub_volumes(data, dataset, subject)
chapters.dice(data)
chapters.imbalance(data)
network_chapter.chapter(data, dataset, subject)
