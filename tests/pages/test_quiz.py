"""The Quiz page without a browser: settings, questions, answers, score, preparation, failures."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.errors import RunError
from core.runs import run_checkpoint
from core.runs.predictions import read_predictions
from core.runs.store.lost_answers import LostAnswers, note_lost
from core.study.answers import read_answers
from core.study.statistics import Score
from tests.support.app_pages import (
    button_labels,
    choose,
    click,
    component_data,
    go_to_page,
    hide_demo_model,
    open_page,
    run_page,
    simulate_demo_subject,
    texts,
)
from tests.support.background_jobs import poll
from tests.support.learn_data import link_demo_subject
from tests.support.quiz_runs import QuizRun, use_copy
from ui.quiz import game as game_module
from ui.quiz import games, preparation
from ui.shared import evaluation_job

pytestmark = pytest.mark.slow  # the run is trained once


@pytest.fixture
def root(quiz_run: QuizRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained run, and no other model."""
    root = use_copy(quiz_run, tmp_path, monkeypatch)
    hide_demo_model(monkeypatch)
    return root


def open_quiz(**query: str) -> AppTest:
    return open_page("quiz", None, **query)


def bar(app: AppTest) -> dict[str, Any]:
    return component_data(app, "number")


def answer(app: AppTest, number: int, side: str = "left", confidence: Any = 3, attempt: int = 0) -> AppTest:
    app.session_state["quiz_bar"] = {
        "answer": {"number": number, "attempt": attempt, "side": side, "confidence": confidence}
    }
    return run_page(app)


def go_on(app: AppTest, number: int) -> AppTest:
    app.session_state["quiz_bar"] = {"next": {"number": number}}
    return run_page(app)


def start(app: AppTest, count: int = 10) -> AppTest:
    choose(app, "Questions", count)
    return click(app, "Play")


def play(app: AppTest) -> AppTest:
    while bar(app):
        number = bar(app)["number"]
        app = go_on(answer(app, number, confidence=number % 4 + 1), number)
    return app


def game_id(app: AppTest) -> str:
    return str(app.session_state["game"])


def test_game_from_the_settings_to_the_score(root: Path) -> None:
    app = open_quiz()
    assert "3 held-out subjects of Balls, 3 of them segmented." in texts(app)
    assert "All games so far" not in texts(app)
    app = start(app)
    assert bar(app) == {"number": 1, "attempt": 0, "verdict": None}
    shown = component_data(app, "grid")
    assert shown["rows"] == list(shown["layers"]) == ["left", "right"] and len(shown["planes"]) == 1
    app = answer(app, 1)
    (stored,) = read_answers(root, game_id(app))
    verdict = bar(app)["verdict"]
    assert verdict["correct"] == stored.correct and not verdict["last"]
    assert verdict["text"].endswith(f"the ground truth is on the {stored.truth_side}.")
    assert verdict["explanation"].startswith(stored.why) and "Dice of this slice 0." in verdict["explanation"]
    shown = component_data(app, "grid")
    assert shown["rows"] == [*shown["layers"], "errors"]
    assert list(shown["layers"]) == (
        ["truth", "prediction"] if stored.truth_side == "left" else ["prediction", "truth"]
    )
    assert f"{int(stored.correct)} of 1 right" in texts(app)
    app = go_on(app, 1)
    assert bar(app)["number"] == 2 and bar(app)["verdict"] is None
    app = play(app)
    answers = read_answers(root, game_id(app))
    score = Score.of(a.correct for a in answers)
    numbers = {m.label: m.value for m in app.metric}
    assert len(answers) == 10 and [a.number for a in answers] == list(range(1, 11))
    assert numbers["Right"] == f"{score.correct} of 10" and numbers["Accuracy"] == f"{10 * score.correct} %"
    assert numbers["95 % interval"] == score.interval_text
    assert f"python -m core quiz report {game_id(app)}" in app.code[0].value
    again = open_quiz()
    assert f"All games so far: {score.correct} of 10 right" in texts(again) and "were lost" not in texts(again)
    note_lost(root / "index.sqlite.damaged-20261129-120000", LostAnswers(3, {game_id(app): 2}))
    assert "At least 3 answers of all games were lost with a damaged database" in texts(open_quiz())
    assert "At least 2 answers of this game were lost" in texts(open_quiz(game=game_id(app)))


def test_answered_questions_can_be_shown_again(root: Path) -> None:
    app = play(start(open_quiz()))
    answers = read_answers(root, game_id(app))
    groups: list[Any] = list(app.get("button_group"))
    choice = next(g for g in groups if g.label == "Question")
    assert list(choice.options) == [f"{a.number} {'✓' if a.correct else '✗'}" for a in answers]
    run_page(choice.set_value(7))
    assert answers[6].why.replace("\\", "") in texts(app)
    assert f"the ground truth was on the {answers[6].truth_side}" in texts(app)
    assert component_data(app, "grid")["rows"][2] == "errors"
    app = click(app, "Play again")
    assert bar(app)["number"] == 1 and game_id(app) != answers[0].game
    app = click(app, "End the game")
    assert "No question of this game was answered" in texts(app)
    assert "Play" in button_labels(click(app, "Other settings"))


@pytest.mark.parametrize(
    ("number", "side", "confidence"),
    [(2, "left", 3), (1, "middle", 3), (1, "left", 5), (1, "left", "4"), (1, "left", True)],
)
def test_invalid_answers_are_ignored(root: Path, number: int, side: str, confidence: Any) -> None:
    app = start(open_quiz())
    app = answer(app, number, side, confidence)
    assert bar(app)["verdict"] is None and read_answers(root) == []
    app = go_on(app, 1)
    assert bar(app)["number"] == 1


