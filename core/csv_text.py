"""Tables as CSV: a header, numbers in full precision, and no text that a spreadsheet would evaluate.

Line breaks in text are line feeds, in quotes; what UTF-8 cannot hold (a file name in another encoding) is a question
mark.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

FORMULA_SIGNS = tuple("=+-@＝＋－＠")


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
    formula, also behind white space, or with a full-width sign."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "replace").decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if text.lstrip()[:1] in FORMULA_SIGNS or text[:1] in ("\t", "\n") else text
