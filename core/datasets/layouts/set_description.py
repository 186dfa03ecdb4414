"""Description of a data set: patterns of its files, its classes, and notes; as a table of a TOML file.

The known data sets are descriptions (``known_sets.toml``), and so is what a person saves for a folder of their own.
:data:`KEYS` lists what a table may hold.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.colours import is_colour
from core.datasets.layouts.patterns import Pattern, compile_pattern, escape
from core.datasets.layouts.several_files import RULE
from core.errors import DatasetError
from core.freesurfer import structure_names

# What a description may hold, with its meaning; the documentation lists them from here.
KEYS = {
    "title": "name on screen",
    "images": "patterns of the images: one, a list, or one for each modality",
    "dicom": "whether, instead of patterns, DICOM series are the images, and SEG and RTSTRUCT of them the label maps, "
    "or files that the patterns of labels name",
    "modalities": "name by text of {modality} (or number of {channel}), in the order of the channels; for DICOM by the "
    "description or protocol of a series, with * and ?",
    "labels": "patterns of the label maps; with {label}, one mask for each class",
    "classes": "value, or list of values that become one class, by name; for masks the text of {label}, for DICOM the "
    "name of the segment",
    "freesurfer": "values of FreeSurfer's structures that are the classes",
    "tables": "patterns of tables of classes (BIDS's tsv, FreeSurfer's, itk-snap's) that replace the classes",
    "colours": "#rrggbb by name of the class",
    "ignore": "name of the class that is left out of training and scores",
    "regions": "names of the classes of a union that is trained and scored, by its name; unions may overlap",
    "regions_class_order": "class that each of the regions is painted with, in their order; later ones win",
    "id": "id of a subject, made of entities; {case} with the other entities behind it by default",
    "rater": "text of {rater} whose label maps are read; the first by default",
    "overlap": "of masks or segments: error, or later (the class listed later wins)",
    "several": f"of several files that are one image or label map of a subject: error, or one (is read: {RULE})",
    "other": "patterns of files that are known and not read",
    "exclude": "patterns of files that are not read although others fit them",
    "labels_follow_images": "whether voxels line up as stored where headers contradict each other",
    "notes": "what a person should know, as a list",
    "description": "what the data set is",
    "licence": "its licence",
    "source": "web page",
    "verified": "what was checked, and against what",
    "auto": "whether it is recognised without being named",
    "needs_labels": "whether it is recognised only where there are label maps, or images of all its modalities",
    "general": "whether it is a kind of folder, which named data sets precede",
    "variants": "descriptions that replace some of these keys, by name: chosen as NAME/VARIANT",
}
KEYS_OF_KNOWN_SETS_ONLY = ("verified", "needs_labels", "general", "variants")
FIRST_ID_ENTITIES = ("case", "session")


@dataclass(frozen=True)
class ImagePattern:
    """Where the images of a modality lie; of all modalities that ``{modality}`` names, where ``modality`` is empty."""

    pattern: Pattern
    modality: str = ""


@dataclass(frozen=True)
class SetDescription:
    """A parsed description; :data:`KEYS` says what its parts mean.

    Attributes
    ----------
    name : str. Its name, or file.
    content : dict. The table that it was made of.
    images, labels, other, exclude, tables : tuple of patterns.
    modalities : dict. Name on screen by text in file names.
    classes : dict or None. Values (texts of ``{label}`` for masks) by class name, background first; ``None`` where
        nothing states them.
    """

    name: str
    content: Mapping[str, Any]
    images: tuple[ImagePattern, ...]
    labels: tuple[Pattern, ...]
    other: tuple[Pattern, ...]
    exclude: tuple[Pattern, ...]
    tables: tuple[Pattern, ...]
    modalities: Mapping[str, str]
    classes: Mapping[str, tuple[int | str, ...]] | None
    colours: Mapping[str, str] = field(default_factory=dict)
    regions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    region_order: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return str(self.content.get("title") or self.name)

    @property
    def has_masks(self) -> bool:
        """Whether each class has a file of its own."""
        return any("label" in p.entities for p in self.labels)

    @property
    def names_classes(self) -> bool:
        """Whether classes are named in the files, by masks or by segments, instead of numbered."""
        return self.has_masks or (self.flag("dicom") and not self.labels)

    def flag(self, key: str, default: bool = False) -> bool:
        """A value that is true or false."""
        return bool(self.content.get(key, default))

    def text(self, key: str, default: str = "") -> str:
        """A text."""
        return str(self.content.get(key) or default)

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of its variants."""
        return tuple(self.content.get("variants", {}))

    def variant(self, name: str) -> SetDescription:
        """The description with the keys of a variant.

        Raises
        ------
        DatasetError
            If there is none of this name.
        """
        if name not in self.variants:
            known = ", ".join(f"{self.name}/{v}" for v in self.variants) or "none"
            raise DatasetError(f"layout: expected {self.name} or one of its variants ({known}); got {self.name}/{name}")
        content = {k: v for k, v in self.content.items() if k != "variants"}
        return parse_description(f"{self.name}/{name}", {**content, **self.content["variants"][name]})


