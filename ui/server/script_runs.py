"""Runs of a session's pages one after another, also where a request stops the run that is going on.

Streamlit stops a run when the browser asks for another page, and begins that page at once, on a thread of its own. The
old run goes on until it next calls Streamlit. If it was about to rerun its page (``st.rerun``), it still begins that
rerun, and sets the page and the query parameters of the session, which both threads share: the new run may then
show the page that was left, or write its query parameters into the address. Here a run begins once the stopped one
has ended.
"""

from __future__ import annotations

import threading
from weakref import WeakValueDictionary

from streamlit.runtime import app_session
from streamlit.runtime.scriptrunner import ScriptRunner

# A run that computes does not hold up the next page for longer. What follows the end of a run takes milliseconds.
WAIT_S = 0.5
_threads: WeakValueDictionary[str, threading.Thread] = WeakValueDictionary()  # latest one by session


class OrderedScriptRunner(ScriptRunner):
    """A script runner that waits for the thread of the one before it in its session, for ``WAIT_S`` at most."""

    def start(self) -> None:
        self._previous = _threads.get(self._session_id)
        super().start()
        if self._script_thread is not None:
            _threads[self._session_id] = self._script_thread

    def _run_script_thread(self) -> None:
        if self._previous is not None:
            self._previous.join(WAIT_S)
        super()._run_script_thread()


def run_in_order() -> None:
    """Have all sessions use :class:`OrderedScriptRunner`; called before the first one."""
    app_session.ScriptRunner = OrderedScriptRunner  # type: ignore[attr-defined]
