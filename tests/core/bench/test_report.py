"""Tables: what follows from the time of each block, and how it is written."""

from __future__ import annotations

import json

import pytest
import torch

from core.bench import report
from core.bench.machine import Machine, matmul_peaks, peak_of
from core.bench.report import Report, Row, compared, timed
from core.strict_json import dumps

CPU = torch.device("cpu")


def test_a_row_follows_from_its_blocks() -> None:
    row = timed(Row("ours", "bf16", gflop=50.0), [0.2, 0.5, 0.1], batch=4, peak_tflops=0.5)
    assert (row.ms, row.ms_low, row.ms_high, row.batch) == (200.0, 100.0, 500.0, 4)
    assert row.sub_volumes_per_s == pytest.approx(20)
    assert row.tflops == pytest.approx(0.25) and row.share_of_peak == pytest.approx(0.5)


def test_without_a_count_there_is_no_speed() -> None:
    row = timed(Row("ours"), [0.2])
    assert row.tflops is None and row.share_of_peak is None


def test_sub_volumes_of_a_whole_volume_are_its_tiles() -> None:
    assert timed(Row("tiles", tiles=12), [2.0]).sub_volumes_per_s == pytest.approx(6)


def test_ratio_is_the_time_of_a_row_by_that_of_ours() -> None:
    ours, slower, faster, missing = (Row("a", ms=20), Row("b", ms=50), Row("c", ms=10), Row("d", note="not installed"))
    rows = compared([ours, slower, faster, missing], ours)
    assert [row.ratio for row in rows] == [1.0, 2.5, 0.5, None]
    assert compared([missing], missing) == [missing]


def test_text_and_json_say_the_same() -> None:
    machine = Machine.here(CPU, "fp32")
    rows = (timed(Row("ours", "fp32", gflop=1.0), [0.1]), Row("a peer", note="not installed"))
    columns = (report.NAME, report.PRECISION, report.MS, report.RATIO, report.NOTE)
    table = Report(
        "train", machine, {"sub_volume": [8, 8, 16], "steps": 2}, rows, columns, {"fp32": 0.15}, ("A note.",)
    )
    lines = table.text().splitlines()
    assert lines[0] == "bench train  sub_volume 8x8x16  steps 2"
    assert machine.name in lines[1] and f"torch {torch.__version__}" in lines[1] and "threads" in lines[1]
    assert "fp32 0.15 TFLOP/s" in lines[2]
    assert lines[4].split() == ["precision", "ms", "time/ours"]
    assert lines[5].split() == ["ours", "fp32", "100", "-"]
    assert lines[6].split() == ["a", "peer", "-", "-", "-", "not", "installed"]
    assert lines[-1] == "A note."
    found = json.loads(dumps(table.to_json()))
    assert found["bench"] == "train" and found["machine"]["threads"] == torch.get_num_threads()
    assert [row["name"] for row in found["rows"]] == ["ours", "a peer"]
    assert found["rows"][0]["ms"] == pytest.approx(100) and found["rows"][1]["ms"] is None


def test_the_matmul_peak_is_measured() -> None:
    peaks = matmul_peaks(CPU, size=64)
    assert peaks.keys() == {"fp32", "bf16"} and min(peaks.values()) > 0
    assert peak_of("bf16", CPU, peaks) == peak_of("fp16", CPU, peaks) == peaks["bf16"]
    assert peak_of("fp32", CPU, peaks) == peaks["fp32"]
