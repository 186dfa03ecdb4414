"""Rows and index entries of a damaged SQLite file, read page by page.

SQLite follows the tree of a table and stops at the first page that it cannot read. Here every page that is left is
looked at for itself, of the file and of the changes in its WAL file, so that what lies behind a lost page is read too.
The formats are those of https://www.sqlite.org/fileformat2.html.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

MAGIC = b"SQLite format 3\0"
PAGE_SIZE = 4096  # where the header is damaged
MAX_RECORD = 1 << 20  # bytes; a longer record is damage
TABLE_LEAF, INDEX_LEAF, INDEX_INTERIOR = 0x0D, 0x0A, 0x02
_TRIED = 3  # cells of a page by which it is known what it holds

Value = int | float | str | bytes | None
_INTEGER_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_ERRORS = (IndexError, ValueError, struct.error)  # ValueError: also text that is no UTF-8


class Record(NamedTuple):
    """A row of a table, or an entry of an index, whose last value is the number of its row.

    Attributes
    ----------
    in_table : bool. Whether it is a row.
    row : int. Number of the row.
    values : tuple. Values of its columns; ``REAL`` columns may have whole numbers.
    """

    in_table: bool
    row: int
    values: tuple[Value, ...]


@dataclass(frozen=True)
class _File:
    """Pages of a database: number of a page, from 1, to its bytes."""

    pages: dict[int, memoryview]
    usable: int


def read_records(file: Path, wal: Path, columns: int, entries: int) -> Iterator[Record]:
    """Records of every readable page, in no order; some may be of pages that were given up, or be repeated.

    Parameters
    ----------
    file, wal : Path. The database and its WAL file, which need not exist.
    columns : int. Number of columns of the rows that are wanted.
    entries : int. Number of values of the index entries that are wanted.
    """
    database = _open(file, wal)
    for number, page in sorted(database.pages.items()):
        start = 100 if number == 1 else 0
        kind = page[start] if len(page) > start else 0
        wanted = columns if kind == TABLE_LEAF else entries
        if kind not in (TABLE_LEAF, INDEX_LEAF, INDEX_INTERIOR):
            continue
        cells = _cells(page, start, kind)
        if any(_count(database, page, cell, kind) == wanted for cell in islice(cells, _TRIED)):
            for cell in cells:
                record = _record(database, page, cell, kind)
                if record is not None and len(record.values) == wanted:
                    yield record


def _open(file: Path, wal: Path) -> _File:
    content, changes = _mapped(file), _mapped(wal)
    size, reserved = PAGE_SIZE, 0
    if bytes(content[:16]) == MAGIC and len(content) > 20:
        size, reserved = int.from_bytes(content[16:18], "big"), content[20]
    elif len(changes) > 12:
        size = int.from_bytes(changes[8:12], "big")
    size = 65536 if size == 1 else size
    if not 512 <= size <= 65536 or size & (size - 1):
        size, reserved = PAGE_SIZE, 0
    pages = {n + 1: content[n * size : (n + 1) * size] for n in range(len(content) // size)}
    pages.update(_committed(changes, size))
    return _File(pages, size - reserved)


def _mapped(file: Path) -> memoryview:
    """The content of a file, which is read as it is looked at; empty where there is none."""
    try:
        with file.open("rb") as handle:
            return memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))
    except (FileNotFoundError, ValueError):  # ValueError: it is empty
        return memoryview(b"")


def _committed(content: memoryview, size: int) -> dict[int, memoryview]:
    """The newest content of each page in a WAL file, up to its last commit."""
    if len(content) < 32 or int.from_bytes(content[8:12], "big") != size:
        return {}
    committed: dict[int, memoryview] = {}
    pending: dict[int, memoryview] = {}
    for at in range(32, len(content) - 24 - size + 1, 24 + size):
        number, pages_after_commit = struct.unpack(">II", content[at : at + 8])
        if content[at + 8 : at + 16] != content[16:24]:  # of an earlier use of the file
            break
        pending[number] = content[at + 24 : at + 24 + size]
        if pages_after_commit:
            committed.update(pending)
            pending = {}
    return committed


def _cells(page: memoryview, start: int, kind: int) -> list[int]:
    """Offsets of the cells of a page."""
    header = start + (12 if kind == INDEX_INTERIOR else 8)
    number = min(int.from_bytes(page[start + 3 : start + 5], "big"), (len(page) - header) // 2)
    offsets = struct.unpack_from(f">{number}H", page, header)
    return [offset for offset in offsets if header + 2 * number <= offset < len(page)]


def _count(database: _File, page: memoryview, cell: int, kind: int) -> int:
    record = _record(database, page, cell, kind)
    return -1 if record is None else len(record.values)


def _record(database: _File, page: memoryview, cell: int, kind: int) -> Record | None:
    """The record of a cell; ``None`` where it is damaged."""
    try:
        at = cell + (4 if kind == INDEX_INTERIOR else 0)
        length, at = _varint(page, at)
        row, at = _varint(page, at) if kind == TABLE_LEAF else (0, at)
        if not 0 < length <= MAX_RECORD:
            return None
        values = _values(_payload(database, page, at, length, kind))
    except _ERRORS:
        return None
    if kind == TABLE_LEAF:
        return Record(True, row, values)
    last = values[-1] if values else None
    return Record(False, last, values) if isinstance(last, int) else None


def _payload(database: _File, page: memoryview, at: int, length: int, kind: int) -> bytes:
    """The bytes of a record: in its cell, and in overflow pages where it is long."""
    usable = database.usable
    most = usable - 35 if kind == TABLE_LEAF else (usable - 12) * 64 // 255 - 23
    if length <= most:
        return _exactly(page, at, length)
    least = (usable - 12) * 32 // 255 - 23
    local = least + (length - least) % (usable - 4)
    local = local if local <= most else least
    content = _exactly(page, at, local)
    following = int.from_bytes(page[at + local : at + local + 4], "big")
    while len(content) < length:
        overflow = database.pages.get(following)
        if overflow is None:
            raise IndexError("a page of the record is lost")
        content += bytes(overflow[4:usable])
        following = int.from_bytes(overflow[:4], "big")
    return content[:length]


def _exactly(page: memoryview, at: int, length: int) -> bytes:
    if at + length > len(page):
        raise IndexError("the record ends outside its page")
    return bytes(page[at : at + length])


def _values(record: bytes) -> tuple[Value, ...]:
    """The values of a record.

    Raises
    ------
    IndexError, ValueError, struct.error
        If it is damaged.
    """
    header, at = _varint(record, 0)
    body, values = header, list[Value]()
    while at < header:
        kind, at = _varint(record, at)
        value, body = _value(record, kind, body)
        values.append(value)
    if at != header or body != len(record):
        raise ValueError("expected a record of the length that its header names")
    return tuple(values)


def _value(record: bytes, kind: int, at: int) -> tuple[Value, int]:
    """A value by its serial type, and the offset behind it."""
    if kind in (0, 8, 9):
        return {0: None, 8: 0, 9: 1}[kind], at
    if kind in (10, 11):
        raise ValueError("a serial type that is not used")
    size = 8 if kind == 7 else _INTEGER_SIZES.get(kind, (kind - 12) // 2)
    content = record[at : at + size]
    if len(content) != size:
        raise IndexError("the record ends early")
    if kind == 7:
        return float(struct.unpack(">d", content)[0]), at + size
    if kind < 7:
        return int.from_bytes(content, "big", signed=True), at + size
    return (content.decode("utf-8") if kind % 2 else content), at + size


def _varint(content: memoryview | bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and the offset behind it."""
    value = 0
    for offset in range(at, at + 8):
        byte = content[offset]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, offset + 1
    value = value << 8 | content[at + 8]
    return value - (1 << 64) if value >= 1 << 63 else value, at + 9
