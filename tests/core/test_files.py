"""Atomic writing, removal of stale temporary files, stamps."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from core.files import (
    NO_FILE,
    FileStamp,
    StampedCache,
    append_line,
    atomic_replace,
    atomic_write,
    file_stamp,
    parse_line,
    read_replaced,
    remove_temporaries,
    temporary_beside,
)
from core.hosts import host_in_file_name
from core.paths import project_root


def test_written_file_has_its_content_and_default_permissions(tmp_path: Path) -> None:
    path, plain = tmp_path / "a.json", tmp_path / "plain"
    plain.write_bytes(b"")
    atomic_write(path, "µ")
    assert path.read_bytes() == "µ".encode()
    assert path.stat().st_mode == plain.stat().st_mode
    atomic_write(path, b"\x00\xff", durable=True)
    assert path.read_bytes() == b"\x00\xff"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "plain"]


def test_failed_write_keeps_the_old_content_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_replace(path) as temporary:
        temporary.write_bytes(b"incomplete")
        raise RuntimeError
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_readers_see_complete_content_under_concurrent_writers(tmp_path: Path) -> None:
    path = tmp_path / "a"
    names = {temporary_beside(path) for _ in range(100)}
    assert len(names) == 100 and all(n.parent == tmp_path for n in names)
    contents = [bytes([n]) * 100_000 for n in range(4)]

    def write(content: bytes) -> None:
        for _ in range(20):
            atomic_write(path, content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert not path.exists() or path.read_bytes() in contents
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_temporaries_of_ended_processes_are_removed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from core.files import temporary_beside; "
        "print(temporary_beside(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    ended = Path(subprocess.check_output(command, cwd=project_root(), text=True).strip())
    running = tmp_path / f".a.{os.getppid()}.01234567.tmp"
    digits = tmp_path / f".b.{os.getppid()}.12345678.tmp"  # a random part of digits only
    elsewhere = tmp_path / f".a.@other-host.{ended.name.split('.')[3]}.01234567.tmp"  # its PID means nothing here
    own = temporary_beside(tmp_path / "a")
    same_pid = own.with_name(f"{own.name[:-12]}01234567.tmp")  # of a former process that had this one's PID
    assert same_pid.name[:-12] == own.name[:-12] and same_pid != own
    # Of a container, or another machine, of the same name; and of an earlier version there.
    name, dead_pid = host_in_file_name(), ended.name.split(".")[3]
    twins = [tmp_path / f".a.@{host}.{dead_pid}.01234567.tmp" for host in (f"{name}-0123abcd", name)]
    left = tmp_path / f".a.@{name}-0123abcd.{os.getppid()}.01234567.tmp"  # of a boot before the present one
    for path in (ended, running, digits, elsewhere, own, same_pid, *twins, left, tmp_path / "a"):
        path.write_bytes(b"")
    os.utime(left, (time.time() - 2 * 86400,) * 2)
    remove_temporaries(tmp_path, of_living=False)
    living = {path.name for path in (running, digits, elsewhere, own, *twins)}
    assert {p.name for p in tmp_path.iterdir()} == {"a", *living}
    remove_temporaries(tmp_path, "a")
    assert {p.name for p in tmp_path.iterdir()} == {"a", digits.name}


def test_stamp_has_size_and_time_and_is_zero_for_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert file_stamp(path) == NO_FILE == FileStamp(0, 0)
    path.write_bytes(b"12")
    first = file_stamp(path)
    assert first.size == 2 and first.mtime_ns > 0
    os.utime(path, ns=(1, 1))
    assert file_stamp(path) == FileStamp(2, 1)


def test_content_is_parsed_again_only_where_one_of_its_files_has_changed(tmp_path: Path) -> None:
    first, second, parsed = tmp_path / "a", tmp_path / "b", []
    cache: StampedCache[str] = StampedCache()

    def read() -> str:
        parsed.append(first.read_text() + (second.read_text() if second.exists() else ""))
        return parsed[-1]

    def look() -> str:
        return cache.get(read, first, second, missing=lambda: "none")

    assert look() == "none" and not parsed
    first.write_text("1")
    assert look() == look() == "1" and len(parsed) == 1
    second.write_text("2")
    assert look() == look() == "12" and len(parsed) == 2
    cache.forget(first, second)
    assert look() == "12" and len(parsed) == 3
    first.unlink()
    assert look() == "none"


@pytest.mark.parametrize("before", [b"", b'{"n": 1}\n', b'{"n": 1}\n{"n": ', b'{"n": 1}\n[2]'])
def test_line_after_a_torn_one_is_complete(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "lines"
    path.write_bytes(before)
    with path.open("ab+") as file:
        append_line(file, b'{"n": 3}\n')
    assert path.read_bytes().startswith(before)
    found = [values["n"] for line in path.read_bytes().splitlines() if (values := parse_line(line)) is not None]
    assert found == ([1, 3] if before else [3])


def test_error_of_parsing_is_not_kept(tmp_path: Path) -> None:
    cache: StampedCache[int] = StampedCache()
    (tmp_path / "a").write_text("1")
    with pytest.raises(ZeroDivisionError):
        cache.get(lambda: 1 // 0, tmp_path / "a")
    assert cache.get(lambda: 1, tmp_path / "a") == 1


def test_what_was_asked_for_longest_ago_is_dropped_first_where_the_cache_is_limited(tmp_path: Path) -> None:
    cache: StampedCache[str] = StampedCache(lambda path: path.read_text(), 3, len)
    read: list[str] = []

    def look(name: str) -> None:
        def content() -> str:
            read.append(name)
            return name

        cache.get(content, tmp_path / name)

    for name in ("a", "bb", "c", "dddd"):
        (tmp_path / name).write_text("1")
    for name in ("a", "bb", "a", "c"):
        look(name)  # a third one is too much: "bb" was asked for before "a"
    for name in ("a", "c", "bb", "c", "a"):
        look(name)  # "bb" takes the place of "a"
    assert read == ["a", "bb", "c", "bb", "a"]
    look("dddd")
    look("dddd")
    assert read[5:] == ["dddd", "dddd"], "larger than the limit"
    (tmp_path / "bb").write_text("2")
    look("bb")
    cache.forget(tmp_path / "bb")
    look("bb")
    look("bb")
    assert read[7:] == ["bb", "bb"]


def test_missing_file_that_need_not_exist_is_not_waited_for() -> None:
    calls = []

    def missing() -> str:
        calls.append(1)
        raise FileNotFoundError(errno.ENOENT, "missing")

    with pytest.raises(FileNotFoundError):
        read_replaced(missing)
    assert len(calls) == 1
