"""Review of own files: an image with one or two segmentations, without a run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from core.datasets.file_case import REFERENCE, ROLES, SEGMENTATION, FileCase, check_headers, file_case
from core.datasets.segmentation_values import SegmentationValues, read_segmentation_values, tables_beside
from core.errors import UserError
from core.evaluation.metrics import SubjectScore
from core.files import FileStamp, file_stamp
from core.imaging.image_files import files_of
from core.runs.predictions import Prediction
from ui.review import view
from ui.review.case_viewer import Found, case_viewer, first_picture, shown_classes
from ui.review.file_choice import TITLES, ChosenFiles, choose_files
from ui.review.file_job import FileScores
from ui.review.file_names import name_values
from ui.shared import formatting, uploads
from ui.shared.errors import error_box
from ui.shared.file_check import check_voxels
from ui.shared.heavy_work import heavy_work
from ui.shared.navigation import tab_title
from ui.shared.progress import progress
from ui.shared.query_params import query_params
from ui.shared.state import CROSSHAIR, report_unknown_values
from ui.viewer import volumes
from ui.viewer.file_scene import file_scene

VIEWER = "files"  # key of the viewer
READ_NAN = "files_read_nan"  # session key


def show_files() -> None:
    """Render the choice of the files, the viewer, the names of the classes and the scores."""
    uploads.remove_stale()
    uploads.restore_after_reload()
    grid = st.grid(3, min_column_width=390, gap=("small", "medium"))
    picture, side = grid.cell(column_span=2), grid.cell()
    with side:
        chosen = choose_files()
        report_unknown_values()  # here: the page ends with st.stop, after which the frame can show nothing
    if not chosen.images or not chosen.segmentations:
        with picture:
            st.info(
                "Choose an image and one or two segmentations of it: they are shown slice by slice, and two are "
                "scored. All files must be on the same grid; nothing is resampled.",
                icon=":material/folder_open:",
            )
        return
    with side:
        nan_is_zero = _check_images(chosen)
        found = {} if nan_is_zero is None else _read_segmentations(chosen, nan_is_zero)
        if nan_is_zero is None or not found:
            return
        names = name_values(found)
        case = _case(chosen, found, names, nan_is_zero)
        if case is None:
            return
        scores = FileScores(chosen.images, {role: found[role] for role in case.segmentations}, names, nan_is_zero)
        report = _show_scores(case, scores) if case.segmentations.keys() == set(ROLES) else None
        if not chosen.uploaded:
            st.caption("The same as a command:")
            command = shlex.join(["segmentarium", "review", "files", *scores.arguments])
            st.code(command, language="bash", wrap_lines=True)
    tab_title("Review", case.id)
    with picture:
        _show_case(case, report)


def _error(error: Exception | str, context: str = "") -> None:
    error_box(uploads.without_session_folder(str(error)), context)


def _check_images(chosen: ChosenFiles) -> bool | None:
    """Whether NaN is to be read as 0; ``None`` if an image cannot be shown, which is reported."""
    checked = [check_voxels(path) for path in chosen.images]
    faults = [one.fault for one in checked if one.fault]
    for fault in faults:
        _error(fault)
    if faults:
        return None
    nan_voxels = sum(one.nan_voxels for one in checked)
    if not nan_voxels:
        return False
    read_nan = st.checkbox(
        "Read NaN as 0",
        key=READ_NAN,
        persist_state="session",
        help="For NaN (not a number) outside the field of view, as SPM writes it. Without it the image is refused.",
    )
    if not read_nan:
        st.caption(f"NaN in {formatting.count(nan_voxels, 'voxel')} of the image: it is refused, or read as 0.")
    return True if read_nan else None


def _read_segmentations(chosen: ChosenFiles, nan_is_zero: bool) -> dict[str, SegmentationValues]:
    """What the segmentations hold; those that cannot be read are reported and left out."""
    found = {}
    for role, path in chosen.segmentations.items():
        try:
            stamps = tuple(file_stamp(file) for file in (*files_of(path), *tables_beside(path)))
            found[role] = _values(str(path), stamps, nan_is_zero)
        except UserError as error:
            _error(error, f"The {TITLES[role].lower()} cannot be shown")
    return found


@st.cache_data(max_entries=200, show_spinner="Reading the segmentation")
def _values(path: str, stamps: tuple[FileStamp, ...], nan_is_zero: bool) -> SegmentationValues:
    with heavy_work():
        return read_segmentation_values(Path(path), nan_is_zero=nan_is_zero)


def _case(
    chosen: ChosenFiles,
    found: Mapping[str, SegmentationValues],
    names: Mapping[str, Mapping[int, str]],
    nan_is_zero: bool,
) -> FileCase | None:
    """The case with the segmentations that fit the image; why another one does not is reported."""
    try:
        case = file_case(chosen.images, found, names, nan_is_zero)
    except UserError as error:
        _error(error)
        return None
    fitting = {}
    for role, dataset in case.segmentations.items():
        try:
            check_headers(replace(case, segmentations={role: dataset}))
            fitting[role] = found[role]
        except UserError as error:
            _error(error, f"The {TITLES[role].lower()} cannot be shown")
    if not fitting:
        return None
    if len(fitting) < len(found):
        return _case(chosen, fitting, names, nan_is_zero)
    warnings, notes = check_headers(case)
    _show_warnings(warnings)
    for note in notes:
        st.caption(formatting.plain(note))
    return case


def _show_warnings(warnings: Iterable[str]) -> None:
    for text in warnings:
        st.warning(formatting.plain(text), icon=":material/warning:")


def _show_scores(case: FileCase, scores: FileScores) -> dict[str, Any] | None:
    """Render the scores, or the progress of the job that makes them; returns its report."""
    job = scores.advance()
    if job.state == "failed":
        _error(job.message, "The files could not be compared")
        st.button("Try again", icon=":material/refresh:", on_click=scores.forget_failure)
        return None
    if job.state == "running":
        progress("Comparing the files", scores.advance)
        return None
    report = scores.report()
    if report is None:
        return None
    known = check_headers(case)[0]  # shown already
    _show_warnings(text for text in report["warnings"] if text not in known)
    score = SubjectScore.from_json(report["score"])
    segmentation = case.segmentations[SEGMENTATION].subjects[0].label
    assert segmentation is not None, "a data set of a segmentation"
    kept = Prediction(case.id, segmentation, score, epoch=0, step=0, stale_reason="", made_at=0)
    view.score_table(kept, shown_classes(report["classes"]))
    return report


def _show_case(case: FileCase, report: Mapping[str, Any] | None) -> None:
    """Render the viewer."""
    try:
        with first_picture(VIEWER):
            scene = file_scene(case)
    except UserError as error:
        _error(error)
        return
    findings = _findings_url(case, report)
    case_viewer(scene, query_params.get(CROSSHAIR), case.id, Found(findings), key=VIEWER)
    only = next(iter(case.segmentations)) if len(case.segmentations) == 1 else ""
    if only == SEGMENTATION:
        st.caption("Errors and scores need a reference.")
    elif only == REFERENCE:
        st.caption("Errors and scores need a segmentation beside the reference.")


def _findings_url(case: FileCase, report: Mapping[str, Any] | None) -> str:
    """URL of the regions of errors for the viewer; empty while they are not known."""
    if report is None or "findings" not in report:
        return ""
    content = json.dumps({"subject": case.id, **report["findings"]})
    return volumes.publish_on_request(f"findings of files\n{content}", partial(content.encode, "utf-8"))