def parse_description(name: str, content: Mapping[str, Any]) -> SetDescription:
    """Make a description of a table.

    Parameters
    ----------
    name : str. Its name or file, which errors state.
    content : mapping. Keys of :data:`KEYS`.

    Raises
    ------
    DatasetError
        If a key is unknown, missing or of another type than expected, or a pattern is not valid.
    """
    read = _Reader(name, content)
    unknown = [key for key in content if key not in KEYS]
    if unknown:
        raise DatasetError(f"{name}: expected only the keys {', '.join(KEYS)}; got {', '.join(map(str, unknown))}")
    dicom = content.get("dicom", False) is True
    images, labels = read.images(), read.patterns("labels")
    if dicom and images:
        raise DatasetError(f"{name}: expected no images where dicom is true, got {', '.join(content)}")
    for key, patterns in (("images", [i.pattern for i in images]), ("labels", labels)):
        for pattern in patterns:
            if "case" not in pattern.entities:
                raise DatasetError(f"{name}: {key}: expected {{case}} in each pattern, got {pattern.text!r}")
    if not images and not dicom:
        raise DatasetError(f"{name}: expected 'images' like {_Reader.EXAMPLE}, got none")
    if any("modality" in p.entities or "channel" in p.entities for p in labels):
        raise DatasetError(f"{name}: labels: expected no {{modality}} or {{channel}}, got {labels[0].text!r}")
    masks = [("label" in p.entities) for p in labels]
    if any(masks) and not all(masks):
        raise DatasetError(f"{name}: labels: expected {{label}} in all patterns or in none")
    classes = read.classes(any(masks) or (dicom and not labels))
    described = SetDescription(
        name,
        content,
        images,
        labels,
        read.patterns("other"),
        read.patterns("exclude"),
        read.patterns("tables"),
        {k.casefold(): v for k, v in read.text_table("modalities").items()},
        classes,
        read.colours(),
        {k: tuple(v) for k, v in read.list_table("regions").items()},
        read.region_order(),
        tuple(read.text_list("notes")),
    )
    read.check_other_keys()
    if classes is not None:
        _check_names(described, classes)
    return described


def read_description(path: Path) -> SetDescription:
    """Read a description from a TOML file.

    Raises
    ------
    DatasetError
        If the file cannot be read, or is not a valid description.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}; check the path") from None
    except ValueError as error:
        raise DatasetError(f"{path}: expected TOML, got an error: {error}") from None
    return parse_description(str(path), content)


def to_toml(content: Mapping[str, Any]) -> str:
    """A description as TOML, which :func:`read_description` reads; tables of texts, numbers and lists only."""
    plain = [f"{key} = {_value(value)}" for key, value in content.items() if not isinstance(value, Mapping)]
    tables = [
        f"[{key}]\n" + "".join(f"{_key(k)} = {_value(v)}\n" for k, v in value.items())
        for key, value in content.items()
        if isinstance(value, Mapping)
    ]
    return "\n\n".join(["\n".join(plain), *tables]).strip() + "\n"


def _value(value: Any) -> str:
    """A TOML value: texts, numbers and lists are written as in JSON, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(text: str) -> str:
    return _value(str(text))


