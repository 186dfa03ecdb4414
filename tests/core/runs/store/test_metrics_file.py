"""Measurements of a run: torn and repeated lines, undefined values, a disk that is full."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path

import pytest

from core.errors import RunError
from core.runs.store import metrics_file


def test_metrics_round_trip_with_undefined_values_as_null(tmp_path: Path) -> None:
    metrics_file.append_metrics(tmp_path, 1, 10, 0.5, {"a": 0.25, "b": math.nan, "c": math.inf})
    metrics_file.append_metrics(tmp_path, 2, 20, 1.5, {"a": 0.125})
    lines = (tmp_path / metrics_file.METRICS).read_text().splitlines()
    assert json.loads(lines[0])["values"] == {"a": 0.25, "b": None, "c": None}
    rows = list(metrics_file.read_metrics(tmp_path))
    assert [(r.id, r.epoch, r.step, r.elapsed_s, r.name) for r in rows] == [
        (1, 1, 10, 0.5, "a"),
        (2, 1, 10, 0.5, "b"),
        (3, 1, 10, 0.5, "c"),
        (4, 2, 20, 1.5, "a"),
    ]
    assert rows[0].value == 0.25 and math.isnan(rows[1].value)


def test_incomplete_line_is_skipped_and_the_next_one_is_complete(tmp_path: Path) -> None:
    metrics_file.append_metrics(tmp_path, 1, 10, 0.5, {"a": 1.0})
    with (tmp_path / metrics_file.METRICS).open("a") as handle:
        handle.write('{"epoch": 2, "step": 20, "elap')
    assert [r.step for r in metrics_file.read_metrics(tmp_path)] == [10]
    metrics_file.append_metrics(tmp_path, 3, 30, 0.5, {"a": 1.0})
    assert [r.step for r in metrics_file.read_metrics(tmp_path)] == [10, 30]


@pytest.mark.parametrize(("step", "kept"), [(0, []), (10, [10]), (15, [10]), (30, [10, 20, 30])])
def test_measurements_after_the_resumed_step_are_dropped(tmp_path: Path, step: int, kept: list[int]) -> None:
    for done in (10, 20, 30):
        metrics_file.append_metrics(tmp_path, 1, done, 0.5, {"a": 1.0})
    metrics_file.drop_metrics_after(tmp_path, step)
    assert [r.step for r in metrics_file.read_metrics(tmp_path)] == kept


def values(folder: Path) -> list[tuple[int, str, float]]:
    return [(row.step, row.name, row.value) for row in metrics_file.read_metrics(folder)]


def test_later_value_of_the_same_step_and_name_supersedes_the_earlier_one(tmp_path: Path) -> None:
    assert not metrics_file.append_metrics(tmp_path, 1, 10, 0.5, {"lr": 0.1, "whole": 1.0})
    assert not metrics_file.append_metrics(tmp_path, 2, 20, 1.0, {"lr": 0.1})
    assert not metrics_file.append_metrics(tmp_path, 2, 20, 1.1, {"val": 0.5, "whole": 2.0})
    assert metrics_file.append_metrics(tmp_path, 2, 20, 1.5, {"whole": 3.0})
    assert not metrics_file.append_metrics(tmp_path, 3, 30, 2.0, {"whole": 4.0})
    expected = [(10, "lr", 0.1), (10, "whole", 1.0), (20, "lr", 0.1), (20, "val", 0.5), (20, "whole", 3.0)]
    assert values(tmp_path) == [*expected, (30, "whole", 4.0)]
    lines = [json.loads(line)["values"] for line in (tmp_path / metrics_file.METRICS).read_text().splitlines()]
    assert lines == [{"lr": 0.1, "whole": 1.0}, {"lr": 0.1}, {"val": 0.5}, {"whole": 3.0}, {"whole": 4.0}]


def test_superseded_values_before_an_incomplete_line_are_removed(tmp_path: Path) -> None:
    metrics_file.append_metrics(tmp_path, 2, 20, 1.0, {"whole": 1.0})
    with (tmp_path / metrics_file.METRICS).open("a") as handle:
        handle.write('{"epoch": 2, "step": 20, "elap')
    assert metrics_file.append_metrics(tmp_path, 2, 20, 1.5, {"whole": 2.0})
    assert values(tmp_path) == [(20, "whole", 2.0)]


def test_repeated_values_in_a_file_of_an_earlier_version_are_read_once(tmp_path: Path) -> None:
    records = [(10, {"lr": 0.1}), (20, {"lr": 0.2}), (20, {"whole": 1.0}), (20, {"whole": 2.0}), (30, {"whole": 3.0})]
    lines = [{"epoch": 1, "step": step, "elapsed_s": 0.5, "values": content} for step, content in records]
    (tmp_path / metrics_file.METRICS).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    expected = [(10, "lr", 0.1), (20, "lr", 0.2), (20, "whole", 2.0)]
    assert values(tmp_path) == [*expected, (30, "whole", 3.0)]
    metrics_file.drop_metrics_after(tmp_path, 20)
    assert values(tmp_path) == expected and len((tmp_path / metrics_file.METRICS).read_text().splitlines()) == 3


def test_measurements_that_cannot_be_dropped_are_an_error_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics_file.append_metrics(tmp_path, 1, 10, 0.5, {"a": 1.0})

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(metrics_file, "atomic_write", refuse)
    with pytest.raises(RunError, match=r"metrics\.jsonl: cannot be written: No space left on device"):
        metrics_file.drop_metrics_after(tmp_path, 5)
