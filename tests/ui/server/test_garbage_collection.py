"""Garbage collection after a run of a page: short, as imported modules are left out, and still thorough."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator

import pytest

from ui.server import garbage_collection


class Node:
    """Refers to itself: gone by collection alone."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def thawed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(garbage_collection, "_frozen_modules", 0)
    yield
    gc.unfreeze()


def test_modules_are_not_looked_at_again() -> None:
    before = len(gc.get_objects())
    garbage_collection.freeze_imports()
    assert gc.get_freeze_count() > 0.9 * before
    assert len(gc.get_objects()) < 0.1 * before


def test_what_comes_later_is_collected() -> None:
    garbage_collection.freeze_imports()
    gone = weakref.ref(Node())
    gc.collect()
    assert gone() is None


def test_what_is_garbage_already_goes_first() -> None:
    gone = weakref.ref(Node())
    garbage_collection.freeze_imports()
    assert gone() is None


def test_again_only_where_more_was_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    garbage_collection.freeze_imports()
    kept = Node()
    first = gc.get_freeze_count()
    garbage_collection.freeze_imports()
    assert gc.get_freeze_count() == first and gc.is_tracked(kept)
    monkeypatch.setitem(sys.modules, "one_more", sys)
    garbage_collection.freeze_imports()
    assert gc.get_freeze_count() > first
