"""Choice of the files to look at without a run: images, a reference and a segmentation, uploaded or of the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st

from core.datasets.file_case import REFERENCE, ROLES, SEGMENTATION
from core.imaging.image_files import is_second_half
from core.paths import data_root
from ui.review.dicom_choice import choose_in_folder, prefer
from ui.shared import formatting, uploads
from ui.shared.addresses import join_values, split_values
from ui.shared.query_params import query_params
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
IMAGE = "image"
IMAGES, IMAGES_PARAMETER = "files_images", IMAGE
_IMAGES_TEXT = "files_images_text"


Options = Mapping[str, Path]  # files, and folders of DICOM files, by their place


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
    options, of_roles = _uploaded() if source == UPLOAD else _of_server()
    images = _choose_images(options)
    segmentations = {}
    for role in ROLES:
        chosen = _choose_segmentation(role, of_roles)
        if chosen is not None:
            segmentations[role] = chosen
    return ChosenFiles(images, segmentations, source == UPLOAD)


def _uploaded() -> tuple[Options, Options]:
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
    options = {str(path.relative_to(uploads.session_folder())): path for path in names}
    return options, options


def _of_server() -> tuple[Options, Options]:
    """Images below the data root by their path in it; and these with folders of DICOM segmentations alone."""
    root = data_root()
    paths, of_roles = images_below(str(root)), images_below(str(root), or_labels=True)
    if not of_roles:
        st.caption(f"No images in {formatting.plain(str(root))}.")
    elif max(len(paths), len(of_roles)) >= MAX_LISTED_FILES:
        st.caption(f"Only the first {MAX_LISTED_FILES} images are listed.")
    names = {path.relative_to(root).as_posix(): listed_name(path, root) for path in (*paths, *of_roles)}
    st.session_state[_NAMES] = names
    images = {path.relative_to(root).as_posix(): path for path in paths}
    return images, {path.relative_to(root).as_posix(): path for path in of_roles}


_NAMES = "files_names_on_screen"  # session key: by option, since a widget may show an option that is gone


def _name_of_option() -> Callable[[str], str]:
    """The name on screen of an option."""
    names: Mapping[str, str] = st.session_state.get(_NAMES, {})
    return lambda option: names.get(option, option)


def _key_in(role: str, option: str) -> str:
    """Session key of the files that are chosen in a folder of DICOM files."""
    return f"files_in_folder-{role}-{option}"


def _take(role: str, names: Iterable[str], options: Options) -> list[str]:
    """The options of names in the address; those of their folders for files that stand for their DICOM series."""
    inside: dict[str, list[str]] = {}
    found: dict[str, None] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        is_inside = name not in options and folder in options and options[folder].is_dir()
        found[folder if is_inside else name] = None
        if is_inside:
            inside.setdefault(folder, []).append(file)
    for folder in options:
        if folder in inside or _key_in(role, folder) in st.session_state:
            prefer(_key_in(role, folder), inside.get(folder, ()))
    return list(found)


def _files_of(role: str, option: str, options: Options) -> tuple[list[Path], list[str]]:
    """Paths of an option, and their names in the address; those that are chosen in a folder of several series."""
    path, files = options[option], None
    if path.is_dir():
        title = _name_of_option()(option)
        files = choose_in_folder(path, title, _key_in(role, option), TITLES.get(role, ""))
    if files is None:
        return [path], [option]
    return [path / file for file in files], [f"{option}/{file}" for file in files] or [option]


def _choose_images(options: Options) -> tuple[Path, ...]:
    before = st.session_state.get(_IMAGES_TEXT)
    load_from_url(_IMAGES_TEXT, "", parameter=IMAGES_PARAMETER)
    if st.session_state[_IMAGES_TEXT] != before:
        st.session_state[IMAGES] = _take(IMAGE, split_values(st.session_state[_IMAGES_TEXT]), options)
    kept = st.session_state.get(IMAGES, [])
    missing = [name for name in kept if name not in options]
    st.session_state[IMAGES] = [name for name in kept if name in options]
    if missing:
        st.caption(f"No longer there: {formatting.plain(', '.join(map(_name_of_option(), missing)))}.")
    chosen = st.multiselect(
        "Image",
        list(options),
        key=IMAGES,
        persist_state="session",
        max_selections=MAX_IMAGES,
        format_func=_name_of_option(),
        placeholder="One image, or one for each modality",
        help="Images of one subject on one grid. Each channel of a file is a modality.",
    )
    paths, names = list[Path](), list[str]()
    for option in chosen:
        files, of_files = _files_of(IMAGE, option, options)
        paths += files
        names += of_files
    text = join_values(names)
    st.session_state[_IMAGES_TEXT] = text
    save_to_url(_IMAGES_TEXT, text, IMAGES_PARAMETER, "")
    return tuple(paths)


def _choose_segmentation(role: str, options: Options) -> Path | None:
    key, text = f"files_{role}", f"files_{role}_text"
    before = st.session_state.get(text)
    given = query_params.get(role) or ""
    inside = [given] if given.rpartition("/")[0] in options else []
    load_from_url(text, "", ("", *options, *inside), role)
    if st.session_state[text] != before:
        st.session_state[key] = next(iter(_take(role, [st.session_state[text]], options))) or None
    if st.session_state.get(key) not in options:
        st.session_state[key] = None
    chosen = st.selectbox(
        TITLES[role],
        list(options),
        key=key,
        index=None,
        persist_state="session",
        format_func=_name_of_option(),
        placeholder="None",
        help=HELPS[role],
    )
    paths, names = _files_of(role, chosen, options) if chosen else ([], [""])
    st.session_state[text] = names[0]
    save_to_url(text, names[0], role, "")
    return paths[0] if paths else None
