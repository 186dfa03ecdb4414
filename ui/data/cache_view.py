"""What is kept to open data sets faster, on the Data page: how much there is, and a button that removes it."""

from __future__ import annotations

import streamlit as st

from core.datasets.prepared_cache import PreparedCache
from core.disk_cache import CacheUse, cache_limit_bytes
from core.errors import UserError
from core.formatting import format_bytes
from core.imaging.foreign_files import decoded_cache
from ui.shared import formatting
from ui.shared.errors import error_box

CLEAR = "data_cache_clear"


def show_cache() -> None:
    """A popover with the size of the caches, its limit, and a button that empties them."""
    with st.popover("Kept copies", icon=":material/database:", type="tertiary"):
        decoded, prepared = _use()
        if not decoded.entries and not prepared.entries:
            st.markdown(
                "Nothing is kept yet. Training keeps the subjects that it has prepared, to start faster next time."
            )
            return
        st.markdown(
            f"{formatting.count(prepared.entries, 'prepared subject')}, {format_bytes(prepared.nbytes)}  \n"
            f"{formatting.count(decoded.entries, 'decoded image')}, {format_bytes(decoded.nbytes)}"
        )
        try:
            st.caption(f"At most {format_bytes(cache_limit_bytes())} of each (SEGMENTARIUM_CACHE_GB).")
        except UserError as error:
            error_box(error)
        st.button(
            f"Remove them: frees {format_bytes(decoded.nbytes + prepared.nbytes)}",
            icon=":material/delete:",
            key=CLEAR,
            on_click=_clear,
            help="They are made again when they are needed; runs go on. On the command line: `data cache --clear`",
        )


@st.cache_data(ttl=10, show_spinner=False)
def _use() -> tuple[CacheUse, CacheUse]:
    return decoded_cache().use(), PreparedCache().use()


def _clear() -> None:
    decoded_cache().clear()
    PreparedCache().clear()
    _use.clear()
