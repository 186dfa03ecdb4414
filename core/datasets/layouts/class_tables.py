"""Tables of classes beside the data: BIDS's tsv, colour tables of FreeSurfer and 3D Slicer, itk-snap's descriptions."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.colours import is_colour
from core.datasets.layouts.colour_files import MAX_BYTES, read_table
from core.datasets.layouts.files import image_stem
from core.errors import DatasetError

MAX_TABLES = 2000  # that are compared with each other
ALWAYS_TABLES = "dseg.tsv"  # ends names of files that can be nothing else


class NoTableError(DatasetError):
    """A text file holds no table of classes."""


@dataclass(frozen=True)
class TableClass:
    """A line of a table: label value, name, and colour ``#rrggbb`` or "" """

    value: int
    name: str
    colour: str = ""


def read_tables(folder: Path, files: Sequence[str]) -> tuple[TableClass, ...]:
    """Classes of the tables of a data set, by value.

    Parameters
    ----------
    folder : Path. Folder of the data set.
    files : sequence of str. Tables, relative to it; all must say the same, or add to each other. Other texts among
        them, such as a README, are left out.

    Raises
    ------
    DatasetError
        If a table cannot be read, holds no classes, or two of them name a value differently.
    """
    found: dict[int, tuple[TableClass, str]] = {}
    for file in files[:MAX_TABLES]:
        try:
            entries = read_class_table(folder / file)
        except NoTableError:
            if file.lower().endswith(ALWAYS_TABLES):
                raise
            continue
        for entry in entries:
            known, other = found.setdefault(entry.value, (entry, file))
            if known.name != entry.name:
                raise DatasetError(
                    f"{folder / file}: expected the name {known.name!r} for the label value {entry.value}, as in "
                    f"{other}, got {entry.name!r}; describe the classes yourself: data describe"
                )
    return tuple(found[value][0] for value in sorted(found))


def tables_of(tables: Sequence[str], labels: Iterable[str]) -> list[str]:
    """The tables of BIDS that state the values of some label maps, by its rule of inheritance: a table lies in the
    folder of the label map or above, and the label map has all parts of its name such as ``desc-aseg``.

    Parameters
    ----------
    tables, labels : sequence of str. Paths relative to the data set.
    """
    parts_below: dict[str, set[frozenset[str]]] = {}
    for label in labels:
        folder, _, name = label.casefold().rpartition("/")
        parts = frozenset(image_stem(name).split("_"))
        while True:
            parts_below.setdefault(folder, set()).add(parts)
            if not folder:
                break
            folder = folder.rpartition("/")[0]
    found = []
    for table in tables:
        folder, _, name = table.casefold().rpartition("/")
        needed = {part for part in name.partition(".")[0].split("_") if "-" in part}
        if any(needed <= parts for parts in parts_below.get(folder, ())):
            found.append(table)
    return found


def read_class_table(path: Path) -> list[TableClass]:
    """Classes of one table.

    Raises
    ------
    DatasetError
        If it cannot be read, is not a table of classes (:class:`NoTableError`), or states a value twice.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DatasetError(f"{path}: expected a table of classes of at most {MAX_BYTES} bytes, got a larger file")
        text = path.read_text("utf-8-sig", errors="replace")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}; check its permissions") from None
    entries = _read_tsv(path, text) if path.suffix.lower() == ".tsv" else _read_colour_table(text)
    values = [entry.value for entry in entries]
    if not entries:
        raise NoTableError(f"{path}: expected lines of label value and name, got none")
    if len(set(values)) < len(values):
        twice = next(v for v in values if values.count(v) > 1)
        raise DatasetError(f"{path}: expected every label value once, got {twice} twice")
    return entries


def _read_tsv(path: Path, text: str) -> list[TableClass]:
    """BIDS: the columns index and name, and maybe color and mapping."""
    rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
    entries = []
    for number, row in enumerate(rows, start=2):
        columns = {str(k).strip().lower(): str(v or "").strip() for k, v in row.items() if k is not None}
        index, name = columns.get("index", ""), columns.get("name", "")
        if not re.fullmatch(r"-?\d+", index) or not name:
            raise NoTableError(f"{path}: line {number}: expected the columns index and name, got {dict(columns)}")
        colour = columns.get("color", columns.get("colour", "")).lower()
        entries.append(TableClass(int(index), name, colour if is_colour(colour) else ""))
    return entries


def _read_colour_table(text: str) -> list[TableClass]:
    return [TableClass(value, name, colour) for value, name, colour in read_table(text)]
