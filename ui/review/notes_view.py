"""Notes on a case of the Review page: a mark, a comment, and a place that a click leads back to."""

from __future__ import annotations

import time
from collections.abc import Sequence

import streamlit as st

from core.errors import UserError
from core.runs.review_notes import MARKS, NewNote, NotedModel, ReviewNote
from core.types import VoxelIndex
from ui.review.views import VIEWER
from ui.shared import formatting
from ui.shared.errors import error_box
from ui.shared.query_params import query_params
from ui.shared.state import CROSSHAIR
from ui.viewer.component import Target, last_settled

TARGET, DRAFT = "review_target", "review_note"  # session keys
ICONS = {"accept": ":material/check_circle:", "fix": ":material/build:", "discuss": ":material/forum:"}
FAILED = "review_note_failed"
FORM = "review-note"  # key of the container of the form, whose place is that of the crosshair


def read_notes(model: NotedModel) -> list[ReviewNote]:
    """The notes on the cases of a model; an error is rendered."""
    try:
        return model.notes()
    except UserError as error:
        error_box(error)
        return []


def target() -> Target | None:
    """Where the crosshair is to be moved to."""
    found = st.session_state.get(TARGET)
    return found if isinstance(found, Target) else None


def show_notes(model: NotedModel, notes: Sequence[ReviewNote], chosen: str, epoch: int) -> None:
    """Render the notes on a case and the form for a new one.

    Parameters
    ----------
    model : NotedModel. Stores the notes.
    notes : sequence of ReviewNote. Those on all cases of the model.
    chosen : str. The chosen case.
    epoch : int. Epoch of the prediction that is shown; 0 without one.
    """
    st.markdown("**Notes**")
    for note in notes:
        if note.subject == chosen:
            _show_note(model, note)
    failed = st.session_state.pop(FAILED, "")
    if failed:
        error_box(failed, context="The note was not saved")
    key = f"{DRAFT}-{chosen}"

    def save() -> None:
        marked = st.session_state.get(f"{key}-mark") or ""
        here = _crosshair() if st.session_state.get(f"{key}-here") else None
        try:
            model.add(NewNote(chosen, marked, st.session_state.get(f"{key}-text") or "", here, epoch))
        except UserError as error:
            st.session_state[FAILED] = str(error)
            return
        for part in ("mark", "text"):
            st.session_state[f"{key}-{part}"] = None if part == "mark" else ""

    with st.container(border=True, key=FORM):
        st.segmented_control(
            "Mark",
            list(MARKS),
            key=f"{key}-mark",
            label_visibility="collapsed",
            format_func=lambda m: f"{ICONS[m]} {m}",
        )
        st.text_area("Comment", key=f"{key}-text", placeholder="Comment", height=70, label_visibility="collapsed")
        with st.container(horizontal=True, vertical_alignment="center"):
            st.checkbox("at the crosshair", key=f"{key}-here", value=True)
            st.space("stretch")
            st.button("Save note", icon=":material/add_comment:", on_click=save, key=f"{key}-save")


def _show_note(model: NotedModel, note: ReviewNote) -> None:
    """A note with its place and a button that removes it."""

    def go() -> None:
        if note.voxel is not None:
            st.session_state[TARGET] = Target(note.voxel, f"{note.id}-{time.time_ns()}")
            query_params[CROSSHAIR] = _text(note.voxel)

    def remove() -> None:
        try:
            model.remove(note)
        except UserError as error:
            st.session_state[FAILED] = str(error)

    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        mark = f"{ICONS[note.mark]} **{note.mark}** " if note.mark else ""
        st.markdown(f"{mark}{formatting.plain(note.comment)}", width="stretch")
        if note.voxel is not None:
            st.button(
                _text(note.voxel),
                key=f"note-go-{note.id}",
                type="tertiary",
                on_click=go,
                help="move the crosshair here",
            )
        st.button("Remove", key=f"note-remove-{note.id}", type="tertiary", on_click=remove)


def _text(voxel: VoxelIndex) -> str:
    """A voxel as the address has it, counted from 1."""
    return ",".join(str(n + 1) for n in voxel)


def _crosshair() -> VoxelIndex | None:
    """The voxel of the crosshair: as the viewer reported it last, else that of the address."""
    if settled := last_settled(VIEWER):
        return settled.voxel
    try:
        i, j, k = (int(part) - 1 for part in query_params.get(CROSSHAIR, "").split(","))
    except ValueError:
        return None
    return i, j, k
