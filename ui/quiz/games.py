"""Games of the quiz as the server remembers them: what is asked, what is on the screen, what was answered.

Which side is the truth stays here until the answer is kept. What goes out before is made by one path for both sides:
bytes of equal length under random addresses (:func:`ui.viewer.volumes.publish_once`), finished before the page is sent.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.datasets import Dataset, load_subject, open_dataset
from core.datasets.loading import class_mapping
from core.errors import DatasetError, VolumeError
from core.imaging.display import Channel, Grid, channels, encode_image, encode_label
from core.imaging.geometry import Geometry
from core.imaging.volume import read_label
from core.labels import LabelSpace
from core.study.answers import Answer, save_answer
from core.study.questions import (
    PLANE_AXES,
    Candidate,
    Difficulty,
    Plane,
    Question,
    Side,
    draw_questions,
    explain_difference,
    find_candidates,
    foreground_box,
    question_box,
)
from core.types import VoxelIndex
from ui.viewer import volumes
from ui.viewer.scenes import Scene

MOST_SUBJECTS = 8  # of a game, drawn anew for each: they are read before it begins
MOST_GAMES = 100  # that are remembered; the longest unused go first
MOST_BYTES = 2**30  # of all of them
MARGIN_MM = 8.0  # around what is marked

_games: OrderedDict[str, Game] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class Case:
    """A subject with a kept prediction, and the epoch and step of the checkpoint that made it."""

    subject: str
    file: Path
    epoch: int
    step: int


@dataclass(frozen=True)
class Setup:
    """What a game is about. ``model`` and ``data`` are their keys, the names are for people; ``labels`` are the classes
    of the predictions, to which the truth is brought."""

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


@dataclass(frozen=True)
class Item:
    """A question with everything that can be shown of it, cut out and ready to be sent."""

    question: Question
    case: Case
    grid: Grid
    channels: tuple[Channel, ...]
    image: bytes
    truth: bytes
    prediction: bytes
    why: str


class Game:
    """One game. Pages of several tabs may use it at once.

    Attributes
    ----------
    id : that anybody who plays it may know; nothing follows from it.
    at : the number of the question, from 1.
    answers : those that are kept, in order.
    over : whether it has ended.
    """

    def __init__(self, setup: Setup, items: Sequence[Item], root: Path) -> None:
        self.id = secrets.token_hex(8)
        self.setup = setup
        self.at = 1
        self.answers: list[Answer] = []
        self.over = False
        self._items = tuple(items)
        self._root = root
        self._lock = threading.RLock()
        self._shown: tuple[int, tuple[str, str, str]] | None = None
        self._since = time.monotonic()

    def __len__(self) -> int:
        return len(self._items)

    @property
    def nbytes(self) -> int:
        """What it holds in memory."""
        return sum(len(item.image) + len(item.truth) + len(item.prediction) for item in self._items)

    @property
    def answered(self) -> bool:
        """Whether the question on the screen is answered."""
        return len(self.answers) >= self.at

    def scene(self) -> Scene:
        """The question as it is shown: two segmentations that are told apart by their side alone."""
        with self._lock:
            image, left, right = self._addresses(self.at)
            return self._scene(self.at, image, {"left": left, "right": right})

    def revealed(self, number: int) -> Scene:
        """A question that is answered, with what was the truth and what the prediction."""
        with self._lock:
            if number > len(self.answers):
                raise ValueError(f"question {number} is not answered yet")
            image, left, right = self._addresses(number)
            item = self._items[number - 1]
            sides = {item.question.truth: "truth", item.question.prediction: "prediction"}
            return self._scene(number, image, {sides["left"]: left, sides["right"]: right})

    def answer(self, number: int, side: Side, confidence: int) -> bool:
        """Keep an answer and count it. False where that question is not the one on the screen, or has its answer.

        Raises
        ------
        RunError
            If it cannot be kept; it does not count then, and the question stays open.
        """
        with self._lock:
            if self.over or number != self.at or self.answered:
                return False
            item = self._items[number - 1]
            asked, question = item.question.candidate, item.question
            answer = Answer(
                game=self.id, number=number, questions=len(self), model=self.setup.model, epoch=item.case.epoch,
                step=item.case.step, data=self.setup.data, subject=asked.subject, plane=asked.plane, slice=asked.index,
                first_slice=question.first, slices=question.depth, difficulty=question.difficulty, dice=asked.dice,
                differing=asked.differing, foreground=asked.foreground, truth_side=question.truth, chosen_side=side,
                correct=side == question.truth, confidence=confidence, seconds=time.monotonic() - self._since,
                answered_at=time.time(), why=item.why,
            )  # fmt: skip
            save_answer(self._root, answer)
            self.answers.append(answer)
            return True

    def go_on(self, number: int) -> None:
        """From the answer of a question to the next one, or to the end; asking twice changes nothing."""
        with self._lock:
            if number != self.at or not self.answered or self.over:
                return
            self._forget()
            if self.at == len(self):
                self.over = True
            else:
                self.at += 1

    def end(self) -> None:
        """End it before its last question; what was answered counts."""
        with self._lock:
            self._forget()
            self.over = True

    def plane(self, number: int) -> Plane:
        """In which plane a question is asked."""
        return self._items[number - 1].question.candidate.plane

    def start(self, number: int) -> VoxelIndex:
        """The voxel to begin with: the slice in question, of what is shown of it the middle."""
        item = self._items[number - 1]
        at = [n // 2 for n in item.grid.shape]
        at[PLANE_AXES[item.question.candidate.plane]] = item.question.candidate.index - item.question.first
        return at[0], at[1], at[2]

    def _addresses(self, number: int) -> tuple[str, str, str]:
        """Of the image, the left and the right segmentation of a question, which is the only one that can be fetched;
        the same ones until another question is shown."""
        if self._shown is None or self._shown[0] != number:
            self._forget()
            item = self._items[number - 1]
            sides = {item.question.truth: item.truth, item.question.prediction: item.prediction}
            ready = (item.image, sides["left"], sides["right"])
            image, left, right = (volumes.publish_once(data) for data in ready)
            self._shown = number, (image, left, right)
            self._since = time.monotonic()
        return self._shown[1]

    def _forget(self) -> None:
        if self._shown is not None:
            for address in self._shown[1]:
                volumes.withdraw(address)
            self._shown = None

    def _scene(self, number: int, image: str, layers: dict[str, str]) -> Scene:
        item = self._items[number - 1]
        classes = tuple({"name": c.name, "colour": c.colour} for c in self.setup.labels.foreground)
        return Scene(item.grid, item.channels, image, classes, layers)


def new_game(root: Path, setup: Setup, generator: np.random.Generator | None = None) -> Game:
    """Read the subjects, draw the questions and cut out what they show.

    Parameters
    ----------
    root : of runs; answers are kept in its database.
    generator : decides everything; by default one that nobody can foretell.

    Raises
    ------
    UserError
        If a file cannot be read or a prediction does not fit its subject.
    DatasetError
        If no slice can be asked.
    """
    generator = generator or np.random.default_rng(secrets.randbits(256))
    dataset = open_dataset(setup.folder)
    chosen = [setup.cases[n] for n in generator.permutation(len(setup.cases))[:MOST_SUBJECTS]]
    read = {case.subject: _Subject(dataset, case, setup.labels) for case in chosen}
    among = [c for subject in read.values() for c in subject.candidates(setup.planes)]
    questions = draw_questions(among, setup.count, setup.difficulty, generator, setup.depth)
    if not questions:
        raise DatasetError(
            f"{setup.data_name}: expected slices in which truth and prediction differ, found none in "
            f"{len(read)} subject{'s' * (len(read) != 1)}; choose more planes or another model"
        )
    game = Game(setup, [read[q.candidate.subject].item(q) for q in questions], root)
    with _lock:
        _games[game.id] = game
        held = sum(known.nbytes for known in _games.values())
        while len(_games) > 1 and (len(_games) > MOST_GAMES or held > MOST_BYTES):
            _, forgotten = _games.popitem(last=False)
            held -= forgotten.nbytes
            forgotten.end()
    return game


def find_game(id: str) -> Game | None:
    """A game that the server remembers."""
    with _lock:
        game = _games.get(id)
        if game is not None:
            _games.move_to_end(id)
        return game


class _Subject:
    """A subject in memory while a game is made: image, truth and prediction on one grid."""

    def __init__(self, dataset: Dataset, case: Case, labels: LabelSpace) -> None:
        loaded = load_subject(dataset, case.subject)
        if loaded.label is None:
            raise DatasetError(f"{dataset.path}: expected a label map of {case.subject}, found none")
        self.case, self.labels, self.image, self.geometry = case, labels, loaded.image, loaded.geometry
        self.ranges = channels(loaded.image, dataset.modalities)
        self.truth = class_mapping(dataset.labels.names, labels.names)[loaded.label]
        oriented = loaded.geometry.oriented
        kept = read_label(case.file) if oriented else read_label(case.file, geometry=loaded.stored)
        self.prediction = labels.to_index(kept.data[0])
        if self.prediction.shape != self.truth.shape:
            raise VolumeError(
                f"{case.file}: expected a segmentation of {self.truth.shape} voxels as the subject has, found "
                f"{self.prediction.shape}; make it again"
            )
        margin = [round(MARGIN_MM / spacing) for spacing in self.geometry.spacing_mm]
        self.common = foreground_box(self.truth, self.prediction, margin)

    def candidates(self, planes: Sequence[Plane]) -> list[Candidate]:
        return find_candidates(self.truth, self.prediction, self.case.subject, planes)

    def item(self, question: Question) -> Item:
        box = question_box(question, self.common)
        truth, prediction = self.truth[box], self.prediction[box]
        first = [side.start for side in box]
        affine = self.geometry.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ first
        i, j, k = truth.shape
        asked = question.candidate
        both = self.truth, self.prediction
        true, said = (volume.take(asked.index, PLANE_AXES[asked.plane]) for volume in both)
        return Item(
            question,
            self.case,
            Grid.from_geometry(Geometry((i, j, k), affine, self.geometry.oriented)),
            self.ranges,
            encode_image(self.image[:, *box], self.ranges),
            encode_label(truth),
            encode_label(prediction),
            explain_difference(true, said, self.labels.names),
        )
