"""Describes a folder that no layout fits: proposes patterns, shows what they make of its files, reads edited ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.datasets.layouts.assignment import Assignment
from core.datasets.layouts.known_sets import known_sets
from core.datasets.layouts.listing import Listing, list_folder
from core.datasets.layouts.matching import match_files
from core.datasets.layouts.proposal import NAME, Proposal, propose
from core.datasets.layouts.set_description import KEYS_OF_KNOWN_SETS_ONLY, parse_description, read_description
from core.datasets.saved_descriptions import saved_description
from core.errors import DatasetError
from core.paths import absolute_path


@dataclass(frozen=True)
class DescribedFolder:
    """What a description makes of a folder.

    Attributes
    ----------
    folder : Path. The folder.
    content : dict. The description, as a table of :data:`core.datasets.layouts.set_description.KEYS`.
    assignment : Assignment. Its subjects, problems, and the files that are left over.
    files : int. Number of files that are named like images.
    """

    folder: Path
    content: Mapping[str, Any]
    assignment: Assignment
    files: int

    @property
    def needs_classes(self) -> bool:
        """Whether label maps must be read to know the classes."""
        return not self.assignment.classes_known

    def label_files(self) -> list[Path]:
        """All label maps, in order of the subjects; none where each class has a mask."""
        if self.assignment.description.names_classes:
            return []
        return [self.folder / file for case in self.assignment.cases for file in case.labels.values()]

    def with_changes(self, changes: Mapping[str, Any]) -> DescribedFolder:
        """The folder with other keys of the description; ``None`` removes a key.

        Raises
        ------
        DatasetError
            If the result is not a valid description.
        """
        content = {k: v for k, v in {**self.content, **changes}.items() if v is not None}
        return describe(self.folder, content)


def describe(folder: Path, content: Mapping[str, Any] | None = None, listing: Listing | None = None) -> DescribedFolder:
    """What a description makes of a folder.

    Parameters
    ----------
    folder : Path. An existing folder.
    content : mapping, optional. The description; by default the saved one, else one proposed by the names of its files.
    listing : Listing, optional. The files of the folder, where they are listed already.

    Raises
    ------
    DatasetError
        If the folder cannot be listed, nothing can be proposed, or the content is not a valid description.
    """
    try:
        listing = listing or list_folder(folder)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror or error}; check the path") from None
    found: Assignment | None = None
    if content is None:
        saved = saved_description(folder)
        proposal = Proposal(dict(saved.content)) if saved is not None else propose(listing)
        content, found = proposal.content, proposal.assignment
    if found is None:
        found = match_files(parse_description(NAME, content), listing)
    if found.segments and "classes" not in content:  # named, so that they can be corrected
        stated = {name: colour for name, colour in found.segments.items() if colour}
        content = {**content, "classes": {name: name for name in found.segments}, "colours": stated}
        found = match_files(parse_description(NAME, content), listing)
    return DescribedFolder(folder, content, found, len(listing.images) or found.images)


def starting_point(name: str) -> dict[str, Any]:
    """The description of a known data set, also of a variant, or of a TOML file, to start from.

    Raises
    ------
    DatasetError
        If there is none.
    """
    if name.lower().endswith(".toml"):
        return dict(read_description(absolute_path(name)).content)
    base, _, variant = name.partition("/")
    if base not in known_sets():
        raise DatasetError(f"from: expected one of {', '.join(known_sets())}, or a TOML file; got {name!r}")
    described = known_sets()[base].variant(variant) if variant else known_sets()[base]
    return {k: v for k, v in described.content.items() if k not in KEYS_OF_KNOWN_SETS_ONLY}


def pattern_lines(patterns: Any) -> str:
    """Patterns as lines, those of a modality with its name and a colon in front."""
    if isinstance(patterns, Mapping):
        pairs = [(m, p) for m, ps in patterns.items() for p in ([ps] if isinstance(ps, str) else ps)]
        return "\n".join(f"{modality}: {pattern}" for modality, pattern in pairs)
    return patterns if isinstance(patterns, str) else "\n".join(patterns or [])


def parse_pattern_lines(text: str) -> Any:
    """The inverse of :func:`pattern_lines`: one pattern, a list of them, or lists by modality.

    Raises
    ------
    DatasetError
        If only some lines name a modality.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [re.fullmatch(r"([^{}/:*?#|\[\]()]+):\s+(.+)", line) for line in lines]
    if lines and all(named):
        found: dict[str, list[str]] = {}
        for match in named:
            assert match is not None
            found.setdefault(match[1].strip(), []).append(match[2].strip())
        return found
    if any(named):
        raise DatasetError("images: expected a modality and a colon in front of every pattern or of none")
    return lines[0] if len(lines) == 1 else lines


def parse_classes(texts: Sequence[str], masks: bool = False) -> dict[str, Any]:
    """Classes of texts such as "liver=1" or "kidneys=2,3"; of masks "liver=liver.".

    Raises
    ------
    DatasetError
        If a text is not of this form.
    """
    classes: dict[str, Any] = {}
    for text in texts:
        name, equals, stated = text.rpartition("=")
        values = [v.strip() for v in stated.split(",")]
        if not equals or not name.strip() or not all(values) or name.strip() in classes:
            raise DatasetError(f"classes: expected NAME=VALUE or NAME=VALUE,VALUE, each name once; got {text!r}")
        whole = [v if masks else _whole(v, text) for v in values]
        classes[name.strip()] = whole[0] if len(whole) == 1 else whole
    return classes


def class_rows(classes: Mapping[str, Any], colours: Mapping[str, str]) -> list[dict[str, str]]:
    """Classes as rows of name, values and colour, as texts."""
    listed = {name: values if isinstance(values, list | tuple) else [values] for name, values in classes.items()}
    return [
        {"name": name, "values": ", ".join(map(str, values)), "colour": colours.get(name, "")}
        for name, values in listed.items()
    ]


def parse_class_rows(rows: Sequence[Mapping[str, Any]], masks: bool) -> tuple[dict[str, Any], dict[str, str]]:
    """The inverse of :func:`class_rows`: classes and colours. Rows of the same name are merged.

    Raises
    ------
    DatasetError
        If a value is not a whole number.
    """
    values: dict[str, list[str]] = {}
    colours: dict[str, str] = {}
    for row in rows:
        name, stated = (str(row.get(key) or "").strip() for key in ("name", "values"))
        if not name or not stated:
            continue
        values.setdefault(name, []).append(stated)
        if colour := str(row.get("colour") or "").strip().lower():
            colours[name] = colour
    return parse_classes([f"{name}={','.join(parts)}" for name, parts in values.items()], masks), colours


def _whole(value: str, text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", value):
        raise DatasetError(f"classes: expected whole numbers as label values, got {value!r} in {text!r}")
    return int(value)
