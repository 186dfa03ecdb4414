"""The page Quiz, run without a browser: from the first screen over questions and answers to the score."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core.errors import RunError
from core.paths import project_root
from core.runs import run_checkpoint
from core.runs.predictions import read_predictions
from core.study.answers import read_answers
from core.study.statistics import Score
from tests.support.quiz_runs import QuizRun
from ui.quiz import games, settings_view
from ui.shared import evaluation_job

ROOT = project_root()
pytestmark = pytest.mark.slow  # the run is trained once


@pytest.fixture
def root(quiz_run: QuizRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of its own with the run that can be played, and no other model."""
    root = tmp_path / "checkpoints"
    shutil.copytree(quiz_run.root, root)
    monkeypatch.setenv("SEGMENTARIUM_CHECKPOINTS", str(root))
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(quiz_run.data_root))
    monkeypatch.setattr("ui.shared.cache.demo_model_path", lambda: tmp_path / "no such model")
    return root


def open_quiz(**query: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "ui" / "shell.py"), default_timeout=60)
    app.run().switch_page(str(ROOT / "pages" / "quiz.py"))
    for key, value in query.items():
        app.query_params[key] = value
    return checked(app.run())


def checked(app: AppTest) -> AppTest:
    assert not app.exception, [e.message for e in app.exception]
    assert len(app.title) == 1
    return app


def texts(app: AppTest) -> str:
    parts = [*app.markdown, *app.caption, *app.error, *app.warning, *app.info, *app.subheader]
    return "\n".join(str(p.value) for p in parts).replace("\\", "")


def click(app: AppTest, label: str) -> AppTest:
    return checked(next(b for b in app.button if b.label == label).click().run())


def data_of(app: AppTest, component: str) -> dict[str, Any]:
    found = [e.proto for e in app.get("bidi_component") if e.proto.component_name == f"segmentarium_{component}"]
    return dict(json.loads(found[0].json)) if found else {}


def bar(app: AppTest) -> dict[str, Any]:
    return data_of(app, "quiz_bar")


def answer(app: AppTest, number: int, side: str = "left", sure: Any = 3, attempt: int = 0) -> AppTest:
    app.session_state["quiz_bar"] = {"answer": {"number": number, "attempt": attempt, "side": side, "sure": sure}}
    return checked(app.run())


def go_on(app: AppTest, number: int) -> AppTest:
    app.session_state["quiz_bar"] = {"next": {"number": number}}
    return checked(app.run())


def start(app: AppTest, count: int = 10) -> AppTest:
    groups: list[Any] = list(app.get("button_group"))
    next(g for g in groups if g.label == "Questions").set_value(count).run()
    return click(app, "Play")


def play(app: AppTest) -> AppTest:
    while bar(app):
        number = bar(app)["number"]
        app = go_on(answer(app, number, sure=number % 4 + 1), number)
    return app


def game_id(app: AppTest) -> str:
    return str(app.session_state["game"])


