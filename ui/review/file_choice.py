"""Choice of the files to look at without a run: images, a reference and a segmentation, uploaded or of the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st

from core.datasets.file_case import REFERENCE, ROLES, SEGMENTATION
from core.imaging.image_files import is_second_half
from core.paths import data_root
from ui.shared import formatting, uploads
from ui.shared.addresses import join_values, split_values
from ui.shared.server_files import MAX_LISTED_FILES, images_below, listed_name
from ui.shared.state import load_from_url, save_to_url

HERE, UPLOAD = "Files here", "Upload"
MAX_IMAGES = 16
TITLES = {REFERENCE: "Reference", SEGMENTATION: "Segmentation"}
HELPS = {
    REFERENCE: "The segmentation that is taken as right, such as one that was drawn by hand.",
    SEGMENTATION: "The segmentation to look at. With a reference it is scored.",
}
UPLOAD_HELP = (
    f"Accepted: {uploads.ACCEPTED[uploads.IMAGES]}; images and segmentations alike. Files stay on this server, for six "
    f"hours at most; at most {uploads.LIMIT_MB} MB a file."
)

# Session keys, and names in the address.
SOURCE, SOURCE_PARAMETER = "files_source", "source"
IMAGES, IMAGES_PARAMETER = "files_images", "image"
_IMAGES_TEXT = "files_images_text"


@dataclass(frozen=True)
class ChosenFiles:
    """The choice.

    Attributes
    ----------
    images : tuple of Path. Image files.
    segmentations : dict of Path. The reference and the segmentation, by role; those that are chosen.
    uploaded : bool. Whether they are uploads.
    """

    images: tuple[Path, ...] = ()
    segmentations: Mapping[str, Path] = field(default_factory=dict)
    uploaded: bool = False


def choose_files() -> ChosenFiles:
    """Render the choice. Files of the server are part of the address, uploads as long as they are kept."""
    load_from_url(SOURCE, HERE, (HERE, UPLOAD), SOURCE_PARAMETER)
    source = st.segmented_control("Files", (HERE, UPLOAD), required=True, key=SOURCE, persist_state="session") or HERE
    save_to_url(SOURCE, source, SOURCE_PARAMETER, HERE)
    options = _uploaded() if source == UPLOAD else _of_server()
    images = _choose_images(options)
    segmentations = {}
    for role in ROLES:
        chosen = _choose_segmentation(role, options)
        if chosen:
            segmentations[role] = options[chosen]
    return ChosenFiles(tuple(options[name] for name in images), segmentations, source == UPLOAD)


def _uploaded() -> dict[str, Path]:
    """Uploads of the session by their place in its folder, with a button each that deletes it."""
    uploads.uploader("NIfTI, DICOM, NRRD and others", uploads.IMAGES, UPLOAD_HELP)
    paths = uploads.list_uploads(uploads.IMAGES)
    texts = set(map(str, paths))
    names = uploads.display_names([path for path in paths if not is_second_half(str(path), texts)])
    with st.container(horizontal=True, gap="small"):
        for path, name in names.items():
            st.button(
                f"Delete {formatting.plain(name)}",  # not "Remove", which takes an image out of the choice
                icon=":material/close:",
                type="tertiary",
                key=f"remove-file-{path}",
                on_click=uploads.remove,
                args=(path,),
            )
    st.session_state[_NAMES] = {str(path.relative_to(uploads.session_folder())): name for path, name in names.items()}
    return {str(path.relative_to(uploads.session_folder())): path for path in names}


def _of_server() -> dict[str, Path]:
    """Images below the data root by their path in it."""
    root = data_root()
    paths = images_below(str(root))
    if not paths:
        st.caption(f"No images in {formatting.plain(str(root))}.")
    elif len(paths) >= MAX_LISTED_FILES:
        st.caption(f"Only the first {MAX_LISTED_FILES} images are listed.")
    st.session_state[_NAMES] = {path.relative_to(root).as_posix(): listed_name(path, root) for path in paths}
    return {path.relative_to(root).as_posix(): path for path in paths}


_NAMES = "files_names_on_screen"  # session key: by option, since a widget may show an option that is gone


def _shown(option: str) -> str:
    return str(st.session_state.get(_NAMES, {}).get(option, option))


def _choose_images(options: Mapping[str, Path]) -> Sequence[str]:
    before = st.session_state.get(_IMAGES_TEXT)
    load_from_url(_IMAGES_TEXT, "", parameter=IMAGES_PARAMETER)
    if st.session_state[_IMAGES_TEXT] != before:
        st.session_state[IMAGES] = split_values(st.session_state[_IMAGES_TEXT])
    kept = st.session_state.get(IMAGES, [])
    missing = [name for name in kept if name not in options]
    st.session_state[IMAGES] = [name for name in kept if name in options]
    if missing:
        st.caption(f"No longer there: {formatting.plain(', '.join(map(_shown, missing)))}.")
    chosen = st.multiselect(
        "Image",
        list(options),
        key=IMAGES,
        persist_state="session",
        max_selections=MAX_IMAGES,
        format_func=_shown,
        placeholder="One image, or one for each modality",
        help="Images of one subject on one grid. Each channel of a file is a modality.",
    )
    text = join_values(chosen)
    st.session_state[_IMAGES_TEXT] = text
    save_to_url(_IMAGES_TEXT, text, IMAGES_PARAMETER, "")
    return chosen


def _choose_segmentation(role: str, options: Mapping[str, Path]) -> str:
    key, text = f"files_{role}", f"files_{role}_text"
    before = st.session_state.get(text)
    load_from_url(text, "", ("", *options), role)
    if st.session_state[text] != before:
        st.session_state[key] = st.session_state[text] or None
    if st.session_state.get(key) not in options:
        st.session_state[key] = None
    chosen = st.selectbox(
        TITLES[role],
        list(options),
        key=key,
        index=None,
        persist_state="session",
        format_func=_shown,
        placeholder="None",
        help=HELPS[role],
    )
    st.session_state[text] = chosen or ""
    save_to_url(text, chosen or "", role, "")
    return chosen or ""
