"""Recipe of a data set: what is mended on reading, while its files stay as they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from core.errors import DatasetError
from core.formatting import format_list

RepairKind = Literal["nan_is_zero", "left_out", "take_qform", "follow_image", "nearest_label"]


@dataclass(frozen=True)
class RepairText:
    """What a kind of repair is called.

    Attributes
    ----------
    title : str. Of its button.
    effect : str. What it does, as a clause.
    line : str. What a recipe with it does, in front of the ids of the subjects.
    of_one_subject : bool. Whether it changes how the files of one subject are read.
    """

    title: str
    effect: str
    line: str
    of_one_subject: bool = False


REPAIRS: dict[RepairKind, RepairText] = {
    "nan_is_zero": RepairText(
        "Read NaN as 0",
        "NaN counts as intensity 0, and as background in label maps, in all files of the data set",
        "NaN is read as 0",
    ),
    "left_out": RepairText(
        "Leave the case out",
        "the case is neither trained on nor scored, as if it were not in the folder",
        "left out",
    ),
    "take_qform": RepairText(
        "Take the qform",
        "orientation and place of its files come from the qform instead of the sform",
        "placed by the qform",
        of_one_subject=True,
    ),
    "follow_image": RepairText(
        "Align with the image as stored",
        "voxels are matched with those of the first image as stored, regardless of its header",
        "aligned with the first image as stored",
        of_one_subject=True,
    ),
    "nearest_label": RepairText(
        "Read the nearest label value",
        "each value that is no label is read as the nearest value that is one",
        "other label values read as the nearest one",
        of_one_subject=True,
    ),
}
OF_ONE_SUBJECT = tuple(kind for kind, text in REPAIRS.items() if text.of_one_subject)


@dataclass(frozen=True)
class Repair:
    """A change of the recipe that mends one problem.

    Attributes
    ----------
    kind : str. What is done, a key of :data:`REPAIRS`.
    subject : str. Subject that it concerns; empty for the whole data set.
    """

    kind: RepairKind
    subject: str = ""


@dataclass(frozen=True)
class Recipe:
    """What is done differently when a data set is read.

    Attributes
    ----------
    nan_is_zero : bool. Whether NaN is read as 0.
    left_out : tuple of str. Ids of subjects that are left out.
    take_qform : tuple of str. Ids of subjects whose files are placed by their qform where it differs from the sform.
    follow_image : tuple of str. Ids of subjects whose files are aligned with the first image as stored.
    nearest_label : tuple of str. Ids of subjects in whose label maps other values become the nearest label value.
    renamed : dict. Name of a class by its label value.
    """

    nan_is_zero: bool = False
    left_out: tuple[str, ...] = ()
    take_qform: tuple[str, ...] = ()
    follow_image: tuple[str, ...] = ()
    nearest_label: tuple[str, ...] = ()
    renamed: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, source: str, content: Any) -> Recipe:
        """A recipe from JSON values; ``source`` names them in errors.

        Raises
        ------
        DatasetError
            If it has another form, or an entry that this version does not know, which would be left undone.
        """
        known = {f.name for f in fields(cls)}
        if not isinstance(content, dict) or set(content) - known:
            unknown = format_list(sorted(set(content) - known)) if isinstance(content, dict) else repr(content)[:60]
            raise DatasetError(f"{source}: expected a recipe of {', '.join(sorted(known))}; got {unknown}")
        values: dict[str, Any] = {}
        for name, value in content.items():
            if name == "nan_is_zero":
                valid = isinstance(value, bool)
            elif name == "renamed":
                valid = isinstance(value, dict) and all(isinstance(v, str) and v.strip() for v in value.values())
            else:
                valid = isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value)
            if not valid:
                raise DatasetError(f"{source}: expected a valid {name}, got {json.dumps(value)[:80]}; correct it")
            values[name] = tuple(value) if isinstance(value, list) else value
        try:
            values["renamed"] = {int(raw): str(name) for raw, name in values.get("renamed", {}).items()}
        except ValueError:
            raise DatasetError(
                f"{source}: expected label values under renamed, got {list(content['renamed'])}"
            ) from None
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The entries that are not empty, as JSON values."""
        content = {f.name: getattr(self, f.name) for f in fields(self)}
        content["renamed"] = {str(raw): name for raw, name in sorted(self.renamed.items())}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in content.items() if v}

    @property
    def digest(self) -> str:
        """A short text that differs for another recipe; empty for an empty one."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12] if self else ""

    def __bool__(self) -> bool:
        return bool(self.to_json())

    def with_repair(self, repair: Repair) -> Recipe:
        """The recipe with a repair added."""
        if repair.kind == "nan_is_zero":
            return replace(self, nan_is_zero=True)
        changes: dict[str, Any] = {repair.kind: tuple(dict.fromkeys((*getattr(self, repair.kind), repair.subject)))}
        return replace(self, **changes)

    def without(self, name: str) -> Recipe:
        """The recipe without the entries of one kind, a field."""
        return replace(self, **{name: getattr(Recipe(), name)})

    def lines(self) -> Iterator[str]:
        """What the recipe does, a line for each kind."""
        for kind, text in REPAIRS.items():
            value = getattr(self, kind)
            if value is True:
                yield text.line
            elif value:
                yield f"{text.line}: {format_list(value, 6)}"
        if self.renamed:
            yield "renamed: " + ", ".join(f"{raw} is {name}" for raw, name in sorted(self.renamed.items()))
