"""Matches the files of a folder against a description: which file is which modality or label map of which subject."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from core.datasets.layouts.base import natural_key
from core.datasets.layouts.class_tables import ALWAYS_TABLES, tables_of
from core.datasets.layouts.files import is_image_name
from core.datasets.layouts.listing import Listing
from core.datasets.layouts.patterns import ROLES, Pattern
from core.datasets.layouts.set_description import FIRST_ID_ENTITIES, SetDescription
from core.datasets.layouts.several_files import Role, SeveralFiles, name_parts
from core.formatting import format_list

IMAGE = "image"
Key = tuple[str, ...]


@dataclass
class Case:
    """Files of one subject.

    Attributes
    ----------
    id : str. Id of the subject.
    entities : dict. Entities of its file names, without those of one file only.
    images : dict. File by modality.
    labels : dict. Label map by rater, "" without one; or mask by text of ``{label}``.
    """

    id: str
    entities: dict[str, str]
    images: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.images.values(), *self.labels.values())


@dataclass(frozen=True)
class Assignment:
    """What a description makes of a folder.

    Attributes
    ----------
    description : SetDescription. The description.
    cases : tuple of Case. In natural order of their ids.
    modalities : tuple of str. In the order of the channels.
    problems : tuple of str. Files that contradict each other, such as two for one modality.
    left_over : tuple of str. Files named like images that no pattern fits.
    matched : int. Number of files that a pattern fits, those that are known and not read included.
    tables : tuple of str. Tables of classes.
    modality_texts : dict. Name by text of ``{modality}`` or ``{channel}``, or "image", of those that were found.
    segments : dict. Colour by name of the segments of all label maps, where files name them; "" where none is stated.
    notes : tuple of str. What else a person should know.
    warnings : tuple of str. What may make a result wrong, such as files that cannot be read.
    """

    description: SetDescription
    cases: tuple[Case, ...]
    modalities: tuple[str, ...]
    problems: tuple[str, ...]
    left_over: tuple[str, ...]
    matched: int
    tables: tuple[str, ...] = ()
    modality_texts: Mapping[str, str] = field(default_factory=dict)
    segments: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def classes_known(self) -> bool:
        """Whether the description, a table, or names of masks or segments state the classes, or there are no labels."""
        described = self.description
        return bool(described.classes or self.tables or described.names_classes or not self.labels)

    @property
    def raters(self) -> tuple[str, ...]:
        """Who drew the label maps, in natural order; none where that is not stated."""
        if self.description.has_masks:
            return ()
        return tuple(sorted({r for case in self.cases for r in case.labels if r}, key=natural_key))

    @property
    def images(self) -> int:
        """Number of image files."""
        return sum(len(case.images) for case in self.cases)

    @property
    def labels(self) -> int:
        """Number of label maps and masks."""
        return sum(len(case.labels) for case in self.cases)


def assign(description: SetDescription, listing: Listing) -> Assignment:
    """Match all files of a folder to patterns; first those that are excluded, then label maps, then images."""
    return _Assigner(description).assign(listing)


class _Assigner:
    """Collects the files of one folder."""

    def __init__(self, description: SetDescription) -> None:
        self.description = description
        self.cases: dict[Key, Case] = {}
        self.problems: list[str] = []
        self.texts: dict[str, str] = {}
        self.modality_names: dict[str, str] = dict(description.modalities)
        self.id_entities = _id_entities(description)
        self.candidates: dict[str, dict[Role, list[str]]] | None = {} if description.text("several") == "one" else None

    def assign(self, listing: Listing) -> Assignment:
        matched: set[str] = set()
        excluded = self._match(listing, self.description.exclude, matched)
        labels = self._match(listing, self.description.labels, matched)
        images = [
            (file, pattern, found, image.modality)
            for image in self.description.images
            for file, pattern, found in self._match(listing, [image.pattern], matched)
        ]
        other = self._match(listing, self.description.other, matched)
        for file, pattern, found, modality in sorted(images, key=lambda entry: self._missing(entry[1])):
            name = modality or self._modality(found)
            for case in self._cases_of(file, pattern, found, "image"):
                self._put(case, ("image", name), file, f"{name} of {case.id}")
        for file, pattern, found in labels:
            role = found.get("label", found.get("rater", ""))
            for case in self._cases_of(file, pattern, found, "label"):
                known = next((r for r in case.labels if r.casefold() == role.casefold()), role)
                what = f"mask {role} of {case.id}" if "label" in found else f"the label map of {case.id}"
                self._put(case, ("label", known), file, what)
        notes, warnings = self._choose()
        cases = sorted(self.cases.values(), key=lambda case: natural_key(case.id))
        self._check_ids(cases)
        tables, ignored = self._tables(listing, (f for case in cases for f in case.labels.values()))
        return Assignment(
            self.description,
            tuple(cases),
            self._modalities(cases),
            tuple(self.problems),
            tuple(f for f in listing.images if f not in matched),
            len(images) + len(labels) + sum(is_image_name(f.rpartition("/")[2]) for f, _, _ in excluded + other),
            tables,
            self.texts,
            notes=notes,
            warnings=(*warnings, *ignored),
        )

    def _match(
        self, listing: Listing, patterns: Iterable[Pattern], matched: set[str]
    ) -> list[tuple[str, Pattern, dict[str, str]]]:
        """Files that fit one of some patterns and no earlier ones, which they are added to."""
        found = []
        for pattern in patterns:
            match = pattern.match
            for file in listing.at_depths(pattern.depths):
                if file not in matched and (values := match(file)) is not None:
                    matched.add(file)
                    found.append((file, pattern, values))
        return found

    def _tables(self, listing: Listing, labels: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Tables of classes, without those of BIDS that are of other label maps; a warning where all of them are."""
        patterns = self.description.tables
        found = {f: p for p in patterns for f in listing.at_depths(p.depths) if p.match(f) is not None}
        looked_up = [f for f, p in found.items() if "*" in p.text and f.lower().endswith(ALWAYS_TABLES)]
        other = set(looked_up) - set(tables_of(looked_up, labels))
        kept = tuple(file for file in found if file not in other)
        if kept or not other or not self.cases:
            return kept, ()
        warning = (
            f"{format_list(sorted(other), 2)}: by name and place of other label maps than those that are read; the "
            "classes have the names of the BIDS standard; name them with data describe if these are others"
        )
        return kept, (warning,)

    def _missing(self, pattern: Pattern) -> int:
        """Number of id entities that a pattern lacks; files with all of them make the subjects."""
        return sum(name not in pattern.entities for name in self.id_entities)

    def _cases_of(self, file: str, pattern: Pattern, found: Mapping[str, str], kind: str) -> Iterator[Case]:
        """The subject of a file. A pattern without, say, the session belongs to the only session of its case."""
        key = tuple(found.get(name, "").casefold() for name in self.id_entities)
        if self._missing(pattern):
            known = [name in pattern.entities for name in self.id_entities]
            fitting = [
                case
                for other, case in self.cases.items()
                if all(a == b for a, b, k in zip(other, key, known, strict=True) if k)
            ]
            if len(fitting) > 1:
                ids = " and ".join(case.id for case in fitting[:3])
                self.problems.append(f"{file} is one {kind} for {ids}")
                return
            if fitting:
                yield fitting[0]
                return
        if key not in self.cases:
            entities = {k: v for k, v in found.items() if k not in ROLES}
            self.cases[key] = Case(self._id(found), entities)
        yield self.cases[key]

    def _put(self, case: Case, role: Role, file: str, what: str) -> None:
        files = case.images if role[0] == "image" else case.labels
        if self.candidates is not None:
            known = self.candidates.setdefault(case.id, {}).setdefault(role, [])
            other = next((k for k in known if name_parts(k) == name_parts(file)), None)
            if other is not None:
                self.problems.append(f"{other} and {file} are both {what}")
            known.append(file)
            files.setdefault(role[1], file)
        elif files.setdefault(role[1], file) != file:
            self.problems.append(f"{files[role[1]]} and {file} are both {what}")

    def _choose(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Keep one of several files of each image and label map; notes and warnings on that."""
        several = SeveralFiles(self.candidates or {})
        chosen = several.choose()
        for case in self.cases.values():
            for (what, name), file in chosen.get(case.id, {}).items():
                (case.images if what == "image" else case.labels)[name] = file
        return tuple(several.notes(chosen)), tuple(several.warnings(chosen))

    def _modality(self, found: Mapping[str, str]) -> str:
        text = found.get("modality", found.get("channel", IMAGE))
        name = self.modality_names.setdefault(text.casefold(), text)
        if name not in self.texts.values():
            self.texts[text] = name
        return name

    def _modalities(self, cases: Iterable[Case]) -> tuple[str, ...]:
        """Modalities that were found: in the order of the description, then as they are named."""
        found = dict.fromkeys(m for case in cases for m in case.images)
        stated = dict.fromkeys([*self.description.modalities.values(), *(i.modality for i in self.description.images)])
        return (*(m for m in stated if m in found), *sorted((m for m in found if m not in stated), key=natural_key))

    def _id(self, found: Mapping[str, str]) -> str:
        """The id of the subject of a file, without slashes: it names files."""
        template = self.description.text("id")
        joined = "_".join(found[name] for name in self.id_entities if found.get(name))
        return (fill_template(template, found) if template else joined).replace("/", "-")

    def _check_ids(self, cases: list[Case]) -> None:
        """Refuse ids that are equal, or differ in case only: not every file system distinguishes case."""
        owners: dict[str, Case] = {}
        for case in cases:
            other = owners.setdefault(case.id.casefold(), case)
            if other is not case:
                files = " and ".join((*c.files, c.id)[0] for c in (other, case))
                self.problems.append(f"{files} are two subjects of the same id, {case.id}")


def fill_template(template: str, values: Mapping[str, str]) -> str:
    """An id from its template: ``{case}[_{session}]``; a part in brackets is left out where an entity is missing."""
    parts = re.sub(
        r"\[([^\]]*)\]",
        lambda part: part[1] if all(values.get(n) for n in re.findall(r"\{(\w+)\}", part[1])) else "",
        template,
    )
    return re.sub(r"\{(\w+)\}", lambda name: values.get(name[1], ""), parts)


def _id_entities(description: SetDescription) -> tuple[str, ...]:
    """Entities that distinguish subjects: those of the id template, else all of the image patterns but roles."""
    template = description.text("id")
    if template:
        return tuple(dict.fromkeys(re.findall(r"\{(\w+)\}", template)))
    names = dict.fromkeys(n for image in description.images for n in image.pattern.entities if n not in ROLES)
    first = [n for n in FIRST_ID_ENTITIES if n in names]
    return (*first, *(n for n in names if n not in first))
