"""Tables: values that follow from the times of the blocks, text and JSON."""

from __future__ import annotations

import json

import pytest
import torch

from core.bench import report
from core.bench.machine import Machine, matmul_peaks, peak_for
from core.bench.report import Report, Row, with_ratios, with_times
from core.strict_json import dumps

CPU = torch.device("cpu")


def test_row_has_median_minimum_and_maximum_of_its_blocks() -> None:
    row = with_times(Row("ours", "bf16", gflop=50.0), [0.2, 0.5, 0.1], batch=4, peak_tflops=0.5)
    assert (row.ms, row.ms_low, row.ms_high, row.batch) == (200.0, 100.0, 500.0, 4)
    assert row.sub_volumes_per_s == pytest.approx(20)
    assert row.tflops == pytest.approx(0.25) and row.share_of_peak == pytest.approx(0.5)


def test_row_without_counted_operations_has_no_tflops_and_without_times_is_unchanged() -> None:
    row = with_times(Row("ours"), [0.2])
    assert row.tflops is None and row.share_of_peak is None
    assert with_times(Row("ours"), []) == Row("ours")


def test_throughput_of_a_whole_volume_counts_tiles() -> None:
    assert with_times(Row("tiles", tiles=12), [2.0]).sub_volumes_per_s == pytest.approx(6)


def test_ratio_is_the_time_of_a_row_divided_by_that_of_ours() -> None:
    ours, slower, faster, missing = (Row("a", ms=20), Row("b", ms=50), Row("c", ms=10), Row("d", note="not installed"))
    rows = with_ratios([ours, slower, faster, missing], ours)
    assert [row.ratio for row in rows] == [1.0, 2.5, 0.5, None]
    assert with_ratios([missing], missing) == [missing]


def test_text_and_json_have_the_same_values() -> None:
    machine = Machine.current(CPU, "fp32")
    rows = (with_times(Row("ours", "fp32", gflop=1.0), [0.1]), Row("a peer", note="not installed"))
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
    data = json.loads(dumps(table.to_json()))
    assert data["bench"] == "train" and data["machine"]["threads"] == torch.get_num_threads()
    assert [row["name"] for row in data["rows"]] == ["ours", "a peer"]
    assert data["rows"][0]["ms"] == pytest.approx(100) and data["rows"][1]["ms"] is None


def test_matmul_peaks_by_precision() -> None:
    peaks = matmul_peaks(CPU, size=64)
    assert peaks.keys() == {"fp32", "bf16"} and min(peaks.values()) > 0
    assert peak_for("bf16", CPU, peaks) == peak_for("fp16", CPU, peaks) == peaks["bf16"]
    assert peak_for("fp32", CPU, peaks) == peaks["fp32"]
