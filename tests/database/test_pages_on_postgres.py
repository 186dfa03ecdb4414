"""Pages whose database is on a PostgreSQL server: what they show while it gives no answer, and a game of the quiz."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import streamlit as st

from core import cli
from core.study.answers import read_answers
from tests.pages.test_quiz import game_id, play, start
from tests.support.app_pages import component_data, hide_demo_model, open_page, texts
from tests.support.index_rows import close_connections
from tests.support.postgres import PostgresServer, wait_for_server
from tests.support.quiz_runs import QuizRun, use_copy
from tests.support.run_folders import make_run
from tests.support.watching import wait_until
from ui.runs.other_roots_view import NOT_SHOWN


@pytest.fixture
def others(checkpoints: Path, tmp_path: Path) -> None:
    """A run of this root, and one of another root in the same database."""
    make_run(checkpoints, "mine")
    make_run(tmp_path / "near", "theirs")
    assert "In 1 other folder" in subheaders()


def subheaders() -> list[str]:
    st.cache_data.clear()
    return [heading.value for heading in open_page("runs").subheader]


def assert_own_runs_only() -> None:
    st.cache_data.clear()
    page = open_page("runs")
    assert NOT_SHOWN in texts(page) and "In 1 other folder" not in [heading.value for heading in page.subheader]
    (row,) = component_data(page, "rows")["rows"]
    assert row["name"] == "mine"


@pytest.mark.slow
@pytest.mark.usefixtures("others")
def test_runs_shows_its_own_runs_and_says_what_is_missing_while_the_server_is_frozen(server: PostgresServer) -> None:
    server.freeze()
    assert_own_runs_only()
    server.thaw()
    wait_until(lambda: "In 1 other folder" in subheaders())


@pytest.mark.slow
@pytest.mark.usefixtures("others")
def test_runs_shows_its_own_runs_while_the_server_is_down(server: PostgresServer) -> None:
    server.stop()
    try:
        close_connections()
        assert_own_runs_only()
    finally:
        server.start()
        wait_for_server(server)
    wait_until(lambda: "In 1 other folder" in subheaders())


@pytest.mark.slow
def test_game_of_the_quiz_is_played_and_reported(
    quiz_run: QuizRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    server: PostgresServer,
    url: str,
) -> None:
    root = use_copy(quiz_run, tmp_path, monkeypatch)
    hide_demo_model(monkeypatch)
    app = play(start(open_page("quiz")))
    answers = read_answers(root, game_id(app))
    assert server.execute("select count(*) from quiz_answers", url.rpartition("/")[2])[0][0] == len(answers) == 10
    assert cli.main(["quiz", "report", "all", "--checkpoints", str(root), "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert (reported["correct"], reported["n"]) == (sum(answer.correct for answer in answers), 10)
