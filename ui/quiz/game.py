"""A game of the quiz: its questions, the current one, and the answers.

Only the volumes of one question at a time are in memory. The side of the truth is not sent to the browser before the
answer is stored. Until then nothing distinguishes the two segmentations but their voxels: their files have equal
lengths and random URLs (:func:`ui.viewer.volumes.publish_in_memory`), and exist before the page is sent.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from core.datasets import DataOptions
from core.imaging.display import EncodedImage, Grid
from core.labels import LabelSpace
from core.study.answers import Answer, save_answer
from core.study.questions import PLANE_AXES, Difficulty, Question, Side
from core.types import Plane, VoxelIndex
from ui.viewer import volumes
from ui.viewer.scenes import Scene, described


@dataclass(frozen=True)
class Case:
    """A subject with a prediction.

    Attributes
    ----------
    subject : str. Subject id.
    file : Path. The prediction.
    epoch, step : int. Progress of the checkpoint that made the prediction.
    """

    subject: str
    file: Path
    epoch: int
    step: int


@dataclass(frozen=True)
class GameSettings:
    """Settings of a game.

    Attributes
    ----------
    model, model_name : str. Key of the model, and its name on screen.
    data, data_name : str. Key of the data set, and its name on screen.
    folder : Path. Folder of the data set.
    labels : LabelSpace. Classes of the predictions; the truth is mapped to them.
    cases : tuple of Case. Subjects that questions are drawn from.
    difficulty : str. "easy", "medium" or "hard".
    count : int. Number of questions.
    planes : tuple of str. Planes that questions are drawn from.
    depth : int. Number of slices of a question.
    options : DataOptions. Options of reading the data set.
    """

    model: str
    model_name: str
    data: str
    data_name: str
    folder: Path
    labels: LabelSpace
    cases: tuple[Case, ...]
    difficulty: Difficulty = "medium"
    count: int = 20
    planes: tuple[Plane, ...] = tuple(PLANE_AXES)
    depth: int = 1
    options: DataOptions = field(default_factory=DataOptions)


@dataclass(frozen=True)
class GameQuestion:
    """A question with the encoded volumes that it shows.

    Attributes
    ----------
    question : Question. Slice, difficulty and side of the truth.
    case : Case. Subject and prediction.
    grid : Grid. Grid of the volumes.
    image : EncodedImage. The image.
    intensities : bytes. Its intensities (:attr:`ui.viewer.scenes.Scene.intensities`), where it holds them rounded.
    truth, prediction : bytes. Encoded segmentations.
    explanation : str. How truth and prediction differ in the slice.
    ignore : mapping, optional. ``{"name", "colour"}`` of the ignore label, in the same voxels of both segmentations.
    """

    question: Question
    case: Case
    grid: Grid
    image: EncodedImage
    intensities: bytes
    truth: bytes
    prediction: bytes
    explanation: str
    ignore: Mapping[str, str] | None = None


class QuestionSource(Protocol):
    """A subject that questions are cut from."""

    @property
    def case(self) -> Case:
        """Subject and prediction."""

    def grid(self, question: Question) -> Grid:
        """The grid of the volumes that a question shows."""

    def question(self, question: Question) -> GameQuestion:
        """A question with the volumes that it shows."""


@dataclass(frozen=True)
class DrawnQuestion:
    """A question of a game, whose volumes are encoded when it is shown.

    Attributes
    ----------
    question : Question. Slice, difficulty and side of the truth.
    subject : QuestionSource. The subject that it is cut from.
    """

    question: Question
    subject: QuestionSource

    def encoded(self) -> GameQuestion:
        """The question with its volumes."""
        return self.subject.question(self.question)


class Game:
    """One game; several browser tabs may use it at the same time.

    Attributes
    ----------
    id : str. Public id, independent of the content.
    settings : GameSettings. Settings of the game.
    number : int. Number of the current question, from 1.
    answers : list of Answer. Stored answers, in order.
    over : bool. Whether the game has ended.
    """

    def __init__(self, settings: GameSettings, questions: Sequence[DrawnQuestion], root: Path) -> None:
        self.id = secrets.token_hex(8)
        self.settings = settings
        self.number = 1
        self.answers: list[Answer] = []
        self.over = False
        self._questions = tuple(questions)
        self._root = root
        self._lock = threading.RLock()
        self._shown: tuple[int, GameQuestion, tuple[str, str, str, str]] | None = None  # number, volumes, their URLs
        self._shown_at = time.monotonic()

    def __len__(self) -> int:
        return len(self._questions)

    @property
    def nbytes(self) -> int:
        """Size of the encoded volumes in memory."""
        shown = self._shown
        if shown is None:
            return 0
        return sum(map(len, (shown[1].image.data, shown[1].intensities, shown[1].truth, shown[1].prediction)))

    @property
    def answered(self) -> bool:
        """Whether the current question is answered."""
        return len(self.answers) >= self.number

    def scene(self) -> Scene:
        """The current question: two segmentations, named only "left" and "right"."""
        with self._lock:
            item, (image, intensities, left, right) = self._publish(self.number)
            return self._scene(item, image, intensities, {"left": left, "right": right})

    def revealed_scene(self, number: int) -> Scene:
        """An answered question with the names of truth and prediction.

        Raises
        ------
        ValueError
            If the question is not answered.
        """
        with self._lock:
            if number > len(self.answers):
                raise ValueError(f"question {number} is not answered yet")
            item, (image, intensities, left, right) = self._publish(number)
            names = {item.question.truth: "truth", item.question.prediction: "prediction"}
            return self._scene(item, image, intensities, {names["left"]: left, names["right"]: right})

    def answer(self, number: int, side: Side, confidence: int) -> bool:
        """Store an answer and count it.

        Returns
        -------
        bool. False if the question is not the current one or is answered already.

        Raises
        ------
        RunError
            If the answer cannot be stored; the question stays open.
        """
        with self._lock:
            if self.over or number != self.number or self.answered:
                return False
            item, _ = self._publish(number)
            question, candidate = item.question, item.question.candidate
            answer = Answer(
                game=self.id,
                number=number,
                questions=len(self),
                model=self.settings.model,
                epoch=item.case.epoch,
                step=item.case.step,
                data=self.settings.data,
                subject=candidate.subject,
                plane=candidate.plane,
                slice=candidate.index,
                first_slice=question.first,
                slices=question.depth,
                difficulty=question.difficulty,
                dice=candidate.dice,
                differing=candidate.differing,
                foreground=candidate.foreground,
                truth_side=question.truth,
                chosen_side=side,
                correct=side == question.truth,
                confidence=confidence,
                seconds=time.monotonic() - self._shown_at,
                answered_at=time.time(),
                why=item.explanation,
            )
            save_answer(self._root, answer)
            self.answers.append(answer)
            return True

    def advance(self, number: int) -> None:
        """Leave an answered question for the next one, or end the game after the last; repeated calls do nothing."""
        with self._lock:
            if number != self.number or not self.answered or self.over:
                return
            self._withdraw()
            if self.number == len(self):
                self.over = True
            else:
                self.number += 1

    def end(self) -> None:
        """End the game before its last question; stored answers count."""
        with self._lock:
            self._withdraw()
            self.over = True

    def plane(self, number: int) -> Plane:
        """The plane of a question."""
        return self._questions[number - 1].question.candidate.plane

    def start_voxel(self, number: int) -> VoxelIndex:
        """Initial voxel of the crosshair: the centre of the slice in question."""
        item = self._questions[number - 1]
        voxel = [n // 2 for n in item.subject.grid(item.question).shape]
        voxel[PLANE_AXES[item.question.candidate.plane]] = item.question.candidate.index - item.question.first
        return voxel[0], voxel[1], voxel[2]

    def _publish(self, number: int) -> tuple[GameQuestion, tuple[str, str, str, str]]:
        """A question, and the URLs of its image, of its intensities if the image holds them rounded, and of its left
        and right segmentation.

        They stay the same until another question is published; only one question is published at a time.
        """
        if self._shown is None or self._shown[0] != number:
            item = self._questions[number - 1].encoded()
            self._withdraw()
            sides = {item.question.truth: item.truth, item.question.prediction: item.prediction}
            encoded = (item.image.data, sides["left"], sides["right"])
            image, left, right = (volumes.publish_in_memory(data) for data in encoded)
            intensities = volumes.publish_in_memory(item.intensities) if item.intensities else ""
            self._shown = number, item, (image, intensities, left, right)
            self._shown_at = time.monotonic()
        return self._shown[1:]

    def _withdraw(self) -> None:
        if self._shown is not None:
            for url in self._shown[2]:
                volumes.withdraw(url)
            self._shown = None

    def _scene(self, item: GameQuestion, image: str, intensities: str, layers: dict[str, str]) -> Scene:
        classes = tuple(described(c) for c in self.settings.labels.foreground)
        return Scene(item.grid, item.image.channels, image, classes, layers, intensities, item.ignore)
