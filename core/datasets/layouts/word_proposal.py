"""Patterns of a folder by the words in its file names: files that are alike but for these words are of one subject.

A part of the names that varies in images and label maps alike, such as a session or a site, belongs to the subject;
one that varies in images alone is a modality, one in label maps alone a rater or class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from core.datasets.layouts.name_parts import SEPARATORS, NamedFile, Part, Text, split_paths
from core.datasets.layouts.name_words import (
    IMAGE_WORDS,
    LABEL_WORDS,
    MODALITY_WORDS,
    is_person,
    is_session,
    is_set,
    words,
)
from core.datasets.layouts.patterns import escape

MAX_FILES = 40_000  # that are looked at
MAX_TEMPLATES = 400
MAX_LISTED = 12  # values of an entity that a pattern lists
MAX_EXPANDED = 150  # values of a part that become patterns of their own
MIN_PAIRING = 0.95  # of the label maps of a case have an image of it
MIN_OVERLAP = 0.5  # of the values of the same part in two kinds of files
FEW_SESSIONS = 3  # per person on average, below which an inner name is a session and no case
_CASE_AND_SESSION = re.compile(r"(.+?)([_\-. ])([^\W_]+[-_]?\d*)")


@dataclass(frozen=True)
class Subjects:
    """Files of a folder as templates.

    Attributes
    ----------
    templates : dict. The subjects, as values of entities, by pattern without a modality.
    labels : frozenset of str. The templates of label maps.
    """

    templates: Mapping[str, frozenset[tuple[str, ...]]]
    labels: frozenset[str]


def find_subjects(paths: Sequence[str]) -> Subjects | None:
    """The templates of the files of a folder; ``None`` where their words say too little."""
    if not 1 < len(paths) <= MAX_FILES:
        return None
    shapes = _shapes(split_paths(paths))
    if len(shapes) > MAX_TEMPLATES:
        return None
    table = _Table(shapes)
    case = table.case()
    return None if case is None else _Writer(table, case).subjects()


@dataclass
class _Shape:
    """Files that are alike but for the texts in their names.

    Attributes
    ----------
    parts : list of str or int. Literal text, or number of the text.
    places : list of tuple. Place of each text.
    rows : list of tuple of str. Texts of each file.
    is_label : bool. Whether they are label maps.
    depth : int. Number of folders that they lie in.
    entities : list of int. Entity of each text.
    """

    parts: list[str | int]
    places: list[tuple[int, int]]
    rows: list[tuple[str, ...]]
    is_label: bool
    depth: int
    entities: list[int] = field(default_factory=list)

    def is_whole(self, text: int) -> bool:
        """Whether a text stands between slashes."""
        at = self.parts.index(text) if text in self.parts else -1
        before = self.parts[at - 1] if at > 0 else "/"
        after = self.parts[at + 1] if 0 <= at < len(self.parts) - 1 else ""
        return at >= 0 and str(before).endswith("/") and str(after).startswith("/")

    def values(self, text: int) -> frozenset[str]:
        return frozenset(row[text].casefold() for row in self.rows)


def _shapes(files: Sequence[NamedFile]) -> list[_Shape]:
    """Files by the literal text of their names; a text that an earlier one is part of refers to it."""
    names_say = any(f.name_words & LABEL_WORDS for f in files)
    grouped: dict[tuple[object, ...], list[NamedFile]] = {}
    for file in files:
        key = tuple(p if isinstance(p, str) else p.place for p in file.parts)
        grouped.setdefault(key, []).append(file)
    shapes = []
    for alike in grouped.values():
        first = alike[0]
        in_name = bool(first.name_words & LABEL_WORDS)
        by_folder = bool(first.folder_words & LABEL_WORDS) and not (names_say and first.name_words & MODALITY_WORDS)
        texts = [tuple(t.text for t in f.texts) for f in alike]
        shape = _Shape([], [t.place for t in first.texts], texts, in_name or by_folder, first.path.count("/"))
        shape.parts = _numbered(first.parts)
        shapes.append(_with_references(shape))
    return shapes


def _numbered(parts: Sequence[Part]) -> list[str | int]:
    number, found = 0, list[str | int]()
    for part in parts:
        found.append(part if isinstance(part, str) else number)
        number += isinstance(part, Text)
    return found


def _with_references(shape: _Shape) -> _Shape:
    """Replace texts, or their beginnings and ends, that repeat an earlier text in all files."""
    for later in range(len(shape.places)):
        for earlier in range(later):
            while repeat := _repeat(shape.rows, earlier, later):
                shape.rows = [(*row[:later], rest, *row[later + 1 :]) for row, rest in repeat.rows]
                at = shape.parts.index(later)
                shape.parts[at : at + 1] = [earlier if part == -1 else part for part in repeat.parts]
                if later not in shape.parts:
                    break
    return shape


@dataclass(frozen=True)
class _Repeat:
    """An earlier text in a later one: parts that replace the later one, -1 for the earlier one, and each row with what
    is left of the later text."""

    parts: list[str | int]
    rows: list[tuple[tuple[str, ...], str]]


def _repeat(rows: Sequence[tuple[str, ...]], earlier: int, later: int) -> _Repeat | None:
    """How a later text repeats an earlier one in all files: as a whole, or one separator apart from the rest."""
    pairs = [(row[earlier], row[later]) for row in rows]
    if not all(a and b for a, b in pairs):
        return None
    if all(a == b for a, b in pairs):
        return _Repeat([-1], [(row, "") for row in rows])
    if any(len(b) < len(a) + 2 for a, b in pairs):
        return None
    for parts, rests in (
        ([-1, later], [b[len(a) :] if b.startswith(a) else "" for a, b in pairs]),
        ([later, -1], [b[: -len(a)] if b.endswith(a) else "" for a, b in pairs]),
    ):
        at = 0 if parts[0] == -1 else -1
        if all(rests) and len({r[at] for r in rests}) == 1 and rests[0][at] in SEPARATORS:
            left = [r[1:] if at == 0 else r[:-1] for r in rests]
            joined: list[str | int] = [parts[0], rests[0][at], parts[1]]
            return _Repeat(joined, list(zip(rows, left, strict=True)))
    return None


class _Table:
    """Texts of all shapes as columns of one table: texts with the same values are one entity."""

    def __init__(self, shapes: list[_Shape]) -> None:
        self.shapes = sorted(shapes, key=lambda s: (-len(s.places), -len(s.rows)))
        self.values: list[set[str]] = []
        self.places: list[tuple[int, int]] = []
        for shape in self.shapes:
            shape.entities = self._entities(shape)

    def _entities(self, shape: _Shape) -> list[int]:
        """Entity of each text of a shape: known ones by their values, else new ones."""
        own = [shape.values(n) for n in range(len(shape.places))]
        scores = []
        for text, values in enumerate(own):
            for entity, known in enumerate(self.values):
                overlap = len(values & known) / min(len(values), len(known))
                if overlap >= MIN_OVERLAP and values != {""}:
                    same = shape.places[text][0] == self.places[entity][0]
                    union = len(values & known) / len(values | known)
                    scores.append((overlap + 0.5 * union + 0.1 * same, text, entity))
        found: dict[int, int] = {}
        for _, text, entity in sorted(scores, key=lambda s: (-s[0], s[1], s[2])):
            if text not in found and entity not in found.values():
                found[text] = entity
                self.values[entity] |= own[text]
        for text, values in enumerate(own):
            if text not in found:
                found[text] = len(self.values)
                self.values.append(set(values))
                self.places.append(shape.places[text])
        return [found[text] for text in range(len(shape.places))]

    @cached_property
    def rows(self) -> list[tuple[dict[int, str], bool]]:
        """Values by entity of each file, and whether it is a label map."""
        return [
            ({e: text.casefold() for e, text in zip(shape.entities, row, strict=True)}, shape.is_label)
            for shape in self.shapes
            for row in shape.rows
        ]

    def case(self) -> int | None:
        """The entity that names the case: in nearly all files, with the most values; its person where it names the
        sessions of persons."""
        most = max((sum(e in row for row, _ in self.rows) for e in range(len(self.values))), default=0)
        everywhere = [
            e
            for e, values in enumerate(self.values)
            if len(values) > 1
            and sum(e in row for row, _ in self.rows) >= 0.9 * most
            and not _are(values, is_session)
            and not _are(values, is_set)
        ]
        if not everywhere or most < 0.5 * len(self.rows):
            return None
        pairing = {e: self.pairing(e) for e in everywhere}
        best = [e for e in everywhere if pairing[e] >= min(MIN_PAIRING, max(pairing.values()))]
        persons = [e for e in best if _are(self.values[e], is_person)]
        case = max(persons or best, key=lambda e: (len(self.values[e]), -self.places[e][0], -self.places[e][1]))
        for outer in everywhere:
            several = len(self.values[case]) > len(self.values[outer])
            if several and self.determines(case, outer):
                per_person = len(self.values[case]) / len(self.values[outer])
                if per_person < FEW_SESSIONS and len(self.values[outer]) > 1:
                    return outer
        return case

    def determines(self, entity: int, other: int) -> bool:
        """Whether all files with the same value of an entity have the same of another one."""
        seen: dict[str, str] = {}
        return all(
            seen.setdefault(row[entity], row[other]) == row[other]
            for row, _ in self.rows
            if entity in row and other in row
        )

    def pairing(self, entity: int) -> float:
        """Share of the values of an entity in label maps that images have too; 1 without label maps."""
        images, labels = self.of_kind(entity, False), self.of_kind(entity, True)
        return len(images & labels) / len(labels) if labels else 1.0

    def of_kind(self, entity: int, labels: bool) -> set[str]:
        """Values of an entity in label maps, or in images."""
        return {row[entity] for row, is_label in self.rows if is_label == labels and entity in row}

    @cached_property
    def has_labels(self) -> bool:
        return any(is_label for _, is_label in self.rows)


class _Writer:
    """Writes the shapes of a table as patterns."""

    def __init__(self, table: _Table, case: int) -> None:
        self.table = table
        self.case = case
        self.written: dict[int, str] = {}  # of entities that are part of the subject; others are literal
        self.names: dict[int, str] = {case: "case"}
        self.patterns = set[int]()
        self.split_case = self._case_holds_session()
        for entity in range(len(table.values)):
            if entity != case:
                self._name(entity)

    def subjects(self) -> Subjects:
        """The templates with their subjects."""
        templates: dict[str, set[tuple[str, ...]]] = {}
        labels = set[str]()
        for shape in self.table.shapes:
            for row in shape.rows:
                text = "".join(self._text(shape, row))
                if "{case}" not in text:
                    continue
                subject = tuple(
                    row[shape.entities.index(e)].casefold() if e in shape.entities else "" for e in sorted(self.names)
                )
                templates.setdefault(text, set()).add(subject)
                if shape.is_label:
                    labels.add(text)
        return Subjects({t: frozenset(templates[t]) for t in sorted(templates)}, frozenset(labels))

    def _text(self, shape: _Shape, row: tuple[str, ...]) -> Iterator[str]:
        """The pattern of a file."""
        listed = set[int]()
        for part in shape.parts:
            if isinstance(part, str):
                yield escape(part)
                continue
            entity = shape.entities[part]
            if entity == self.case:
                yield self.split_case
            elif entity in self.names:
                yield self.written[entity] if entity not in listed else f"{{{self.names[entity]}}}"
                listed.add(entity)
            elif entity in self.patterns:
                yield self.written[entity]
            else:
                yield escape(row[part])

    def _name(self, entity: int) -> None:
        """Decide what an entity is: part of the subject, any text, or literal."""
        table, values = self.table, self.table.values[entity]
        if len(values) < 2:
            return
        one_per_case = table.determines(self.case, entity)
        outer = table.places[entity] < table.places[self.case]
        if one_per_case:
            grouped = len(table.values[self.case]) >= 2 * len(values)
            if not grouped:
                self.patterns.add(entity)
                self.written[entity] = "*"
            elif _are(values, is_set):
                self.patterns.add(entity)
                self.written[entity] = f"({'|'.join(self._spelled(entity))})"
            else:
                self._add(entity, "site")
            return
        if not self._is_of_subject(entity):
            return
        if table.has_labels and not outer and not self._pairs_files(entity):  # such as the number of a series
            self.patterns.add(entity)
            self.written[entity] = "*"
        else:
            name = "part" if _are(values, is_set) else "site" if outer else "session"
            self._add(entity, name)

    def _is_of_subject(self, entity: int) -> bool:
        """Whether a part that differs within a case distinguishes subjects, instead of what a file is."""
        table, values = self.table, self.table.values[entity]
        if table.has_labels:
            images, labels = table.of_kind(entity, False), table.of_kind(entity, True)
            if min(len(images), len(labels)) > 1 or (images & labels and len(images | labels) > 1):
                return len(images & labels) >= MIN_OVERLAP * min(len(images), len(labels))
        else:
            if _are(values, is_session) or self._is_folder(entity) or self._stands_beside_modality(entity):
                return True
        cases: dict[str, set[str]] = {}
        for row, _ in table.rows:
            if entity in row and self.case in row:
                cases.setdefault(row[entity], set()).add(row[self.case])
        shared = sum(len(c) > 1 for c in cases.values())
        return len(values) > MAX_EXPANDED or 2 * shared < len(cases)

    def _stands_beside_modality(self, entity: int) -> bool:
        """Whether another word says the modality, of which the entity is not a part, as "c" of "t1c" is."""
        for shape in self.table.shapes:
            for text, e in enumerate(shape.entities):
                literals = [part for part in shape.parts if isinstance(part, str)]
                said = not (MODALITY_WORDS | IMAGE_WORDS).isdisjoint(words(" ".join(literals)))
                before = shape.parts[shape.parts.index(text) - 1] if shape.parts.index(text) else "/"
                if e == entity and said and not str(before)[-1:].isalnum():
                    return True
        return False

    def _pairs_files(self, entity: int) -> bool:
        """Whether images and label maps of a case have the same values of an entity, where both have it."""
        images, labels = (
            {
                (row[self.case], row[entity])
                for row, is_label in self.table.rows
                if is_label == kind and entity in row and self.case in row
            }
            for kind in (False, True)
        )
        return not images or not labels or len(images & labels) >= MIN_OVERLAP * min(len(images), len(labels))

    def _is_folder(self, entity: int) -> bool:
        """Whether an entity is the whole name of a folder wherever it stands."""
        return all(
            shape.places[text][0] < shape.depth
            and sum(place[0] == shape.places[text][0] for place in shape.places) == 1
            and shape.is_whole(text)
            for shape in self.table.shapes
            for text, e in enumerate(shape.entities)
            if e == entity
        )

    def _add(self, entity: int, name: str) -> None:
        while name in self.names.values():
            name += "_b"
        self.names[entity] = name
        spelled = self._spelled(entity)
        listed = len(spelled) <= MAX_LISTED and not _are(self.table.values[entity], is_session)
        self.written[entity] = f"{{{name}={'|'.join(spelled)}}}" if listed else f"{{{name}}}"

    def _spelled(self, entity: int) -> list[str]:
        """Values of an entity as they are written, as patterns."""
        found = {
            row[shape.entities.index(entity)]
            for shape in self.table.shapes
            if entity in shape.entities
            for row in shape.rows
        }
        return sorted({escape(text) for text in found})

    def _case_holds_session(self) -> str:
        """``{case}``, with a session behind it where all names of cases end with one, and some case has several."""
        splits = [_CASE_AND_SESSION.fullmatch(v) for v in self.table.values[self.case]]
        found = [m for m in splits if m is not None and is_session(m[3])]
        persons = {m[1] for m in found}
        if len(found) < len(splits) or len({m[2] for m in found}) != 1 or len(persons) == len(found):
            return "{case}"
        return f"{{case}}{found[0][2]}{{session}}"


def _are(values: set[str], kind: object) -> bool:
    assert callable(kind)
    return all(kind(v) for v in values)