def test_question_is_answered_once(root: Path) -> None:
    app = answer(start(open_quiz()), 1, "left")
    app = answer(app, 1, "right")
    app = go_on(go_on(app, 1), 1)
    assert bar(app)["number"] == 2
    app = answer(app, 1, "right")
    assert [a.chosen_side for a in read_answers(root)] == ["left"] and bar(app)["verdict"] is None


def test_two_tabs_share_a_game(root: Path) -> None:
    one = start(open_quiz())
    other = open_quiz(game=game_id(one))
    assert bar(other) == bar(one) and component_data(other, "grid") == component_data(one, "grid")
    answer(one, 1, "left")
    other = answer(other, 1, "right")
    assert [a.chosen_side for a in read_answers(root)] == ["left"]
    assert bar(other)["verdict"] is not None


def test_question_is_kept_while_another_page_is_open(root: Path) -> None:
    app = go_on(answer(start(open_quiz()), 1), 1)
    before = component_data(app, "grid")
    go_to_page(app, "runs")
    go_to_page(app, "quiz")
    assert bar(app)["number"] == 2 and component_data(app, "grid") == before


def test_answer_that_could_not_be_stored_can_be_repeated(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = start(open_quiz())

    def full(*_: object) -> None:
        raise RunError("the *disk* is full")

    with monkeypatch.context() as patch:
        patch.setattr(game_module, "save_answer", full)
        app = answer(app, 1)
    assert "The answer was not stored, so it does not count: the *disk* is full" in texts(app)
    assert "\\*disk\\*" in app.error[0].value
    assert bar(app) == {"number": 1, "attempt": 1, "verdict": None} and read_answers(root) == []
    app = answer(app, 1, attempt=1)
    assert bar(app)["verdict"] is not None and len(read_answers(root)) == 1 and not app.error


def test_score_survives_a_restart_of_the_server(root: Path) -> None:
    app = go_on(answer(start(open_quiz()), 1), 1)
    app = go_on(answer(app, 2), 2)
    game = game_id(app)
    games._games.clear()  # as after a restart
    app = open_quiz(game=game)
    assert {m.label: m.value for m in app.metric}["Right"].endswith(" of 2")
    assert "2 questions of 10 requested" in texts(app) and "images are no longer available" in texts(app)
    assert button_labels(app) == ["New game"]


def test_unknown_game_is_reported(root: Path) -> None:
    app = open_quiz(game="unknown")
    assert "No question of this game was answered, or it was played on another server." in texts(app)
    assert "Play" in button_labels(click(app, "New game"))


def test_without_a_model_the_page_gives_the_reason(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_demo_model(monkeypatch)
    assert "The quiz needs a trained model" in texts(open_quiz())


def test_damaged_checkpoint_is_reported(root: Path, quiz_run: QuizRun) -> None:
    checkpoint = run_checkpoint(root / quiz_run.run)
    assert checkpoint is not None
    checkpoint.write_bytes(b"nothing of the kind")
    app = open_quiz()
    assert len(app.error) == 1 and "best.safetensors" in texts(app)


@pytest.mark.long
def test_missing_predictions_are_made_and_the_game_begins(root: Path, quiz_run: QuizRun) -> None:
    """With the real command in a child process."""
    run = root / quiz_run.run
    shutil.rmtree(run / "predictions")
    app = open_quiz()
    assert "3 held-out subjects of Balls, none of them segmented." in texts(app)
    assert "Play" not in button_labels(app)
    app = click(app, "Prepare and play")
    assert not [b for b in button_labels(app) if b == "Prepare and play"] and not app.error
    checkpoint = run_checkpoint(run)
    assert checkpoint is not None
    data = quiz_run.data
    poll(lambda: evaluation_job.pending(checkpoint, data), lambda left: not left)
    assert len(read_predictions(root, checkpoint, data)) == 3
    app = run_page(app)
    assert bar(app)["number"] == 1 and len(component_data(app, "grid")["layers"]) == 2


def test_requested_game_continues_from_the_demo_subject_to_its_segmentation(
    checkpoints: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path / "data"))
    made = simulate_demo_subject(monkeypatch)
    segmented: list[str] = []
    monkeypatch.setattr(evaluation_job, "start", lambda checkpoint, data, subjects: segmented.extend(subjects))
    app = click(open_quiz(), "Prepare and play")
    assert made == ["subject-1"] and segmented == []
    assert "Prepare and play" not in button_labels(run_page(app))
    link_demo_subject(tmp_path_factory, tmp_path / "data")
    run_page(app)
    assert segmented == ["subject-1"]


def test_failed_preparation_gives_the_reason_and_can_be_repeated(
    root: Path, quiz_run: QuizRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(root / quiz_run.run / "predictions")
    app = open_quiz()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", shutil.which("false"))
        app = click(app, "Prepare and play")
        checkpoint = run_checkpoint(root / quiz_run.run)
        assert checkpoint is not None
        poll(lambda: evaluation_job.pending(checkpoint, quiz_run.data), lambda left: not left)
        app = run_page(app)
    assert "Segmenting 3 subjects failed" in texts(app) and "exit status 1" in texts(app)
    app = run_page(app)
    assert "Prepare and play" in button_labels(app)


def test_questions_are_about_held_out_subjects_only(root: Path, quiz_run: QuizRun) -> None:
    from core.checkpointing.metadata import read_metadata
    from core.datasets import open_dataset

    checkpoint = run_checkpoint(root / quiz_run.run)
    assert checkpoint is not None
    metadata, dataset = read_metadata(checkpoint), open_dataset(quiz_run.data)
    unseen = preparation.unseen_subjects(metadata, dataset)
    assert len(unseen) == 3 and sorted([*unseen, *metadata.split["train"]]) == sorted(dataset.ids)
