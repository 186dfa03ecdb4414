"""Runs of a page that follow each other: one that was stopped changes nothing of the next one."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from streamlit.runtime import Runtime, RuntimeConfig, app_session
from streamlit.runtime.fragment import MemoryFragmentStorage
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.pages_manager import PagesManager
from streamlit.runtime.scriptrunner import RerunData, ScriptRunner
from streamlit.runtime.scriptrunner.script_cache import ScriptCache
from streamlit.runtime.scriptrunner.script_runner import ScriptRunnerEvent
from streamlit.runtime.state import SessionState
from streamlit.util import calc_hash

from ui.server import script_runs
from ui.server.script_runs import OrderedScriptRunner, run_in_order

HELD_S = 1.0  # for which the run that was left is kept from its rerun
SCRIPT = """
import streamlit as st

def left():
    if "rerun" not in st.session_state:
        st.session_state["rerun"] = True
        st.rerun()

def asked():
    pass

page = st.navigation([st.Page(left), st.Page(asked)])
st.session_state.setdefault("shown", []).append((page.title, dict(st.query_params)))
page.run()
"""


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setattr(Runtime, "_instance", None)
    return Session(tmp_path)


class Session:
    """What the script runners of a session share."""

    def __init__(self, folder: Path) -> None:
        self.script = folder / "app.py"
        self.script.write_text(SCRIPT)
        self.state = SessionState()
        self.uploads = MemoryUploadedFileManager("/upload")
        Runtime(RuntimeConfig(str(self.script), MemoryMediaFileStorage("/media"), self.uploads))
        self.cache = ScriptCache()
        self.pages = PagesManager(str(self.script), self.cache)

    def runner(self, kind: type[ScriptRunner], page: str, query: str) -> ScriptRunner:
        return kind(
            session_id=str(self.script),
            main_script_path=str(self.script),
            session_state=self.state,
            uploaded_file_mgr=self.uploads,
            script_cache=self.cache,
            initial_rerun_data=RerunData(query_string=query, page_script_hash=page),
            user_info={},
            fragment_storage=MemoryFragmentStorage(),
            pages_manager=self.pages,
            on_script_error=None,
            local_sources_watcher=None,
            event_loop=asyncio.new_event_loop(),
        )


def _shown_after_leaving_a_page_that_is_about_to_rerun(session: Session, kind: type[ScriptRunner]) -> object:
    """The pages that began to run, in order, with their query parameters."""
    left = session.runner(kind, "", "case=7")
    asked = session.runner(kind, calc_hash("asked"), "data=balls")
    asked_begins, left_ended = threading.Event(), threading.Event()

    def on_event_of_left(sender: object, event: ScriptRunnerEvent, **_: object) -> None:
        if event == ScriptRunnerEvent.SCRIPT_STOPPED_FOR_RERUN and not asked_begins.is_set():
            left.request_stop()
            asked.start()
            asked_begins.wait(HELD_S)
        elif event == ScriptRunnerEvent.SHUTDOWN:
            left_ended.set()

    def on_event_of_asked(sender: object, event: ScriptRunnerEvent, **_: object) -> None:
        if event == ScriptRunnerEvent.SCRIPT_STARTED:
            asked_begins.set()
            left_ended.wait(60)

    left.on_event.connect(on_event_of_left)
    asked.on_event.connect(on_event_of_asked)
    left.start()
    assert left_ended.wait(60)
    assert asked._script_thread is not None
    asked._script_thread.join(60)
    return session.state["shown"]


def test_page_that_was_left_while_it_was_about_to_rerun_does_not_take_the_place_of_the_one_asked_for(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script_runs, "WAIT_S", 60.0)
    shown = _shown_after_leaving_a_page_that_is_about_to_rerun(session, OrderedScriptRunner)
    assert shown == [("left", {"case": "7"}), ("asked", {"data": "balls"})]


def test_run_that_computes_holds_the_next_page_up_for_a_moment_only(session: Session) -> None:
    computes = threading.Event()
    left = session.runner(OrderedScriptRunner, "", "case=7")
    left.on_event.connect(
        lambda _, event, **rest: event == ScriptRunnerEvent.SCRIPT_STARTED and computes.wait(), weak=False
    )
    left.start()
    try:
        asked = session.runner(OrderedScriptRunner, calc_hash("asked"), "data=balls")
        asked.start()
        assert asked._script_thread is not None
        asked._script_thread.join(60)
        assert session.state["shown"] == [("asked", {"data": "balls"})]
    finally:
        computes.set()
        assert left._script_thread is not None
        left._script_thread.join(60)


def test_run_that_ends_changes_no_widget_while_the_next_one_calls_callbacks(session: Session) -> None:
    left, asked = (session.runner(OrderedScriptRunner, "", "") for _ in range(2))
    for runner in (left, asked):
        runner.start()
        assert runner._script_thread is not None
        runner._script_thread.join(60)
    ending = threading.Thread(target=left._session_state.on_script_finished, args=(frozenset(),))
    with asked._session_state.query_params():  # holds the lock as callbacks do
        ending.start()
        ending.join(0.3)
        assert ending.is_alive()
    ending.join(60)
    assert not ending.is_alive()


def test_sessions_of_the_app_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_session, "ScriptRunner", ScriptRunner)
    run_in_order()
    assert vars(app_session)["ScriptRunner"] is OrderedScriptRunner
