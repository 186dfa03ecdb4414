"""Keeps garbage collection of the web process short.

Streamlit collects after every run of a page. Without this module that takes a tenth of a second in which no other page
is served, most of it spent on objects of imported modules.
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
