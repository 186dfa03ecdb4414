"""Editor of the patterns of a folder's file names: proposed, corrected, saved, with the cases that they yield."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from core.datasets.folder_description import (
    DescribedFolder,
    class_rows,
    describe,
    parse_class_rows,
    parse_pattern_lines,
    pattern_lines,
    starting_point,
)
from core.datasets.layouts.described_layout import modality_table
from core.datasets.layouts.known_sets import known_sets
from core.datasets.layouts.patterns import language_table
from core.datasets.registry import UnknownLayoutError
from core.datasets.saved_descriptions import (
    description_file,
    forget_description,
    save_description,
    saved_description,
)
from core.errors import UserError
from ui.data import description_job, regions_view
from ui.shared import formatting, hashes, jobs
from ui.shared.errors import error_box
from ui.shared.progress import progress

EDITED = "file_names"  # session key: the folder whose file names are edited
MAX_ROWS = 1000  # of the table of cases
MANY_CASES = 9  # from which on the table of cases scrolls


def is_edited(path: Path) -> bool:
    """Whether the file names of a folder are being edited."""
    return bool(st.session_state.get(EDITED) == str(path))


def edit_button(path: Path) -> None:
    """Render the button that opens the editor for a folder that is a data set."""
    st.button(
        "File names",
        icon=":material/folder_open:",
        type="tertiary",
        on_click=_edit,
        args=(path,),
        help="How the files are read: correct patterns, classes and colours. The folder is not written to.",
    )


def forget_button(path: Path) -> None:
    """Render the button that removes the saved description of a folder, if there is one."""
    if description_file(path).exists():
        st.button(
            "Reset file names",
            icon=":material/undo:",
            on_click=_forget,
            args=(path,),
            help="Delete the saved patterns and class names: the folder is read again as it is recognised",
        )


def show_editor(path: Path, unknown: UnknownLayoutError | None = None, layout: str = "") -> bool:
    """Render the editor of a folder's description; whether there is anything to describe.

    Parameters
    ----------
    unknown : UnknownLayoutError, optional. Why the folder cannot be opened.
    layout : str. Layout that reads it now; empty if none does.
    """
    try:
        start = _start(path, layout)
    except UserError as error:
        if layout:
            error_box(error)
        return False
    if unknown is not None:
        nearest = f" {formatting.plain(formatting.sentence(unknown.nearest))}" if unknown.nearest else ""
        st.info(f"No known layout fits this folder.{nearest}", icon=":material/folder_open:")
    _show_fields(path, start)
    return True


def _show_fields(path: Path, start: dict[str, Any]) -> None:
    """Render the fields, what they make of the folder, and the buttons."""
    key = f"file_names.{hashes.short_hash(str(path))}"
    content, usable = dict(start), False
    try:
        if start.get("dicom"):
            content = _edit_dicom(start, key)
            content = _edit_modalities(content, describe(path, content), key)
            found = describe(path, content)
            _show_cases(found)
        else:
            content = _edit_patterns(start, key)
            found = describe(path, content)
            _show_cases(found)
            content = _edit_modalities(content, found, key)
        content = _edit_rater(content, found, key)
        content = _edit_classes(path, content, describe(path, content), key)
        usable = _is_usable(path, content, found)
    except UserError as error:
        error_box(error)
    _save_buttons(path, content, usable, key)


def _edit_dicom(start: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Render what is read of DICOM files, and the field of label maps in other files; the description with them."""
    st.header("What do the files hold?", anchor=False)
    st.caption(
        "DICOM series, and the segmentations and contours of them, are matched by what their headers state. A study is "
        "one case with a series of each modality; series in other coordinates than the labelled one are not read. "
        "Names are kept with the settings of this program; the folder is not written to."
    )
    labels = st.text_input(
        "Label maps of another format",
        pattern_lines(start.get("labels", "")),
        key=f"{key}.labels",
        placeholder="labels/{case}_seg.nii.gz",
        help="A pattern in which {case} is the id of a case; empty: SEG and RTSTRUCT are read",
    )
    return _with_labels(start, labels)


