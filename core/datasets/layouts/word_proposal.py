"""Patterns of a folder by the words in its file names: files that are alike but for these words are of one subject.

A part of the names that varies in images and label maps alike, such as a session or a site, belongs to the subject;
one that varies in images alone is a modality, one in label maps alone a rater or class.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from core.datasets.layouts.name_parts import split_paths
from core.datasets.layouts.name_table import MIN_OVERLAP, Shape, Table, all_are, shapes_of
from core.datasets.layouts.name_words import (
    IMAGE_WORDS,
    MODALITY_WORDS,
    is_session,
    is_set,
    words,
)
from core.datasets.layouts.patterns import escape

MAX_FILES = 40_000  # that are looked at
MAX_TEMPLATES = 400
MAX_LISTED = 12  # values of an entity that a pattern lists
MAX_EXPANDED = 150  # values of a part that become patterns of their own
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
    shapes = shapes_of(split_paths(paths))
    if len(shapes) > MAX_TEMPLATES:
        return None
    table = Table(shapes)
    case = table.case()
    return None if case is None else _Writer(table, case).subjects()


class _Writer:
    """Writes the shapes of a table as patterns."""

    def __init__(self, table: Table, case: int) -> None:
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
            for text, rows in self._texts(shape):
                if "{case}" not in text:
                    continue
                of_subject = [shape.entities.index(e) if e in shape.entities else None for e in sorted(self.names)]
                templates.setdefault(text, set()).update(
                    tuple("" if n is None else row[n].casefold() for n in of_subject) for row in rows
                )
                if shape.is_label:
                    labels.add(text)
        return Subjects({t: frozenset(templates[t]) for t in sorted(templates)}, frozenset(labels))

    def _texts(self, shape: Shape) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
        """The patterns of a shape, each with the files that have it: those of the same texts where it is literal."""
        literal = [
            part
            for part in shape.parts
            if not isinstance(part, str) and shape.entities[part] not in (self.case, *self.names, *self.patterns)
        ]
        alike: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for row in shape.rows:
            alike.setdefault(tuple(row[part] for part in literal), []).append(row)
        for rows in alike.values():
            yield "".join(self._text(shape, rows[0])), rows

    def _text(self, shape: Shape, row: tuple[str, ...]) -> Iterator[str]:
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
            elif all_are(values, is_set):
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
            name = "part" if all_are(values, is_set) else "site" if outer else "session"
            self._add(entity, name)

    def _is_of_subject(self, entity: int) -> bool:
        """Whether a part that differs within a case distinguishes subjects, instead of what a file is."""
        table, values = self.table, self.table.values[entity]
        if table.has_labels:
            images, labels = table.of_kind(entity, False), table.of_kind(entity, True)
            if min(len(images), len(labels)) > 1 or (images & labels and len(images | labels) > 1):
                return len(images & labels) >= MIN_OVERLAP * min(len(images), len(labels))
        else:
            if all_are(values, is_session) or self._is_folder(entity) or self._stands_beside_modality(entity):
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
        """Whether an entity is the whole name of a folder in each pattern that has it."""
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
        listed = len(spelled) <= MAX_LISTED and not all_are(self.table.values[entity], is_session)
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
