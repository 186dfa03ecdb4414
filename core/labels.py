"""Label spaces: the classes of a data set with their names, colours and raw values in files.

In memory a label map holds class *indices* 0 to n-1 (uint8); index 0 is the background. Files hold raw values:
iSEG-2017 stores 0, 10, 150 and 250. Voxels with the ignore label, which are not annotated, hold
:data:`IGNORE_INDEX`: they are left out of losses, sampling and scores, and no network predicts them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.colours import BACKGROUND_COLOUR, IGNORE_COLOUR, PALETTE, complete, is_colour
from core.errors import DatasetError
from core.formatting import format_count
from core.freesurfer import freesurfer_colours

__all__ = ["BACKGROUND_COLOUR", "IGNORE_COLOUR", "IGNORE_INDEX", "PALETTE", "LabelClass", "LabelSpace"]

TABLE_CHUNK = 2**16  # voxels that are converted at once; larger intermediate arrays take longer
TABLE_VALUES = 2**16  # range of raw values that are converted by a table, which is faster than by search
IGNORE_INDEX = 255  # of voxels with the ignore label, in memory
MAX_CLASSES = 255  # background included: indices 0 to 254
BACKGROUND = "background"

# Names of an ignore label without case and separators; nnU-Net's is "ignore".
IGNORE_NAMES = (
    "ignore", "ignored", "ignorelabel", "void", "unlabelled", "unlabeled", "unannotated", "notannotated", "dontcare",
    "donotcare",
)  # fmt: skip

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

    Attributes
    ----------
    classes : tuple of LabelClass. Background first; the outputs of a network.
    ignore : LabelClass or None. The ignore label: its voxels belong to no class.

    Raises
    ------
    DatasetError
        If there are not 2 to 255 classes, names or raw values repeat, a colour is not ``#rrggbb``, or a raw value
        exceeds 32 bits.
    """

    classes: tuple[LabelClass, ...]
    ignore: LabelClass | None = None

    def __post_init__(self) -> None:
        if not 2 <= len(self.classes) <= MAX_CLASSES:
            raise DatasetError(
                f"a label space needs 2 to {MAX_CLASSES} classes, background first; got {len(self.classes)}"
            )
        labels = self._labels
        for attribute, values in (("names", [c.name for c in labels]), ("raw values", [c.raw for c in labels])):
            if len(set(values)) != len(values):
                raise DatasetError(f"the {attribute} of a label space must differ from each other; got {values}")
        for c in labels:
            if not is_colour(c.colour):
                raise DatasetError(f"the colour of a class must be #rrggbb; got {c.colour!r} for {c.name}")
            if not -(2**31) <= c.raw < 2**31:
                raise DatasetError(f"the raw value of a class must fit into 32 bits; got {c.raw} for {c.name}")

    @classmethod
    def from_raw(
        cls,
        names: Mapping[int, str] | Sequence[tuple[int, str]],
        ignore: str = "auto",
        colours: Mapping[int, str] | None = None,
    ) -> LabelSpace:
        """Build a label space from ``{raw value: name}``, background first.

        Parameters
        ----------
        names : mapping or sequence of (int, str). Name by raw value.
        ignore : str. The ignore label, by name or by raw value, which need not be listed; "auto": the one named so
            (:data:`IGNORE_NAMES`); "none": no label.
        colours : mapping, optional. Colours ``#rrggbb`` that the data set states, by raw value.

        Notes
        -----
        A class has the colour that the data set states, or FreeSurfer's if it is one of its structures. CSF, GM and WM,
        also by their full names, have fixed colours, which no other class gets then. All others get a colour of the
        palette in order, or one of those that continue it.

        Raises
        ------
        DatasetError
            If the ignore label is not one of the labels, or several are named so; and as for the class.
        """
        items = [(int(raw), str(name)) for raw, name in (names.items() if isinstance(names, Mapping) else names)]
        ignored = _find_ignored(items, ignore)
        if ignored is not None and ignored in items:
            items = _without_ignored(items, ignored)
        stated = {**freesurfer_colours(items[1:]), **(colours or {})}
        tissues: dict[int, str] = {}  # by raw value; the first of several classes of one tissue
        for raw, name in items[1:]:
            colour = _tissue_colour(name)
            if colour and raw not in stated and colour not in tissues.values():
                tissues[raw] = colour
        chosen = complete(tuple(stated.get(raw) or tissues.get(raw) for raw, _ in items[1:]))
        chosen = (BACKGROUND_COLOUR, *chosen)[: len(items)]
        return cls(
            tuple(LabelClass(name, colour, raw) for (raw, name), colour in zip(items, chosen, strict=True)),
            None if ignored is None else LabelClass(ignored[1], IGNORE_COLOUR, ignored[0]),
        )

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
        """Convert raw values to class indices, uint8, same shape; :data:`IGNORE_INDEX` for the ignore label.

        Raises
        ------
        DatasetError
            If a value is not the raw value of a class.
        """
        values = np.array([c.raw for c in self._labels], np.int64)
        indices = np.arange(len(values), dtype=np.uint8)
        if self.ignore is not None:
            indices[-1] = IGNORE_INDEX
        order = np.argsort(values)
        values, indices = values[order], indices[order]
        found = _look_up(raw, values, indices)
        if found is not None:
            return found
        position = np.searchsorted(values, raw).clip(max=len(values) - 1)
        unknown = values[position] != raw
        if unknown.any():
            examples = ", ".join(map(_number, np.unique(raw[unknown])[:5]))
            count = format_count(int(unknown.sum()), "voxel")
            raise DatasetError(f"expected only the label values {values.tolist()}, found also {examples} in {count}")
        return indices[position]

    def to_raw(self, index: np.ndarray) -> np.ndarray:
        """Convert class indices to raw values, in the smallest of uint8, int16 and int32 that holds them all."""
        raw = [c.raw for c in self._labels]
        low, high = min(raw), max(raw)
        dtype = next(t for t in (np.uint8, np.int16, np.int32) if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
        table = np.zeros(IGNORE_INDEX + 1, dtype)
        table[: len(self)] = self.raw_values
        if self.ignore is not None:
            table[IGNORE_INDEX] = self.ignore.raw
        elif index.size and int(index.max()) >= len(self):
            raise ValueError(f"expected class indices below {len(self)}, got {index.max()}")
        return table[index]

    def subset(self, names: Sequence[str]) -> LabelSpace:
        """The label space of the background, the given classes in the present order, and the ignore label.

        Raises
        ------
        DatasetError
            If a name is not a foreground class.
        """
        unknown = [n for n in names if n not in self.names[1:]]
        if unknown:
            left_out = f" ({self.ignore.name} is left out, not a class)" if self.ignore else ""
            known = ", ".join(self.names[1:])
            raise DatasetError(f"classes: expected some of {known}{left_out}; got {', '.join(map(str, unknown))}")
        return LabelSpace((self.classes[0], *(c for c in self.foreground if c.name in names)), self.ignore)

    def to_json(self) -> list[dict[str, Any]]:
        """The classes in order, then the ignore label, which is marked so."""
        classes = [{"name": c.name, "colour": c.colour, "raw": c.raw} for c in self._labels]
        if self.ignore is not None:
            classes[-1]["ignore"] = True
        return classes

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, Any]]) -> LabelSpace:
        """The inverse of :meth:`to_json`.

        Raises
        ------
        DatasetError
            If the data is not of this form, or not a valid label space.
        """
        try:
            labels = [
                (bool(c.get("ignore")), LabelClass(str(c["name"]), str(c["colour"]), int(c["raw"]))) for c in data
            ]
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise DatasetError(f"expected a list of {{name, colour, raw}}, got {data!r}") from error
        ignored = [c for ignore, c in labels if ignore]
        if len(ignored) > 1:
            raise DatasetError(f"expected at most one ignore label, got {[c.name for c in ignored]}")
        return cls(tuple(c for ignore, c in labels if not ignore), ignored[0] if ignored else None)

    @property
    def _labels(self) -> tuple[LabelClass, ...]:
        """The classes, then the ignore label if there is one."""
        return (*self.classes, *([self.ignore] if self.ignore is not None else []))


