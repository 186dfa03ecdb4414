"""Downloads of the Review page: the table of cases, and prediction, errors, contact sheet and surfaces of the chosen
case.

Files of a case are made by a child process (``review export``, ``review surfaces``) when they are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import streamlit as st

from core.datasets import Dataset
from core.evaluation.slice_sheet import MAX_SLICES, PLANES, SheetOptions
from core.runs.case_table import case_table_csv
from core.runs.predictions import Prediction
from core.runs.review_notes import ReviewNote, notes_csv, notes_json
from core.strict_json import dumps
from ui.review.export_job import CaseExport
from ui.review.surface_export import surface_downloads
from ui.review.view import CaseList
from ui.shared import formatting
from ui.shared.errors import error_box

PLANE, SLICES, MODALITY = "review_sheet_plane", "review_sheet_slices", "review_sheet_modality"  # session keys


@st.fragment
def export_button(cases: CaseList, model: str, dataset: Dataset, chosen: str, notes: Sequence[ReviewNote]) -> None:
    """A button that opens the downloads.

    Parameters
    ----------
    cases : CaseList. The cases in the order of the table.
    model : str. Name of the model, for the names of files.
    dataset : Dataset.
    chosen : str. The chosen case.
    notes : sequence of ReviewNote. The notes on the cases of the model.
    """
    with st.popover("Export", icon=":material/download:"):
        known = [id for id in cases.subjects if id in cases.predictions]
        st.markdown("**All cases of the list**")
        _download(
            "Scores (CSV)",
            partial(case_table_csv, cases.predictions, cases.subjects),
            _file_name(model, "cases", ".csv"),
            "all measures of all classes, in full precision",
            disabled=not known,
        )
        with st.container(horizontal=True):
            for ending, content in ((".csv", notes_csv), (".json", _notes_json)):
                title = f"Notes ({ending[1:].upper()})"
                name = _file_name(model, "notes", ending)
                _download(title, partial(content, notes), name, "marks and comments of reviewers", disabled=not notes)
        st.markdown(f"**{formatting.plain(chosen)}**")
        prediction = cases.predictions.get(chosen)
        if prediction is None:
            st.caption("Segment this case first.")
            return
        _case_downloads(partial(CaseExport, cases.checkpoint, cases.folder, chosen), prediction, model, dataset)
        surface_downloads(cases.checkpoint, dataset, prediction, partial(_file_name, model, chosen))


def _notes_json(notes: Sequence[ReviewNote]) -> str:
    return dumps({"notes": notes_json(notes)})


def _case_downloads(export: Callable[..., CaseExport], prediction: Prediction, model: str, dataset: Dataset) -> None:
    """Render the files of a case that can be written, and why one could not be."""
    name = partial(_file_name, model, prediction.subject)
    note = "NIfTI, in the geometry of the image"
    kinds = f"{note}: 1 false positive, 2 false negative, 3 wrong class"
    volumes = [("Prediction", export("prediction", ".nii.gz"), name("prediction.nii.gz"), note)]
    if prediction.score is not None:
        volumes.append(("Errors", export("errors", ".nii.gz"), name("errors.nii.gz"), kinds))
    with st.container(horizontal=True):
        for label, file, title, help in volumes:
            _download(label, file.make, title, help)
    plane, slices, modality = _sheet_choice(dataset.modalities)
    more = (f"--plane={plane}", f"--slices={slices}", f"--modality={modality}")
    sheets = {suffix: export("sheet", suffix, more) for suffix in (".png", ".pdf")}
    with st.container(horizontal=True):
        for suffix, file in sheets.items():
            label = f"Contact sheet ({suffix[1:].upper()})"
            _download(label, file.make, name(f"{plane}{suffix}"), "slices with the overlay on one page")
    for file in (*(file for _, file, *_ in volumes), *sheets.values()):
        if reason := file.failure():  # the browser only says that there was one
            error_box(f"{prediction.subject}: cannot be exported: {reason}")


def _sheet_choice(modalities: Sequence[str]) -> tuple[str, int, str]:
    """Render what the contact sheet shows: plane, number of slices, modality."""
    defaults = SheetOptions()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        plane = st.selectbox("Plane", list(PLANES), key=PLANE, width=110)
        slices = st.number_input("Slices", 1, MAX_SLICES, defaults.slices, key=SLICES, width=110)
        modality = modalities[0]
        if len(modalities) > 1:
            modality = st.selectbox("Modality", modalities, key=f"{MODALITY}-{'-'.join(modalities)}", width=110)
    return plane, int(slices), modality


def _download(label: str, make: Callable[[], str | bytes], file: str, help: str, disabled: bool = False) -> None:
    st.download_button(label, make, file, on_click="ignore", help=help, disabled=disabled, key=f"export-{label}")


def _file_name(model: str, *parts: str) -> str:
    """A file name of parts, the last of which may be an ending."""
    stem = "-".join(part for part in (model, *parts[:-1]) if part)
    last = parts[-1] if parts[-1].startswith(".") else f"-{parts[-1]}"
    return re.sub(r"[^\w.-]+", "-", stem + last)
