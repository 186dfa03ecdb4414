"""Choice of a series, segmentation or contours where a folder of DICOM files holds several, on the page Review."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlit as st

from core.errors import UserError
from core.formatting import format_list
from core.imaging.dicom_folders import index_folder
from core.imaging.dicom_index import LabelObject
from ui.shared import formatting, uploads
from ui.shared.errors import error_box


def choose_in_folder(folder: Path, title: str, key: str, label_map: str = "") -> list[str] | None:
    """Render the choice of what is meant in a folder, where that is open.

    Parameters
    ----------
    folder : Path. Folder of DICOM files.
    title : str. Name of the folder on screen.
    key : str. Session key of the choice: names of files, each of which stands for its series; :func:`prefer` sets it.
    label_map : str. What a label map that is chosen is, such as "Reference"; empty for images, of which several are
        chosen for several modalities.

    Returns
    -------
    list of str, or None
        Names of the files that are chosen; ``None`` where the folder itself says what is meant.
    """
    try:
        with st.spinner(f"Reading {formatting.plain(title)}", show_time=True):
            entries = _entries(folder, is_image=not label_map)
    except UserError as error:
        error_box(uploads.without_session_folder(str(error)))
        return []
    if entries is None:
        return None
    kept = [file for file in st.session_state.get(key) or () if file in entries]
    if not label_map:
        st.session_state[key] = kept
        return st.multiselect(
            f"Series in {formatting.plain(title)}",
            list(entries),
            key=key,
            persist_state="session",
            format_func=lambda file: entries.get(file, file),
            placeholder="One series, or one for each modality",
        )
    one_key = f"{key}-one"
    if key in st.session_state:  # from the address
        st.session_state[one_key] = kept[0] if kept else None
        del st.session_state[key]
    elif st.session_state.get(one_key) not in entries:
        st.session_state[one_key] = None
    chosen = st.selectbox(
        f"{label_map} in {formatting.plain(title)}",
        list(entries),
        key=one_key,
        index=None,
        persist_state="session",
        format_func=lambda file: entries.get(file, file),
        placeholder="Choose one of these",
    )
    return [chosen] if chosen else []


def prefer(key: str, files: Sequence[str]) -> None:
    """Choose files in a folder, before :func:`choose_in_folder` renders it."""
    st.session_state[key] = list(files)


def _entries(folder: Path, is_image: bool) -> Mapping[str, str] | None:
    """Title by name of a file for what a folder holds; ``None`` where it is one thing, or nothing.

    Raises
    ------
    VolumeError
        If the folder cannot be read.
    """
    index = index_folder(folder)
    series = {s.file: s.title for s in sorted(index.series, key=lambda s: (s.number, s.description))}
    labels = {} if is_image else {label.file: _title(label) for label in index.labels}
    found = {**labels, **series}  # a label map may be stored as a series of images, too
    return found if len(found) > 1 else None


def _title(label: LabelObject) -> str:
    names = format_list([segment.name for segment in label.segments], 3)
    return " · ".join(text for text in (f"{label.kind} {label.description}".strip(), names, label.file) if text)
