"""Names of the classes on the Data page: a name that is changed is kept in the recipe, the files stay as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import streamlit as st

from core.datasets.saved_recipes import save_recipe, saved_recipe
from core.errors import DatasetError, UserError
from core.labels import LabelSpace
from ui.shared import formatting
from ui.shared.errors import error_box

FAILED = "class_names_failed"  # session key: why names could not be saved
HEIGHT = 360  # pixels of the list; longer ones scroll
MANY = 6


def rename_classes(path: Path, labels: LabelSpace) -> None:
    """Render a field for the name of each class, in an expander.

    Parameters
    ----------
    path : Path. Folder of the data set.
    labels : LabelSpace. Its classes, as the recipe names them.
    """
    with st.expander("Class names", icon=":material/label:"):
        failed = st.session_state.pop(FAILED, None)
        if failed:
            error_box(failed)
        with st.form("class_names", border=False):
            with st.container(height=HEIGHT if len(labels.classes) > MANY else "content", border=False):
                for item in labels.classes[1:]:
                    st.text_input(
                        f"Label value {item.raw}", value=item.name, key=_key(item.raw, item.name), max_chars=80
                    )
            st.caption("Runs that exist keep the names that they began with; the files stay as they are.")
            st.form_submit_button("Rename", icon=":material/label:", on_click=_rename, args=(path, labels))


def _key(raw: int, name: str) -> str:
    """Session key of a field; another one once the class has been renamed, so that the field shows the new name."""
    return f"class_name_{raw}_{name}"


def _rename(path: Path, labels: LabelSpace) -> None:
    """Keep the names that were changed in the recipe."""
    entered = {c.raw: str(st.session_state.get(_key(c.raw, c.name), "")).strip() or c.name for c in labels.classes[1:]}
    changed = {c.raw: entered[c.raw] for c in labels.classes[1:] if entered[c.raw] != c.name}
    if not changed:
        return
    try:
        replace(labels, classes=tuple(replace(c, name=changed.get(c.raw, c.name)) for c in labels.classes))
        recipe = saved_recipe(path)
        save_recipe(path, replace(recipe, renamed={**recipe.renamed, **changed}))
    except DatasetError as error:
        st.session_state[FAILED] = f"{formatting.sentence(str(error))} Choose another name."
    except UserError as error:
        st.session_state[FAILED] = str(error)
