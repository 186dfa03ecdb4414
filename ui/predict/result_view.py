"""A segmentation on the Predict page in each state: running, failed, done with viewer, volumes and download."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from core.datasets import ImageRef
from core.datasets.single_case import dataset_of_images
from core.datasets.synthetic.demo import is_demo
from core.errors import UserError
from core.formatting import format_duration, format_number
from core.imaging.image_files import foreign_format
from core.imaging.postprocessing import Postprocessing
from ui.predict import segmentations
from ui.predict.segmentations import Request
from ui.shared import formatting
from ui.shared.class_table import ClassRow, class_table
from ui.shared.errors import error_box
from ui.shared.jobs import Job
from ui.shared.legend import facts_list
from ui.shared.progress import progress
from ui.shared.query_params import query_params
from ui.shared.state import RESULT
from ui.shared.voxel_size import show_warnings
from ui.viewer.component import ViewerOptions, viewer
from ui.viewer.scenes import image_scene

NIFTI, DICOM_SEG = "NIfTI", "DICOM SEG"
NIFTI_SUFFIX = ".nii.gz"


def render_result(id: str, earlier: bool) -> None:
    """Render a segmentation: its progress, error or result.

    Parameters
    ----------
    earlier : bool. Whether other images or another model are chosen now.
    """
    request = segmentations.read(id)
    if request is None:
        st.warning("This segmentation is no longer kept; make it again.", icon=":material/search_off:")
        st.button("Close", on_click=close, args=("",))
        return
    if earlier:
        mark_as_earlier()
    job = segmentations.observe(id)
    if job.state == "done":
        finished(id, request, removable=True)
        return
    heading(request)
    if job.state == "running":
        progress("Segmenting", lambda: segmentations.observe(id))
        st.button("Cancel", icon=":material/stop_circle:", on_click=close, args=(id,))
        st.skeleton(420)
    else:
        unfinished(id, request, job)
        st.button("Close", type="tertiary", on_click=close, args=(id,))


def mark_as_earlier() -> None:
    """Say that the result is not of what is chosen now."""
    st.info(
        "**An earlier result.** Other images or another model are chosen now: press Segment for their segmentation.",
        icon=":material/history:",
    )


def unfinished(id: str, request: Request, job: Job) -> None:
    """Render why there is no result, with buttons that start again."""
    failed = job.state == "failed"
    error_box(formatting.sentence(_without_folders(job.message, request)) if failed else "It was interrupted.")
    with st.container(horizontal=True):
        if failed and segmentations.NAN_IS_ZERO in job.message:
            st.button("Read NaN as 0", icon=":material/refresh:", type="primary", on_click=restart, args=(id, True))
        st.button("Try again", icon=":material/refresh:", on_click=restart, args=(id,))


def restart(id: str, nan_is_zero: bool = False) -> None:
    """Start the segmentation again (callback of a button)."""
    try:
        segmentations.restart(id, nan_is_zero)
    except UserError as error:
        error_box(error)


def close(id: str) -> None:
    """Remove a segmentation with the files that were uploaded for it (callback of a button)."""
    segmentations.remove(id)
    query_params.pop(RESULT, None)


def heading(request: Request) -> None:
    """Names of the images and of the model."""
    names = ", ".join(dict.fromkeys(path.name for path in request.paths))
    synthetic = " (synthetic)" if any(is_demo(path.parent) for path in request.paths) else ""
    st.caption(f"{formatting.plain(names)}{synthetic} · {formatting.plain(request.title)}")


def finished(id: str, request: Request, removable: bool) -> None:
    """Render a result: the button that saves it, the viewer, volumes and settings.

    Parameters
    ----------
    removable : bool. Whether a button removes it.
    """
    file = segmentations.output(id)
    try:
        report = segmentations.report(id)
        scene = image_scene(
            request.paths,
            dataset_of_images(request.paths, request.modalities, request.channels, bool(report.get("nan_voxels"))),
            request.modalities,
            request.label_space,
            file,
            str(request.channels),
        )
    except (UserError, OSError, ValueError) as error:
        heading(request)
        error_box(_without_folders(str(error), request))
        if removable:
            st.button("Close", on_click=close, args=(id,))
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(width="stretch"):
            heading(request)
        problem = _save_buttons(id, request)
        if removable:
            st.button(
                "Remove",
                type="tertiary",
                icon=":material/delete:",
                on_click=close,
                args=(id,),
                help="Remove this result" + (" and the files uploaded for it" if request.uploaded else ""),
            )
    if problem:
        error_box(_without_folders(problem, request))
    show_warnings(report.get("warnings", ()))
    name = request.download_name.partition(".")[0]
    viewer(scene, f"predict-{id}", ViewerOptions(rows=("image", "prediction"), name=name))
    with st.grid(2, min_column_width=340, gap=("small", "large")) as grid:
        with grid.cell():
            _class_volumes(request, report["volume_ml"])
        with grid.cell():
            facts_list(_facts(request, report))
            for remark in report.get("remarks", ()):
                st.caption(formatting.plain(remark))
            st.caption("The same in a terminal:")
            st.code(request.command, language="bash", wrap_lines=True)


def _save_buttons(id: str, request: Request) -> str:
    """Render the button that saves the result, for a DICOM image with the choice of the format; why it cannot be saved
    in that."""
    file, name, kind = segmentations.output(id), request.download_name, "application/gzip"
    try:
        if foreign_format(request.paths[0]) == "dicom" and _choose_format(id) == DICOM_SEG:
            with st.spinner("Writing the DICOM segmentation"):
                file = segmentations.dicom_segmentation(id, request)
            name, kind = f"{name.removesuffix(NIFTI_SUFFIX)}.dcm", "application/dicom"
        content = _file_content(str(file), file.stat().st_mtime_ns)
    except (UserError, OSError) as error:
        return str(error)
    st.download_button(
        "Save the segmentation",
        content,
        name,
        kind,
        type="primary",
        icon=":material/download:",
        on_click="ignore",
        help=formatting.plain(name),
    )
    return ""


def _choose_format(id: str) -> str:
    chosen = st.segmented_control(
        "Format",
        (NIFTI, DICOM_SEG),
        default=NIFTI,
        required=True,
        key=f"predict_format-{id}",
        label_visibility="collapsed",
        help="DICOM SEG names the classes, and refers to the slices of the series.",
    )
    return chosen or NIFTI


def _facts(request: Request, report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of the inputs and settings of the segmentation."""
    images = [
        (modality, _image_name(ref, request)) for modality, ref in zip(request.modalities, request.images, strict=True)
    ]
    images += [(modality, "none") for modality in request.without]
    method = "The whole volume in one pass"
    if "tile" in report:
        method = f"Sliding window, tiles of {formatting.size(report['tile'])} voxels, overlap {report['overlap']:g}"
    if resampled_mm := report.get("resampled_mm"):
        method += f", at voxels of {formatting.size(resampled_mm)} mm"
    members = report.get("members", ())
    postprocessing = Postprocessing.from_json(report.get("postprocessing", {}))
    return [
        *images,
        ("Model", request.title),
        ("Method", method),
        *([("Networks", f"{len(members)}, their probabilities averaged")] if members else []),
        *([("Postprocessing", postprocessing.text)] if postprocessing else []),
        ("Computed", f"{report['device']}, {report['precision']}, {format_duration(report['seconds'])}"),
        *(
            [("NaN", f"read as 0, in {formatting.count(report['nan_voxels'], 'voxel')}")]
            if report.get("nan_voxels")
            else []
        ),
        ("Values", ", ".join(f"{raw} {name}" for name, raw in report["labels"].items())),
    ]


def _image_name(ref: ImageRef, request: Request) -> str:
    return f"{ref.path.name}, channel {ref.channel + 1}" if request.channels else ref.path.name


def _class_volumes(request: Request, volume_ml: Mapping[str, float]) -> None:
    """Volume per class; without a truth there is no Dice."""
    rows = [
        ClassRow(c.name, [f"{format_number(volume_ml[c.name], 1, grouped=True)} ml"], c.colour)
        for c in request.label_space.foreground
        if c.name in volume_ml
    ]
    class_table(["Volume"], rows, "Class")


@st.cache_data(max_entries=4, show_spinner=False)
def _file_content(path: str, mtime_ns: int) -> bytes:
    return Path(path).read_bytes()


def _without_folders(message: str, request: Request) -> str:
    """An error message in which uploaded files appear by name, without folders."""
    for path in (request.checkpoint, *request.paths) if request.uploaded else ():
        message = message.replace(str(path), path.name)
    return message
