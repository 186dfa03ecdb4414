"""The table of a case of files that names the class of each value; it begins with the names found in the files."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from core.datasets.file_case import ROLES, default_names
from core.datasets.segmentation_values import SegmentationValues
from ui.review.file_choice import TITLES
from ui.shared import formatting
from ui.shared.addresses import join_values, split_values
from ui.shared.hashes import files_hash
from ui.shared.state import load_from_url, save_to_url

NAMES, PARAMETER = "files_names", "names"  # session key and name in the address
_BASE = "files_names_base"  # session key: address and files that the table began with, and its rows
MAX_ROWS_SHOWN = 8
HEIGHT_PX = 320


def name_values(found: Mapping[str, SegmentationValues]) -> dict[str, dict[int, str]]:
    """Render the table; returns the name of each value by role. Changed names are part of the address.

    Parameters
    ----------
    found : mapping. Contents of the segmentations by role.
    """
    defaults = default_names(found)
    load_from_url(NAMES, "", parameter=PARAMETER)
    state = (st.session_state[NAMES], files_hash("", [content.path for content in found.values()]), tuple(found))
    base = st.session_state.get(_BASE)
    if base is None or base[0] != state:
        base = st.session_state[_BASE] = (state, _rows(found, _with_changes(defaults, st.session_state[NAMES])))
        st.session_state[f"{_BASE}.number"] = st.session_state.get(f"{_BASE}.number", 0) + 1
    rows = base[1]
    sources = [f"{TITLES[role]}: {formatting.plain(c.names_from)}" for role, c in found.items() if c.names_from]
    with st.expander("Names of the classes", icon=":material/label:", expanded=not sources):
        st.caption(
            "Values of one name are one class, in both files. *background* or nothing: no class. *ignore*: left out of "
            "the scores, in the reference." + (f" Names from {'; '.join(sources)}." if sources else "")
        )
        edited = st.data_editor(
            rows,
            key=f"{NAMES}.{st.session_state[f'{_BASE}.number']}",
            hide_index=True,
            disabled=["file", "value", "ml"],
            height=HEIGHT_PX if len(rows) > MAX_ROWS_SHOWN else "content",
            column_config={
                "value": st.column_config.NumberColumn("value", format="%d"),
                "ml": st.column_config.NumberColumn("ml", format="%.2f"),
                "class": st.column_config.TextColumn("class", help="double click, or Enter, to change it"),
            },
        )
    names: dict[str, dict[int, str]] = {role: {} for role in found}
    roles = {TITLES[role]: role for role in ROLES}
    for row in edited:
        names[roles[str(row["file"])]][int(float(str(row["value"])))] = str(row["class"] or "").strip()
    text = _changes(defaults, names)
    st.session_state[_BASE] = ((text, *state[1:]), rows)  # what is typed is no reason to begin anew
    st.session_state[NAMES] = text
    save_to_url(NAMES, text, PARAMETER, "")
    return names


def _rows(found: Mapping[str, SegmentationValues], names: Mapping[str, Mapping[int, str]]) -> list[dict[str, object]]:
    return [
        {
            "file": TITLES[role],
            "value": label.value,
            "ml": round(label.voxels * content.voxel_ml, 3),
            "class": names[role][label.value],
        }
        for role, content in found.items()
        for label in content.values
    ]


def _changes(defaults: Mapping[str, Mapping[int, str]], names: Mapping[str, Mapping[int, str]]) -> str:
    """The names that differ from those to begin with, as one text: role, value and name of each."""
    return join_values(
        part
        for role, of_role in names.items()
        for value, name in of_role.items()
        if name != defaults[role][value]
        for part in (role, str(value), name)
    )


def _with_changes(defaults: Mapping[str, Mapping[int, str]], text: str) -> dict[str, dict[int, str]]:
    """The names to begin with and the changes of an address; what does not fit the files is left out."""
    names = {role: dict(of_role) for role, of_role in defaults.items()}
    parts = split_values(text)
    for role, value, name in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        if role in names and value.lstrip("-").isdecimal() and int(value) in names[role]:
            names[role][int(value)] = name
    return names
