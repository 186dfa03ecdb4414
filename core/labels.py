"""Label spaces: the classes of a data set with their names, colours and raw values in files.

In memory a label map holds class *indices* 0 to n-1 (uint8); index 0 is the background. Files hold raw values:
iSEG-2017 stores 0, 10, 150 and 250.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import DatasetError

BACKGROUND_COLOUR = "#8b909a"

# Safe for colour-blind readers (after Okabe and Ito, and Tol), on dark and light; the first three are of the tissues.
PALETTE = (
    "#4a90d9",  # blue: CSF
    "#1fa187",  # green: GM
    "#e0b000",  # yellow: WM
    "#d55e00",  # vermilion
    "#b07cc6",  # purple
    "#5fc8e8",  # sky
    "#e07a9b",  # rose
    "#9a6b3f",  # brown
    "#7fae3d",  # olive
    "#7a7fe0",  # indigo
)

TISSUE_COLOURS = {"CSF": PALETTE[0], "GM": PALETTE[1], "WM": PALETTE[2]}
TISSUE_NAMES = {
    "CSF": ("csf", "cerebrospinal fluid", "extra-axial csf"),
    "GM": ("gm", "grey matter", "gray matter", "cortical grey matter", "cortical gray matter"),
    "WM": ("wm", "white matter"),
}


@dataclass(frozen=True)
class LabelClass:
    """One class.

    Attributes
    ----------
    name : str.
    colour : str. ``#rrggbb``.
    raw : int. Value in label files.
    """

    name: str
    colour: str
    raw: int


@dataclass(frozen=True)
class LabelSpace:
    """The classes of a data set in index order, background first.

    Raises
    ------
    DatasetError
        If there are not 2 to 255 classes, names or raw values repeat, a colour is not ``#rrggbb``, or a raw value
        exceeds 32 bits.
    """

    classes: tuple[LabelClass, ...]

    def __post_init__(self) -> None:
        if not 2 <= len(self.classes) <= 255:
            raise DatasetError(f"a label space needs 2 to 255 classes, background first; got {len(self.classes)}")
        for attribute, values in (("names", self.names), ("raw values", self.raw_values)):
            if len(set(values)) != len(values):
                raise DatasetError(f"the {attribute} of a label space must differ from each other; got {list(values)}")
        for c in self.classes:
            if not re.fullmatch("#[0-9a-fA-F]{6}", c.colour):
                raise DatasetError(f"the colour of a class must be #rrggbb; got {c.colour!r} for {c.name}")
            if not -(2**31) <= c.raw < 2**31:
                raise DatasetError(f"the raw value of a class must fit into 32 bits; got {c.raw} for {c.name}")

    @classmethod
    def from_raw(cls, names: Mapping[int, str] | Sequence[tuple[int, str]]) -> LabelSpace:
        """Build a label space from ``{raw value: name}``, background first, with colours of the palette in order.

        CSF, GM and WM, also by their full names, have fixed colours, which no other class gets then.
        """
        items = list(names.items()) if isinstance(names, Mapping) else list(names)
        fixed: dict[str, str] = {}  # colour by class name; the first of several classes of one tissue
        for _, name in items[1:]:
            colour = _tissue_colour(str(name))
            if colour and colour not in fixed.values():
                fixed[str(name)] = colour
        free = itertools.cycle(colour for colour in PALETTE if colour not in fixed.values())
        classes = []
        for index, (raw, name) in enumerate(items):
            if index == 0:
                colour = BACKGROUND_COLOUR
            else:
                colour = fixed.get(str(name)) or next(free)
            classes.append(LabelClass(str(name), colour, int(raw)))
        return cls(tuple(classes))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.classes)

    @property
    def raw_values(self) -> tuple[int, ...]:
        return tuple(c.raw for c in self.classes)

    @property
    def foreground(self) -> tuple[LabelClass, ...]:
        """All classes except the background."""
        return self.classes[1:]

    def __len__(self) -> int:
        return len(self.classes)

    def to_index(self, raw: np.ndarray) -> np.ndarray:
        """Convert raw values to class indices, uint8, same shape.

        Raises
        ------
        DatasetError
            If a value is not the raw value of a class.
        """
        index = np.zeros(raw.shape, np.uint8)
        known = np.zeros(raw.shape, bool)
        for i, c in enumerate(self.classes):
            mask = raw == c.raw
            index[mask] = i
            known |= mask
        if not known.all():
            unknown = ", ".join(f"{v:g}" for v in np.unique(raw[~known])[:5])
            count = int((~known).sum())
            raise DatasetError(
                f"expected only the label values {sorted(self.raw_values)}, found also {unknown} "
                f"in {count} voxel{'s' * (count > 1)}"
            )
        return index

    def to_raw(self, index: np.ndarray) -> np.ndarray:
        """Convert class indices to raw values, in the smallest of uint8, int16 and int32 that holds them all."""
        low, high = min(self.raw_values), max(self.raw_values)
        dtype = next(t for t in (np.uint8, np.int16, np.int32) if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
        return np.asarray(self.raw_values, dtype)[index]

    def subset(self, names: Sequence[str]) -> LabelSpace:
        """The label space of the background and the given classes, in the present order.

        Raises
        ------
        DatasetError
            If a name is not a foreground class.
        """
        unknown = [n for n in names if n not in self.names[1:]]
        if unknown:
            raise DatasetError(f"expected classes out of {list(self.names[1:])}, got {unknown}")
        return LabelSpace((self.classes[0], *(c for c in self.foreground if c.name in names)))

    def to_json(self) -> list[dict[str, Any]]:
        return [{"name": c.name, "colour": c.colour, "raw": c.raw} for c in self.classes]

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, Any]]) -> LabelSpace:
        try:
            return cls(tuple(LabelClass(str(c["name"]), str(c["colour"]), int(c["raw"])) for c in data))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DatasetError(f"expected a list of {{name, colour, raw}}, got {data!r}") from error


def _tissue_colour(name: str) -> str | None:
    """The fixed colour of a class name; ``None`` if it names no tissue."""
    return next((TISSUE_COLOURS[t] for t, names in TISSUE_NAMES.items() if name.strip().lower() in names), None)
