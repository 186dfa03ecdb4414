"""Pictures of subjects on the Data page: the thumbnails of the data doctor in a grid, page by page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from core.datasets.contact_sheet import SHEET
from ui.shared import formatting

PER_PAGE = 24


def show_pictures(
    subjects: Sequence[Mapping[str, Any]], folder: Path, key: str, captions: Mapping[str, str] | None = None
) -> None:
    """Show the middle slice of subjects, without and with labels.

    Parameters
    ----------
    subjects : sequence of dict. Subjects of a report.
    folder : Path. Folder of the thumbnails.
    key : str. Session key of the page.
    captions : mapping, optional. Caption by subject id; default: the id.
    """
    shown = [subject for subject in subjects if subject["thumbnail"]]
    pages = -(-len(shown) // PER_PAGE)
    number = st.pagination(pages, key=key) if pages > 1 else 1
    with st.grid("auto", min_column_width=230, gap="small") as grid:
        for subject in shown[(number - 1) * PER_PAGE : number * PER_PAGE]:
            thumbnail = folder / subject["thumbnail"]
            if (
                thumbnail.parent == folder and thumbnail.is_file()
            ):  # the name is read from a file: it must not leave the folder
                with grid.cell():
                    st.image(
                        str(thumbnail),
                        caption=formatting.plain((captions or {}).get(subject["id"], subject["id"])),
                        width="stretch",
                        alt=f"Middle slice of {subject['id']}",
                    )


def contact_sheet_button(folder: Path, name: str) -> None:
    """Offer the contact sheet of a report's folder as a download; reports of earlier versions have none.

    Parameters
    ----------
    folder : Path. Folder of the report.
    name : str. Name of the data set, for the file.
    """
    sheet = folder / SHEET
    if sheet.is_file():
        st.download_button(
            "Contact sheet",
            sheet.read_bytes,
            file_name=f"{name}-{SHEET}",
            mime="image/png",
            icon=":material/grid_view:",
            type="tertiary",
            on_click="ignore",
            help="All subjects on one picture",
        )
