"""Files of a folder as a table: the texts in their names are columns, of which one names the case.

Files that are alike but for these texts are a shape; texts of several shapes with the same values are one entity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from core.datasets.layouts.name_parts import SEPARATORS, NamedFile, Part, Text
from core.datasets.layouts.name_words import LABEL_WORDS, MODALITY_WORDS, is_person, is_session, is_set

MIN_PAIRING = 0.95  # of the label maps of a case have an image of it
MIN_OVERLAP = 0.5  # of the values of the same part in two kinds of files
FEW_SESSIONS = 3  # per person on average, below which an inner name is a session and no case


@dataclass
class Shape:
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


def shapes_of(files: Sequence[NamedFile]) -> list[Shape]:
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
        shape = Shape([], [t.place for t in first.texts], texts, in_name or by_folder, first.path.count("/"))
        shape.parts = _numbered(first.parts)
        shapes.append(_with_references(shape))
    return shapes


def _numbered(parts: Sequence[Part]) -> list[str | int]:
    number, found = 0, list[str | int]()
    for part in parts:
        found.append(part if isinstance(part, str) else number)
        number += isinstance(part, Text)
    return found


def _with_references(shape: Shape) -> Shape:
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


class Table:
    """Texts of all shapes as columns of one table: texts with the same values are one entity."""

    def __init__(self, shapes: list[Shape]) -> None:
        self.shapes = sorted(shapes, key=lambda s: (-len(s.places), -len(s.rows)))
        self.values: list[set[str]] = []
        self.places: list[tuple[int, int]] = []
        for shape in self.shapes:
            shape.entities = self._entities(shape)

    def _entities(self, shape: Shape) -> list[int]:
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
            (dict(zip(shape.entities, map(str.casefold, row), strict=True)), shape.is_label)
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
            and not all_are(values, is_session)
            and not all_are(values, is_set)
        ]
        if not everywhere or most < 0.5 * len(self.rows):
            return None
        pairing = {e: self.pairing(e) for e in everywhere}
        best = [e for e in everywhere if pairing[e] >= min(MIN_PAIRING, max(pairing.values()))]
        persons = [e for e in best if all_are(self.values[e], is_person)]
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


def all_are(values: set[str], kind: Callable[[str], bool]) -> bool:
    """Whether all of some texts are of a kind."""
    return all(kind(v) for v in values)
