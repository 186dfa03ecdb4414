"""Parts of file paths: words that say what a file is, and the texts around them, which say of whom it is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Text:
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
    found = _counted_words(paths, [[list(_words(s)) for s in names] for names in segments])
    everywhere = frozenset.intersection(*(_texts(words) for words in found)) if found else frozenset[str]()
    names_of = _folders_that_name_cases(segments, found)
    files = []
    for path, names, words in zip(paths, segments, found, strict=True):
        kept = [
            [] if (depth, name) in names_of else of_name
            for depth, (name, of_name) in enumerate(zip(names, words, strict=True))
        ]
        of_folders, of_name = _texts(kept[:-1]) - everywhere, _texts(kept[-1:]) - everywhere
        files.append(NamedFile(path, tuple(_parts(path, names, kept)), of_name, of_folders))
    return files


def _segments(path: str) -> list[str]:
    """Names of the folders, and of the file without its suffix."""
    *folders, name = path.split("/")
    return [*folders, image_stem(name)]


def _texts(words: Sequence[Sequence[_Word]]) -> frozenset[str]:
    return frozenset(w.text for of_name in words for w in of_name)


def _counted_words(paths: Sequence[str], found: list[list[list[_Word]]]) -> list[list[list[_Word]]]:
    """The words of each name without those that are a coincidence, as few files have them, and without time points."""
    apart = Counter(t for words in found for t in {w.text for of_name in words for w in of_name if not w.adjoined})
    anywhere = Counter(t for words in found for t in _texts(words))
    left_out = TIME_POINTS if any("t0" in _RUN.findall(path.lower()) for path in paths) else frozenset[str]()
    least, least_inside = max(1 + (len(paths) > FEW), MIN_SHARE * len(paths)), MIN_INSIDE * len(paths)

    def counts(word: _Word) -> bool:
        often = anywhere[word.text] >= least_inside if word.adjoined else apart[word.text] >= least
        return often and word.text not in left_out

    return [[[w for w in of_name if counts(w)] for of_name in words] for words in found]


def _folders_that_name_cases(
    segments: Sequence[Sequence[str]], found: Sequence[Sequence[Sequence[_Word]]]
) -> set[tuple[int, str]]:
    """Folders, by depth and name, that are one word but stand among others that are none."""
    wholes: dict[int, dict[str, bool]] = {}
    for names, words in zip(segments, found, strict=True):
        for depth, name in enumerate(names[:-1]):
            whole = len(words[depth]) == 1 and words[depth][0][:2] == (0, len(name))
            wholes.setdefault(depth, {})[name] = whole
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
        if _says_what(run[0].lower()):
            yield _Word(run.start(), run.end(), run[0].lower(), False)
            continue
        for start, end in _pieces(run[0]):
            word = run[0][start:end].lower()
            letters = word.rstrip("0123456789")
            numbered = letters in LABEL_WORDS or letters in NUMBERED_IMAGE_WORDS
            if start and end < len(run[0]):
                continue
            if _says_what(word):
                yield _Word(run.start() + start, run.start() + end, word, True)
            elif numbered:
                yield _Word(run.start() + start, run.start() + start + len(letters), letters, False)


def _pieces(run: str) -> Iterator[tuple[int, int]]:
    """Start and end of letters with the digits behind them, and of the parts of camel case."""
    for match in _WORD.finditer(run):
        ends = [match.start() + m.start() for m in _CAMEL.finditer(match[0])]
        yield from zip([match.start(), *ends], [*ends, match.end()], strict=True)


def _says_what(word: str) -> bool:
    return word in MODALITY_WORDS or word in LABEL_WORDS or word in IMAGE_WORDS


def _parts(path: str, names: Sequence[str], words: Sequence[Sequence[_Word]]) -> Iterator[Part]:
    """Parts of a path, literals that follow each other joined."""
    literal = ""
    for depth, (name, of_name) in enumerate(zip(names, words, strict=True)):
        literal += "/" if depth else ""
        at, number = 0, 0
        for start, end in (*((w.start, w.end) for w in of_name), (len(name), len(name))):
            between = name[at:start]
            text = between.strip(SEPARATORS)
            if text:
                before = between[: between.index(text)]
                yield from ([literal + before] if literal + before else [])
                yield Text(text, (depth, number))
                number += 1
                between, literal = between[len(before) + len(text) :], ""
            literal += between + name[start:end]
            at = end
    literal += path[len("/".join(names)) :]
    if literal:
        yield literal
