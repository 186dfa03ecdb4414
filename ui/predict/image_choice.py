"""Choice of the images of one subject on the Predict page: uploads, a subject of a data set, or files on the server."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st

from core.datasets import ImageRef
from core.datasets.layouts.base import natural_key
from core.errors import UserError
from core.imaging.headers import read_header
from core.paths import DEMO, DEMO_MODEL, data_root
from ui.predict import uploads
from ui.predict.model_choice import Network, segmented_choice
from ui.shared import cache, demo_jobs, formatting
from ui.shared.data_choice import FIRST_DEMO_SUBJECT, held_out_demo_subject
from ui.shared.errors import error_box
from ui.shared.progress import progress

UPLOAD, DATASET, SERVER_FILES = SOURCES = ("Upload", "Data set", "Files here")
MAX_LISTED_FILES = 2000
MAX_IMAGES = 16  # of one subject
MAX_DEPTH = 5  # levels of folders below the data root that are searched for images
UPLOAD_HELP = (
    "One file per modality (.nii, .nii.gz, or .hdr and .img together), or one file with all of them. Files stay on "
    "this server, for six hours at most, or a day with their result"
)

# Session keys.
SOURCE = "predict_source"
DATASET_NAME = "predict_data"
SUBJECT = "predict_subject"
FILES = "predict_files"
EXAMPLE = "predict_example"


def choose_images(network: Network | None) -> dict[str, ImageRef]:
    """Render the choice; the images by their names on screen, empty if there are none."""
    source = segmented_choice("Images", SOURCES, SOURCE)
    if source == UPLOAD:
        limit = f"at most {uploads.LIMIT_MB} MB a file"
        uploads.uploader(f"NIfTI or Analyze, one subject, {limit}", uploads.IMAGES, f"{UPLOAD_HELP}; {limit}.")
        return _image_refs(_uploaded_images())
    if source == DATASET:
        return _images_of_subject(network)
    return _image_refs(_choose_server_files())


def choose_example(subject: str) -> None:
    """Choose a demo subject that is segmented as soon as it exists (callback of a button)."""
    st.session_state[SOURCE] = DATASET
    st.session_state[DATASET_NAME] = DEMO
    st.session_state[SUBJECT] = subject
    st.session_state[EXAMPLE] = subject


def take_example_request() -> bool:
    """Whether the demo subject of :func:`choose_example` is the present choice; true once per request."""
    requested = st.session_state.get(EXAMPLE)
    demo_chosen = (st.session_state.get(SOURCE), st.session_state.get(DATASET_NAME)) == (DATASET, DEMO)
    if requested is None or (demo_chosen and st.session_state.get(SUBJECT) != requested):
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


def _images_of_subject(network: Network | None) -> dict[str, ImageRef]:
    choices = cache.dataset_choices()
    if st.session_state.get(DATASET_NAME) not in choices:
        st.session_state.pop(DATASET_NAME, None)
    choice = st.selectbox("Data set", choices, key=DATASET_NAME, persist_state="session") or DEMO
    try:
        path = cache.dataset_path(choice)
        if choice == DEMO and not _demo_subject_exists(network):
            return {}
        dataset = cache.dataset(path)
        if st.session_state.get(SUBJECT) not in dataset.ids:
            st.session_state.pop(SUBJECT, None)
        subject = st.selectbox("Subject", dataset.ids, key=SUBJECT, persist_state="session")
        return dict(dataset.subject(str(subject)).images)
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


def _uploaded_images() -> list[Path]:
    """Uploaded images of the session, each with a button that removes it; an Analyze pair is one image."""
    images = []
    for path in uploads.list_uploads(uploads.IMAGES):
        partner = uploads.analyze_partner(path)
        incomplete = partner is not None and not partner.is_file()
        if path.suffix == ".img" and not incomplete:
            continue  # listed with its header
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption(formatting.plain(path.name), width="content")
            st.space("stretch")
            st.button(
                "",
                icon=":material/close:",
                type="tertiary",
                key=f"remove-{path.name}",
                help="Remove this file",
                on_click=uploads.remove,
                args=(path,),
            )
        if incomplete and partner is not None:
            st.warning(
                f"{formatting.plain(path.name)} needs its {partner.suffix} file; add it.", icon=":material/attach_file:"
            )
        else:
            images.append(path)
    return images


def _choose_server_files() -> list[Path]:
    """Images below the data root."""
    root = data_root()
    paths = _images_below(str(root))
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
        placeholder="Choose the images of one subject",
        max_selections=MAX_IMAGES,
        format_func=lambda path: os.path.relpath(path, root),
        help=f"Images in {formatting.plain(str(root))}.",
    )
    if len(paths) >= MAX_LISTED_FILES:
        st.caption(f"Only the first {MAX_LISTED_FILES} images are listed.")
    return [path for path in chosen if path in paths]


@st.cache_data(ttl=20, show_spinner=False)
def _images_below(root: str) -> list[Path]:
    images: list[Path] = []
    for folder, folders, names in os.walk(root, followlinks=True):
        depth = len(Path(folder).relative_to(root).parts)
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if depth < MAX_DEPTH else []
        visible = (name for name in sorted(names) if not name.startswith("."))
        images += [Path(folder) / name for name in visible if name.lower().endswith((".nii", ".nii.gz", ".hdr"))]
        if len(images) >= MAX_LISTED_FILES:
            break
    return sorted(images[:MAX_LISTED_FILES], key=lambda path: natural_key(str(path)))


def _image_refs(paths: list[Path]) -> dict[str, ImageRef]:
    """The images of files, one per channel; an unreadable file is reported."""
    refs = {}
    for path in paths:
        name = path.name if uploads.is_uploaded(path) else os.path.relpath(path, data_root())
        try:
            channel_count = read_header(path).channels
        except UserError as error:
            error_box(uploads.without_session_folder(str(error)))
            continue
        for channel in range(channel_count):
            refs[name if channel_count == 1 else f"{name}, channel {channel + 1}"] = ImageRef(path, channel)
    return refs
