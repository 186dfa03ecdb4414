"""Engines and runs of other hosts on the pages: where a run trains, why it waits, what is not known of it."""

from __future__ import annotations

import errno
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from core import runs
from core.runs import engine_poller
from core.runs.engines.job_shell import OUTPUT
from core.runs.engines.slurm_reasons import explain_end
from core.runs.store import folder as files
from core.runs.store.engine_records import ANSWERS, LOCAL, EngineRecord, JobReport, read_engine, write_engine
from core.runs.store.folder import PREVIOUS
from core.runs.store.reconciliation import reconciled_state
from core.runs.store.state import read_state, write_state
from core.study.answers import read_answers
from tests.support.app_pages import (
    button_labels,
    click,
    component_data,
    hide_demo_model,
    open_page,
    run_page,
    texts,
)
from tests.support.cluster.slurm_clients import SlurmClients
from tests.support.elsewhere import (
    CLUSTER,
    JOB,
    OTHER,
    SETTINGS,
    answer,
    beat,
    moved_elsewhere,
    run_elsewhere,
    with_job,
)
from tests.support.quiz_runs import QuizRun, use_copy

pytestmark = [pytest.mark.usefixtures("empty_app", "known_cost"), pytest.mark.slow]


@pytest.fixture(autouse=True)
def no_pollers(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread polls the cluster, which does not exist."""
    monkeypatch.setattr("core.runs.engine_poller.ensure_pollers", lambda root: None)


@pytest.fixture
def root(checkpoints: Path) -> Path:
    checkpoints.mkdir(exist_ok=True)
    return checkpoints


def test_unreachable_run_says_when_it_was_heard_and_offers_no_deletion(root: Path) -> None:
    folder = run_elsewhere(root)
    beat(folder, 1, time.time() - 1200)
    app = open_page("runs")
    shown = texts(app)
    assert "No heartbeat arrives" in shown and f"ast heard from {OTHER} 20 min ago" in shown
    assert f"on {OTHER}" in shown and "It may still train" in shown
    labels = button_labels(app)
    assert "Stop this run" in labels and "Resume" not in labels and "Delete this run" not in labels
    assert "ast heard from" in texts(open_page("home"))


def test_waiting_run_of_a_cluster_shows_job_and_reason(root: Path) -> None:
    folder = run_elsewhere(root, "queued")
    with_job(folder)
    answer(root, JobReport("waiting", "it waits for free nodes, GPUs or memory"))
    app = open_page("runs")
    shown = texts(app)
    assert "Queued: it waits for free nodes" in shown and f"on {CLUSTER}, job 7" in shown
    assert "0 running, 1 waiting" in shown and "**gpu-cluster (Slurm)**" in shown
    (table,) = (e.proto.body for e in app.get("html") if "Runs on gpu-cluster (Slurm)" in e.proto.body)
    assert re.findall(r"<td[^>]*>([^<]*)</td>", table)[1:] == [
        "queued", "it waits for free nodes, GPUs or memory", "7"
    ]  # fmt: skip
    assert "Delete this run" not in button_labels(app)


def test_submission_that_is_not_confirmed_says_so_and_is_tried_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_elsewhere(root, "queued")
    with_job(folder, "")
    record = read_engine(folder)
    assert record is not None
    write_engine(folder, replace(record, problem=f"{CLUSTER}: sbatch did not answer within 20 s"))
    app = open_page("runs")
    shown = texts(app)
    assert f"**Submission not confirmed: {CLUSTER} did not say whether it took it" in shown.replace("\\", "")
    assert "sbatch did not answer within 20 s" in shown and "Submit again" in shown and "failed:" not in shown
    assert "Delete this run" not in button_labels(app) and "Stop this run" in button_labels(app)
    monkeypatch.setenv("PATH", str(tmp_path))
    app = click(app, "Submit again")
    assert "squeue is not installed here" in texts(app)
    assert runs.get_run(root, folder.name).state.message.startswith("submission not confirmed"), "it may have a job"
    clients = SlurmClients(tmp_path / "bin", monkeypatch)
    monkeypatch.setenv("PATH", f"{clients.folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    clients.answer("squeue", "41\n")
    assert "not confirmed" not in texts(click(open_page("runs"), "Submit again"))
    assert read_engine(folder).job == "41" and not clients.calls("sbatch")  # type: ignore[union-attr]


@pytest.mark.parametrize("state", ["stopped", "crashed", "failed"])
def test_run_is_said_to_continue_from_a_checkpoint_only_where_it_has_one(root: Path, state: str) -> None:
    folder = run_elsewhere(root, state)
    with_job(folder)
    shown = texts(open_page("runs"))
    assert "begins anew, as it has no checkpoint" in shown and "continues from its last checkpoint" not in shown
    (folder / PREVIOUS).touch()
    shown = texts(open_page("runs"))
    assert "continues from its last checkpoint" in shown and "begins anew" not in shown


def test_reason_of_a_lost_job_is_no_claim_about_a_checkpoint(root: Path) -> None:
    folder = run_elsewhere(root, "queued")
    with_job(folder)
    answer(root, JobReport("ended", explain_end("PREEMPTED", "None")))
    assert reconciled_state(folder).message == "preempted by a job of higher priority; resume it"
    shown = texts(open_page("runs"))
    assert "its last checkpoint" not in shown and r"\; resume it" not in shown and "; resume it" not in shown


def test_cluster_that_does_not_answer_is_shown_and_ends_nothing(root: Path) -> None:
    folder = run_elsewhere(root)
    with_job(folder)
    answer(root, JobReport("running", place=OTHER), "its controller does not answer")
    beat(folder, 1)
    app = open_page("runs")
    assert "does not answer" in app.expander[0].label and "ts controller does not answer" in texts(app)
    assert runs.get_run(root, folder.name).state.state == read_state(folder).state == "running"


def test_run_is_resumed_where_the_page_says(root: Path) -> None:
    folder = run_elsewhere(root, "stopped")
    app = open_page("runs")
    assert "Resume" in button_labels(app), "there is no choice"
    with_job(folder)
    app = open_page("runs")
    box = app.selectbox(key=f"resume-{folder.name}-where")
    assert box.options == ["this machine", f"{CLUSTER} (Slurm)"] and box.value == CLUSTER
    assert app.selectbox(key=f"copy-where-{folder.name}").value == CLUSTER
    app = run_page(box.set_value(LOCAL))
    app = run_page(app.button(key=f"resume-{folder.name}-now").click())
    assert runs.queued_runs(root) == [folder.name] and read_engine(folder) is None


def test_run_of_an_engine_that_is_not_declared_any_more_is_resumed_here(root: Path) -> None:
    folder = run_elsewhere(root, "stopped")
    with_job(folder)
    (root / "engines.toml").unlink()
    app = open_page("runs")
    assert app.selectbox(key=f"resume-{folder.name}-where").options == ["this machine"]
    assert f"{CLUSTER}, where it was, is not declared in engines.toml any more" in texts(app)
    run_page(app.button(key=f"resume-{folder.name}-now").click())
    assert runs.queued_runs(root) == [folder.name]


def test_facts_of_a_waiting_run_name_no_host_and_its_command_names_the_engine(root: Path) -> None:
    folder = run_elsewhere(root, "queued")  # submitted on that host, and begun nowhere yet
    with_job(folder)
    answer(root, JobReport("waiting", "it waits"))
    app = open_page("runs")
    facts = facts_of(app)
    assert facts["engine"] == f"{CLUSTER}, job 7" and "host" not in facts
    assert any(code.value.endswith(f" --engine {CLUSTER}") for code in app.code)


def facts_of(app: AppTest) -> dict[str, str]:
    rows = [row for frame in app.dataframe for row in frame.value.to_dict("records")]
    return {row["fact"]: row["value"] for row in rows if "fact" in row}


def test_run_says_where_it_trains_and_how_often_its_job_was_restarted_also_once_that_has_ended(root: Path) -> None:
    folder = run_elsewhere(root)
    with_job(folder)
    write_state(folder, replace(read_state(folder), attempt=3, started_at=time.time() + 5.0))
    beat(folder, 1, job=(JOB, 1))
    answer(root, JobReport("running", place=f"{OTHER}, 2 GPUs", restarts=2))
    app = open_page("runs")
    assert f"on {CLUSTER}, job 7, {OTHER}, 2 GPUs, attempt 3, job restarted 2 times" in texts(app)
    assert facts_of(app)["host"] == f"{OTHER}, 2 GPUs"
    write_state(folder, replace(read_state(folder), state="finished"))
    answer(root, None, count=2)  # it is not asked about jobs that have ended
    app = open_page("runs")
    assert f"on {CLUSTER}, job 7, attempt 3, job restarted once" in texts(app)
    facts = facts_of(app)
    assert (facts["host"], facts["history"]) == (OTHER, "attempt 3, job restarted once")
    write_engine(folder, EngineRecord(CLUSTER, "resumed", job="8"))
    assert facts_of(open_page("runs"))["history"] == "attempt 3", "the heartbeat is of another job"


def test_page_says_whether_an_engine_without_runs_answers(root: Path) -> None:
    (root / "engines.toml").write_text(SETTINGS)
    app = open_page("runs")
    assert "No runs yet" in texts(app) and app.expander[0].label.endswith(" nothing runs or waits")
    assert "Nothing runs or waits; no answer yet" in texts(app) and engine_poller._is_shown(root)
    answer(root, None)
    shown = texts(open_page("runs"))
    assert "Nothing runs or waits; asked 0 s ago" in shown and "answers" in shown
    answer(root, None, f"{CLUSTER}: its controller does not answer: try again later", count=2)
    app = open_page("runs")
    assert app.expander[0].label.replace("\\", "") == "Engines: gpu-cluster (Slurm) does not answer"
    assert "Its controller does not answer: try again later" in texts(app)


def test_train_says_whether_the_chosen_engine_answers(root: Path) -> None:
    (root / "engines.toml").write_text(SETTINGS)
    answer(root, None, f"{CLUSTER}: its controller does not answer: try again later")
    app = open_page("train")
    assert "does not answer" not in texts(app) and not engine_poller._is_shown(root)
    (where,) = [box for box in app.selectbox if box.label == "Where"]
    app = run_page(where.set_value(CLUSTER))
    assert "does not answer" in texts(app) and "Its controller does not answer: try again later" in texts(app)
    assert engine_poller._is_shown(root)


@pytest.mark.parametrize("task", [None, 2])
def test_output_of_the_job_is_shown_beside_the_log(root: Path, task: int | None) -> None:
    folder = run_elsewhere(root)
    with_job(folder, "7" if task is None else "7_2")
    files.append_log(folder, "what the run wrote")
    assert "Output of job" not in texts(open_page("runs"))
    output = folder / OUTPUT
    if task is not None:  # of an array
        record = read_engine(folder)
        assert record is not None
        write_engine(folder, replace(record, task=task))
        output = root / ANSWERS / CLUSTER / f"{folder.name}-1-{task}.out"
        output.parent.mkdir(parents=True)
    output.write_text("".join(f"line {number}\n" for number in range(90)) + "slurmstepd: error: Exceeded memory\n")
    app = open_page("runs")
    shown = [code.value for code in app.code]
    assert "what the run wrote" in "".join(shown) and ("Output of job 7:" in texts(app)) == (task is None)
    (text,) = [text for text in shown if "slurmstepd" in text]
    assert "line 89" in text and "line 9\n" not in text, "its end"
    (root / "engines.toml").unlink()
    assert "expected one of local" in texts(open_page("runs")), "the engine is not declared any more"


def test_run_that_a_cluster_has_trained_is_reviewed_and_played(
    quiz_run: QuizRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_demo_model(monkeypatch)
    root = use_copy(quiz_run, tmp_path / "shared", monkeypatch)
    moved_elsewhere(root / quiz_run.run)
    shown = texts(open_page("runs", run=quiz_run.run))
    assert f"on {CLUSTER}, job 7" in shown and "heartbeat" not in shown
    review = open_page("review", model=quiz_run.run)
    rows = component_data(review, "selected")["rows"]
    assert len(rows) == 3 and all(row["value"] != "–" for row in rows)
    assert set(component_data(review, "grid")["layers"]) == {"truth", "prediction"}
    quiz = open_page("quiz")
    assert "3 held-out subjects of Balls, 3 of them segmented." in texts(quiz)
    quiz = click(quiz, "Play")
    quiz.session_state["quiz_bar"] = {"answer": {"number": 1, "attempt": 0, "side": "left", "confidence": 3}}
    run_page(quiz)
    (given,) = read_answers(root)
    assert given.number == 1 and given.model in (quiz_run.run, "balls")


@pytest.mark.parametrize("name", ["runs", "home", "train"])
def test_folder_of_runs_whose_share_is_away_is_said_to_be_unreadable(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run_elsewhere(root, "finished")
    listed = os.scandir

    def away(path: Path) -> Any:
        if Path(path) == root:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return listed(path)

    monkeypatch.setattr("core.runs.store.folder.os.scandir", away)
    app = open_page(name)
    assert f"{root}: the folder of runs cannot be read" in texts(app) and "is its file system mounted" in texts(app)
    assert "No runs yet" not in texts(app)


def test_folder_of_runs_that_does_not_exist_is_named(root: Path) -> None:
    assert "which does not exist" not in texts(open_page("runs"))
    root.rmdir()
    assert f"Runs are looked for in {root}, which does not exist" in texts(open_page("runs"))


def test_mistake_in_the_file_of_engines_is_shown(root: Path) -> None:
    run_elsewhere(root, "finished")
    (root / "engines.toml").write_text('[a]\nkind = "sge"\n')
    assert "expected one of" in texts(open_page("runs")) and "got 'sge'" in texts(open_page("train"))


def test_train_asks_where_only_if_there_is_a_choice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Where" not in [box.label for box in open_page("train").selectbox]
    (root / "engines.toml").write_text(SETTINGS + '[rays]\nkind = "ray"\naddress = "http://head:8265"\n')
    app = open_page("train")
    (where,) = [box for box in app.selectbox if box.label == "Where"]
    assert where.options == ["this machine", "gpu-cluster (Slurm)", "rays (Ray)"]
    run_page(where.set_value(CLUSTER))
    assert any(f"--engine {CLUSTER}" in code.value for code in app.code)
    shown = "\n".join(e.proto.body for e in app.get("html"))  # type: ignore[attr-defined]
    assert f"(CUDA on {CLUSTER}) are about" in shown, "the preset chooses for the device of the cluster"
    assert f"CUDA on {CLUSTER}; {CLUSTER} requests a GPU for a run; which one is not known" in shown
    run_page(app.multiselect(key="search_fields").set_value(["learning_rate"]))
    assert any(" sweep " in code.value and f"--engine {CLUSTER}" in code.value for code in app.code)
