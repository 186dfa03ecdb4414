"""The error box of a page: the message of an error as plain text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from core.errors import UserError
from ui.shared.formatting import plain


def error_box(error: Exception | str, context: str = "") -> None:
    """Show an error message; nothing in it is formatted as Markdown.

    Parameters
    ----------
    error : Exception or str. The error or its message.
    context : str, optional. Markdown before the message: the action that failed.
    """
    message = plain(str(error))
    st.error(f"{context}: {message}" if context else message, icon=":material/error:")


@contextmanager
def stop_on_user_error() -> Iterator[None]:
    """Show a :class:`~core.errors.UserError` of the block in an error box and end the run of the page."""
    try:
        yield
    except UserError as error:
        error_box(error)
        st.stop()
