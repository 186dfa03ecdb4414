"""Segmentations that no model has made, beside those of the model under review: of another rater, a file below the
folder of data, a folder of files, or uploads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st

from core.datasets import Dataset
from core.datasets.segmentation_files import MatchedFiles, match_files, rater_files, segmentations_below
from core.errors import UserError
from core.formatting import format_list
from core.paths import data_root
from ui.shared import formatting, uploads
from ui.shared.errors import error_box
from ui.shared.folders import file_inside, resolve_inside
from ui.shared.state import load_from_url, save_to_url
from ui.viewer.second_prediction import LAYER

FILE, FOLDER, UPLOAD = "review_with_file", "review_with_folder", "review_with_upload"  # session keys
FILE_PARAMETER, FOLDER_PARAMETER = "file", "folder"
RATER = "rater:"  # before the name of a rater, as ``review score`` takes it
VALUES = "label values as in the data set, on the grid of the image"


@dataclass(frozen=True)
class SecondFiles:
    """Segmentations by case.

    Attributes
    ----------
    name : str. In a sentence: "the label maps of ben".
    files : dict. The file by id of the case.
    source : str. What ``review score`` takes for the cases of ``matched``; empty for one file of one case.
    matched : MatchedFiles. The cases of ``source``.
    kind : str. What they are called beside "model", in one word.
    title : str. Of the layer in the viewer.
    """

    name: str
    files: dict[str, Path]
    source: str = ""
    matched: MatchedFiles = field(default_factory=MatchedFiles)
    kind: str = "files"
    title: str = LAYER

    @property
    def view_title(self) -> str:
        """Of the view of all cases; empty where there are no others."""
        return f"model and {self.kind}" if self.source else ""


def forget_places(but: str = "") -> None:
    """Take the places of files out of the address.

    Parameters
    ----------
    but : str. Query parameter of the place that stays.
    """
    for key, parameter in ((FILE, FILE_PARAMETER), (FOLDER, FOLDER_PARAMETER)):
        if parameter != but:
            save_to_url(key, "", parameter, "")


def of_rater(dataset: Dataset, chosen: str, rater: str) -> SecondFiles:
    """The label maps of a rater; what is compared in the chosen case is rendered.

    Parameters
    ----------
    dataset : Dataset. It has label maps of this rater that are not the reference.
    chosen : str. The chosen case.
    rater : str. Name of the rater.
    """
    subject, named = dataset.subject(chosen), formatting.plain(rater)
    file = subject.raters.get(rater)
    if file is None:
        st.caption(f"{named} has drawn no label map of this case.")
    elif file == subject.label:
        st.caption(f"The reference of this case is by {named}.")
    else:
        by = next((name for name, other in subject.raters.items() if other == subject.label), "")
        reference = f"; the reference is by {formatting.plain(by)}" if by else ""
        st.caption(f"Compared with the label map by {named}{reference}.")
    matched = MatchedFiles(rater_files(dataset, rater))
    name = f"the label maps of {rater}"
    return SecondFiles(name, matched.files, f"{RATER}{rater}", matched, "rater", f"rater {rater}")


def choose_file(chosen: str) -> SecondFiles | None:
    """Render the field for the path of a segmentation file of a case; ``None`` without one."""
    key = f"{FILE}-{chosen}"
    load_from_url(key, "", parameter=FILE_PARAMETER)
    text = st.text_input(
        "Segmentation file",
        key=key,
        placeholder="folder/case.nii.gz",
        help=f"a path below {data_root()}; {VALUES}",
    )
    save_to_url(key, text, FILE_PARAMETER, "")
    if not text.strip():
        st.caption("Type the path of a label map of this case, below the folder of data.")
        return None
    try:
        file = file_inside(data_root(), text)
    except UserError as error:
        error_box(error)
        return None
    return SecondFiles(f"the file {file.name}", {chosen: file})


def choose_folder(dataset: Dataset, chosen: str) -> SecondFiles | None:
    """Render the field for the path of a folder with a segmentation file for each case; ``None`` without one.

    Parameters
    ----------
    dataset : Dataset. Its cases are those that the files are named as.
    chosen : str. The chosen case.
    """
    load_from_url(FOLDER, "", parameter=FOLDER_PARAMETER)
    text = st.text_input(
        "Folder of segmentations",
        key=FOLDER,
        placeholder="folder",
        help=f"a path below {data_root()}, of files that are named as the cases (ID.nii.gz, ID_any.nii.gz); {VALUES}",
    )
    save_to_url(FOLDER, text, FOLDER_PARAMETER, "")
    if not text.strip():
        st.caption("Type the path of a folder with a label map for each case, below the folder of data.")
        return None
    try:
        folder = resolve_inside(data_root(), text)
        matched = match_files(_segmentations(str(folder)), dataset.ids)
    except UserError as error:
        error_box(error)
        return None
    _say_matched(matched, dataset, chosen)
    return SecondFiles(f"the files in {folder.name}", matched.files, str(folder), matched)


def choose_uploads(dataset: Dataset, chosen: str) -> SecondFiles | None:
    """Render the upload of segmentations, and the choice of that of the chosen case; ``None`` without any.

    Parameters
    ----------
    dataset : Dataset. Files that are named as one of its cases belong to that case.
    chosen : str. The chosen case.
    """
    uploads.remove_stale()
    uploads.restore_after_reload()
    uploads.uploader(
        "Segmentations of cases",
        uploads.IMAGES,
        f"Named as the cases, or one that is then chosen for this case; {VALUES}. Accepted: "
        f"{uploads.ACCEPTED[uploads.IMAGES]}. Files stay on this server, for six hours at most; at most "
        f"{uploads.LIMIT_MB} MB a file.",
    )
    folder, latest = uploads.session_folder(), uploads.take_latest(uploads.IMAGES)
    paths = segmentations_below(folder) if folder.is_dir() else []
    if not paths:
        st.caption("Upload label maps of the cases: each belongs to the case that it is named as.")
        return None
    matched = match_files(paths, dataset.ids)
    names = uploads.display_names(paths)
    options = [str(path) for path in paths]
    key = f"{UPLOAD}-{chosen}"
    if latest is not None and list(matched.unmatched) == [path for path in paths if path.is_relative_to(latest)]:
        st.session_state[key] = str(matched.unmatched[0])  # just uploaded for this case, under any name
    if st.session_state.get(key) not in options:
        st.session_state[key] = str(matched.files[chosen]) if chosen in matched.files else None
    text = st.selectbox(
        f"Segmentation of {formatting.plain(chosen)}",
        options,
        key=key,
        index=None,
        format_func=lambda option: names.get(Path(option), Path(option).name),
        placeholder="None of them",
        persist_state="session",
    )
    with st.container(horizontal=True, gap="small"):
        for path, name in names.items():
            st.button(
                f"Delete {formatting.plain(name)}",
                icon=":material/close:",
                type="tertiary",
                key=f"remove-second-{path}",
                on_click=uploads.remove,
                args=(path,),
            )
    _say_matched(matched, dataset, chosen, is_chosen=text is not None)
    files = {**matched.files, chosen: Path(text)} if text else {k: v for k, v in matched.files.items() if k != chosen}
    return SecondFiles("the uploaded files", files, str(folder), matched)


def _say_matched(matched: MatchedFiles, dataset: Dataset, chosen: str, is_chosen: bool = False) -> None:
    """Render how many cases have a file, and which files are left out."""
    parts = [f"{len(matched.files)} of {formatting.count(len(dataset.ids), 'case')} have a file named as the case."]
    if chosen in matched.ambiguous and not is_chosen:
        several = format_list([path.name for path in matched.ambiguous[chosen]])
        parts.append(f"This one has several, so none is taken: {several}.")
    elif chosen not in matched.files and not is_chosen:
        parts.append("This one has none.")
    others = [id for id in matched.ambiguous if id != chosen]
    if others:
        parts.append(f"Several files each, so none is taken: {format_list(others)}.")
    if matched.unmatched:
        parts.append(f"Named as no case: {format_list([path.name for path in matched.unmatched], 3)}.")
    st.caption(formatting.plain(" ".join(parts)))


@st.cache_data(ttl=20, show_spinner=False)
def _segmentations(folder: str) -> Sequence[Path]:
    return segmentations_below(Path(folder))
