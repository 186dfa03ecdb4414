"""Keeps garbage collection short: Streamlit collects after every run of a page, a tenth of a second in which no other
page is served, nearly all of it spent on the modules that were imported."""

from __future__ import annotations

import gc
import sys

_seen = 0  # modules when they were last set aside


def set_imports_aside() -> None:
    """Leave out of every later collection what is there now, if modules were imported since the last time.

    What sessions hold at that moment is left out too: it still goes when nothing refers to it any more, but not where
    it refers to itself. That happens a few times in the life of a server, as pages are opened first.
    """
    global _seen
    if len(sys.modules) == _seen:
        return
    _seen = len(sys.modules)
    gc.collect()
    gc.freeze()
