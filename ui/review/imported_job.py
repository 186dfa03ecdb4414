"""Background job that scores segmentations that no model has made (``review score``), and its report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from core.checkpointing.metadata import CheckpointMetadata
from core.datasets import Dataset
from core.evaluation.imported_scores import ImportedScores
from core.evaluation.metrics import ScoredNames
from ui.shared import hashes, jobs
from ui.shared.jobs import Job
from ui.shared.paths import cache_root, runs_root
from ui.shared.report_jobs import ReportJobs, read_report
from ui.viewer.scenes import subject_hash

VERSION = 1  # of the report; part of the names of kept ones
MAX_REPORTS = 200  # the oldest are removed
MAX_AT_ONCE = 2  # jobs; each has two label maps in memory

_jobs = ReportJobs(MAX_AT_ONCE, MAX_REPORTS)


@dataclass(frozen=True)
class ImportedScoring:
    """The scores of segmentations of some cases, in the classes of a model.

    Attributes
    ----------
    checkpoint : Path. The model.
    metadata : CheckpointMetadata. Its metadata.
    dataset : Dataset. The data set of the cases.
    source : str. What holds the segmentations, as ``review score`` takes it.
    files : mapping. The segmentation by id of each case that is scored.
    """

    checkpoint: Path
    metadata: CheckpointMetadata
    dataset: Dataset
    source: str
    files: Mapping[str, Path]

    def observe(self) -> Job:
        """The state of the job."""
        return jobs.observe(self._folder, read_report(self._folder) is not None)

    def advance(self) -> Job:
        """The state of the job, which is started unless it has failed; it waits while others run."""
        options = [f"--case={id}" for id in self.files]
        options += ["--json", "--progress", f"--checkpoints={runs_root()}"]
        return _jobs.advance(
            self._folder,
            ["review", "score", *options, "--", str(self.checkpoint), self.source, str(self.dataset.path)],
        )

    def forget_failure(self) -> None:
        """Have the next call of :meth:`advance` start a job that has failed."""
        jobs.discard(self._folder)

    def scores(self) -> ImportedScores | None:
        """The scores of the finished job; ``None`` if there are none."""
        report = read_report(self._folder)
        return None if report is None else ImportedScores.from_json(report)

    @cached_property
    def _folder(self) -> Path:
        """It changes with the files of each case, and with the classes."""
        names = ScoredNames.of_checkpoint(self.metadata)
        regions = self.metadata.regions
        members = [] if regions is None else [[r.name, r.classes] for r in regions.regions]
        classes = [self.metadata.label_space.to_json(), names.names, names.in_mean, members, self.metadata.modalities]
        cases = {id: subject_hash(self.dataset, id) for id in self.files}
        of_data = [str(self.dataset.path), self.dataset.labels.to_json(), cases]
        text = json.dumps([VERSION, str(self.checkpoint), self.source, classes, of_data])
        return cache_root() / "imported-scores" / hashes.files_hash(text, list(self.files.values()))
