"""Colours of labels in a text file beside the data: a label description file of itk-snap, or a colour table.

itk-snap writes lines of value, red, green, blue, opacity, two flags and a name in quotes. Colour tables of FreeSurfer
and 3D Slicer have lines of value, name, red, green, blue and transparency.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

SUFFIXES = (".txt", ".label", ".lut", ".ctbl")
MAX_BYTES = 2**20
MAX_FILES = 50  # of a folder that are looked into

_ITK_SNAP = re.compile(r'\s*(-?\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+[\d.eE+-]+\s+\d+\s+\d+\s+"([^"]*)"\s*')
_TABLE = re.compile(r"\s*(-?\d+)\s+(\S*[A-Za-z]\S*(?: \S+)*?)\s+(\d+)\s+(\d+)\s+(\d+)(?:\s+\d+)?(?:\s+\d+)?\s*")


def find_colours(folder: Path, values: Collection[int]) -> dict[int, str]:
    """Colours ``#rrggbb`` of labels by value, from the first such file of a folder, or of its ``labelsTr``, with any.

    Files are searched in order of their names. A file with lines of another kind is skipped.

    Parameters
    ----------
    folder : Path. Folder of the data set.
    values : collection of int. Values of the labels; the names in the file do not count.
    """
    wanted = {value for value in values if value != 0}
    for file in [*_text_files(folder), *_text_files(folder / "labelsTr")]:
        colours = {value: colour for value, colour in _read(file).items() if value in wanted}
        if colours:
            return colours
    return {}


def _text_files(folder: Path) -> list[Path]:
    try:
        files = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    except OSError:
        return []
    return sorted(files)[:MAX_FILES]


def read_table(text: str) -> list[tuple[int, str, str]]:
    """Value, name and colour of each line of such a file; empty for a text of another kind."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for pattern, name, first in ((_ITK_SNAP, 5, 2), (_TABLE, 2, 3)):
        matches = [pattern.fullmatch(line) for line in lines]
        if matches and all(matches):
            entries = []
            for match in matches:
                assert match is not None
                channels = [int(match[n]) for n in range(first, first + 3)]
                if max(channels) <= 255:
                    colour = "#" + "".join(f"{channel:02x}" for channel in channels)
                    entries.append((int(match[1]), match[name].strip(), colour))
            return entries
    return []


def _read(file: Path) -> dict[int, str]:
    """Colours by value; empty for a file of another kind."""
    try:
        if file.stat().st_size > MAX_BYTES:
            return {}
        text = file.read_text("utf-8", errors="replace")
    except OSError:
        return {}
    return {value: colour for value, _, colour in read_table(text)}