def test_a_game_from_the_first_screen_to_the_score(root: Path) -> None:
    app = open_quiz()
    assert "3 subjects of Balls that the model has not learned from, 3 of them segmented." in texts(app)
    assert "All games so far" not in texts(app)
    app = start(app)
    assert bar(app) == {"number": 1, "attempt": 0, "told": None}
    shown = data_of(app, "viewer")
    assert shown["rows"] == list(shown["layers"]) == ["left", "right"] and len(shown["planes"]) == 1
    app = answer(app, 1)
    (kept,) = read_answers(root, game_id(app))
    told = bar(app)["told"]
    assert told["right"] == kept.correct and not told["last"]
    assert told["verdict"].endswith(f"the ground truth is on the {kept.truth_side}.")
    assert told["why"].startswith(kept.why) and "Dice of this slice 0." in told["why"]
    shown = data_of(app, "viewer")
    assert shown["rows"] == [*shown["layers"], "errors"]
    assert list(shown["layers"]) == (["truth", "prediction"] if kept.truth_side == "left" else ["prediction", "truth"])
    assert f"{int(kept.correct)} of 1 right" in texts(app)
    app = go_on(app, 1)
    assert bar(app)["number"] == 2 and bar(app)["told"] is None
    app = play(app)
    answers = read_answers(root, game_id(app))
    score = Score.of(a.correct for a in answers)
    low, high = score.interval
    numbers = {m.label: m.value for m in app.metric}
    assert len(answers) == 10 and [a.number for a in answers] == list(range(1, 11))
    assert numbers["Right"] == f"{score.correct} of 10" and numbers["Accuracy"] == f"{10 * score.correct} %"
    assert numbers["95 % interval"] == f"{100 * low:.0f} to {100 * high:.0f} %"
    assert f"python -m core quiz report {game_id(app)}" in app.code[0].value
    again = open_quiz()
    assert f"All games so far: {score.correct} of 10 right" in texts(again)


def test_each_question_can_be_looked_at_again(root: Path) -> None:
    app = play(start(open_quiz()))
    answers = read_answers(root, game_id(app))
    groups: list[Any] = list(app.get("button_group"))
    choice = next(g for g in groups if g.label == "Question")
    assert list(choice.options) == [f"{a.number} {'✓' if a.correct else '✗'}" for a in answers]
    checked(choice.set_value(7).run())
    assert answers[6].why.replace("\\", "") in texts(app)
    assert f"the ground truth was on the {answers[6].truth_side}" in texts(app)
    assert data_of(app, "viewer")["rows"][2] == "errors"
    app = click(app, "Play again")
    assert bar(app)["number"] == 1 and game_id(app) != answers[0].game
    app = click(app, "End the game")
    assert "No question of this game was answered" in texts(app)
    assert "What will happen" in texts(click(app, "Other settings"))


@pytest.mark.parametrize(
    ("number", "side", "sure"), [(2, "left", 3), (1, "middle", 3), (1, "left", 5), (1, "left", "4"), (1, "left", True)]
)
def test_what_is_no_answer_to_the_question_changes_nothing(root: Path, number: int, side: str, sure: Any) -> None:
    app = start(open_quiz())
    app = answer(app, number, side, sure)
    assert bar(app)["told"] is None and read_answers(root) == []
    app = go_on(app, 1)
    assert bar(app)["number"] == 1


def test_a_question_is_answered_once(root: Path) -> None:
    app = answer(start(open_quiz()), 1, "left")
    app = answer(app, 1, "right")
    app = go_on(go_on(app, 1), 1)
    assert bar(app)["number"] == 2
    app = answer(app, 1, "right")
    assert [a.chosen_side for a in read_answers(root)] == ["left"] and bar(app)["told"] is None


def test_two_tabs_of_one_game_share_it(root: Path) -> None:
    one = start(open_quiz())
    other = open_quiz(game=game_id(one))
    assert bar(other) == bar(one) and data_of(other, "viewer") == data_of(one, "viewer")
    answer(one, 1, "left")
    other = answer(other, 1, "right")
    assert [a.chosen_side for a in read_answers(root)] == ["left"]
    assert bar(other)["told"] is not None


def test_leaving_the_page_keeps_the_question(root: Path) -> None:
    app = go_on(answer(start(open_quiz()), 1), 1)
    before = data_of(app, "viewer")
    app.switch_page(str(ROOT / "pages" / "runs.py")).run()
    app.switch_page(str(ROOT / "pages" / "quiz.py"))
    app = checked(app.run())
    assert bar(app)["number"] == 2 and data_of(app, "viewer") == before


