"""Garbage collection excludes imported modules and still frees cycles."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator

import pytest

from ui.server import garbage_collection


class Node:
    """An object in a reference cycle."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def thawed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(garbage_collection, "_frozen_modules", 0)
    yield
    gc.unfreeze()


def test_imported_objects_are_excluded_from_collection() -> None:
    before = len(gc.get_objects())
    garbage_collection.freeze_imports()
    assert gc.get_freeze_count() > 0.9 * before
    assert len(gc.get_objects()) < 0.1 * before


@pytest.mark.slow
def test_later_cycles_are_collected() -> None:
    garbage_collection.freeze_imports()
    reference = weakref.ref(Node())
    gc.collect()
    assert reference() is None


@pytest.mark.slow
def test_existing_garbage_is_collected_first() -> None:
    reference = weakref.ref(Node())
    garbage_collection.freeze_imports()
    assert reference() is None


@pytest.mark.slow
def test_second_call_freezes_only_after_new_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    garbage_collection.freeze_imports()
    kept = [Node() for _ in range(1000)]
    first = gc.get_freeze_count()
    garbage_collection.freeze_imports()
    assert gc.get_freeze_count() <= first  # frozen objects may be freed meanwhile, by their reference count
    monkeypatch.setitem(sys.modules, "one_more", sys)
    garbage_collection.freeze_imports()
    assert gc.get_freeze_count() > first + len(kept) // 2