def is_ignore_name(name: str) -> bool:
    """Whether a label with this name is taken as the ignore label; case and separators do not count."""
    return _normalised(name) in IGNORE_NAMES


def leave_out_ignored(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """The prediction with :data:`IGNORE_INDEX` where the truth has it; unchanged where the truth has none.

    Parameters
    ----------
    truth, prediction : ndarray, integer or bool, same shape. Class indices.
    """
    ignored = truth == IGNORE_INDEX
    return np.where(ignored, np.uint8(IGNORE_INDEX), prediction) if ignored.any() else prediction


def _find_ignored(items: Sequence[tuple[int, str]], spec: str) -> tuple[int, str] | None:
    """The ignore label as (raw value, name), which need not be listed; ``None`` if there is none."""
    spec = spec.strip()
    if spec.lower() == "none":
        return None
    if spec.lower() == "auto":
        return _ignored_by_name(items)
    named = [item for item in items if item[1].strip() == spec]
    if not named and re.fullmatch(r"[+-]?\d+", spec):
        value = int(spec)
        named = [item for item in items if item[0] == value]
        free = next(n for n in ("ignore", f"ignore {value}") if n not in [name for _, name in items])
        return named[0] if named else (value, free)
    named = named or [item for item in items if _normalised(item[1]) == _normalised(spec) != ""]
    if not named:
        raise DatasetError(
            f"ignore: expected auto, none, a label value, or one of the labels {[name for _, name in items]}; got "
            f"{spec!r}"
        )
    return named[0]


def _without_ignored(items: Sequence[tuple[int, str]], ignored: tuple[int, str]) -> list[tuple[int, str]]:
    """The other labels. Where the ignore label is in the place of the background, the one named so is the first."""
    others = [item for item in items if item != ignored]
    if items[0] == ignored and ignored[0] >= 0:
        if not _has_background(others):
            raise DatasetError(
                f"ignore: expected another label than the background, got {ignored[0]}, {ignored[1]!r}; to leave it "
                "out, name another label background"
            )
        others.sort(key=lambda item: _normalised(item[1]) != BACKGROUND)
    return others


def _ignored_by_name(items: Sequence[tuple[int, str]]) -> tuple[int, str] | None:
    """The label named so. The first one is the background, unless it is negative or another label is named so."""
    candidates = [item for item in items if is_ignore_name(item[1])]
    if items and items[0] in candidates and items[0][0] >= 0 and not _has_background(items[1:]):
        candidates.remove(items[0])
    if len(candidates) > 1:
        explicit = [item for item in candidates if _normalised(item[1]).startswith("ignore")]
        if len(explicit) != 1:
            names = " and ".join(name for _, name in candidates)
            raise DatasetError(f"expected one label that is left out, found {names}; choose with --ignore")
        return explicit[0]
    return candidates[0] if candidates else None


def _has_background(items: Sequence[tuple[int, str]]) -> bool:
    """Whether a label is named background."""
    return any(_normalised(name) == BACKGROUND for _, name in items)


def _normalised(name: str) -> str:
    """A name without case and separators."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _tissue_colour(name: str) -> str | None:
    """The fixed colour of a class name; ``None`` if it names no tissue."""
    return next((TISSUE_COLOURS[t] for t, names in TISSUE_NAMES.items() if name.strip().lower() in names), None)


def _look_up(raw: np.ndarray, values: np.ndarray, indices: np.ndarray) -> np.ndarray | None:
    """The index of each raw value by a table, uint8; ``None`` where that is not possible, or a value is unknown.

    Parameters
    ----------
    raw : ndarray. Raw values.
    values, indices : ndarray, shape (n,). Known raw values, ascending, and their indices.
    """
    low, high = int(values[0]), int(values[-1])
    if not raw.size or raw.dtype != np.int32 or high - low >= TABLE_VALUES or raw.min() < low or raw.max() > high:
        return None
    table, known = np.zeros(high - low + 1, np.uint8), np.zeros(high - low + 1, bool)
    table[values - low], known[values - low] = indices, True
    flat, found = raw.reshape(-1), np.empty(raw.size, np.uint8)
    for start in range(0, raw.size, TABLE_CHUNK):
        offset = flat[start : start + TABLE_CHUNK] - low
        if not known.all() and not known[offset].all():
            return None
        found[start : start + TABLE_CHUNK] = table[offset]
    return found.reshape(raw.shape)


def _number(value: Any) -> str:
    """A value as text; whole numbers with all of their digits."""
    is_whole = abs(value) < 2**53 and value == int(value)
    return str(int(value)) if is_whole else f"{value:g}"
