"""The labels of a ``dataset.json``: names by value (Decathlon) or values by name (nnU-Net), and their colours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.colours import is_colour
from core.datasets.layouts.colour_files import find_colours
from core.datasets.layouts.files import describe_json
from core.errors import DatasetError
from core.labels import LabelSpace

EXAMPLE = '{"0": "background", "1": "tumour"}'
COLOUR_KEYS = ("colours", "colors", "label_colours", "label_colors")
COLOUR_EXAMPLE = '{"1": "#ff0000"} or {"1": [255, 0, 0]}'


def read_labels(file: Path, content: Mapping[str, Any], ignore: str) -> LabelSpace:
    """The classes under ``labels``, the ignore label among them, with the colours that the data set states.

    Colours come from ``colours`` (or ``colors``) of the file, by value or by name, else from a label description file
    or colour table beside it (:mod:`core.datasets.layouts.colour_files`).

    Parameters
    ----------
    file : Path. The ``dataset.json``, which errors name.
    content : mapping. Its content.
    ignore : str. As in :meth:`core.labels.LabelSpace.from_raw`.

    Raises
    ------
    DatasetError
        If labels or colours are missing or not of the expected form.
    """
    names = _read_names(file, content.get("labels"))
    if names[-1][0] >= 2**31:
        raise DatasetError(f"{file}: expected label values below 2147483648, got {names[-1][0]}")
    colours = _read_colours(file, content, names) or find_colours(file.parent, [value for value, _ in names])
    try:
        labels = LabelSpace.from_raw(names, ignore, colours)
    except DatasetError as error:
        raise DatasetError(f"{file}: 'labels': {error}") from None
    lowest = min(labels.classes, key=lambda c: c.raw)
    if lowest.raw < 0:
        raise DatasetError(
            f"{file}: expected 'labels' like {EXAMPLE}, got '{lowest.raw}': {lowest.name!r}; only a label that is left "
            "out may have a negative value: name it ignore, or choose it with --ignore"
        )
    if labels.classes[0].raw != 0 and not (labels.ignore is not None and labels.ignore.raw == 0):
        raise DatasetError(
            f"{file}: expected the smallest value under 'labels' to be 0, the background; got {labels.classes[0].raw}"
        )
    return labels


def _read_names(file: Path, value: Any) -> list[tuple[int, str]]:
    """Values and names of the labels, in order of the values."""
    if not isinstance(value, Mapping) or not value:
        raise DatasetError(f"{file}: expected 'labels' like {EXAMPLE}, got {describe_json(value)}")
    by_name = all(isinstance(v, int | list) and not isinstance(v, bool) for v in value.values())
    names = []
    for key, entry in value.items():
        if by_name and isinstance(entry, list):
            raise DatasetError(
                f"{file}: expected one value for each label, got {key!r}: {entry}; regions that share values are "
                "read in the layout nnunet only: list the labels themselves"
            )
        number, name = (entry, key) if by_name else (_whole_number(key), entry)
        if number is None or not isinstance(name, str) or not name.strip():
            raise DatasetError(f"{file}: expected 'labels' like {EXAMPLE}, got {key!r}: {entry!r}")
        names.append((number, name.strip()))
    return sorted(names)


def _read_colours(file: Path, content: Mapping[str, Any], names: list[tuple[int, str]]) -> dict[int, str]:
    """Stated colours ``#rrggbb`` by value."""
    key = next((k for k in COLOUR_KEYS if content.get(k) is not None), None)
    if key is None:
        return {}
    stated, value_of = content[key], {name: value for value, name in names}
    if not isinstance(stated, Mapping):
        raise DatasetError(f"{file}: expected '{key}' like {COLOUR_EXAMPLE}, got {describe_json(stated)}")
    colours = {}
    for label, colour in stated.items():
        value = value_of.get(label.strip(), _whole_number(label))
        text = _colour(colour)
        if value is None or text is None:
            raise DatasetError(f"{file}: expected '{key}' like {COLOUR_EXAMPLE}, got {label!r}: {colour!r}")
        colours[value] = text
    return colours


def _colour(value: Any) -> str | None:
    """``#rrggbb`` of a text, or of red, green and blue: whole numbers to 255, or shares up to 1.0 as fractions."""
    if isinstance(value, str):
        return value.strip().lower() if is_colour(value.strip()) else None
    if not isinstance(value, list) or len(value) not in (3, 4):
        return None
    channels = value[:3]
    if not all(isinstance(c, int | float) and not isinstance(c, bool) and 0 <= c <= 255 for c in channels):
        return None
    if any(isinstance(c, float) for c in channels) and max(channels) <= 1:
        channels = [255 * c for c in channels]
    return "#" + "".join(f"{round(c):02x}" for c in channels)


def _whole_number(text: str) -> int | None:
    """The whole number, possibly negative, that a key states; ``None`` if it is something else."""
    digits = text.strip()
    return int(digits) if digits.removeprefix("-").isdecimal() else None
