"""Files and tables that commands write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core.errors import UserError
from core.files import atomic_write
from core.formatting import format_number


def check_output_file(path: Path, suffixes: tuple[str, ...], error: type[UserError]) -> None:
    """Check the name of a file to write before the work starts.

    Raises
    ------
    UserError
        Of the given type, if the name ends otherwise or its folder is missing.
    """
    if not path.name.lower().endswith(suffixes):
        raise error(f"{path}: expected a name ending in {' or '.join(suffixes)} to write to")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise error(f"{path}: expected a folder that exists to write to, found none at {folder}")


def write_text(path: Path, text: str, error: type[UserError]) -> None:
    """Write a text file atomically.

    Raises
    ------
    UserError
        Of the given type, if it cannot be written, or its name is that of an image.
    """
    from core.datasets.layouts.files import is_image_name

    if is_image_name(path.name):
        raise error(f"{path}: expected the name of a text file to write to, got that of an image")
    try:
        atomic_write(path, text)
    except OSError as failure:
        raise error(f"{path}: cannot be written: {failure.strerror or failure}; choose another place") from failure


def number_cell(value: float | None, digits: int = 3) -> str:
    """A number of a table; ``-`` where there is none."""
    return format_number(value, digits, missing="-")


def align_columns(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table: the first columns, as many as ``left``, to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number < left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
