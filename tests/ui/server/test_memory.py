"""Memory of the web process."""

from __future__ import annotations

import gc

import pytest

from ui.server import memory


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_freed_memory_is_returned_again_and_again_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[int] = []
    limits: list[int] = []

    def trim() -> None:
        trimmed.append(1)
        if len(trimmed) == 3:
            raise SystemExit  # ends the thread

    collected: list[int] = []
    monkeypatch.setattr(memory, "trim_heap", trim)
    monkeypatch.setattr(gc, "collect", lambda: collected.append(len(trimmed)))
    monkeypatch.setattr(memory, "limit_arenas", limits.append)
    monkeypatch.setattr(memory, "TRIM_INTERVAL_S", 0.0)
    memory.return_freed_memory.cache_clear()
    thread = memory.return_freed_memory()
    assert memory.return_freed_memory() is thread and thread.daemon
    thread.join(30)
    assert len(trimmed) == 3 and limits == [memory.ARENAS]
    assert collected == [0, 1, 2], "garbage is collected before its memory is returned"
    memory.return_freed_memory.cache_clear()
