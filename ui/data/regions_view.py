"""Editor of the regions of a folder's description on the Data page: unions of its classes, which follow their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from core.datasets.described_regions import (
    REGIONS,
    Classes,
    FollowedClasses,
    follow_classes,
    foreground,
    parse_region_rows,
    region_rows,
)
from core.datasets.layouts.regions import ORDER
from ui.shared import formatting, hashes

COLUMNS = ("name", "classes", "painted")
Content = Mapping[str, Any]


@dataclass
class _Edited:
    """What the table of regions began with, which must stay while it is edited, and what was made of it.

    Attributes
    ----------
    source, source_classes : mapping. Description and classes that the regions follow from.
    classes : mapping. Classes that the table was made for.
    followed : FollowedClasses. The regions of the source with these classes.
    result : mapping, optional. The description as edited in the table; ``None`` if it was not.
    """

    source: Content
    source_classes: Classes
    classes: Classes
    followed: FollowedClasses
    result: Content | None = None


def edit(content: Content, before: Classes, after: Classes, key: str) -> dict[str, Any]:
    """Render the regions; the description with them, and with the ignored class by its new name.

    Parameters
    ----------
    content : mapping. The description as it began.
    before, after : mapping. Its classes as they began and as they are edited: values by name.
    key : str. Begins the keys of the fields.

    Raises
    ------
    DatasetError
        If a region is not a union of classes.
    """
    state = _state(content, before, after, key)
    start = {k: v for k, v in {**content, **_keys(state.source), **state.followed.changes}.items() if v is not None}
    ignore = str(start.get("ignore") or "")
    if not start.get(REGIONS) and len(foreground(after, ignore)) < 2:
        return start
    for name in state.followed.lost:
        st.warning(
            f"The region {formatting.plain(name)} cannot be made of whole classes any more: it is left out.",
            icon=":material/warning:",
        )
    with st.expander(f"Regions ({len(start.get(REGIONS) or {})})", icon=":material/join:"):
        st.caption(
            "Unions of classes that are trained and scored, such as a whole tumour of core and oedema; they may "
            "overlap. Classes with commas between. The painted class, of all regions or of none, is what the voxels of "
            "a region get in a label map; later regions win."
        )
        first = region_rows(start) or [dict.fromkeys(COLUMNS, "")]
        rows = st.data_editor(
            first,
            key=f"{key}.regions.{hashes.short_hash(repr((first, list(after.items()))))}",
            hide_index=True,
            num_rows="dynamic",
            width=640,
            column_config={"name": "region", "classes": "classes", "painted": "painted class"},
        )
    others = {k: v for k, v in start.items() if k not in (REGIONS, ORDER)}
    result = {**others, **parse_region_rows(rows, after, ignore)}
    if _keys(result) != _keys(start) or state.result is not None:
        state.result = result
    return result


def _state(content: Content, before: Classes, after: Classes, key: str) -> _Edited:
    """The table's state in this session: made anew where the classes or the description that it began with change."""
    name = f"{key}.regions_of.{hashes.short_hash(repr((_keys(content), list(before.items()))))}"
    state: _Edited | None = st.session_state.get(name)
    if state is None or list(state.classes.items()) != list(after.items()):
        source, classes = content, before
        if state is not None:
            source, classes = state.source, state.source_classes
            if state.result is not None:
                source, classes = state.result, state.classes
        state = _Edited(source, classes, dict(after), follow_classes(source, classes, after))
        st.session_state[name] = state
    return state


def _keys(content: Content) -> dict[str, Any]:
    """What of a description belongs to the regions."""
    return {key: content.get(key) for key in (REGIONS, ORDER, "ignore")}