def _check_names(described: SetDescription, classes: Mapping[str, Any]) -> None:
    """Colours, regions and the ignored class must name classes."""
    ignore = described.text("ignore")
    named = [
        ("colours", list(described.colours)),
        ("regions", [c for names in described.regions.values() for c in names]),
        ("regions_class_order", list(described.region_order.values())),
        ("ignore", [ignore] if ignore else []),
    ]
    for key, names in named:
        unknown = [n for n in names if n not in classes]
        if unknown and not described.tables:
            raise DatasetError(
                f"{described.name}: {key}: expected names out of {', '.join(classes)}; got {unknown[0]!r}"
            )


class _Reader:
    """Checked access to the table of a description."""

    EXAMPLE = '"{case}/{case}_{modality=t1|t2}.nii.gz"'

    def __init__(self, name: str, content: Mapping[str, Any]) -> None:
        self.name = name
        self.content = content

    def text_list(self, key: str) -> list[str]:
        """A text or a list of texts, as a list."""
        value = self.content.get(key, [])
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise self._error(key, "a text or a list of texts", value)
        return [v for v in values if v.strip()]

    def patterns(self, key: str) -> tuple[Pattern, ...]:
        return tuple(self._pattern(key, text) for text in self.text_list(key))

    def images(self) -> tuple[ImagePattern, ...]:
        value = self.content.get("images")
        if not isinstance(value, Mapping):
            return tuple(ImagePattern(self._constrained(text)) for text in self.text_list("images"))
        found = []
        for modality, texts in value.items():
            for text in [texts] if isinstance(texts, str) else texts if isinstance(texts, list) else [None]:
                if not isinstance(text, str) or not str(modality).strip():
                    raise self._error("images", "patterns by modality", value)
                found.append(ImagePattern(self._pattern("images", text), str(modality).strip()))
        return tuple(found)

    def text_table(self, key: str) -> dict[str, str]:
        """A table whose values are texts."""
        value = self.content.get(key, {})
        if not isinstance(value, Mapping) or not all(isinstance(v, str) and v.strip() for v in value.values()):
            raise self._error(key, "texts by name", value)
        names = {str(k): v.strip() for k, v in value.items()}
        if (
            key == "modalities"
            and self.content.get("dicom") is not True
            and len({v.casefold() for v in names.values()}) < len(names)
        ):
            raise self._error(key, "a different name for each", value)
        return names

    def list_table(self, key: str) -> dict[str, list[str]]:
        """A table whose values are lists of texts."""
        value = self.content.get(key, {})
        if not isinstance(value, Mapping) or not all(
            isinstance(v, list) and v and all(isinstance(c, str) for c in v) for v in value.values()
        ):
            raise self._error(key, "lists of classes by name", value)
        return dict(value)

    def region_order(self) -> dict[str, str]:
        """The class that each region is painted with; empty where it is not stated."""
        regions, order = list(self.list_table("regions")), self.text_list("regions_class_order")
        if order and len(order) != len(regions):
            of_regions = f"a class for each of the regions {', '.join(regions)}" if regions else "none without regions"
            raise self._error("regions_class_order", of_regions, order)
        return dict(zip(regions, order, strict=False))

    def colours(self) -> dict[str, str]:
        colours = self.text_table("colours")
        for colour in colours.values():
            if not is_colour(colour):
                raise self._error("colours", "colours such as #ff8000", colour)
        return {name: colour.lower() for name, colour in colours.items()}

    def classes(self, masks: bool) -> dict[str, tuple[int | str, ...]] | None:
        """Values or texts by class name, background first; ``None`` where nothing states them."""
        listed = self.content.get("freesurfer")
        if listed is not None and "classes" not in self.content:
            return _freesurfer_classes(self, listed)
        value = self.content.get("classes")
        if value is None:
            return None
        kind: type = str if masks else int
        found: dict[str, tuple[int | str, ...]] = {}
        owner: dict[int | str, str] = {}
        if not isinstance(value, Mapping) or not value:
            raise self._error("classes", "values by class name", value)
        for name, values in value.items():
            entries: Sequence[Any] = values if isinstance(values, list) else [values]
            if not str(name).strip() or not entries or not all(type(v) is kind for v in entries):
                wanted = "texts of {label}, or names of segments," if masks else "whole numbers"
                raise self._error("classes", f"{wanted} by class name, one or a list for each", {name: values})
            for entry in entries:
                if owner.setdefault(entry, str(name)) != str(name) or list(entries).count(entry) > 1:
                    raise DatasetError(
                        f"{self.name}: classes: expected every value in one class, got {entry!r} in {owner[entry]!r} "
                        f"and {name!r}; classes that overlap are 'regions' of classes that do not"
                    )
            found[str(name).strip()] = tuple(entries)
        if not masks and 0 not in owner:
            found = {"background": (0,), **found}
        zero = next((n for n, values in found.items() if 0 in values), "")
        return {**({zero: found[zero]} if zero else {}), **found}

    def check_other_keys(self) -> None:
        """Check the types of the keys that are read as they are."""
        for key in (
            "title",
            "id",
            "ignore",
            "rater",
            "overlap",
            "several",
            "description",
            "licence",
            "source",
            "verified",
        ):
            if not isinstance(self.content.get(key, ""), str):
                raise self._error(key, "a text", self.content[key])
        for key in ("auto", "dicom", "general", "needs_labels", "labels_follow_images"):
            if not isinstance(self.content.get(key, False), bool):
                raise self._error(key, "true or false", self.content[key])
        for key, values in (("overlap", ("error", "later")), ("several", ("error", "one"))):
            if self.content.get(key, "error") not in values:
                raise self._error(key, " or ".join(values), self.content[key])

    def _constrained(self, text: str) -> Pattern:
        """A pattern whose ``{modality}`` or ``{channel}`` is one of those listed under ``modalities``."""
        tokens = self.text_table("modalities")
        for entity in ("modality", "channel"):
            if tokens and f"{{{entity}}}" in text and f"{{{entity}=" not in text:
                text = text.replace(f"{{{entity}}}", f"{{{entity}={'|'.join(map(escape, tokens))}}}", 1)
        return self._pattern("images", text)

    def _pattern(self, key: str, text: str) -> Pattern:
        try:
            return compile_pattern(text)
        except DatasetError as error:
            raise DatasetError(f"{self.name}: {key}: {error}") from None

    def _error(self, key: str, expected: str, got: Any) -> DatasetError:
        return DatasetError(f"{self.name}: {key}: expected {expected}, got {str(got)[:120]}")


def _freesurfer_classes(read: _Reader, listed: Any) -> dict[str, tuple[int | str, ...]]:
    """Classes by values, and by ranges such as "1001-1035", whose values without a structure are left out."""
    names = structure_names()
    values: list[int] = []
    entries: list[Any] = listed if isinstance(listed, list) else [None]
    for entry in entries:
        ends = [int(n) for n in entry.split("-")] if isinstance(entry, str) and re.fullmatch(r"\d+-\d+", entry) else []
        values += [v for v in range(ends[0], ends[1] + 1) if v in names] if ends else [entry]
    if not values or not all(v in names for v in values):
        raise DatasetError(f"{read.name}: freesurfer: expected values of FreeSurfer's structures, got {listed}")
    return {"background": (0,), **{names[v]: (v,) for v in values}}