def test_an_answer_that_is_not_kept_can_be_given_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = start(open_quiz())

    def full(*_: object) -> None:
        raise RunError("the *disk* is full")

    with monkeypatch.context() as patch:
        patch.setattr(games, "save_answer", full)
        app = answer(app, 1)
    assert "The answer was not kept, so it does not count: the *disk* is full" in texts(app)
    assert "\\*disk\\*" in app.error[0].value
    assert bar(app) == {"number": 1, "attempt": 1, "told": None} and read_answers(root) == []
    app = answer(app, 1, attempt=1)
    assert bar(app)["told"] is not None and len(read_answers(root)) == 1 and not app.error


def test_after_a_restart_the_score_is_there(root: Path) -> None:
    app = go_on(answer(start(open_quiz()), 1), 1)
    app = go_on(answer(app, 2), 2)
    game = game_id(app)
    games._games.clear()  # what a new server knows of it
    app = open_quiz(game=game)
    assert {m.label: m.value for m in app.metric}["Right"].endswith(" of 2")
    assert "2 questions of 10 asked for" in texts(app) and "Its pictures are gone" in texts(app)
    assert [b.label for b in app.button] == ["Other settings"]


def test_a_game_that_nobody_knows(root: Path) -> None:
    app = open_quiz(game="nobody")
    assert "expected the id of a game" in texts(app)
    assert "What will happen" in texts(click(app, "Other settings"))


def test_without_a_model(checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.shared.cache.demo_model_path", lambda: tmp_path / "no such model")
    assert "The quiz needs a trained model" in texts(open_quiz())


def test_a_damaged_checkpoint_says_so(root: Path, quiz_run: QuizRun) -> None:
    checkpoint = run_checkpoint(root / quiz_run.run)
    assert checkpoint is not None
    checkpoint.write_bytes(b"nothing of the kind")
    app = open_quiz()
    assert len(app.error) == 1 and "best.safetensors" in texts(app)


def test_predictions_that_are_missing_are_made_and_the_game_begins(
    root: Path, quiz_run: QuizRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real command in a real child process."""
    run = root / quiz_run.run
    shutil.rmtree(run / "predictions")
    app = open_quiz()
    assert "3 subjects of Balls that the model has not learned from, none of them segmented." in texts(app)
    assert "Play" not in [b.label for b in app.button]
    app = click(app, "Prepare and play")
    assert not [b for b in app.button if b.label == "Prepare and play"] and not app.error
    checkpoint = run_checkpoint(run)
    assert checkpoint is not None
    data = quiz_run.data
    end = time.monotonic() + 120
    while evaluation_job.observe(checkpoint, data, False).state == "running" and time.monotonic() < end:
        time.sleep(0.2)
    assert len(read_predictions(root, checkpoint, data)) == 3
    app = checked(app.run())
    assert bar(app)["number"] == 1 and len(data_of(app, "viewer")["layers"]) == 2


def test_work_that_fails_says_why_and_can_be_tried_again(
    root: Path, quiz_run: QuizRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(root / quiz_run.run / "predictions")
    app = open_quiz()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", shutil.which("false"))
        app = click(app, "Prepare and play")
        checkpoint = run_checkpoint(root / quiz_run.run)
        assert checkpoint is not None
        while evaluation_job.observe(checkpoint, quiz_run.data, False).state == "running":
            time.sleep(0.05)
        app = checked(app.run())
    assert "Segmenting 3 subjects did not work: it ended with status 1" in texts(app)
    app = checked(app.run())
    assert "Prepare and play" in [b.label for b in app.button]


def test_only_subjects_that_the_model_has_not_learned_from(root: Path, quiz_run: QuizRun) -> None:
    from core.checkpointing.metadata import read_description
    from core.datasets import open_dataset

    checkpoint = run_checkpoint(root / quiz_run.run)
    assert checkpoint is not None
    description, dataset = read_description(checkpoint), open_dataset(quiz_run.data)
    unseen = settings_view.unseen(description, dataset)
    assert len(unseen) == 3 and sorted([*unseen, *description.split["train"]]) == sorted(dataset.ids)
