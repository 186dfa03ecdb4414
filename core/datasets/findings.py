"""One finding about a data set, with its severity and remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from core.datasets.layouts.recipe import Repair
from core.errors import UserError

Severity = Literal["error", "warning", "note"]
REFUSED = "training does not start as long as the case is in the data set as it is"
NOT_TRAINED_ON = "training leaves the case out and starts without it; segmenting the case fails, or gives nonsense"
MAX_ALIKE: dict[Severity, int] = {"warning": 10, "note": 1}  # findings on files that say the same


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes
    ----------
    severity : str. "error" (training is unsafe), "warning" (training may suffer) or "note".
    message : str. Expectation and finding.
    subject, file : str. Subject id and file; empty where the finding concerns the whole data set.
    fix : str. Remedy; empty where none is needed.
    repairs : tuple of Repair. Changes of the recipe that are known to mend it, the gentlest first.
    subjects : tuple of str. Ids of all subjects that it concerns, where they are several.
    meaning : str. What it means for training and scores; empty where the message says it.
    modalities : tuple of str. Modalities without which it does not arise; empty where it arises whichever are read.
    """

    severity: Severity
    message: str
    subject: str = ""
    file: str = ""
    fix: str = ""
    repairs: tuple[Repair, ...] = ()
    subjects: tuple[str, ...] = ()
    meaning: str = ""
    modalities: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The whole finding as one line of text."""
        location = ": ".join(part for part in (self.subject, self.file) if part)
        text = f"{location}: {self.message}" if location else self.message
        return f"{text}; {self.fix}" if self.fix else text

    @classmethod
    def from_error(
        cls, error: UserError, files: Iterable[Path] = (), subject: str = "", modalities: tuple[str, ...] = ()
    ) -> Finding:
        """Split a message of the form "file: expectation and finding; remedy" into the parts of a finding."""
        text = str(error)
        file = next((str(f) for f in files if text.startswith(f"{f}: ")), "")
        message, separator, fix = text.removeprefix(f"{file}: ").rpartition("; ")
        meaning = REFUSED if subject else "training does not start"
        expected, remedy = (message, fix) if separator else (fix, "")
        return cls("error", expected, subject, file, remedy, meaning=meaning, modalities=modalities)


def merge_alike(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in which notes and warnings on files that say the same are one, with the number of files, if there are
    more than :data:`MAX_ALIKE` of them."""
    findings = list(findings)
    alike = Counter((f.severity, f.message, f.fix) for f in findings if f.file)
    merged: dict[object, Finding] = {}
    for number, finding in enumerate(findings):
        key = (finding.severity, finding.message, finding.fix)
        if not finding.file or alike[key] <= MAX_ALIKE.get(finding.severity, alike[key]):
            merged[number] = finding
        else:
            message = f"{finding.message} ({alike[key]} files, such as {Path(finding.file).name})"
            merged.setdefault(key, replace(finding, message=message, subject="", file=""))
    return list(merged.values())
