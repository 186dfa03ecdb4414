"""The recipe of a data set on the Data page: buttons that mend a problem, and what is mended on reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from core.datasets.layouts.recipe import REPAIRS, Recipe, Repair
from core.datasets.repairs import first_repairs
from core.datasets.saved_recipes import add_repairs, recipe_file, save_recipe, saved_recipe
from core.errors import UserError
from ui.shared import formatting
from ui.shared.errors import error_box

FAILED = "recipe_failed"  # session key: why a recipe could not be saved


def repairs_of(finding: Mapping[str, Any]) -> list[Repair]:
    """Repairs of a finding of a report; reports of earlier versions have none."""
    offered = finding.get("repairs") or ()
    return [Repair(repair["kind"], repair["subject"]) for repair in offered if repair["kind"] in REPAIRS]


def repair_buttons(path: Path, finding: Mapping[str, Any], key: str) -> None:
    """Render a button for each repair of a finding."""
    repairs = repairs_of(finding)
    if not repairs:
        return
    with st.container(horizontal=True, gap="small"):
        for repair in repairs:
            st.button(
                REPAIRS[repair.kind].title,
                key=f"{key}-{repair.kind}",
                icon=":material/build:",
                help=f"{formatting.sentence(REPAIRS[repair.kind].effect)} The files stay as they are.",
                on_click=_mend,
                args=(path, [repair]),
            )


def mend_all_button(path: Path, findings: Sequence[Mapping[str, Any]]) -> None:
    """Render the button that mends all problems at once, where there are several."""
    first = first_repairs(map(repairs_of, findings))
    if len(first) > 1:
        kinds = ", ".join(REPAIRS[kind].title.lower() for kind in dict.fromkeys(repair.kind for repair in first))
        st.button(
            f"Mend all {len(first)}",
            type="primary",
            icon=":material/build:",
            help=f"{formatting.sentence(kinds)} The files stay as they are.",
            on_click=_mend,
            args=(path, first),
        )


def show_recipe(path: Path) -> None:
    """Render what is mended on reading, with a button that undoes each kind."""
    failed = st.session_state.pop(FAILED, None)
    if failed:
        error_box(failed)
    try:
        recipe = saved_recipe(path)
    except UserError as error:
        error_box(error)
        return
    if not recipe:
        return
    with st.expander(f"Mended on reading ({len(recipe.to_json())})", icon=":material/build:"):
        for name in recipe.to_json():
            line = next(Recipe(**{name: getattr(recipe, name)}).lines())
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(formatting.plain(formatting.sentence(line)), width="stretch")
                st.button(
                    "Undo", key=f"undo-{name}", type="tertiary", on_click=_save, args=(path, recipe.without(name))
                )
        st.caption(formatting.plain(f"Kept in {recipe_file(path)}; the files of the data set stay as they are."))


def _mend(path: Path, repairs: Sequence[Repair]) -> None:
    try:
        add_repairs(path, repairs)
    except UserError as error:
        st.session_state[FAILED] = str(error)


def _save(path: Path, recipe: Recipe) -> None:
    try:
        save_recipe(path, recipe)
    except UserError as error:
        st.session_state[FAILED] = str(error)
