"""The first subject of a run's data, on screen while the run is prepared: it is there before the others are."""

from __future__ import annotations

import streamlit as st

from core.datasets import DataOptions, Dataset
from core.errors import UserError
from core.paths import DEMO, dataset_folder, demo_folder
from core.runs import RunSummary
from ui.shared import cache, demo_jobs, formatting
from ui.viewer.component import ViewerOptions, viewer
from ui.viewer.scenes import subject_scene

POLL_S = 2.0
PANE_HEIGHT = 300  # pixels


def show_first_subject(run: RunSummary) -> None:
    """Show a subject with its labels, beside its image; nothing where the data cannot be read, which the run reports.

    Demo data that is being made is looked for until its first subject exists.
    """
    options = DataOptions.of_own_data(run.config.data)
    if run.config.data.path == DEMO:
        demo_jobs.install_example()  # training makes the same subject, later
    try:
        folder = dataset_folder(run.config.data.path)
        subject = _first(cache.dataset(folder, options))
        scene = subject_scene(folder, subject, options=options)
    except (UserError, StopIteration):
        if run.config.data.path == DEMO:
            _wait_for_demo_subject(options)
        return
    st.caption(f"{formatting.plain(subject)}, one of the subjects that it learns from or is measured on")
    rows = ("image", "truth") if scene.layers else ("image",)
    viewer(scene, "first-subject", ViewerOptions(rows=rows, plane="axial", height=PANE_HEIGHT, crosshair=False))


def _first(dataset: Dataset) -> str:
    """Id of the first subject with labels, else of the first one."""
    return next(iter([*dataset.labelled_ids, *dataset.ids]))


def _wait_for_demo_subject(options: DataOptions) -> None:
    """Run the page again as soon as the demo data has a subject."""

    @st.fragment(run_every=POLL_S)
    def look() -> None:
        try:
            _first(cache.dataset(demo_folder(), options))
        except (UserError, StopIteration):
            return
        st.rerun()

    look()
