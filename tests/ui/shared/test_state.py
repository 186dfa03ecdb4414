"""Query parameters: the URL sets a widget, and the widget sets the URL."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest


def _script() -> None:
    import streamlit as st

    from ui.shared.state import load_from_url, save_to_url

    load_from_url("pick", "a", allowed=("a", "b", "c"))
    chosen = st.selectbox("Pick", ["a", "b", "c"], key="pick", persist_state="session")
    save_to_url("pick", chosen)
    st.caption(f"{chosen} {st.query_params['pick']}")


def run(**query: str) -> AppTest:
    app = AppTest.from_function(_script)
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def test_widget_has_default_without_query_parameter() -> None:
    assert run().caption[0].value == "a a"


def test_query_parameter_sets_widget() -> None:
    assert run(pick="c").caption[0].value == "c c"


def test_unknown_value_in_url_is_replaced_by_default() -> None:
    assert run(pick="<script>").caption[0].value == "a a"


@pytest.mark.slow
def test_choice_changes_url_and_stays() -> None:
    app = run(pick="c")
    app.selectbox(key="pick").set_value("b").run()
    assert app.run().caption[0].value == "b b"
