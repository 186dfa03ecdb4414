"""The upload of a data set on the Data page: the browser sends each file to the server, which writes it to disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from core.datasets.uploaded_sets import max_upload_bytes
from core.formatting import format_bytes
from ui.shared.addresses import API
from ui.shared.component import component

KEY = "uploader"  # session key

_mount = component(KEY, Path(__file__).parent, ("uploader.js",), ("uploader.css",))


def uploader(on_uploaded: Callable[[str], None]) -> None:
    """Render the upload.

    Parameters
    ----------
    on_uploaded : callable. Called with the name of the folder in the data root, before the page runs again.

    Raises
    ------
    DatasetError
        If the limit of uploads is set wrongly.
    """

    def uploaded() -> None:
        folder = st.session_state[KEY].get("uploaded")
        if folder:
            on_uploaded(str(folder))

    limit = max_upload_bytes()
    data = {"api": f"{API}uploads", "limit": limit, "limitText": format_bytes(limit)}
    _mount(key=KEY, data=data, on_uploaded_change=uploaded)
