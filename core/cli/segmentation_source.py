"""Segmentations that no model has made, from the argument of a command: of another rater, of a folder, of a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.cli.kept_predictions import KeptModel
from core.cli.progress import show_progress
from core.datasets import Dataset
from core.datasets.segmentation_files import MatchedFiles, match_files, rater_files, segmentations_below
from core.errors import ConfigError, DatasetError
from core.evaluation.imported_scores import ImportedScores, score_files
from core.formatting import format_count, format_list
from core.paths import absolute_path

RATER = "rater:"  # before the name of a rater
SOURCE_HELP = (
    "segmentations that no model has made, with the label values of the data set: rater:NAME, the label maps of "
    "another rater of the data set; or a folder of files, each named as its case (ID.nii.gz, ID_any.nii.gz)"
)


@dataclass(frozen=True)
class Source:
    """Segmentations by case.

    Attributes
    ----------
    name : str. Name in reports.
    matched : MatchedFiles. Their files.
    """

    name: str
    matched: MatchedFiles = field(default_factory=MatchedFiles)


def is_source(text: str) -> bool:
    """Whether an argument that is no model names segmentations: a rater, or a folder."""
    return text.startswith(RATER) or (bool(text.strip()) and os.path.isdir(absolute_path(text)))


def open_source(dataset: Dataset, text: str, cases: Sequence[str] = ()) -> Source:
    """The segmentations that an argument names.

    Parameters
    ----------
    dataset : Dataset. The data set of the cases.
    text : str. ``rater:NAME``, a folder, or a file of one case.
    cases : sequence of str. Ids of the only cases; one, if ``text`` is a file. All by default.

    Raises
    ------
    UserError
        If it names nothing, a case is unknown, or none of the cases has a file.
    """
    for id in cases:
        dataset.subject(id)  # an unknown one is reported as such
    if not text.strip():
        raise ConfigError("expected rater:NAME, a folder of segmentations, or the file of a case; got nothing")
    path = absolute_path(text)
    if text.startswith(RATER):
        name = text.removeprefix(RATER)
        matched = MatchedFiles(rater_files(dataset, name))
    elif os.path.isfile(path):
        if len(cases) != 1:
            raise ConfigError(f"{path}: expected the case of this file, got {len(cases) or 'none'}: --case ID")
        name, matched = path.name, MatchedFiles({cases[0]: path})
    else:
        name, matched = path.name or str(path), match_files(segmentations_below(path), dataset.ids)
    if cases:
        kept = {id: file for id, file in matched.files.items() if id in cases}
        matched = MatchedFiles(kept, {id: files for id, files in matched.ambiguous.items() if id in cases})
    if not matched.files:
        raise DatasetError(f"{text}: expected segmentations of the cases {_listed(dataset, cases)}, {_found(matched)}")
    return Source(name, matched)


def score_source(model: KeptModel, source: Source, as_lines: bool) -> ImportedScores:
    """Score segmentations in the classes of a model; cases without a score, and what makes one doubtful, are reported
    on standard error.

    Parameters
    ----------
    as_lines : bool. Whether progress is shown as lines for a program.
    """
    matched = source.matched
    with show_progress("cases", as_lines) as progress:
        scored = score_files(model.dataset, model.metadata, matched.files, progress)
    for id, texts in scored.warnings.items():
        for text in texts:
            print(f"warning: {id}: {text}", file=sys.stderr)
    for id, files in matched.ambiguous.items():
        print(f"warning: {id}: not scored: {several_files(files)}", file=sys.stderr)
    for id, reason in scored.failures.items():
        print(f"warning: {id}: not scored: {reason}", file=sys.stderr)
    if matched.unmatched:
        names = format_list([file.name for file in matched.unmatched])
        print(f"warning: named as no case: {names}", file=sys.stderr)
    return scored


def several_files(files: Sequence[Path]) -> str:
    """Why none of several files of a case is taken."""
    return f"expected one file, got {format_list([file.name for file in files])}; keep one, or name it as the case"


def _listed(dataset: Dataset, cases: Sequence[str]) -> str:
    return format_list(cases or dataset.ids)


def _found(matched: MatchedFiles) -> str:
    """What was found instead of segmentations of the cases."""
    if matched.ambiguous:
        id, files = next(iter(matched.ambiguous.items()))
        return f"got several of {id}: {format_list([file.name for file in files])}; keep one, or name it as the case"
    if matched.unmatched:
        names = format_list([file.name for file in matched.unmatched])
        return f"got {format_count(len(matched.unmatched), 'file')} with other names: {names}; name each as its case"
    return "found none"
