"""The pattern language of folder layouts: paths with entities, compiled to regular expressions.

A pattern is a path relative to the folder of a data set, such as ``{case}/{case}_{modality=t1|t2}.nii[.gz]``;
:data:`LANGUAGE` lists what it may hold; text in braces is an *entity*. Case does not count. A pattern whose last name
has no dot takes the suffix of any image. ``{case}`` takes as much text as it can, all other entities as little.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from core.errors import DatasetError
from core.imaging.headers import SUFFIXES

LANGUAGE: tuple[tuple[tuple[str, ...], str], ...] = (  # texts of patterns, and what they match, as Markdown
    (("{case}",), "what names a case: text without a slash, the same wherever it stands"),
    (("{modality}", "{channel}"), "which image it is, such as t1; a channel is a number, such as 0000"),
    (("{session}", "{site}"), "further parts of a name, as any other word in braces; each combination is a subject"),
    (("{label}",), "the class, where each has a mask of its own"),
    (("{rater}",), "who drew the label map, where there are several; one is read"),
    (("{modality=t1|t2}",), "only these texts, which may hold `*`, `?`, `#` and slashes"),
    (("*", "?", "#", "#+"), "any text, one character, one digit, digits; no slash"),
    (("[...]", "(a|b)", "**/"), "may be missing; alternatives; any number of folders"),
    (("\\",), "takes the next character as it is"),
)
SPECIAL = "{}[]()|*?#\\"
_ESCAPED = str.maketrans({c: "\\" + c for c in SPECIAL})
MAX_LENGTH = 1000
ROLES = ("modality", "channel", "label", "rater")  # entities that are no part of a subject's id
_ENTITY = re.compile(r"\{(?P<name>[a-z][a-z_]*)(?:=(?P<values>[^{}]*))?\}")
_ANY, _ONE, _DIGIT = r"[^/]*", r"[^/]", r"\d"


@dataclass(frozen=True)
class Pattern:
    """A compiled pattern.

    Attributes
    ----------
    text : str. The pattern as written.
    entities : tuple of str. Names of its entities, in order.
    regex : re.Pattern. Matches whole paths with forward slashes.
    depths : tuple of int. Least and most slashes of the paths that it matches.
    """

    text: str
    entities: tuple[str, ...]
    regex: re.Pattern[str]
    depths: tuple[int, int]

    def match(self, path: str) -> dict[str, str] | None:
        """Values of the entities in a path, without those of missing optional parts; ``None`` if it does not fit."""
        found = self.regex.fullmatch(path)
        return None if found is None else {k: v for k, v in found.groupdict().items() if v is not None}


def language_table() -> str:
    """:data:`LANGUAGE` as a Markdown table."""
    lines = ["| Pattern | Matches |", "|---|---|"]
    for texts, meaning in LANGUAGE:
        shown = ", ".join(f"`{text}`" for text in texts).replace("|", "\\|")
        lines.append(f"| {shown} | {meaning} |")
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """A pattern that matches only this text."""
    return text.translate(_ESCAPED)


@cache
def compile_pattern(text: str) -> Pattern:
    """Compile a pattern.

    Raises
    ------
    DatasetError
        If it is not a valid pattern; the message says what and where.
    """
    return _Compiler(text).compile()


class _Compiler:
    """Translation of one pattern."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.entities: list[str] = []
        self.open: list[str] = []

    def compile(self) -> Pattern:
        if not self.text.strip() or len(self.text) > MAX_LENGTH:
            raise self._error(f"expected 1 to {MAX_LENGTH} characters")
        if self.text.startswith(("/", "\\/", "~")) or ".." in self.text.split("/"):
            raise self._error("expected a path inside the folder, without a leading / or ..")
        parts: list[str] = []
        while self.at < len(self.text):
            parts.append(self._next())
        if self.open:
            raise self._error(f"expected a closing {'])'[self.open[-1] == '(']}")
        if _takes_any_suffix(self.text):
            parts.append("(?:" + "|".join(re.escape(s) for s in sorted(SUFFIXES, key=len, reverse=True)) + ")")
        return Pattern(self.text, tuple(self.entities), re.compile("".join(parts), re.IGNORECASE), _depths(self.text))

    def _next(self) -> str:
        rest, character = self.text[self.at :], self.text[self.at]
        if character == "{":
            return self._entity()
        if rest.startswith("**/"):
            self.at += 3
            return "(?:[^/]+/)*"
        if character in "[(":
            self.open.append(character)
            self.at += 1
            return "(?:"
        if character in "])":
            if not self.open or self.open.pop() != {"]": "[", ")": "("}[character]:
                raise self._error(f"{character!r} closes nothing at character {self.at + 1}")
            self.at += 1
            return ")?" if character == "]" else ")"
        if character == "|":
            if not self.open or self.open[-1] != "(":
                raise self._error(f"'|' stands between ( and ) only, got one at character {self.at + 1}")
            self.at += 1
            return "|"
        if character == "}":
            raise self._error(f"'}}' closes nothing at character {self.at + 1}")
        found, length = _wildcard(rest)
        if not length:
            raise self._error("expected a character after the last \\")
        self.at += length
        return found

    def _entity(self) -> str:
        found = _ENTITY.match(self.text, self.at)
        if found is None:
            raise self._error(
                f"expected an entity like {{case}} or {{modality=t1|t2}}, with lower-case letters as its name, at "
                f"character {self.at + 1}"
            )
        if "(" in self.open:
            raise self._error(f"{found[0]} stands inside ( ); write the alternatives as separate patterns")
        self.at = found.end()
        name, values = found["name"], found["values"]
        if name in self.entities:
            if values is not None:
                raise self._error(f"{{{name}}} is given values at its second place; give them at the first")
            return f"(?P={name})"
        self.entities.append(name)
        if values is None:
            default = {"case": r"[^/]+", "channel": r"\d+?"}.get(name, r"[^/]+?")
            return f"(?P<{name}>{default})"
        if not all(values.split("|")):
            raise self._error(f"{{{name}=...}} has an empty alternative")
        return f"(?P<{name}>{'|'.join(self._alternative(v) for v in values.split('|'))})"

    def _alternative(self, text: str) -> str:
        parts, at = [], 0
        while at < len(text):
            if text[at] in "[]()":
                raise self._error(f"{text[at]!r} has no meaning among the alternatives of an entity")
            part, length = _wildcard(text[at:])
            if not length:
                raise self._error("expected a character after \\")
            parts.append(part)
            at += length
        return "".join(parts)

    def _error(self, problem: str) -> DatasetError:
        return DatasetError(f"pattern {self.text[:200]!r}: {problem}")


def _wildcard(text: str) -> tuple[str, int]:
    """Regular expression of the wildcard or character at the beginning of a text, and its length; 0 for a lone \\."""
    if text.startswith("#+"):
        return _DIGIT + "+", 2
    if text[0] == "\\":
        return (re.escape(text[1]), 2) if len(text) > 1 else ("", 0)
    return {"*": _ANY, "?": _ONE, "#": _DIGIT}.get(text[0], re.escape(text[0])), 1


def _takes_any_suffix(text: str) -> bool:
    """Whether the last name of a pattern has no dot outside entities."""
    return "." not in _ENTITY.sub("", text).rpartition("/")[2]


def _depths(text: str) -> tuple[int, int]:
    """Bounds of the number of slashes of matching paths."""
    plain = _ENTITY.sub(lambda found: "{}" if "/" not in (found["values"] or "") else "{/}", text)
    if "**/" in plain or "{/}" in plain or re.search(r"\([^)]*/", plain):
        return 0, 99
    optional = sum(part.count("/") for part in re.findall(r"\[[^\]]*\]?", plain))
    return plain.count("/") - optional, plain.count("/")
