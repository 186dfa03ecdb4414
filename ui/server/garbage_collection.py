"""Keeps garbage collection of the web process short.

A collection looks at every object while no page is served. Streamlit's own one after each run of a page is off
(``runner.postScriptGC``): with fifty sessions it looked at the objects of all of them each time. Python collects as
objects are made, and :mod:`ui.server.memory` before it returns freed memory. Imported modules are most of the objects.
"""

from __future__ import annotations

import gc
import sys

_frozen_modules = 0  # len(sys.modules) at the last freeze


def freeze_imports() -> None:
    """Exclude all present objects from later collections if modules were imported since the last call.

    Session objects that exist at that moment are excluded too: they are still freed by reference counting, but not as
    part of a cycle. This happens a few times in the life of a server, when pages are opened for the first time.
    """
    global _frozen_modules
    if len(sys.modules) == _frozen_modules:
        return
    _frozen_modules = len(sys.modules)
    gc.collect()
    gc.freeze()
