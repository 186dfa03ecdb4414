"""One table of measurements: rows for people, the same rows for programs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core.bench.machine import Machine


@dataclass(frozen=True)
class Row:
    """One line of a table; ``None`` is what was not measured, or has no meaning there.

    Attributes
    ----------
    name : what was measured.
    precision : "fp32", "bf16" or "fp16".
    batch : sub-volumes (or volumes) at once.
    ms, ms_low, ms_high : milliseconds of one step, volume or draw: median, least and most of the blocks.
    sub_volumes_per_s : how many sub-volumes are done in a second.
    gflop, tflops : operations of one step or volume, in 10^9, as counted from convolutions and matrix products; and how
        many of them a second, in 10^12.
    share_of_peak : of the matmul peak that was measured in the same run, in the same precision.
    peak_memory_mb : most memory, in 10^6 bytes, beyond what was there before: weights, optimizer, activations.
    ratio : time of this row / time of the row of ours that it is compared with: above 1, ours is faster.
    dice : mean over the classes, the background left out.
    agreement : share of voxels that have the label that MONAI's sliding window gives them, in the row most like ours.
    tiles : sub-volumes that the network was given for one volume.
    note : what a reader should know about it; why there is nothing to see.
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
    note: str = ""


@dataclass(frozen=True)
class Column:
    """A column of the text: the attribute of a row, its heading, how its values are written."""

    attribute: str
    heading: str
    write: Callable[[Any], str] = str


@dataclass(frozen=True)
class Report:
    """A table with all that is needed to judge it.

    Attributes
    ----------
    bench : "train", "infer" or "augment".
    machine : where it was measured.
    settings : what was measured, by name; plain values.
    rows, columns : the table.
    matmul_tflops : measured peak of square matrix products by precision, in 10^12 operations a second.
    notes : sentences below the table.
    """

    bench: str
    machine: Machine
    settings: dict[str, Any]
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    matmul_tflops: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """All of it but how it is drawn."""
        return dict(
            bench=self.bench, machine=self.machine, settings=self.settings, matmul_tflops=self.matmul_tflops,
            rows=self.rows, notes=self.notes,
        )  # fmt: skip

    def text(self) -> str:
        """The table as people read it."""
        settings = "  ".join(f"{name} {_plain(value)}" for name, value in self.settings.items())
        lines = [f"bench {self.bench}  {settings}", self.machine.text()]
        if self.matmul_tflops:
            peaks = ", ".join(f"{name} {_number(tflops)}" for name, tflops in self.matmul_tflops.items())
            lines.append(f"measured matmul peak: {peaks} TFLOP/s")
        return "\n".join([*lines, "", *_grid(self.rows, self.columns), "", *self.notes]).rstrip()


def timed(row: Row, seconds: Sequence[float], *, batch: int = 1, peak_tflops: float | None = None) -> Row:
    """Fill in what follows from the time of each block.

    Parameters
    ----------
    row : with ``gflop`` where it is known.
    seconds : of one step, volume or draw, one value for each block.
    batch : sub-volumes in each.
    peak_tflops : matmul peak in the row's precision.
    """
    middle = statistics.median(seconds)
    tflops = None if row.gflop is None else row.gflop / middle / 1000
    return replace(
        row, batch=batch, ms=1000 * middle, ms_low=1000 * min(seconds), ms_high=1000 * max(seconds),
        sub_volumes_per_s=(row.tiles or batch) / middle, tflops=tflops,
        share_of_peak=tflops / peak_tflops if tflops is not None and peak_tflops else None,
    )  # fmt: skip


def compared(rows: Sequence[Row], ours: Row) -> list[Row]:
    """The same rows with the ratio of their time to that of ``ours``."""
    if ours.ms is None:
        return list(rows)
    return [row if row.ms is None else replace(row, ratio=row.ms / ours.ms) for row in rows]


def _number(value: float) -> str:
    """Three digits that matter."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


NAME = Column("name", "")
PRECISION = Column("precision", "precision")
BATCH = Column("batch", "batch")
MS = Column("ms", "ms", _number)
LOW, HIGH = Column("ms_low", "least", _number), Column("ms_high", "most", _number)
SPEED = Column("sub_volumes_per_s", "sub-volumes/s", _number)
GFLOP = Column("gflop", "GFLOP", "{:.1f}".format)
TFLOPS = Column("tflops", "TFLOP/s", "{:.3f}".format)
SHARE = Column("share_of_peak", "of peak", _percent)
MEMORY = Column("peak_memory_mb", "peak MB", "{:.0f}".format)
RATIO = Column("ratio", "time/ours", "{:.2f}".format)
DICE = Column("dice", "Dice", "{:.4f}".format)
AGREEMENT = Column("agreement", "agrees", "{:.4f}".format)
TILES = Column("tiles", "tiles")
NOTE = Column("note", "")


def _grid(rows: Sequence[Row], columns: Sequence[Column]) -> list[str]:
    """Lines of aligned cells; words to the left, numbers to the right."""
    cells = [[column.heading for column in columns]]
    for row in rows:
        values = [getattr(row, column.attribute) for column in columns]
        cells.append(["-" if v is None else c.write(v) for v, c in zip(values, columns, strict=True)])
    widths = [max(len(line[n]) for line in cells) for n in range(len(columns))]
    words = {"name", "precision", "note"}
    return [
        "  ".join(
            cell.ljust(width) if column.attribute in words else cell.rjust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ).rstrip()
        for line in cells
    ]


def _plain(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
