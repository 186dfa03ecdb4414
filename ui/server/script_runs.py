"""Runs of a session's pages one after another, also where a request stops the run that is going on.

Streamlit stops a run when the browser asks for another page, and begins that page at once, on a thread of its own. The
old run goes on until it next calls Streamlit. If it was about to rerun its page (``st.rerun``), it still begins that
rerun, and sets the page and the query parameters of the session, which both threads share: the new run may then
show the page that was left, or write its query parameters into the address. Here the run of another page begins once
the stopped one has ended.

The end of the old run also removes widgets from the state of the session, while the new one may call callbacks of
widgets: each runner guards that state with a lock of its own ("dictionary changed size during iteration"). Here they
share one.
"""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakValueDictionary

from streamlit.runtime import app_session
from streamlit.runtime.scriptrunner import RerunData, ScriptRunner

# A run that computes does not hold up the next page for longer. What follows the end of a run takes milliseconds.
WAIT_S = 0.5
_locks: WeakValueDictionary[str, threading.RLock] = WeakValueDictionary()  # of the state of each session
_latest: WeakValueDictionary[str, OrderedScriptRunner] = WeakValueDictionary()  # by session


class OrderedScriptRunner(ScriptRunner):
    """A script runner that shares the lock of the session's state with the one before it in its session, and waits for
    the thread of that one if it is to run another page, for ``WAIT_S`` at most."""

    def __init__(self, *, initial_rerun_data: RerunData, **options: Any) -> None:
        super().__init__(initial_rerun_data=initial_rerun_data, **options)
        self._asked_page = initial_rerun_data.page_script_hash
        self._earlier_thread: threading.Thread | None = None
        lock = _locks.setdefault(self._session_id, self._session_state._lock)
        object.__setattr__(self._session_state, "_lock", lock)  # an attribute that is set is a value of the state

    def start(self) -> None:
        previous = _latest.get(self._session_id)
        if previous is not None and self._asked_page != self._pages_manager.current_page_script_hash:
            self._earlier_thread = previous._script_thread
        _latest[self._session_id] = self
        super().start()

    def _run_script_thread(self) -> None:
        if self._earlier_thread is not None:
            self._earlier_thread.join(WAIT_S)
            self._earlier_thread = None
        super()._run_script_thread()


def run_in_order() -> None:
    """Have all sessions use :class:`OrderedScriptRunner`; called before the first one."""
    app_session.ScriptRunner = OrderedScriptRunner  # type: ignore[attr-defined, assignment]
