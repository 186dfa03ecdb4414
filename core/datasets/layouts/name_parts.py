"""Parts of file paths: words that say what a file is, and the texts around them, which say of whom it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from core.datasets.layouts.files import image_stem
from core.datasets.layouts.name_words import IMAGE_WORDS, LABEL_WORDS, MODALITY_WORDS, NUMBERED_IMAGE_WORDS

SEPARATORS = "_-. "
MIN_SHARE = 0.05  # of the files that have a word, below which it is a coincidence
MIN_INSIDE = 0.2  # the same for words without separators around them, such as the letters of a code
TIME_POINTS = frozenset(("t1", "t2"))  # no modalities where a file has the word t0
FEW = 8  # files, among which a word counts that a single one has
MIN_FOLDERS = 1 / 3  # of the folders of one depth that are such words, below which they are names, such as initials
_RUN = re.compile(r"[^\W_]+")
_WORD = re.compile(r"[^\W\d_]+[0-9]*|[0-9]+")
_CAMEL = re.compile(r"(?<=[a-zà-ÿ])(?=[A-Z])")

Place = tuple[int, int]  # depth of a folder or the file name, and how many texts precede in it


class Text(NamedTuple):
    """A part of a path that may name a case: text between words that say what a file is.

    Attributes
    ----------
    text : str. The text, without separators at its ends.
    place : tuple of int. Its depth, and the number of texts before it in the same name.
    """

    text: str
    place: Place


class _Word(NamedTuple):
    """A word of a name: where it starts and ends, in lower case, and whether letters or digits adjoin it."""

    start: int
    end: int
    text: str
    adjoined: bool


Part = str | Text  # literal text, with separators and suffix, or a text that may name a case


@dataclass(frozen=True)
class NamedFile:
    """A path in parts.

    Attributes
    ----------
    path : str. The path, with forward slashes.
    parts : tuple of Part. Its parts in order; together they are the path.
    name_words, folder_words : frozenset of str. Words of its name and of its folders that say what it is, but those of
        all files.
    """

    path: str
    parts: tuple[Part, ...]
    name_words: frozenset[str]
    folder_words: frozenset[str]

    @property
    def texts(self) -> tuple[Text, ...]:
        """The texts that may name a case."""
        return tuple(p for p in self.parts if isinstance(p, Text))


def split_paths(paths: Sequence[str]) -> list[NamedFile]:
    """Split paths at the words that say what files are.

    A word counts if several files have it, and a folder that is such a word as a whole only if many folders of its
    depth are.
    """
    segments = [_segments(path) for path in paths]
    words_of = _counted_words(paths, segments)
    texts_of = {name: frozenset(w.text for w in words) for name, words in words_of.items()}
    everywhere = frozenset[str]()
    if segments:
        everywhere = frozenset.intersection(*(frozenset().union(*map(texts_of.__getitem__, n)) for n in segments))
    splitter = _Splitter(words_of, _folders_that_name_cases(segments, words_of), everywhere)
    return [splitter.split(path, names) for path, names in zip(paths, segments, strict=True)]


class _Splitter:
    """Splits paths; a folder, which many files have, once.

    Parameters
    ----------
    words_of : mapping. Words of each name.
    names_of : set of (int, str). Folders, by depth and name, whose words do not count.
    everywhere : frozenset of str. Words of all files.
    """

    def __init__(
        self, words_of: Mapping[str, Sequence[_Word]], names_of: set[tuple[int, str]], everywhere: frozenset[str]
    ) -> None:
        self.words_of, self.names_of, self.everywhere = words_of, names_of, everywhere
        self._folders: dict[str, tuple[list[Part], str, frozenset[str]]] = {}

    def split(self, path: str, names: Sequence[str]) -> NamedFile:
        """The parts of a path.

        Parameters
        ----------
        names : sequence of str. Names of its folders, and of the file without its suffix.
        """
        folder, slash, _ = path.rpartition("/")
        begin, literal, folder_words = self._folder(folder, names[:-1])
        parts = list(begin)
        literal = self._add(parts, literal, len(names) - 1, names[-1])
        suffix = path[len(folder) + len(slash) + len(names[-1]) :]
        if literal + suffix:
            parts.append(literal + suffix)
        of_name = frozenset(w.text for w in self.words_of[names[-1]]) - self.everywhere
        return NamedFile(path, tuple(parts), of_name, folder_words)

    def _folder(self, folder: str, names: Sequence[str]) -> tuple[list[Part], str, frozenset[str]]:
        """Parts of a folder, the literal text at its end, and its words."""
        known = self._folders.get(folder)
        if known is not None:
            return known
        parts, literal, words = list[Part](), "", set[str]()
        for depth, name in enumerate(names):
            literal = self._add(parts, literal, depth, name) + "/"
            words.update(w.text for w in self._words(depth, name))
        found = parts, literal, frozenset(words) - self.everywhere
        self._folders[folder] = found
        return found

    def _words(self, depth: int, name: str) -> Sequence[_Word]:
        return () if (depth, name) in self.names_of else self.words_of[name]

    def _add(self, parts: list[Part], literal: str, depth: int, name: str) -> str:
        """Add the parts of a name, literals that follow each other joined; returns the literal text at its end."""
        at, number = 0, 0
        for start, end in (*((w.start, w.end) for w in self._words(depth, name)), (len(name), len(name))):
            between = name[at:start]
            text = between.strip(SEPARATORS)
            if text:
                before = between[: between.index(text)]
                if literal + before:
                    parts.append(literal + before)
                parts.append(Text(text, (depth, number)))
                number += 1
                between, literal = between[len(before) + len(text) :], ""
            literal += between + name[start:end]
            at = end
        return literal


def _segments(path: str) -> list[str]:
    """Names of the folders, and of the file without its suffix."""
    *folders, name = path.split("/")
    return [*folders, image_stem(name)]


def _counted_words(paths: Sequence[str], segments: Sequence[Sequence[str]]) -> dict[str, tuple[_Word, ...]]:
    """The words of each name without those that are a coincidence, as few files have them, and without time points."""
    found = {name: tuple(_words(name)) for name in set(chain.from_iterable(segments))}
    apart, anywhere = Counter[str](), Counter[str]()
    for names in segments:
        words = [w for name in names for w in found[name]]
        apart.update({w.text for w in words if not w.adjoined})
        anywhere.update({w.text for w in words})
    has_t0 = any("t0" in lower and "t0" in _RUN.findall(lower) for lower in map(str.lower, paths))
    left_out = TIME_POINTS if has_t0 else frozenset[str]()
    least, least_inside = max(1 + (len(paths) > FEW), MIN_SHARE * len(paths)), MIN_INSIDE * len(paths)

    def counts(word: _Word) -> bool:
        often = anywhere[word.text] >= least_inside if word.adjoined else apart[word.text] >= least
        return often and word.text not in left_out

    return {name: tuple(filter(counts, words)) for name, words in found.items()}


def _folders_that_name_cases(
    segments: Sequence[Sequence[str]], words_of: Mapping[str, Sequence[_Word]]
) -> set[tuple[int, str]]:
    """Folders, by depth and name, that are one word but stand among others that are none."""
    wholes: dict[int, dict[str, bool]] = {}
    for depth, name in {(depth, name) for names in segments for depth, name in enumerate(names[:-1])}:
        words = words_of[name]
        wholes.setdefault(depth, {})[name] = len(words) == 1 and words[0][:2] == (0, len(name))
    return {
        (depth, name)
        for depth, of_name in wholes.items()
        if 0 < sum(of_name.values()) < MIN_FOLDERS * len(of_name)
        for name, whole in of_name.items()
        if whole
    }


def _words(name: str) -> Iterator[_Word]:
    """The words of a name that say what a file is: between separators, or at an end of letters and digits."""
    for run in _RUN.finditer(name):
        at = run.start()
        for word in _words_of_run(run[0]):
            yield _Word(at + word.start, at + word.end, word.text, word.adjoined)


@lru_cache(20_000)
def _words_of_run(run: str) -> tuple[_Word, ...]:
    """The words of letters and digits without separators; files of a folder have most of these in common."""
    lower = run.lower()
    if _says_what(lower):
        return (_Word(0, len(run), lower, False),)
    found = []
    for start, end in _pieces(run):
        if start and end < len(run):
            continue
        word = run[start:end].lower()
        letters = word.rstrip("0123456789")
        if _says_what(word):
            found.append(_Word(start, end, word, True))
        elif letters in LABEL_WORDS or letters in NUMBERED_IMAGE_WORDS:
            found.append(_Word(start, start + len(letters), letters, False))
    return tuple(found)


def _pieces(run: str) -> Iterator[tuple[int, int]]:
    """Start and end of letters with the digits behind them, and of the parts of camel case."""
    for match in _WORD.finditer(run):
        ends = [match.start() + m.start() for m in _CAMEL.finditer(match[0])]
        yield from zip([match.start(), *ends], [*ends, match.end()], strict=True)


def _says_what(word: str) -> bool:
    return word in MODALITY_WORDS or word in LABEL_WORDS or word in IMAGE_WORDS
