"""Query parameters whose change crosses a request of the browser."""

from __future__ import annotations

import ast
from pathlib import Path

from streamlit.testing.v1 import AppTest

from core.paths import project_root


def page() -> None:
    import streamlit as st

    from ui.shared.query_params import query_params

    def choose(name: str) -> None:
        query_params.pop("other", None)
        query_params["pick"] = name

    for name in ("a", "b", "c"):
        st.button(name, key=name, on_click=choose, args=(name,))
    st.caption(query_params.get("pick", "none"))


def shown(app: AppTest) -> str:
    return app.caption[0].value


def open_page(**query: str) -> AppTest:
    app = AppTest.from_function(page)
    for name, value in query.items():
        app.query_params[name] = value
    return app.run()


def send(app: AppTest, **query: str) -> AppTest:
    """A request of the browser with this address."""
    app.query_params.clear()
    app.query_params.update(query)
    return app.run()


def test_request_from_before_a_change_does_not_undo_it() -> None:
    app = open_page(pick="a", other="1")
    assert shown(app) == "a"
    app.button("b").click().run()
    for late in ({"pick": "a", "other": "1"}, {"pick": "a"}):  # two changes, each of which replaces a query
        assert shown(send(app, **late)) == "b"
        assert app.query_params == {"pick": "b"}


def test_address_counts_again_once_the_browser_has_had_the_change() -> None:
    app = open_page(pick="a")
    app.button("b").click().run()
    assert shown(send(app, pick="b")) == "b"
    assert shown(send(app, pick="a")) == "a"


def test_address_that_the_page_has_not_replaced_counts() -> None:
    app = open_page(pick="a")
    app.button("b").click().run()
    assert shown(send(app, pick="c")) == "c"
    assert shown(send(app, pick="a")) == "a"


def test_value_that_is_chosen_again_is_not_taken_for_a_late_one() -> None:
    app = open_page(pick="a")
    app.button("b").click().run()
    app.button("a").click().run()
    assert shown(send(app, pick="b")) == "a"
    assert shown(send(app, pick="a")) == "a"
    assert shown(send(app, pick="b")) == "b"


def test_pages_use_no_other_query_parameters() -> None:
    root, found = project_root(), []
    for path in (*root.glob("ui/**/*.py"), *root.glob("pages/*.py"), root / "app.py"):
        for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute) or node.attr != "query_params":
                continue
            if isinstance(node.value, ast.Name) and node.value.id == "st":
                found.append(path.relative_to(root).as_posix())
    assert set(found) == {"ui/shared/query_params.py"}
