"""Files of a case under review: its prediction and its errors in the geometry of the image, and a contact sheet."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from core.datasets import Dataset
from core.errors import VolumeError
from core.evaluation.compared_subject import ComparedSubject, read_compared
from core.evaluation.error_map import DESCRIPTION, error_map
from core.evaluation.metrics import SubjectScore
from core.evaluation.slice_sheet import SheetCaption, SheetOptions, encode_sheet, slice_sheet
from core.files import atomic_write
from core.formatting import format_score
from core.imaging.volume import write_label
from core.labels import LabelSpace
from core.runs.predictions import Prediction


@dataclass(frozen=True)
class CaseFiles:
    """Files to write.

    Attributes
    ----------
    prediction, errors : Path or None. NIfTI label maps; ``None`` for none.
    sheet : Path or None. Contact sheet, PNG or PDF by its ending.
    options : SheetOptions. What the sheet shows.
    """

    prediction: Path | None = None
    errors: Path | None = None
    sheet: Path | None = None
    options: SheetOptions = SheetOptions()


def export_case(dataset: Dataset, labels: LabelSpace, kept: Prediction, model: str, files: CaseFiles) -> None:
    """Write files of a case.

    Parameters
    ----------
    dataset : Dataset. The data set of the case.
    labels : LabelSpace. Classes of the model.
    kept : Prediction. The kept prediction.
    model : str. Name of the model on the contact sheet.
    files : CaseFiles. What is written.

    Raises
    ------
    UserError
        If a file of the case cannot be read, errors are asked for without a reference, or a file cannot be written or
        would take the place of another one of these or of one of the data set.
    """
    _check_places(dataset, kept, files)
    compared = read_compared(dataset, kept.subject, labels, kept.file)
    loaded = compared.loaded
    if files.prediction is not None:
        names = ", ".join(f"{c.raw} {c.name}" for c in labels.foreground)
        description = _ascii(f"labels: {names}")
        write_label(
            files.prediction, labels.to_raw(compared.prediction), loaded.stored, loaded.first_image, description
        )
    if files.errors is not None:
        errors = error_map(compared.known_truth, compared.prediction)
        write_label(files.errors, errors, loaded.stored, loaded.first_image, DESCRIPTION)
    if files.sheet is not None:
        _write_sheet(files.sheet, compared, _caption(dataset, kept, model, files.options), files.options)


def _check_places(dataset: Dataset, kept: Prediction, files: CaseFiles) -> None:
    """Refuse to write over a file of the data set, over the kept prediction, or a file twice."""
    places = [path for path in (files.prediction, files.errors, files.sheet) if path is not None]
    real = [os.path.realpath(path) for path in places]
    if len(set(real)) < len(real):
        raise VolumeError(f"{places[0]}: expected another file for each to write, got one twice; name them apart")
    read = {os.path.realpath(f) for s in dataset.subjects for f in (*s.files, *s.raters.values())}
    for path, target in zip(places, real, strict=True):
        if target in read or target == os.path.realpath(kept.file):
            raise VolumeError(f"{path}: expected a new file to write to, got one of the data set or of the run")


def _write_sheet(path: Path, compared: ComparedSubject, caption: SheetCaption, options: SheetOptions) -> None:
    sheet = slice_sheet(compared, caption, options)
    try:
        atomic_write(path, encode_sheet(sheet, path.suffix.lower(), f"{caption.case}, {caption.model}"))
    except OSError as error:
        raise VolumeError(f"{path}: cannot be written: {error.strerror or error}; choose another place") from error


def _caption(dataset: Dataset, kept: Prediction, model: str, options: SheetOptions) -> SheetCaption:
    epoch = f", epoch {kept.epoch}" if kept.epoch else ""
    stale = f" (made {kept.stale_reason})" if kept.stale else ""
    synthetic = ", synthetic" if dataset.synthetic else ""
    scores = "" if kept.score is None else _scores(kept.score)
    modality = dataset.modalities[options.channel]
    return SheetCaption(kept.subject, f"{model}{epoch}{stale}", f"{dataset.name}{synthetic}", scores, modality)


def _scores(score: SubjectScore) -> str:
    """Dice of the classes and their mean."""
    classes = ", ".join(f"{name} {format_score(value)}" for name, value in score.dice.items())
    return f"Dice of the whole volume: mean {format_score(score.mean_dice)}; {classes}"


def _ascii(text: str) -> str:
    """A text for the 79 characters of a NIfTI description."""
    plain = text.encode("ascii", "replace").decode("ascii")
    return plain if len(plain) <= 79 else f"{plain[:76]}..."
