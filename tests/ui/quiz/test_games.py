"""Games of the quiz in the server: data sent before an answer, counting, storage of answers, limits."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import Response

from core.checkpointing.metadata import read_metadata
from core.datasets import Dataset, LoadedSubject, load_subject, open_dataset
from core.errors import DatasetError, RunError, UserError, VolumeError
from core.imaging import display
from core.imaging.volume import read_label, write_label
from core.labels import IGNORE_COLOUR, IGNORE_INDEX
from core.runs import run_checkpoint
from core.runs.predictions import read_predictions
from core.study.answers import read_answers
from core.study.questions import PLANE_AXES
from tests.support.encoded_images import decode_image
from tests.support.ignored import relabel
from tests.support.quiz_runs import QuizRun
from tests.support.volume_files import load
from ui.quiz import game as game_module
from ui.quiz import games, quiz_subject
from ui.quiz.game import Case, DrawnQuestion, Game, GameSettings
from ui.quiz.games import find_game, new_game
from ui.viewer import volumes

pytestmark = pytest.mark.slow  # the run is trained once


@pytest.fixture(scope="module")
def settings(quiz_run: QuizRun) -> GameSettings:
    """Settings for a trained run and its segmented held-out subjects."""
    checkpoint = run_checkpoint(quiz_run.root / quiz_run.run)
    assert checkpoint is not None
    kept = read_predictions(quiz_run.root, checkpoint, quiz_run.data)
    cases = tuple(Case(id, p.file, p.epoch, p.step) for id, p in kept.items())
    assert len(cases) == 3
    labels = read_metadata(checkpoint).label_space
    return GameSettings(quiz_run.run, "balls", str(quiz_run.data), "Balls", quiz_run.data, labels, cases, count=12)


def game_of(settings: GameSettings, root: Path, seed: int = 0, **values: Any) -> Game:
    return new_game(root, dataclasses.replace(settings, **values), np.random.default_rng(seed))


def fetch(url: str) -> Response:
    scope = {
        "type": "http",
        "method": "GET",
        "path": url,
        "headers": [],
        "query_string": b"",
        "path_params": {"token": url.removeprefix(volumes.PREFIX)},
    }
    return volumes.volume(Request(scope))


def play(game: Game, side: str = "left") -> None:
    while not game.over:
        assert game.answer(game.number, side, 2)  # type: ignore[arg-type]
        game.advance(game.number)


def test_both_sides_are_sent_with_equal_sizes_headers_and_random_urls(settings: GameSettings, tmp_path: Path) -> None:
    game = game_of(settings, tmp_path, depth=3)
    seen: set[str] = set()
    for number in range(1, len(game) + 1):
        scene = game.scene()
        assert list(scene.layers) == ["left", "right"]
        left, right = (fetch(scene.layers[side]) for side in ("left", "right"))
        assert left.status_code == right.status_code == 200
        assert len(left.body) == len(right.body) == np.prod(scene.grid.shape)
        assert left.body != right.body
        assert left.raw_headers == right.raw_headers
        assert left.headers["cache-control"] == "no-store" and left.headers["content-encoding"] == "identity"
        urls = {scene.image, *scene.layers.values()}
        assert len(urls) == 3 and not urls & seen
        assert all(re.fullmatch(r"api/volumes/[0-9a-f]{32}", url) for url in urls)
        seen |= urls
        game.answer(number, "left", 1)
        game.advance(number)
    assert game.over and all(fetch(url).status_code == 404 for url in seen)


def test_page_data_does_not_depend_on_the_side_of_the_truth(settings: GameSettings, tmp_path: Path) -> None:
    game = game_of(settings, tmp_path)

    def sent(item: DrawnQuestion) -> str:
        other = Game(settings, [item], tmp_path)
        text = json.dumps(
            [dataclasses.asdict(other.scene()), other.plane(1), other.start_voxel(1), other.number, len(other)]
        )
        return re.sub(r"[0-9a-f]{32}", "token", text)

    for item in game._questions:
        question = item.question
        swapped = dataclasses.replace(item, question=dataclasses.replace(question, truth=question.prediction))
        assert sent(item) == sent(swapped)


@pytest.mark.parametrize("depth", [1, 5])
def test_shown_volumes_equal_the_cropped_truth_prediction_and_image(
    settings: GameSettings, tmp_path: Path, depth: int
) -> None:
    """Half of the subjects are stored as LAS."""
    dataset, game = open_dataset(settings.folder), game_of(settings, tmp_path, depth=depth)
    files = {case.subject: case.file for case in settings.cases}
    for number in range(1, len(game) + 1):
        game.scene()
        game.answer(number, "left", 1)
        scene, answer = game.revealed_scene(number), game.answers[-1]
        loaded = load_subject(dataset, answer.subject)
        assert loaded.label is not None
        expected = {
            "truth": loaded.label,
            "prediction": settings.labels.to_index(read_label(files[answer.subject]).data[0]),
        }
        axis = PLANE_AXES[game.plane(number)]
        assert scene.grid.shape[axis] == depth == answer.slices
        at = game.start_voxel(number)[axis]
        assert answer.first_slice + at == answer.slice
        shown = {}
        for name, volume in expected.items():
            body = bytes(fetch(scene.layers[name]).body)
            cut = np.frombuffer(body, np.uint8).reshape(scene.grid.shape, order="F")
            shown[name] = cut.take(at, axis)
            inside = volume.take(answer.slice, axis)
            assert shown[name].sum() == inside.sum(), "no labelled voxel is cropped"
        assert np.count_nonzero(shown["truth"] != shown["prediction"]) == answer.differing
        assert answer.correct == (answer.truth_side == "left")
        assert list(scene.layers) == (["truth", "prediction"] if answer.correct else ["prediction", "truth"])
        affine = np.array(scene.grid.affine)
        first = np.linalg.inv(loaded.geometry.affine) @ affine[:, 3]  # the first voxel shown, in the whole volume
        box = tuple(slice(round(f), round(f) + n) for f, n in zip(first[:3], scene.grid.shape, strict=True))
        body = bytes(fetch(scene.layers["truth"]).body)
        assert np.array_equal(np.frombuffer(body, np.uint8).reshape(scene.grid.shape, order="F"), loaded.label[box])
        (channel,) = scene.channels
        image = decode_image(bytes(fetch(scene.image).body), scene.channels, scene.grid.shape)
        assert channel.exact and np.array_equal(image[0], loaded.image[0][box])
        game.advance(number)


def test_intensities_that_an_image_holds_rounded_can_be_asked_for_while_the_question_is_open(
    settings: GameSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "_find_levels", lambda values, channel: None)  # as in a large image
    game = game_of(settings, tmp_path)
    scene = game.scene()
    assert not scene.channels[0].exact
    exact = np.frombuffer(bytes(fetch(scene.intensities).body), "<f4").reshape(scene.grid.shape)
    shown = decode_image(bytes(fetch(scene.image).body), scene.channels, scene.grid.shape)[0]
    np.testing.assert_allclose(shown, exact, atol=scene.channels[0].step)
    game.answer(1, "left", 1)
    assert game.revealed_scene(1).intensities == scene.intensities
    game.advance(1)
    assert fetch(scene.intensities).status_code == 404


def test_answer_is_stored_once_before_it_counts(settings: GameSettings, tmp_path: Path) -> None:
    game = game_of(settings, tmp_path)
    assert not game.answer(2, "left", 4), "not the current question"
    with pytest.raises(ValueError, match="not answered"):
        game.revealed_scene(1)
    game.advance(1)
    assert game.number == 1 and not game.answered
    assert game.answer(1, "right", 4) and game.answered
    (kept,) = read_answers(tmp_path, game.id)
    assert kept == game.answers[0]
    assert (kept.number, kept.chosen_side, kept.confidence, kept.questions) == (1, "right", 4, 12)
    assert kept.correct == (kept.truth_side == "right") and 0 <= kept.seconds < 60
    assert not game.answer(1, "left", 1) and read_answers(tmp_path, game.id) == [kept]
    game.advance(1)
    game.advance(1)
    assert game.number == 2


def test_answer_that_cannot_be_stored_does_not_count(
    settings: GameSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    game = game_of(settings, tmp_path)

    def full(*_: object) -> None:
        raise RunError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(game_module, "save_answer", full)
        with pytest.raises(RunError, match="full"):
            game.answer(1, "left", 1)
    assert not game.answered and game.answers == []
    assert game.answer(1, "left", 1)


def test_reloaded_page_gets_the_same_question(settings: GameSettings, tmp_path: Path) -> None:
    game = game_of(settings, tmp_path)
    scene = game.scene()
    assert find_game(game.id) is game and game.scene() == scene
    game.answer(1, "left", 1)
    assert set(game.revealed_scene(1).layers.values()) == set(scene.layers.values()), "the verdict loads nothing again"
    game.advance(1)
    assert game.scene() != scene and fetch(scene.image).status_code == 404


def test_ended_game_reveals_answered_questions_only(settings: GameSettings, tmp_path: Path) -> None:
    game = game_of(settings, tmp_path)
    game.answer(1, "left", 1)
    game.advance(1)
    game.end()
    assert game.over and not game.answer(2, "left", 1)
    assert fetch(game.revealed_scene(1).image).status_code == 200
    with pytest.raises(ValueError, match="question 2 is not answered"):
        game.revealed_scene(2)


def test_sides_and_ids_differ_between_games(settings: GameSettings, tmp_path: Path) -> None:
    played = [new_game(tmp_path, settings) for _ in range(6)]
    for game in played:
        play(game)
    sides = {tuple(a.truth_side for a in game.answers) for game in played}
    assert len({game.id for game in played}) == 6 and len(sides) == 6
    assert {a.subject for game in played for a in game.answers} == {case.subject for case in settings.cases}


def test_least_recently_used_games_are_removed(
    settings: GameSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(games, "MAX_GAMES", 3)
    first = game_of(settings, tmp_path, count=1)
    address = first.scene().image
    assert fetch(address).status_code == 200
    for _ in range(3):
        game_of(settings, tmp_path, count=1)
    assert find_game(first.id) is None and fetch(address).status_code == 404
    assert len(games._games) == 3


def test_games_stay_within_the_memory_limit(
    settings: GameSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = game_of(settings, tmp_path)
    assert first.nbytes == 0, "nothing is encoded before it is shown"
    scene = first.scene()
    assert first.nbytes == sum(len(fetch(url).body) for url in (scene.image, *scene.layers.values())) > 0
    monkeypatch.setattr(games, "MAX_BYTES", int(1.5 * first.nbytes))
    second = game_of(settings, tmp_path)
    second.scene()
    third = game_of(settings, tmp_path)
    assert find_game(first.id) is None and find_game(second.id) is second and find_game(third.id) is third
    monkeypatch.setattr(games, "MAX_BYTES", -1)
    newest = game_of(settings, tmp_path)
    assert list(games._games) == [newest.id], "the newest is kept, even above the limit"


def test_unused_game_expires(settings: GameSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left, used = game_of(settings, tmp_path), game_of(settings, tmp_path)
    address = left.scene().image
    now = time.monotonic()
    clock = SimpleNamespace(monotonic=lambda: now + games.EXPIRY_S - 1)
    monkeypatch.setattr("ui.quiz.games.time", clock)
    assert find_game(used.id) is used
    clock.monotonic = lambda: now + games.EXPIRY_S + 60
    assert find_game(left.id) is None and fetch(address).status_code == 404
    assert find_game(used.id) is used


def test_subjects_are_read_once_for_all_games_and_again_when_they_change(
    settings: GameSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(dataset: Dataset, subject: str) -> LoadedSubject:
        read.append(subject)
        return load_subject(dataset, subject)

    monkeypatch.setattr(quiz_subject, "load_subject", counted)
    monkeypatch.setattr(quiz_subject, "_subjects", OrderedDict())
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda seed: game_of(settings, tmp_path, seed), range(4)))
    assert sorted(read) == sorted(case.subject for case in settings.cases)
    assert {id(drawn.subject) for game in made for drawn in game._questions} == {
        id(kept) for kept in quiz_subject._subjects.values()
    }
    copied = tmp_path / "copied.nii.gz"
    shutil.copy(settings.cases[0].file, copied)
    game_of(settings, tmp_path, cases=(dataclasses.replace(settings.cases[0], file=copied),))
    assert read[len(settings.cases) :] == [settings.cases[0].subject]
    monkeypatch.setattr(quiz_subject, "MAX_BYTES", 1)
    game_of(settings, tmp_path)
    assert len(quiz_subject._subjects) == 1, "the least recently used are removed"


def test_unusable_predictions_are_refused(settings: GameSettings, tmp_path: Path) -> None:
    dataset, case = open_dataset(settings.folder), settings.cases[0]
    loaded = load_subject(dataset, case.subject)
    assert loaded.label is not None
    perfect = tmp_path / "perfect.nii.gz"
    write_label(perfect, settings.labels.to_raw(loaded.label), loaded.stored, loaded.first_image)
    with pytest.raises(
        DatasetError, match=r"Balls: expected slices with 30 or more labelled voxels .* 3 or more, found"
    ):
        game_of(settings, tmp_path, cases=(dataclasses.replace(case, file=perfect),))
    small = tmp_path / "small.nii.gz"
    geometry = dataclasses.replace(loaded.stored, shape=(4, 4, 4))
    write_label(small, np.zeros((4, 4, 4), np.int32), geometry, loaded.first_image)
    with pytest.raises(VolumeError, match="expected a segmentation of"):
        game_of(settings, tmp_path, cases=(dataclasses.replace(case, file=small),))
    with pytest.raises(UserError):
        game_of(settings, tmp_path, cases=(dataclasses.replace(case, file=tmp_path / "gone.nii.gz"),))


def test_ignored_voxels_look_alike_on_both_sides_and_decide_nothing(
    settings: GameSettings, tmp_path: Path, quiz_run: QuizRun
) -> None:
    folder = tmp_path / "balls"
    shutil.copytree(quiz_run.data, folder)
    for case in settings.cases:
        file = folder / "labelsTr" / f"{case.subject}.nii.gz"
        image = load(file)
        label = np.asarray(image.dataobj).astype(np.int16)
        label[:, :, :9] = 255  # half of both balls
        nib.save(nib.Nifti1Image(label, image.affine), file)
    relabel(folder, {"0": "background", "1": "bright", "2": "dark", "255": "ignore"})
    game = game_of(settings, tmp_path, folder=folder, planes=("coronal", "sagittal"))
    for item in (drawn.encoded() for drawn in game._questions):
        truth, prediction = (np.frombuffer(v, np.uint8) for v in (item.truth, item.prediction))
        ignored = truth == IGNORE_INDEX
        assert np.array_equal(ignored, prediction == IGNORE_INDEX)
        box = truth.reshape(item.grid.shape[::-1])
        assert item.question.candidate.differing == np.count_nonzero(truth != prediction)
        assert ignored.any() and box.shape[0] > 9
    assert game.scene().ignore == {"name": "ignore", "colour": IGNORE_COLOUR}
    unseen = game_of(settings, tmp_path, folder=folder, planes=("axial",))
    assert all(item.question.candidate.index >= 9 for item in unseen._questions), "no question about ignored slices"
