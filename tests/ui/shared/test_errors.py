"""The error box: user errors end the page with their message as plain text, other errors pass."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest


def _page() -> None:
    import streamlit as st

    from core.errors import DatasetError
    from ui.shared.errors import error_box, stop_on_user_error

    error_box("no *such* file", context="**Reading** failed")
    with stop_on_user_error():
        st.caption("inside")
    with stop_on_user_error():
        if st.query_params.get("fault") == "ours":
            raise ValueError("a fault of the program")
        raise DatasetError("expected a folder, found [none](x)")
    st.caption("after")


def test_user_error_is_shown_as_plain_text_and_ends_the_page() -> None:
    app = AppTest.from_function(_page).run()
    assert [e.value for e in app.error] == [
        "**Reading** failed: no \\*such\\* file",
        "expected a folder, found \\[none\\]\\(x\\)",
    ]
    assert [c.value for c in app.caption] == ["inside"] and not app.exception


def test_other_errors_pass() -> None:
    app = AppTest.from_function(_page)
    app.query_params["fault"] = "ours"
    app.run()
    assert len(app.exception) == 1 and len(app.error) == 1
