"""Background job that scores a case of files (``review files``), and its report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.datasets.file_case import ROLES, default_names
from core.datasets.segmentation_values import SegmentationValues
from ui.shared import hashes, jobs
from ui.shared.jobs import Job
from ui.shared.paths import cache_root
from ui.shared.report_jobs import ReportJobs, read_report

VERSION = 2  # of the report; part of the names of kept ones
MAX_REPORTS = 200  # the oldest are removed
MAX_AT_ONCE = 2  # jobs; each has two volumes in memory

_jobs = ReportJobs(MAX_AT_ONCE, MAX_REPORTS)


@dataclass(frozen=True)
class FileScores:
    """The scores of a segmentation against a reference.

    Attributes
    ----------
    images : tuple of Path. Image files.
    found : mapping of SegmentationValues. Both segmentations, by role.
    names : mapping. Class of each value, by role.
    nan_is_zero : bool. Whether NaN is read as 0.
    """

    images: tuple[Path, ...]
    found: Mapping[str, SegmentationValues]
    names: Mapping[str, Mapping[int, str]]
    nan_is_zero: bool = False

    @property
    def arguments(self) -> list[str]:
        """Arguments of ``segmentarium review files``; names that the command finds by itself are left out."""
        defaults = default_names(self.found)
        arguments = [str(path) for path in self.images]
        for role in (role for role in ROLES if role in self.found):
            arguments.append(f"--{role}={self.found[role].path}")
            changed = {v: n for v, n in self.names[role].items() if n != defaults[role][v]}
            arguments += [f"--{role}-name={value}={name}" for value, name in changed.items()]
        return [*arguments, "--nan-is-zero"] if self.nan_is_zero else arguments

    @property
    def folder(self) -> Path:
        """The folder of the job; it changes with any of the files."""
        text = json.dumps([VERSION, self.arguments, default_names(self.found)], sort_keys=True)
        files = [*self.images, *(content.path for content in self.found.values())]
        return cache_root() / "file-scores" / hashes.files_hash(text, files)

    def advance(self) -> Job:
        """The state of the job, which is started unless it has failed; it waits while others run."""
        return _jobs.advance(self.folder, ["review", "files", *self.arguments, "--errors", "--json"])

    def forget_failure(self) -> None:
        """Have the next call of :meth:`advance` start a job that has failed."""
        jobs.discard(self.folder)

    def report(self) -> dict[str, Any] | None:
        """The report of the finished job; ``None`` if there is none."""
        return read_report(self.folder)
