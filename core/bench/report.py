"""A table of measurements, as text and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core.bench.machine import Machine


@dataclass(frozen=True)
class Row:
    """One line of a table; ``None`` where a value was not measured or has no meaning.

    Attributes
    ----------
    name : str. Implementation or method.
    precision : str. "fp32", "bf16" or "fp16".
    batch : int. Batch size.
    ms, ms_low, ms_high : float. Median, minimum and maximum over the blocks, in ms per step, volume or draw.
    sub_volumes_per_s : float. Throughput.
    gflop : float. Operations of one step or volume in 10^9, counted from convolutions and matrix products.
    tflops : float. Operations per second in 10^12.
    share_of_peak : float. ``tflops`` divided by the matmul peak measured in the same run and precision.
    peak_memory_mb : float. Peak memory of weights, optimizer and activations, in 10^6 bytes.
    ratio : float. Time of this row / time of Segmentarium's row; above 1, Segmentarium is faster.
    dice : float. Mean over the classes without background.
    agreement : float. Share of voxels with the same label as in the last row of MONAI's sliding window.
    tiles : int. Sub-volumes the network computed for one volume.
    parameters : int. Parameters of the network.
    estimated_memory_mb : float. What ``peak_memory_mb`` was expected to be, in 10^6 bytes.
    note : str. Remark, or the reason why values are missing.
    """

    name: str
    precision: str | None = None
    batch: int | None = None
    ms: float | None = None
    ms_low: float | None = None
    ms_high: float | None = None
    sub_volumes_per_s: float | None = None
    gflop: float | None = None
    tflops: float | None = None
    share_of_peak: float | None = None
    peak_memory_mb: float | None = None
    ratio: float | None = None
    dice: float | None = None
    agreement: float | None = None
    tiles: int | None = None
    parameters: int | None = None
    estimated_memory_mb: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A column of the text: attribute of :class:`Row`, heading, and format of its values."""

    attribute: str
    heading: str
    format: Callable[[Any], str] = str


@dataclass(frozen=True)
class Report:
    """A table with the conditions of its measurement.

    Attributes
    ----------
    bench : str. "train", "infer", "augment" or "models".
    machine : Machine.
    settings : dict. Settings of the measurement as plain values.
    rows : tuple of Row.
    columns : tuple of Column. Columns of the text.
    matmul_tflops : dict. Measured peak of square matrix products by precision, in 10^12 operations per second.
    notes : tuple of str. Sentences below the table.
    """

    bench: str
    machine: Machine
    settings: dict[str, Any]
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    matmul_tflops: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All fields except the columns of the text, as plain JSON values."""
        return dict(
            bench=self.bench,
            machine=self.machine,
            settings=self.settings,
            matmul_tflops=self.matmul_tflops,
            rows=self.rows,
            notes=self.notes,
        )

    def text(self) -> str:
        """The table as text."""
        settings = "  ".join(f"{name} {_setting(value)}" for name, value in self.settings.items())
        lines = [f"bench {self.bench}  {settings}", self.machine.text()]
        if self.matmul_tflops:
            peaks = ", ".join(f"{name} {_three_digits(tflops)}" for name, tflops in self.matmul_tflops.items())
            lines.append(f"measured matmul peak: {peaks} TFLOP/s")
        return "\n".join([*lines, "", *_text_rows(self.rows, self.columns), "", *self.notes]).rstrip()


def with_times(row: Row, seconds: Sequence[float], *, batch: int = 1, peak_tflops: float | None = None) -> Row:
    """The row with all values that follow from the times of its blocks; unchanged if there are none.

    Parameters
    ----------
    row : Row. With ``gflop`` where it is known.
    seconds : sequence of float. Seconds per step, volume or draw in each block.
    batch : int. Batch size.
    peak_tflops : float, optional. Matmul peak in the row's precision.
    """
    if not seconds:
        return row
    median_s = statistics.median(seconds)
    tflops = None if row.gflop is None else row.gflop / median_s / 1000
    return replace(
        row,
        batch=batch,
        ms=1000 * median_s,
        ms_low=1000 * min(seconds),
        ms_high=1000 * max(seconds),
        sub_volumes_per_s=(row.tiles or batch) / median_s,
        tflops=tflops,
        share_of_peak=tflops / peak_tflops if tflops is not None and peak_tflops else None,
    )


def with_ratios(rows: Sequence[Row], reference: Row) -> list[Row]:
    """The rows with the ratio of their time to that of ``reference``."""
    if reference.ms is None:
        return list(rows)
    return [row if row.ms is None else replace(row, ratio=row.ms / reference.ms) for row in rows]


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


NAME = Column("name", "")
PRECISION = Column("precision", "precision")
BATCH = Column("batch", "batch")
MS = Column("ms", "ms", _three_digits)
LOW, HIGH = Column("ms_low", "min", _three_digits), Column("ms_high", "max", _three_digits)
SPEED = Column("sub_volumes_per_s", "sub-volumes/s", _three_digits)
GFLOP = Column("gflop", "GFLOP", "{:.1f}".format)
TFLOPS = Column("tflops", "TFLOP/s", "{:.3f}".format)
SHARE = Column("share_of_peak", "of peak", _percent)
MEMORY = Column("peak_memory_mb", "peak MB", "{:.0f}".format)
PARAMETERS = Column("parameters", "parameters", "{:,}".format)
ESTIMATED = Column("estimated_memory_mb", "estimated MB", "{:.0f}".format)
RATIO = Column("ratio", "time/ours", "{:.2f}".format)
DICE = Column("dice", "Dice", "{:.4f}".format)
AGREEMENT = Column("agreement", "agrees", "{:.4f}".format)
TILES = Column("tiles", "tiles")
NOTE = Column("note", "")


def _text_rows(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Aligned lines: text to the left, numbers to the right."""
    cells = [[column.heading for column in columns]]
    for row in rows:
        values = [getattr(row, column.attribute) for column in columns]
        cells.append(["-" if v is None else c.format(v) for v, c in zip(values, columns, strict=True)])
    widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
    left_aligned = {"name", "precision", "note"}
    return [
        "  ".join(
            cell.ljust(width) if column.attribute in left_aligned else cell.rjust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in cells
    ]


def _setting(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
