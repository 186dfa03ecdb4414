"""Choice among several files that are one image or label map of a subject, such as the runs of a session in BIDS."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from core.datasets.layouts.base import natural_key
from core.datasets.layouts.files import image_stem
from core.formatting import format_count, format_list

RULE = (
    "that which agrees most with the label map in parts of its name such as acq, rec and run, then of the kind that "
    "most subjects have, then that of the fewest parts, then the first by name"
)
_SUBJECT = re.compile(r"(sub|ses)-", re.IGNORECASE)
_RUN = re.compile(r"run-", re.IGNORECASE)

Role = tuple[str, str]  # "image" or "label", and modality, label or rater
Kind = tuple[str, ...]


def name_parts(file: str) -> tuple[str, ...]:
    """Parts of a path that say what a file is: names of folders and texts between underscores, but for subject and
    session."""
    *folders, name = file.split("/")
    parts = [*folders, *image_stem(name).split("_")]
    return tuple(p.casefold() for p in parts if not _SUBJECT.match(p))


def kind_of(file: str) -> Kind:
    """What a file is, whichever run it is of."""
    return tuple(p for p in name_parts(file) if not _RUN.match(p))


class SeveralFiles:
    """Chooses one file for each role of each subject.

    Parameters
    ----------
    candidates : mapping. Files by role, by subject id.
    """

    def __init__(self, candidates: Mapping[str, Mapping[Role, Sequence[str]]]) -> None:
        self.candidates = candidates
        self._kinds: dict[Role, Counter[Kind]] = {}
        for roles in candidates.values():
            for role, files in roles.items():
                self._kinds.setdefault(role, Counter()).update({kind_of(file) for file in files})

    def choose(self) -> dict[str, dict[Role, str]]:
        """The file of each role, by subject id: label maps first, then the images that agree with them."""
        chosen: dict[str, dict[Role, str]] = {}
        for id, roles in self.candidates.items():
            own = chosen.setdefault(id, {})
            for role in sorted(roles, key=lambda role: role[0] != "label"):
                labels = [file for (what, _), file in own.items() if what == "label"]
                own[role] = self._best(role, roles[role], labels if role[0] == "image" else [])
        return chosen

    def _best(self, role: Role, files: Sequence[str], labels: Iterable[str]) -> str:
        of_labels = {part for label in labels for part in name_parts(label) if "-" in part}

        def rank(file: str) -> tuple[object, ...]:
            parts = name_parts(file)
            agreement = sum(part in of_labels for part in parts)
            return -agreement, -self._kinds[role][kind_of(file)], len(parts), natural_key(file)

        return min(files, key=rank)

    def notes(self, chosen: Mapping[str, Mapping[Role, str]]) -> list[str]:
        """A note on the files that are not read."""
        unread = [
            file
            for id, roles in self.candidates.items()
            for role, files in roles.items()
            for file in files
            if file != chosen[id][role]
        ]
        if not unread:
            return []
        files = format_count(len(unread), "file")
        return [f"{files} of several for one image or label map not read: {format_list(unread, 3)}; read is {RULE}"]

    def warnings(self, chosen: Mapping[str, Mapping[Role, str]]) -> list[str]:
        """A warning where label maps of several kinds compete: their values may mean different things."""
        found = []
        for role in sorted({role for roles in self.candidates.values() for role in roles if role[0] == "label"}):
            competing = [roles[role] for roles in self.candidates.values() if len(roles.get(role, ())) > 1]
            kinds = {kind_of(file): file for files in reversed(competing) for file in reversed(files)}
            if len(kinds) < 2:
                continue
            read = {kind_of(of[role]): of[role] for of in reversed(list(chosen.values())) if role in of}
            unread = [file for kind, file in kinds.items() if kind not in read]
            others = f", not of {format_list(unread, 2)}" if unread else ""
            found.append(
                f"label maps of several kinds, whose values may mean different things: those of "
                f"{format_list(list(read.values()), 2)} are read{others}; choose one kind: data describe --labels"
            )
        return found
