"""Sides in class names: finds "left" and "right" in names, and the classes that differ by them alone.

A side is certain where it is a word (``Left-Putamen``, ``ctx-rh-insula``, ``rein gauche``) or a letter beside a partner
(``kidney_L`` and ``kidney_R``). It is only possible where it is part of a word (``lkidney`` and ``rkidney``, ``L1`` and
``R1``) or a letter without a partner (``R wave``): then positions decide (:mod:`core.laterality`).
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Side = Literal["left", "right"]
Certainty = Literal["word", "letter", "glued"]
IndexPair = tuple[int, int]  # left, right

# English; German and Dutch; French; Latin; Italian; Spanish; Portuguese; FreeSurfer; Chinese and Japanese.
LEFT_WORDS = (
    "left links linke linker linkes linken linkem gauche gauches sinister sinistra sinistrum sinistri sinistrae "
    "sinistro izquierdo izquierda esquerdo esquerda lh 左"
)
RIGHT_WORDS = (
    "right rechts rechte rechter rechtes rechten rechtem droit droite droits droites dexter dextra dextrum dextri "
    "dextrae destro destra derecho derecha direito direita rh 右"
)
LEFT_LETTERS, RIGHT_LETTERS = "l lt li sin sx", "r rt re dx dex dext"
LEFT: Side = "left"
RIGHT: Side = "right"
WORDS = dict.fromkeys(LEFT_WORDS.split(), LEFT) | dict.fromkeys(RIGHT_WORDS.split(), RIGHT)
LETTERS = dict.fromkeys(LEFT_LETTERS.split(), LEFT) | dict.fromkeys(RIGHT_LETTERS.split(), RIGHT)
MIN_GLUED_WORD = 4  # letters of a word that may begin or end another one, as in "leftkidney"


@dataclass(frozen=True)
class SideReading:
    """One way to read a name.

    Attributes
    ----------
    side : "left" or "right".
    stem : tuple of str. The other words of the name, lower case, sorted: word order does not matter.
    certainty : "word", "letter" (an abbreviation as a word of its own) or "glued" (a part of a word).
    """

    side: Side
    stem: tuple[str, ...]
    certainty: Certainty


@dataclass(frozen=True)
class SidedNames:
    """The classes of a list whose names have a side, by index.

    Attributes
    ----------
    pairs : tuple of (left, right). Names that differ by their side alone.
    possible_pairs : tuple of (left, right). The same, with a side that may be part of another word.
    lone : tuple of int. Names with a word for a side, without a partner.
    possible_lone : tuple of (int, side). Names with a letter for a side, without a partner.
    """

    pairs: tuple[IndexPair, ...] = ()
    possible_pairs: tuple[IndexPair, ...] = ()
    lone: tuple[int, ...] = ()
    possible_lone: tuple[tuple[int, Side], ...] = ()


def read_side(name: str) -> tuple[SideReading, ...]:
    """The possible sides of a name, all of the same certainty: that of words, else letters, else parts of words.

    A name with words for both sides has none.
    """
    words = split_words(name)
    found = [word for word in words if word in WORDS]
    if found:
        sides = {WORDS[word] for word in found}
        stem = tuple(sorted(word for word in words if word not in WORDS))
        return (SideReading(sides.pop(), stem, "word"),) if len(sides) == 1 else ()
    letters = [n for n, word in enumerate(words) if word in LETTERS]
    if letters:
        return tuple(SideReading(LETTERS[words[n]], _without(words, n), "letter") for n in letters)
    return tuple(
        SideReading(side, tuple(sorted((*_without(words, n), rest))), "glued")
        for n, word in enumerate(words)
        for side, rest in _glued(word)
    )


def read_sides(names: Sequence[str]) -> SidedNames:
    """Pairs and lone sides among class names.

    Parameters
    ----------
    names : sequence of str. Class names, background first; the background has no side.
    """
    readings = {index: read_side(name) for index, name in enumerate(names) if index}
    pairs = _pairs({n: found for n, found in readings.items() if found and found[0].certainty != "glued"})
    left_over = {n: found for n, found in readings.items() if not any(n in pair for pair in pairs)}
    return SidedNames(
        pairs,
        _pairs({n: found for n, found in left_over.items() if found and found[0].certainty == "glued"}),
        tuple(n for n, found in left_over.items() if found and found[0].certainty == "word"),
        tuple(
            (n, found[0].side) for n, found in left_over.items() if len(found) == 1 and found[0].certainty == "letter"
        ),
    )


def split_words(name: str) -> list[str]:
    """The words of a name in lower case and without accents: split at separators and in camelCase, digits kept.

    ``ctx-lh-G_front`` gives ctx, lh, g, front; ``LHippocampus`` gives l, hippocampus; ``L1`` stays one word.
    """
    decomposed = unicodedata.normalize("NFKD", name)
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    plain = re.sub("([左右])", r" \1 ", plain)
    return [word for run in re.findall(r"[^\W_]+", plain) for word in _split_camel_case(run)]


def _split_camel_case(run: str) -> list[str]:
    """Words of a run of letters and digits, lower case."""
    starts = [0]
    for n in range(1, len(run)):
        before, here, after = run[n - 1], run[n], run[n + 1 : n + 2]
        if here.isupper() and (before.islower() or (before.isupper() and after.islower())):
            starts.append(n)
    return [run[a:b].casefold() for a, b in zip(starts, [*starts[1:], len(run)], strict=True)]


def _glued(word: str) -> list[tuple[Side, str]]:
    """Sides with which a word may begin or end, and the rest of the word."""
    found: list[tuple[Side, str]] = []
    parts = [(part, side) for part, side in WORDS.items() if len(part) >= MIN_GLUED_WORD]
    for part, side in [*parts, ("lh", LEFT), ("rh", RIGHT), ("l", LEFT), ("r", RIGHT)]:
        if len(word) > len(part) and word.startswith(part):
            found.append((side, word[len(part) :] + "-"))
        if len(word) > len(part) and word.endswith(part):
            found.append((side, "-" + word[: -len(part)]))
    return found


def _pairs(readings: dict[int, tuple[SideReading, ...]]) -> tuple[IndexPair, ...]:
    """Classes with the same stem and opposite sides; a stem that occurs more than once on a side pairs none."""
    by_stem: dict[tuple[str, ...], dict[Side, list[int]]] = defaultdict(lambda: {"left": [], "right": []})
    for index, found in readings.items():
        for reading in found:
            by_stem[reading.stem][reading.side].append(index)
    pairs: list[IndexPair] = []
    for sides in by_stem.values():
        if len(sides["left"]) == len(sides["right"]) == 1:
            pair = sides["left"][0], sides["right"][0]
            if pair[0] != pair[1] and not any(set(pair) & set(other) for other in pairs):
                pairs.append(pair)
    return tuple(pairs)


def _without(words: Sequence[str], index: int) -> tuple[str, ...]:
    """The other words, sorted."""
    return tuple(sorted((*words[:index], *words[index + 1 :])))
