"""The file of measurements of a run, ``metrics.jsonl``: appended line by line, read also while it is written.

Torn and foreign lines are skipped, and of each step and metric name the last value counts.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from core.errors import RunError
from core.files import append_line, atomic_write, file_stamp, is_present, parse_line, read_replaced

METRICS = "metrics.jsonl"
_TAIL_BYTES = 256 * 1024


@dataclass(frozen=True)
class MetricRow:
    """One value of a metric.

    Attributes
    ----------
    id : int. Number that grows in the order of measurement within an index; from 1 within a file.
    epoch, step : int. Epoch and optimiser step of the measurement.
    elapsed_s : float. Training time.
    name : str. Metric name (:mod:`core.events`).
    value : float. NaN where it is not defined.
    """

    id: int
    epoch: int
    step: int
    elapsed_s: float
    name: str
    value: float


def finite_or_none(value: float | None) -> float | None:
    """The value, or ``None`` (``null`` in JSON) for NaN, infinity and ``None``."""
    return float(value) if value is not None and math.isfinite(value) else None


def append_metrics(folder: Path, epoch: int, step: int, elapsed_s: float, values: Mapping[str, float]) -> bool:
    """Append one measurement as one line, in one write.

    Values of the same step and name that the file already holds are superseded: a run that is resumed between a
    measurement and its checkpoint measures again. The file is then rewritten atomically without them.

    Returns
    -------
    bool
        Whether earlier values were superseded.

    Raises
    ------
    RunError
        If the file cannot be written.
    """
    record = dict(
        epoch=epoch,
        step=step,
        elapsed_s=round(elapsed_s, 3),
        values={name: finite_or_none(value) for name, value in values.items()},
    )
    path = folder / METRICS
    try:
        with path.open("ab+") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - _TAIL_BYTES))
            tail = handle.read()
            superseded = not values.keys().isdisjoint(_names_of_last_step(tail, step))
            if not superseded:
                append_line(handle, _to_line(record))
        if superseded:
            records = _without_superseded([*_parse_records(read_replaced(path.read_bytes)), record])
            atomic_write(path, b"".join(map(_to_line, records)))
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error
    return superseded


def read_metrics(folder: Path, size: int | None = None) -> Iterator[MetricRow]:
    """All values in file order, ids counted from 1. Torn and foreign lines are skipped, and so are superseded values,
    which files of earlier versions may hold.

    Parameters
    ----------
    folder : Path. The run folder.
    size : int, optional. Bytes of the file to read; all of them by default.
    """
    number = 0
    for record in _without_superseded(_records(folder / METRICS, size)):
        for name, value in record["values"].items():
            number += 1
            value = math.nan if value is None else float(value)
            yield MetricRow(number, record["epoch"], record["step"], record["elapsed_s"], str(name), value)


def metrics_size(folder: Path) -> int:
    """Bytes of the metrics file; 0 where there is none."""
    return file_stamp(folder / METRICS).size


def drop_metrics_after(folder: Path, step: int) -> None:
    """Remove the measurements after a step, all of them for step 0: a run resumed at that step makes them again.

    Raises
    ------
    RunError
        If the file cannot be read or written.
    """
    path = folder / METRICS
    try:
        if is_present(path):
            kept = [record for record in _without_superseded(_records(path)) if step and record["step"] <= step]
            atomic_write(path, b"".join(map(_to_line, kept)))
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error


def _records(path: Path, size: int | None = None) -> Iterator[dict[str, Any]]:
    try:
        content = read_replaced(path.read_bytes)
    except FileNotFoundError:
        return
    yield from _parse_records(content[:size])


def _parse_records(content: bytes) -> Iterator[dict[str, Any]]:
    """The measurements of a metrics file, in file order; torn and foreign lines are skipped."""
    for line in content.split(b"\n"):
        record = _parse_record(line)
        if record is not None:
            yield record


def _parse_record(line: bytes) -> dict[str, Any] | None:
    record = parse_line(line)
    if record is None or not {"epoch", "step", "elapsed_s", "values"} <= record.keys():
        return None
    return record if isinstance(record["values"], dict) else None


def _names_of_last_step(tail: bytes, step: int) -> set[str]:
    """Metric names of the measurements of ``step`` at the end of a metrics file."""
    names: set[str] = set()
    for line in reversed(tail.split(b"\n")):
        record = _parse_record(line)
        if record is None:
            continue
        if record["step"] != step:
            break
        names.update(record["values"])
    return names


def _without_superseded(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Measurements without the values that a later one of the same step repeats; steps never decrease in a file."""
    for _, group in groupby(records, key=lambda record: record["step"]):
        same_step = list(group)
        last = {name: number for number, record in enumerate(same_step) for name in record["values"]}
        for number, record in enumerate(same_step):
            values = {name: value for name, value in record["values"].items() if last[name] == number}
            if values:
                yield {**record, "values": values}


def _to_line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, allow_nan=False) + "\n").encode()
