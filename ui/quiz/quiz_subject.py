"""A subject while a game is made: image, truth and prediction on one grid, and the questions cut from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.datasets import Dataset, load_subject
from core.datasets.loading import class_mapping
from core.errors import DatasetError, VolumeError
from core.imaging.display import Grid, channels, encode_image, encode_label
from core.imaging.geometry import Geometry
from core.imaging.volume import read_label
from core.labels import IGNORE_INDEX, LabelSpace
from core.study.questions import (
    PLANE_AXES,
    Candidate,
    Question,
    explain_difference,
    find_candidates,
    joint_foreground_box,
    question_box,
)
from core.types import Plane
from ui.quiz.game import Case, GameQuestion
from ui.viewer.scenes import described

MARGIN_MM = 8.0  # around the labelled voxels


class QuizSubject:
    """A subject with its truth and its prediction in the classes of the network.

    Parameters
    ----------
    dataset : Dataset. Data set of the subject.
    case : Case. Subject id and file of the prediction.
    labels : LabelSpace. Classes of the network.

    Raises
    ------
    UserError
        If a file cannot be read, the subject has no label map, or the prediction has another shape.
    """

    def __init__(self, dataset: Dataset, case: Case, labels: LabelSpace) -> None:
        loaded = load_subject(dataset, case.subject)
        if loaded.label is None:
            raise DatasetError(f"{dataset.path}: expected a label map of {case.subject}, found none")
        self._case = case
        self._labels = labels
        self._image = loaded.image
        self._geometry = loaded.geometry
        self._channels = channels(loaded.image, dataset.modalities)
        self._truth = class_mapping(dataset.labels.names, labels.names)[loaded.label]
        prediction = read_label(case.file, geometry=None if loaded.geometry.oriented else loaded.stored)
        self._prediction = labels.to_index(prediction.data[0])
        if self._prediction.shape != self._truth.shape:
            raise VolumeError(
                f"{case.file}: expected a segmentation of {self._truth.shape} voxels, the shape of the subject, found "
                f"{self._prediction.shape}; segment the subject again"
            )
        # Where the truth is ignored, both are background to the questions, and both are shown as ignored.
        self._ignored = self._truth == IGNORE_INDEX
        self._ignore = None
        if self._ignored.any() and dataset.labels.ignore is not None:
            self._ignore = described(dataset.labels.ignore)
            self._truth, self._prediction = (np.where(self._ignored, 0, v) for v in (self._truth, self._prediction))
        margin = [round(MARGIN_MM / spacing_mm) for spacing_mm in self._geometry.spacing_mm]
        self._box = joint_foreground_box(self._truth, self._prediction, margin)

    def candidates(self, planes: Sequence[Plane]) -> list[Candidate]:
        """Slices that can be questions."""
        return find_candidates(self._truth, self._prediction, self._case.subject, planes)

    def question(self, question: Question) -> GameQuestion:
        """A question with the volumes that it shows."""
        box = question_box(question, self._box)
        ignored = self._ignored[box]
        truth, prediction = (np.where(ignored, IGNORE_INDEX, v[box]) for v in (self._truth, self._prediction))
        affine = self._geometry.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
        i, j, k = truth.shape
        index, axis = question.candidate.index, PLANE_AXES[question.candidate.plane]
        image = encode_image(self._image[:, *box], self._channels)
        return GameQuestion(
            question,
            self._case,
            Grid.from_geometry(Geometry((i, j, k), affine, self._geometry.oriented)),
            image,
            b"" if image.exact else self._image[:, *box].astype("<f4", copy=False).tobytes(),
            encode_label(truth),
            encode_label(prediction),
            explain_difference(self._truth.take(index, axis), self._prediction.take(index, axis), self._labels.names),
            self._ignore,
        )
