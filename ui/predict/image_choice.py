"""Choice of the images on the Predict page: uploads, subjects of a data set, or files on the server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import streamlit as st

from core.datasets import ImageRef
from core.datasets.layouts.files import is_image_name
from core.errors import UserError
from core.imaging.dicom_folders import index_folder
from core.imaging.headers import read_header
from core.imaging.image_files import is_second_half, partner_names, partner_of
from core.paths import DEMO, DEMO_MODEL, data_root
from ui.predict.model_choice import Network, segmented_choice
from ui.shared import cache, demo_jobs, file_check, formatting, uploads
from ui.shared.data_choice import FIRST_DEMO_SUBJECT, held_out_demo_subject, name_in_url
from ui.shared.errors import error_box
from ui.shared.progress import progress
from ui.shared.query_params import query_params
from ui.shared.server_files import MAX_LISTED_FILES, images_below, listed_name
from ui.shared.state import DATA, load_from_url, save_to_url
from ui.shared.state import SUBJECT as URL_SUBJECTS

UPLOAD, DATASET = "Upload", "Data set"
SOURCES = (UPLOAD, DATASET, "Files here")
MAX_IMAGES = 100  # of all cases
MAX_SUBJECTS = 100
UPLOAD_HELP = (
    f"Accepted: {uploads.ACCEPTED[uploads.IMAGES]}; one file per modality, or one file with all of them, of one or "
    "several subjects. Images of one subject differ in their names only in the modality: sub-1_T1.nii, sub-1_T2.nii. "
    "Files stay on this server, for six hours at most, or a day with their result"
)

# Session keys.
SOURCE = "predict_source"
DATASET_NAME = "predict_data"
SUBJECT = "predict_subject"
FILES = "predict_files"
SERIES = "predict_series"
EXAMPLE = "predict_example"
READ_NAN = "predict_read_nan"


@dataclass(frozen=True)
class ChosenImages:
    """Images chosen on the page: of files, or of subjects of a data set.

    Attributes
    ----------
    files : dict. Images by their names on screen.
    subjects : dict. Images by modality, by the id of their subject.
    fit : bool. Whether every file can be segmented as far as is known.
    nan_is_zero : bool. Whether NaN is to be read as 0.
    """

    files: dict[str, ImageRef] = field(default_factory=dict)
    subjects: dict[str, dict[str, ImageRef]] = field(default_factory=dict)
    fit: bool = True
    nan_is_zero: bool = False


def choose_images(network: Network | None) -> ChosenImages:
    """Render the choice; unfit files are reported."""
    source = segmented_choice("Images", SOURCES, SOURCE, "images")
    if source == UPLOAD:
        limit = f"at most {uploads.LIMIT_MB} MB a file"
        uploads.uploader(f"NIfTI, DICOM and others, {limit}", uploads.IMAGES, f"{UPLOAD_HELP}; {limit}.")
        return _uploaded_images(network)
    if source == DATASET:
        return ChosenImages(subjects=_images_of_subjects(network))
    return _images_of_files(_name_series(_choose_server_files()))


def choose_example(subject: str) -> None:
    """Choose a demo subject that is segmented as soon as it exists (callback of a button)."""
    st.session_state[SOURCE] = DATASET
    st.session_state[DATASET_NAME] = DEMO
    st.session_state[SUBJECT] = [subject]
    st.session_state[EXAMPLE] = subject


def take_example_request() -> bool:
    """Whether the demo subject of :func:`choose_example` is the present choice; true once per request."""
    requested = st.session_state.get(EXAMPLE)
    demo_chosen = (st.session_state.get(SOURCE), st.session_state.get(DATASET_NAME)) == (DATASET, DEMO)
    if requested is None or (demo_chosen and st.session_state.get(SUBJECT) != [requested]):
        return False
    del st.session_state[EXAMPLE]
    return demo_chosen


def example_subject(network: Network) -> str | None:
    """A demo subject held out from the training of a network; ``None`` for a network of other images."""
    metadata = network.metadata
    synthetic = network.argument == DEMO_MODEL or metadata.dataset.get("synthetic")
    if not synthetic or set(metadata.modalities) - {"T1", "T2"}:
        return None
    return held_out_demo_subject(metadata)


def _images_of_subjects(network: Network | None) -> dict[str, dict[str, ImageRef]]:
    choices = cache.dataset_choices()
    if st.session_state.get(DATASET_NAME) not in choices:
        st.session_state.pop(DATASET_NAME, None)
    name_in_url(choices)
    load_from_url(DATASET_NAME, choices[0], choices, DATA)
    choice = st.selectbox("Data set", choices, key=DATASET_NAME, persist_state="session") or DEMO
    save_to_url(DATASET_NAME, choice, DATA, choices[0])
    try:
        path = cache.dataset_path(choice)
        if choice == DEMO and not _demo_subject_exists(network):
            return {}
        dataset = cache.dataset(path)
        kept = [id for id in st.session_state.get(SUBJECT, []) if id in dataset.ids]
        given = [id for id in query_params.get(URL_SUBJECTS, "").split(",") if id in dataset.ids]
        st.session_state[SUBJECT] = kept or given or list(dataset.ids[:1])
        subjects = st.multiselect(
            "Subjects",
            dataset.ids,
            key=SUBJECT,
            persist_state="session",
            max_selections=MAX_SUBJECTS,
            placeholder="Choose one or several",
        )
        save_to_url(SUBJECT, ",".join(subjects), URL_SUBJECTS)
        return {id: dict(dataset.subject(id).images) for id in subjects}
    except UserError as error:
        error_box(error)
        return {}


def _demo_subject_exists(network: Network | None) -> bool:
    """Whether the demo data has a subject to choose; otherwise offer to make one, or make the requested one."""
    subject = (example_subject(network) if network else None) or FIRST_DEMO_SUBJECT
    requested = st.session_state.get(EXAMPLE)
    demo_jobs.install_example()
    if cache.demo_subject_exists(subject) or (cache.demo_exists() and not requested):
        return True
    job = demo_jobs.observe_demo_subject(subject)
    if job.state == "failed":
        error_box(job.message)
        st.session_state.pop(EXAMPLE, None)
    st.caption("The demo data is not made yet; one subject takes some seconds.")
    clicked = st.button(f"Make {subject}", icon=":material/science:") if job.state != "running" else False
    if clicked or (requested and job.state == "none"):
        demo_jobs.start_demo_subject(subject)
        job = demo_jobs.observe_demo_subject(subject)
    if job.state == "running":
        progress(f"Making the synthetic {subject}", lambda: demo_jobs.observe_demo_subject(subject))
    return False


def _uploaded_images(network: Network | None) -> ChosenImages:
    """Uploaded images of the session, each with a button that removes it and with what is wrong with it; an Analyze
    pair is one image."""
    paths = uploads.list_uploads(uploads.IMAGES)
    texts = set(map(str, paths))
    names = uploads.display_names([path for path in paths if not is_second_half(str(path), texts)])
    complete, faulty, nan_voxels = {}, False, 0
    with st.container(gap=None):
        for path, name in names.items():
            checked = _uploaded_image(path, name)
            if checked is None:
                faulty = True
                continue
            nan_voxels += checked.nan_voxels
            complete[path] = name
    images = _images_of_files(complete)
    if not nan_voxels or (network is not None and network.metadata.train_config.data.nan_is_zero):
        return replace(images, fit=images.fit and not faulty)
    read_nan = st.checkbox(
        "Read NaN as 0",
        key=READ_NAN,
        persist_state="session",
        help="For NaN (not a number) outside the field of view, as SPM writes it. Without it the image is refused.",
    )
    return replace(images, fit=images.fit and not faulty and read_nan, nan_is_zero=read_nan)


def _uploaded_image(path: Path, name: str) -> file_check.CheckedVoxels | None:
    """Render an uploaded image with a button that removes it, and what is wrong with it; ``None`` if it is unfit."""
    st.button(
        f"Remove {formatting.plain(name)}",
        icon=":material/close:",
        type="tertiary",
        key=f"remove-{path}",
        on_click=uploads.remove,
        args=(path,),
    )
    expected = partner_names(path.name)
    if expected and partner_of(path) is None:
        suffix = Path(expected[0]).suffix
        st.warning(f"{formatting.plain(name)} needs its {suffix} file; add it.", icon=":material/attach_file:")
        return None
    checked = file_check.check_voxels(path)
    if checked.fault:
        refuse(checked.fault)
        return None
    if checked.nan_voxels:
        found = formatting.count(checked.nan_voxels, "voxel")
        st.caption(f"NaN in {found} of {formatting.plain(name)}.")
    return checked


def _choose_server_files() -> list[Path]:
    """Images below the data root."""
    root = data_root()
    paths = images_below(str(root))
    if not paths:
        st.caption(f"No images in {formatting.plain(str(root))}.")
        return []
    st.session_state[FILES] = [path for path in st.session_state.get(FILES, []) if path in paths]
    chosen = st.multiselect(
        "Files",
        paths,
        key=FILES,
        persist_state="session",
        label_visibility="collapsed",
        placeholder="Choose the images of one or several subjects",
        max_selections=MAX_IMAGES,
        format_func=lambda path: listed_name(path, root),
        help=f"Images, and folders with DICOM series, in {formatting.plain(str(root))}.",
    )
    if len(paths) >= MAX_LISTED_FILES:
        st.caption(f"Only the first {MAX_LISTED_FILES} images are listed.")
    return [path for path in chosen if path in paths]


def _name_series(paths: Sequence[Path]) -> dict[Path, str]:
    """Name on screen of each image; of a folder with several DICOM series the one that is chosen in a select box."""
    names: dict[Path, str] = {}
    for path in paths:
        name = os.path.relpath(path, data_root())
        try:
            found = () if is_image_name(path.name) else index_folder(path).series
        except UserError as error:
            refuse(str(error))
            continue
        if len(found) < 2:
            names[path] = name
            continue
        chosen = st.selectbox(
            f"Series in {formatting.plain(name)}",
            found,
            index=None,
            key=f"{SERIES}-{path}",
            placeholder="Choose the series",
            format_func=lambda series: series.title,
        )
        if chosen is not None:
            names[path / chosen.file] = f"{name}{os.sep}{chosen.description or chosen.number}"
    return names


def _images_of_files(names: dict[Path, str]) -> ChosenImages:
    """The images of files, one per channel; an unreadable file is reported.

    Parameters
    ----------
    names : dict. Name on screen of each file.
    """
    refs, fit = {}, True
    for path, name in names.items():
        try:
            channel_count = read_header(path).channels
        except UserError as error:
            refuse(str(error))
            fit = False
            continue
        for channel in range(channel_count):
            refs[name if channel_count == 1 else f"{name}, channel {channel + 1}"] = ImageRef(path, channel)
    return ChosenImages(refs, fit=fit)


def refuse(message: str) -> None:
    """Show why a file cannot be segmented, and what is accepted."""
    error_box(f"{uploads.without_session_folder(message)}. Accepted: {uploads.ACCEPTED[uploads.IMAGES]}.")
