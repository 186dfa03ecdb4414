"""Downloads on the Data page: the licence comes first; a download that failed says why and can go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.datasets.downloads import known_downloads
from core.paths import data_root
from tests.support.app_pages import button, button_labels, click, open_page, texts
from tests.support.heads import write_heads
from ui.shared import jobs
from ui.shared.jobs import Job
from ui.shared.paths import cache_root

pytestmark = [pytest.mark.usefixtures("empty_app"), pytest.mark.slow]

FIRST = next(iter(known_downloads().values()))


def test_nothing_is_fetched_before_the_licence_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(jobs, "start", lambda _, arguments: started.append(arguments))
    app = open_page("data")
    assert FIRST.licence in texts(app) and "the published checksum" in texts(app)
    start = app.button(key="download_start")
    assert start.disabled
    next(box for box in app.checkbox if "licence" in box.label).check()
    app.run()
    assert not app.button(key="download_start").disabled
    app.button(key="download_start").click().run()
    assert started == [["data", "download", FIRST.name, "--accept-licence", "--progress"]]


def test_download_that_failed_says_why_and_can_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cache_root() / "downloads" / FIRST.name
    folder.mkdir(parents=True)
    monkeypatch.setattr(
        jobs, "observe", lambda place, _: Job("failed", message="no connection") if place == folder else Job("none")
    )
    app = open_page("data")
    assert any("no connection" in error.value for error in app.error)
    assert {"Go on", "Close"} <= set(button_labels(app))
    click(app, "Close")
    assert not folder.exists() and not app.error


def test_data_set_that_has_arrived_is_opened(empty_app: Path) -> None:
    (cache_root() / "downloads" / FIRST.name).mkdir(parents=True)
    write_heads(data_root() / FIRST.folder, 3)
    app = open_page("data")
    assert button(app, "Open it")
    click(app, "Open it")
    assert app.session_state["data"] == FIRST.folder and "Open it" not in button_labels(app)
