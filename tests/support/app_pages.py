"""Pages run without a browser (streamlit.testing), and readers of what they show."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from core.paths import project_root
from ui.shared.jobs import Job

ROOT = project_root()
# What packages bring components: every AppTest reads the metadata of all installed packages to find out.
_installed_components = cache(manifest_scanner.scan_component_manifests)


def open_page(name: str, session: dict[str, Any] | None = None, **query: str) -> AppTest:
    """The app on a page.

    Parameters
    ----------
    name : str. File name of the page without suffix.
    session : dict, optional. Initial values of the session.
    query : query parameters.
    """
    app = AppTest.from_file(str(ROOT / "ui" / "shell.py"), default_timeout=120)
    for key, value in query.items():
        app.query_params[key] = value
    for key, value in (session or {}).items():
        app.session_state[key] = value
    with patch.object(manifest_scanner, "scan_component_manifests", _installed_components):
        app.run()
    return go_to_page(app, name)


def go_to_page(app: AppTest, name: str) -> AppTest:
    """Switch to another page."""
    return run_page(app.switch_page(str(ROOT / "pages" / f"{name}.py")))


def run_page(changed: Any) -> AppTest:
    """Run the page again; an uncaught exception fails the test.

    Parameters
    ----------
    changed : AppTest or element of the page. What was changed or clicked.
    """
    app: AppTest = changed.run()
    assert not app.exception, [e.message for e in app.exception]
    return app


def texts(app: AppTest) -> str:
    """All texts of the page without Markdown escapes."""
    parts = [
        *app.title,
        *app.header,
        *app.subheader,
        *app.markdown,
        *app.caption,
        *app.error,
        *app.warning,
        *app.info,
        *app.success,
    ]
    return "\n".join(str(p.value) for p in parts).replace("\\", "")


def button(app: AppTest, label: str) -> Any:
    """The button with a label."""
    return next(b for b in app.button if b.label == label)


def button_labels(app: AppTest) -> list[str]:
    return [b.label for b in app.button]


def click(app: AppTest, label: str) -> AppTest:
    """Press the button with a label."""
    return run_page(button(app, label).click())


def choose(app: AppTest, label: str, value: Any) -> AppTest:
    """Choose a value of the segmented control with a label."""
    controls: list[Any] = list(app.get("button_group"))
    return run_page(next(c for c in controls if c.label == label).set_value(value))


def component_data(app: AppTest, key: str) -> dict[str, Any]:
    """Data of the component whose data has a key; empty if there is none."""
    found = [json.loads(e.proto.json or "{}") for e in app.get("bidi_component")]  # type: ignore[attr-defined]
    return next((dict(data) for data in found if key in data), {})


def simulate_demo_subject(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Hide the shipped subject, and replace the job that makes a demo subject: once started it is running for ever.

    Returns
    -------
    list of str. The started subjects.
    """
    started: list[str] = []
    monkeypatch.setattr("ui.shared.demo_jobs.install_example", lambda: None)
    monkeypatch.setattr("ui.shared.demo_jobs.start_demo_subject", started.append)
    monkeypatch.setattr(
        "ui.shared.demo_jobs.observe_demo_subject", lambda _: Job("running" if started else "none", 1, 4)
    )
    return started


def hide_demo_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the ready-made model of the checkout."""
    for module in ("core.paths", "ui.shared.cache", "core.runs.catalog"):
        monkeypatch.setattr(f"{module}.demo_model_path", lambda: Path("/nonexistent/model.safetensors"))
