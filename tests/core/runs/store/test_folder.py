"""Files of a run: torn and repeated lines, kills while writing, validation of ids, names, notes and tags."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import RunError
from core.runs.store import folder as files
from core.runs.store.process import module_environment
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


def test_metrics_round_trip_with_undefined_values_as_null(tmp_path: Path) -> None:
    files.append_metrics(tmp_path, 1, 10, 0.5, {"a": 0.25, "b": math.nan, "c": math.inf})
    files.append_metrics(tmp_path, 2, 20, 1.5, {"a": 0.125})
    lines = (tmp_path / files.METRICS).read_text().splitlines()
    assert json.loads(lines[0])["values"] == {"a": 0.25, "b": None, "c": None}
    rows = list(files.read_metrics(tmp_path))
    assert [(r.id, r.epoch, r.step, r.elapsed_s, r.name) for r in rows] == [
        (1, 1, 10, 0.5, "a"),
        (2, 1, 10, 0.5, "b"),
        (3, 1, 10, 0.5, "c"),
        (4, 2, 20, 1.5, "a"),
    ]
    assert rows[0].value == 0.25 and math.isnan(rows[1].value)


def test_incomplete_line_is_skipped_and_the_next_one_is_complete(tmp_path: Path) -> None:
    files.append_metrics(tmp_path, 1, 10, 0.5, {"a": 1.0})
    with (tmp_path / files.METRICS).open("a") as handle:
        handle.write('{"epoch": 2, "step": 20, "elap')
    assert [r.step for r in files.read_metrics(tmp_path)] == [10]
    files.append_metrics(tmp_path, 3, 30, 0.5, {"a": 1.0})
    assert [r.step for r in files.read_metrics(tmp_path)] == [10, 30]


@pytest.mark.parametrize(("step", "kept"), [(0, []), (10, [10]), (15, [10]), (30, [10, 20, 30])])
def test_measurements_after_the_resumed_step_are_dropped(tmp_path: Path, step: int, kept: list[int]) -> None:
    for done in (10, 20, 30):
        files.append_metrics(tmp_path, 1, done, 0.5, {"a": 1.0})
    files.drop_metrics_after(tmp_path, step)
    assert [r.step for r in files.read_metrics(tmp_path)] == kept


def values(folder: Path) -> list[tuple[int, str, float]]:
    return [(row.step, row.name, row.value) for row in files.read_metrics(folder)]


def test_later_value_of_the_same_step_and_name_supersedes_the_earlier_one(tmp_path: Path) -> None:
    assert not files.append_metrics(tmp_path, 1, 10, 0.5, {"lr": 0.1, "whole": 1.0})
    assert not files.append_metrics(tmp_path, 2, 20, 1.0, {"lr": 0.1})
    assert not files.append_metrics(tmp_path, 2, 20, 1.1, {"val": 0.5, "whole": 2.0})
    assert files.append_metrics(tmp_path, 2, 20, 1.5, {"whole": 3.0})
    assert not files.append_metrics(tmp_path, 3, 30, 2.0, {"whole": 4.0})
    expected = [(10, "lr", 0.1), (10, "whole", 1.0), (20, "lr", 0.1), (20, "val", 0.5), (20, "whole", 3.0)]
    assert values(tmp_path) == [*expected, (30, "whole", 4.0)]
    lines = [json.loads(line)["values"] for line in (tmp_path / files.METRICS).read_text().splitlines()]
    assert lines == [{"lr": 0.1, "whole": 1.0}, {"lr": 0.1}, {"val": 0.5}, {"whole": 3.0}, {"whole": 4.0}]


def test_superseded_values_before_an_incomplete_line_are_removed(tmp_path: Path) -> None:
    files.append_metrics(tmp_path, 2, 20, 1.0, {"whole": 1.0})
    with (tmp_path / files.METRICS).open("a") as handle:
        handle.write('{"epoch": 2, "step": 20, "elap')
    assert files.append_metrics(tmp_path, 2, 20, 1.5, {"whole": 2.0})
    assert values(tmp_path) == [(20, "whole", 2.0)]


def test_repeated_values_in_a_file_of_an_earlier_version_are_read_once(tmp_path: Path) -> None:
    records = [(10, {"lr": 0.1}), (20, {"lr": 0.2}), (20, {"whole": 1.0}), (20, {"whole": 2.0}), (30, {"whole": 3.0})]
    lines = [{"epoch": 1, "step": step, "elapsed_s": 0.5, "values": content} for step, content in records]
    (tmp_path / files.METRICS).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    expected = [(10, "lr", 0.1), (20, "lr", 0.2), (20, "whole", 2.0)]
    assert values(tmp_path) == [*expected, (30, "whole", 3.0)]
    files.drop_metrics_after(tmp_path, 20)
    assert values(tmp_path) == expected and len((tmp_path / files.METRICS).read_text().splitlines()) == 3


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


@pytest.mark.parametrize("bad", ["x" * 81, "two\nlines", "tab\there"])
def test_name_is_short_and_printable(bad: str) -> None:
    with pytest.raises(RunError, match="name: expected at most 80 printable characters"):
        files.check_name(bad)
    assert files.check_name("  Ärger, Größe 3!  ") == "Ärger, Größe 3!"
