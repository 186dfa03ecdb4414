"""Tables as CSV: a header, numbers in full precision, and no text that a spreadsheet would evaluate."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any


def csv_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV.

    Parameters
    ----------
    header : sequence of str. Names of the columns, with their units.
    rows : iterable of sequences. Cells (:func:`csv_cell`) of each line.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in header])
    writer.writerows([csv_cell(value) for value in row] for row in rows)
    return out.getvalue()


def csv_cell(value: Any) -> Any:
    """The value of a cell: nothing for ``None`` and NaN; an apostrophe before text that would be evaluated as a
    formula."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
