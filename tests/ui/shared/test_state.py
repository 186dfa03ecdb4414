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


def _reporting_script() -> None:
    import streamlit as st

    from ui.shared.state import is_new_page, load_from_url, report_unknown_values, save_to_url

    is_new_page(st.session_state.get("page", "first"))
    load_from_url("pick_widget", "a", ("a", "b"), "view")
    save_to_url("pick_widget", st.selectbox("Pick", ["a", "b"], key="pick_widget"), "view", "a")
    report_unknown_values()


def test_unknown_value_is_reported_until_another_one_is_chosen_or_another_page_is_opened() -> None:
    app = AppTest.from_function(_reporting_script)
    app.query_params["view"] = "*c*"
    app.run()
    assert "There is no view called \\*c\\* here" in app.warning[0].value
    assert "view" not in app.query_params, "the default needs no parameter"
    assert app.run().warning
    app.selectbox(key="pick_widget").set_value("b").run()
    assert not app.warning and app.query_params["view"] in ("b", ["b"])
    app.run()  # the browser has this address
    app.query_params["view"] = "*c*"
    assert app.run().warning
    app.session_state["page"] = "second"
    app.query_params.pop("view")
    assert not app.run().warning
