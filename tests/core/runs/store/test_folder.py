"""Files of a run: end of the log, kills while writing, validation of ids, names, notes and tags."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import RunError
from core.processes import module_environment
from core.runs.store import folder as files
from tests.support.watching import wait_until


def test_run_id_is_slug_time_and_random_part() -> None:
    run_id = files.new_run_id("Größe: my Net!!")
    slug, day, clock, random = run_id.rsplit("-", 3)
    assert slug == "gr-e-my-net"
    assert (len(day), len(clock), len(random)) == (8, 6, 4)
    assert files.new_run_id("...").startswith("run-")
    assert files.new_run_id("net") != files.new_run_id("net")


@pytest.mark.parametrize("bad", ["", "..", ".", "../other", "a/b", "/etc", ".hidden", "a\\b", "a\0", "x" * 200, "~"])
def test_run_id_outside_the_root_is_refused(tmp_path: Path, bad: str) -> None:
    (tmp_path / files.CONFIG).write_text("{}")
    (tmp_path / "runs").mkdir()
    with pytest.raises(RunError, match="expected a run id"):
        files.run_folder(tmp_path / "runs", bad)


def test_unknown_run_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="nobody"):
        files.run_folder(tmp_path, "nobody")
    assert files.run_folders(tmp_path / "not there") == []


def test_log_tail_is_the_end_of_the_log(tmp_path: Path) -> None:
    assert files.read_log_tail(tmp_path, 5) == ""
    with (tmp_path / files.LOG).open("ab") as handle:
        handle.write(b"x" * 400_000 + b"\n\xff\xfe broken\nlast\n")
    tail = files.read_log_tail(tmp_path, 2).splitlines()
    assert tail[1] == "last" and tail[0].endswith("broken")
    files.append_log(tmp_path, "a note")
    assert files.read_log_tail(tmp_path, 1).endswith("  a note")


def test_damaged_json_file_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / files.CONFIG).write_text('{"version": 1, ')
    with pytest.raises(RunError, match=r"config\.json"):
        files.read_config(tmp_path)
    (tmp_path / files.CONFIG).write_text('{"version": 99}')
    with pytest.raises(RunError, match="update"):
        files.read_config(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")
def test_killed_writer_leaves_a_complete_file(tmp_path: Path) -> None:
    target = tmp_path / files.STATE
    code = (
        "import sys; from pathlib import Path; from core.runs.store.folder import write_json\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1; write_json(Path(sys.argv[1]), {'n': n, 'text': 'x' * 200_000})"
    )
    for number in range(3):
        target.unlink(missing_ok=True)
        writer = subprocess.Popen([sys.executable, "-c", code, str(target)], env=module_environment())
        wait_until(lambda: target.exists() and files.read_json(target)["n"] > 20 + 7 * number)  # noqa: B023
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert len(files.read_json(target)["text"]) == 200_000


@pytest.mark.parametrize(
    ("name", "addition", "expected"),
    [("net", "again", "net again"), ("", "again", ""), ("x" * 80, "fold 3", "x" * 73 + " fold 3")],
)
def test_name_with_an_addition_is_cut_before_it(name: str, addition: str, expected: str) -> None:
    assert files.name_with(name, addition) == expected
    assert len(files.name_with(name, "y" * 200)) <= files.NAME_LENGTH


@pytest.mark.parametrize("bad", ["x" * 81, "two\nlines", "tab\there"])
def test_name_is_short_and_printable(bad: str) -> None:
    with pytest.raises(RunError, match="name: expected at most 80 printable characters"):
        files.check_name(bad)
    assert files.check_name("  Ärger, Größe 3!  ") == "Ärger, Größe 3!"