def _edit_patterns(start: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Render the fields of the patterns; the description with them.

    Raises
    ------
    DatasetError
        If only some lines name a modality.
    """
    st.header("How are the files named?", anchor=False)
    st.caption(
        "A pattern stands for the files of all cases. The one below is proposed by the names in the folder; correct it "
        "until the table is right. It is kept with the settings of this program; the folder is not written to."
    )
    with st.container(horizontal=True, vertical_alignment="top", gap="medium"):
        images = st.text_area(
            "Images", pattern_lines(start["images"]), key=f"{key}.images", height=100, width="stretch",
            help="A pattern per line; with a modality and a colon in front, the images of that modality.",
        )  # fmt: skip
        labels = st.text_area(
            "Label maps", pattern_lines(start.get("labels", "")), key=f"{key}.labels", height=100, width="stretch",
            help="A pattern per line; empty where there are none, for prediction.",
        )  # fmt: skip
    with st.expander("What patterns can say", icon=":material/help:"):
        st.markdown(language_table())
    return _with_patterns(start, images, labels)


def _start(path: Path, layout: str) -> dict[str, Any]:
    """The description to begin with: saved, that of a known data set, or proposed.

    Raises
    ------
    DatasetError
        If nothing can be proposed.
    """
    known = known_sets().get(layout.partition("/")[0])
    if saved_description(path) is not None or known is None:
        return dict(describe(path).content)
    start = starting_point(layout)
    if not known.flag("dicom"):
        return start
    proposed = dict(describe(path).content)  # names of series too
    return proposed if proposed.get("dicom") else start


def _with_patterns(start: Mapping[str, Any], images: str, labels: str) -> dict[str, Any]:
    """The description with the patterns of the two fields; names that belong to others are left out."""
    content = {**start, "images": parse_pattern_lines(images)}
    if images.strip() != pattern_lines(start["images"]):
        content.pop("modalities", None)
        content.pop("id", None)
    return _with_labels(content, labels)


def _with_labels(start: Mapping[str, Any], labels: str) -> dict[str, Any]:
    """The description with other patterns of label maps; names that belong to others are left out."""
    content = {**start, "labels": parse_pattern_lines(labels)}
    if labels.strip() != pattern_lines(start.get("labels", "")):
        for name in ("classes", "colours", "ignore", "regions", "regions_class_order", "tables", "freesurfer", "rater"):
            content.pop(name, None)
    if not content["labels"]:
        del content["labels"]
    return content


def _show_cases(found: DescribedFolder) -> None:
    """What each case would be, what contradicts, and what is left over."""
    cases, left = found.assignment.cases, found.assignment.left_over
    labelled = sum(bool(case.labels) for case in cases)
    unread = f"{formatting.count(len(left), 'image file')} left over"
    parts = [formatting.count(len(cases), "case"), f"{labelled} with labels", unread]
    st.markdown(" · ".join(parts))
    for problem in found.assignment.problems[:5]:
        st.error(formatting.plain(formatting.sentence(problem)), icon=":material/error:")
    for warning in found.assignment.warnings:
        st.warning(formatting.plain(formatting.sentence(warning)), icon=":material/warning:")
    for note in found.assignment.notes:
        st.caption(formatting.plain(formatting.sentence(note)))
    if cases:
        st.dataframe(
            modality_table(cases[:MAX_ROWS], found.assignment.modalities),
            hide_index=True,
            height="content" if len(cases) <= MANY_CASES else 320,
            alt="Files of each case",
        )
    if left:
        with st.expander(f"Left over: {formatting.count(len(left), 'image file')}"):
            st.dataframe([{"file": file} for file in left[:MAX_ROWS]], hide_index=True, alt="Files that are left over")


def _edit_modalities(content: dict[str, Any], found: DescribedFolder, key: str) -> dict[str, Any]:
    """The description with the names of the modalities."""
    if isinstance(content.get("images"), Mapping) or not found.assignment.modality_texts:
        return content
    st.markdown("**Modalities**")
    if content.get("dicom"):
        st.caption(
            "A description or protocol of series, in which * stands for any text, and the modality that they show. "
            "Series of one name are one modality; those without a row are not read."
        )
    texts = content.get("modalities") or dict(found.assignment.modality_texts)
    rows = st.data_editor(
        [{"text": text, "name": name} for text, name in texts.items()],
        key=f"{key}.modalities.{hashes.short_hash(repr(sorted(texts.items())))}",
        hide_index=True,
        num_rows="dynamic",
        width=460,
        column_config={"text": "in headers" if content.get("dicom") else "in file names", "name": "modality"},
    )
    names = {str(r.get("text") or ""): str(r.get("name") or "").strip() for r in rows}
    return {**content, "modalities": {text: name or text for text, name in names.items() if text}}


def _edit_rater(content: dict[str, Any], found: DescribedFolder, key: str) -> dict[str, Any]:
    """The description with the rater whose label maps are read, where there are several."""
    raters = found.assignment.raters
    if len(raters) < 2:
        return content
    stated = content.get("rater", "")
    chosen = st.selectbox(
        "Reference",
        ["", *raters],
        index=raters.index(stated) + 1 if stated in raters else 0,
        key=f"{key}.rater.{hashes.short_hash(repr(raters))}",
        format_func=lambda rater: rater or f"{raters[0]}, or the next one where it is missing",
        width=460,
        help="Whose label maps are the reference. Review compares those of the others.",
    )
    without = {k: v for k, v in content.items() if k != "rater"}
    return {**without, "rater": chosen} if chosen else without


def _edit_classes(path: Path, content: dict[str, Any], found: DescribedFolder, key: str) -> dict[str, Any]:
    """The description with names, values and colours of the classes."""
    described = found.assignment.description
    if (
        ("labels" not in content and not found.assignment.segments)
        or content.get("freesurfer")
        or found.assignment.tables
    ):
        return content
    classes = content.get("classes")
    if classes is None and described.names_classes:
        texts = found.assignment.segments or [t for case in found.assignment.cases for t in case.labels]
        classes = {text: text for text in dict.fromkeys(texts)}
    if classes is None:
        classes = _read_values(path, content, found)
    if classes is None:
        return content
    st.markdown("**Classes**")
    what = "segments" if found.assignment.segments else "masks" if described.has_masks else "label values"
    st.caption(
        f"Rows of one name become one class, and so do {what} with commas between. The class named ignore is left out "
        "of training and scores."
    )
    rows = st.data_editor(
        class_rows(classes, content.get("colours") or found.content.get("colours", {})),
        key=f"{key}.classes.{hashes.short_hash(repr(classes))}",
        hide_index=True,
        num_rows="dynamic",
        width=640,
        column_config={
            "name": "class",
            "values": what,
            "colour": st.column_config.TextColumn("colour", help="#rrggbb; empty: chosen"),
        },
    )
    edited, colours = parse_class_rows(rows, described.names_classes)
    st.caption(f"Saved as: {formatting.plain(', '.join(edited))}.")
    content = regions_view.edit(content, classes, edited, key)
    content = {k: v for k, v in content.items() if k not in ("classes", "colours")}
    if described.names_classes:
        later = st.checkbox(
            "Where classes overlap, the one listed last wins",
            content.get("overlap") == "later",
            key=f"{key}.overlap",
            help="Otherwise a case whose classes overlap is an error. A class that is not listed is not read.",
        )
        content = {**content, "overlap": "later" if later else "error"}
    return {**content, "classes": edited, **({"colours": colours} if colours else {})}


def _read_values(path: Path, content: Mapping[str, Any], found: DescribedFolder) -> dict[str, Any] | None:
    """Classes named by the values of all label maps, which a background job reads; ``None`` until it is done."""
    if not found.assignment.labels:
        return None
    folder = description_job.report_folder(path, content)
    job = jobs.observe_report(folder)
    if job.state == "done":
        return dict(jobs.read_report(folder)["description"]["classes"])
    if job.state == "failed":
        error_box(job.message)
    if job.state == "running":
        progress("Reading label maps", lambda: jobs.observe_report(folder), show_counts=True)
        return None
    if st.button("Read the label values", type="primary", icon=":material/label:"):
        description_job.start(path, content, folder)
        st.rerun()
    st.caption("All label maps are read once, to list their values.")
    return None


def _is_usable(path: Path, content: Mapping[str, Any], found: DescribedFolder) -> bool:
    """Whether a description can be saved: it is valid, reads images without contradictions, and names the classes.

    Raises
    ------
    DatasetError
        If it is not valid.
    """
    needs_classes = describe(path, content).needs_classes and "labels" in content
    return bool(found.assignment.images) and not found.assignment.problems and not needs_classes


def _save_buttons(path: Path, content: Mapping[str, Any], usable: bool, key: str) -> None:
    """Render the buttons that save, cancel and forget."""
    with st.container(horizontal=True, gap="small"):
        if st.button("Save", type="primary", icon=":material/save:", disabled=not usable, key=f"{key}.save"):
            try:
                save_description(path, content)
            except UserError as error:
                error_box(error)
                return
            st.session_state.pop(EDITED, None)
            st.rerun()
        if is_edited(path):
            st.button("Cancel", on_click=_edit, args=(None,), key=f"{key}.cancel")
        forget_button(path)


def _edit(path: Path | None) -> None:
    st.session_state[EDITED] = None if path is None else str(path)


def _forget(path: Path) -> None:
    forget_description(path)
    st.session_state.pop(EDITED, None)
