"""Entries are complete or absent, and the cache stays within its limit."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from core.disk_cache import CacheUse, DiskCache, cache_limit_bytes
from core.errors import ConfigError


def writes(content: bytes = b"x" * 1000):  # type: ignore[no-untyped-def]
    return lambda folder: (folder / "file").write_bytes(content)


def test_an_entry_is_found_again_and_counted(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "cache")
    assert cache.get("a") is None and cache.use() == CacheUse(0, 0)
    entry = cache.add("a", writes())
    assert cache.get("a") == entry and (entry / "file").read_bytes() == b"x" * 1000
    assert cache.use() == CacheUse(1, 1000)
    assert cache.clear() == CacheUse(1, 1000) and cache.get("a") is None


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "file").write_bytes(b"half")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        DiskCache(tmp_path).add("a", fails)
    assert list(tmp_path.iterdir()) == []


def test_of_two_writers_both_get_a_complete_entry(tmp_path: Path) -> None:
    meet = threading.Barrier(2)

    def write(folder: Path) -> None:
        (folder / "file").write_bytes(b"x" * 1000)
        meet.wait(20)

    results: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: results.append((DiskCache(tmp_path).add("a", write) / "file").read_bytes()))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [b"x" * 1000] * 2
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_entry_in_the_making_is_kept_while_another_is_added_by_the_same_process(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)

    def write(folder: Path) -> None:
        (folder / "first").write_bytes(b"1")
        cache.add("b", writes())
        (folder / "second").write_bytes(b"2")

    entry = cache.add("a", write)
    assert sorted(p.name for p in entry.iterdir()) == ["first", "second"]


@pytest.mark.slow
def test_a_killed_writer_leaves_no_entry_and_what_it_left_is_removed(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib; from core.disk_cache import DiskCache\n"
        "def write(folder):\n"
        "    (folder / 'file').write_bytes(b'half')\n"
        "    os.kill(os.getpid(), 9)\n"
        "DiskCache(pathlib.Path(sys.argv[1])).add('a', write)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=60)
    assert killed.returncode == -9 and len(list(tmp_path.iterdir())) == 1
    cache = DiskCache(tmp_path)
    assert cache.get("a") is None and cache.use() == CacheUse(0, 0)
    cache.add("b", writes())
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_entries_used_longest_ago_are_removed_beyond_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGMENTARIUM_CACHE_GB", "2.5e-6")
    cache = DiskCache(tmp_path)
    for age, key in ((300, "a"), (200, "b")):
        entry = cache.add(key, writes())
        os.utime(entry, (1e9 - age, 1e9 - age))
    assert cache.get("a") is not None  # used now
    cache.add("c", writes())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "c"]


def test_a_mapped_file_stays_readable_when_its_entry_is_removed(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path)
    with open(cache.add("a", writes()) / "file", "rb") as file:
        cache.clear()
        assert file.read() == b"x" * 1000


def test_the_limit_is_a_number_of_gb(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_limit_bytes() == 50_000_000_000
    monkeypatch.setenv("SEGMENTARIUM_CACHE_GB", "much")
    with pytest.raises(ConfigError, match="SEGMENTARIUM_CACHE_GB: expected a number of GB, got 'much'"):
        cache_limit_bytes()
