"""Ray as an engine, with a stand-in for its dashboard: what is asked for, found again, understood and explained."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core import runs
from core.errors import ConfigError
from core.presets import preset
from core.runs import engine_poller
from core.runs.engines.engine import EngineError
from core.runs.engines.ray import JOBS, LIMIT, WORKER, RayEngine
from core.runs.engines.ray_api import RayApi
from core.runs.engines.ray_reasons import explain_failure, explain_waiting
from core.runs.engines.registry import get_engine
from core.runs.engines.settings import time_limit_s
from core.runs.launch import create_run
from core.runs.store import folder as files
from core.runs.store.engine_records import JOB, JOB_ENDS, JOB_LIMITS_ITSELF, EngineRecord, read_engine, write_engine
from core.runs.store.process import locked
from core.runs.store.state import read_state, write_state
from tests.support.cluster.ray_dashboard import TOKEN, RayDashboard

CONFIG = preset("quick").with_values({"path": "demo", "devices": 2})
NAME = "ray"
MORE = 'time = "1:00:00"\nmemory_gib = 9\ncpus = 4\nresources = ["fast_disk=0.5"]\n'


@pytest.fixture
def dashboard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[RayDashboard]:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    started = RayDashboard()
    yield started
    started.close()


def declare(root: Path, dashboard: RayDashboard, more: str = "", address: str = "") -> None:
    (root / "token").write_text(f"{TOKEN}\n")
    table = {"kind": "ray", "address": address or dashboard.address, "token_file": str(root / "token")}
    lines = [f'{key} = "{value}"' for key, value in table.items() if f"{key} =" not in more]
    (root / "engines.toml").write_text("\n".join([f"[{NAME}]", *lines, "poll_s = 2", "timeout_s = 5", more]))


@pytest.fixture
def ray(root: Path, dashboard: RayDashboard) -> RayDashboard:
    declare(root, dashboard, MORE)
    return dashboard


def engine(root: Path) -> RayEngine:
    found = get_engine(root, NAME)
    assert isinstance(found, RayEngine)
    return found


def queued(root: Path) -> Path:
    return create_run(root, CONFIG, engine=NAME)


def record_of(folder: Path) -> EngineRecord:
    record = read_engine(folder)
    assert record is not None
    return record


def submitted(root: Path) -> tuple[Path, EngineRecord]:
    folder = queued(root)
    runs.start_queued(root, [folder.name], "toy")
    return folder, record_of(folder)


@pytest.mark.parametrize("text", ['{"message": "hello"}', "[1", "null"])
def test_answer_of_another_service_is_an_error_that_runs_shows(root: Path, ray: RayDashboard, text: str) -> None:
    submitted(root)
    ray.refuse = (200, text)
    assert engine_poller.ask(root, engine(root))
    (_, status) = engine_poller.overview(root)
    assert status.answers is False and "not as Ray's dashboard does" in status.sentence


def test_job_asks_for_what_run_and_settings_need(root: Path, ray: RayDashboard) -> None:
    folder, record = submitted(root)
    (body,) = ray.submitted
    assert body["submission_id"] == record.job == record.name and record.name.startswith(f"{folder.name}-1-")
    assert (body["entrypoint_num_cpus"], body["entrypoint_num_gpus"]) == (8, 2)
    assert body["entrypoint_memory"] == 9 * 1024**3 and body["entrypoint_resources"] == {"fast_disk": 0.5}
    assert body["metadata"][WORKER] == "toy"
    *_, script = shlex.split(body["entrypoint"])
    lines = script.splitlines()
    assert lines[-1].startswith("exec ") and lines[-1].endswith(f"trainer_parent {folder} --worker toy")
    assert f"export {JOB}={record.name}" in lines and f"{folder}/job.out" in script
    assert f"export {JOB_ENDS}=$(($(date +%s) + 3600))" in script and "sleep 3480 && kill -TERM $$" in script
    assert f"{JOB_LIMITS_ITSELF}=1" in script and "sleep 180 && kill -KILL $$" in script, "it says itself how it ended"
    assert body["metadata"][LIMIT] == "3600"


def test_run_without_gpus_and_limit_asks_for_processors_alone(root: Path, dashboard: RayDashboard) -> None:
    declare(root, dashboard)
    folder = create_run(root, CONFIG.with_values({"device": "cpu"}), engine=NAME)
    runs.start_queued(root, [folder.name])
    (body,) = dashboard.submitted
    asked = {key: value for key, value in body.items() if key.startswith("entrypoint_") and value}
    assert asked == {"entrypoint_num_cpus": 2} and "kill" not in body["entrypoint"]


def test_submission_that_was_killed_before_it_was_noted_is_found_again(root: Path, ray: RayDashboard) -> None:
    folder, record = submitted(root)
    write_engine(folder, replace(record, job="", submitted_at=0.0))
    runs.start_queued(root, [folder.name], "toy")
    assert record_of(folder).job == record.name and len(ray.submitted) == 1
    write_engine(folder, replace(record, job="", submitted_at=0.0))
    engine_poller.ask(root, engine(root))  # and by the poller, without a new submission
    assert record_of(folder).job == record.name and len(ray.submitted) == 1


def test_run_that_is_queued_again_has_a_job_of_another_name(root: Path, ray: RayDashboard) -> None:
    folder, first = submitted(root)
    runs.request_stop(root, folder.name)
    assert ray.asked[-1] == f"POST /api/jobs/{first.job}/stop"
    time.sleep(0.002)  # names differ by milliseconds
    runs.resume(root, folder.name, "toy")
    assert record_of(folder).job != first.job and len(ray.submitted) == 2


def test_job_that_ray_gave_up_is_submitted_again_and_not_lost(root: Path, ray: RayDashboard) -> None:
    folder, first = submitted(root)
    ray.set(first.job, "FAILED", error_type="JOB_SUPERVISOR_ACTOR_START_TIMEOUT", message="failed to start within 900")
    ray.refuse = (500, "no agent")
    with pytest.raises(EngineError):
        engine(root).resubmit(folder)
    assert record_of(folder) == first  # as before
    ray.refuse = None
    engine_poller.ask(root, engine(root))
    second = record_of(folder)
    assert second.job != first.job and len(ray.submitted) == 2 and ray.submitted[1]["metadata"][WORKER] == "toy"
    assert ray.submitted[0]["entrypoint_num_gpus"] == ray.submitted[1]["entrypoint_num_gpus"]
    state = runs.get_run(root, folder.name).state
    assert state.state == "queued" and read_state(folder).state == "queued"
    write_state(folder, replace(read_state(folder), state="stopped"))
    engine(root).resubmit(folder)  # it waits no longer
    assert record_of(folder) == second


def reports(root: Path, ray: RayDashboard, **jobs: dict[str, Any]) -> dict[str, Any]:
    for job, details in jobs.items():
        ray.set(job, **details)
    return engine(root).status_many([*jobs, "forgotten"])


def test_one_question_reports_all_jobs(root: Path, ray: RayDashboard) -> None:
    wants = {"segmentarium_wants_GPU": "2"}
    found = reports(
        root, ray,
        waits={"status": "PENDING", "metadata": wants},
        runs={"status": "RUNNING", "metadata": wants, "driver_node_id": "id0"},
        ended={"status": "SUCCEEDED"},
        stopped={"status": "STOPPED"},
        failed={"status": "FAILED", "driver_exit_code": 1, "message": "Job failed, last logs:\nRunning\nno space left"},
    )  # fmt: skip
    assert ray.asked == ["GET /api/jobs/", "GET /nodes?view=summary"]
    assert (found["waits"].state, found["waits"].reason) == ("waiting", "it waits for 2 GPUs")
    assert (found["runs"].state, found["runs"].place) == ("running", "r0, 2 GPUs")
    assert found["ended"].state == found["failed"].state == "ended" and found["stopped"].cancelled
    assert "no space left" in found["failed"].reason
    assert found["forgotten"].state == "unknown" and "its head was restarted" in found["forgotten"].reason


@pytest.mark.parametrize(
    ("error_type", "message", "status", "explained"),
    [
        ("JOB_SUPERVISOR_ACTOR_DIED", "The actor died because its node has died.", None, "its node died"),
        ("", "Job supervisor actor died: node failed", None, "its node died"),
        ("JOB_SUPERVISOR_ACTOR_DIED", "killed: the node was running low on memory, OOM", None, "out of memory"),
        ("JOB_SUPERVISOR_ACTOR_DIED", "no room on /data", None, "its node died"),
        ("JOB_ENTRYPOINT_COMMAND_ERROR", "failed with exit code -9", -9, "killed (SIGKILL), perhaps because"),
        ("JOB_ENTRYPOINT_COMMAND_ERROR", "failed, logs:\n/runs/a is not on this node: x", 1, "is not on this node"),
        ("JOB_ENTRYPOINT_COMMAND_ERROR", "failed with exit code 1. No logs available.", 1, "ended with status 1"),
        ("RUNTIME_ENV_SETUP_FAILURE", "pip", None, "could not set up its environment"),
        (
            "JOB_SUPERVISOR_ACTOR_START_FAILURE",
            "Failed to start supervisor actor a: 'GPU quantities must be whole'. Full traceback:\n...",
            None,
            "Ray refuses what it asks for: 'GPU quantities must be whole'; look at `gpus`",
        ),
        ("SOMETHING_NEW", "a new\nreason", None, "its job failed: a new reason"),
        ("", "", None, "Ray does not say why"),
    ],
)
def test_failure_is_explained(error_type: str, message: str, status: int | None, explained: str) -> None:
    assert explained in explain_failure(error_type, message, status)


def test_killed_job_may_have_been_out_of_time_where_it_had_a_limit(root: Path, ray: RayDashboard) -> None:
    killed = {"status": "FAILED", "driver_exit_code": -9}
    limited = {**killed, "metadata": {LIMIT: "3600"}}
    found = reports(root, ray, limited=limited, unlimited=killed)
    assert "time limit (`time`) was reached, or the memory" in found["limited"].reason
    assert "time limit" not in found["unlimited"].reason and "memory" in found["unlimited"].reason


def test_run_is_not_locked_while_ray_is_asked_about_its_expired_job(
    root: Path, ray: RayDashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, first = submitted(root)
    ask = RayApi.get

    def stop_meanwhile(self: RayApi, path: str, *arguments: Any) -> Any:
        if path.endswith(first.job):
            with locked(folder / files.LOCK, timeout_s=0.0):
                write_state(folder, replace(read_state(folder), state="stopped"))
        return ask(self, path, *arguments)

    monkeypatch.setattr(RayApi, "get", stop_meanwhile)
    engine(root).resubmit(folder)
    assert read_state(folder).state == "stopped" and record_of(folder) == first


def test_job_that_no_node_can_take_says_what_is_missing() -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 64.0}]
    assert "it waits for 2 GPUs" in explain_waiting({"GPU": 2.0}, nodes)
    assert "no node has 4 GPUs: the most that one has is 2 GPUs" in explain_waiting({"GPU": 4.0}, nodes)
    assert "none has all of it" in explain_waiting({"CPU": 16.0, "GPU": 1.0}, nodes)
    named = explain_waiting(
        {"fast_disk": 1.0, "accelerator_type:A100": 0.01}, [{"fastDisk": 2.0, "acceleratorType:A100": 1.0}]
    )
    assert named == "it waits for 1 fast_disk, 0.01 accelerator_type:A100"  # which the dashboard spells otherwise
    assert "1.5 GiB of memory" in explain_waiting({"memory": 1.5 * 1024**3}, nodes)
    assert explain_waiting({}, []) == "Ray has not started it yet"


@pytest.mark.parametrize(
    ("refuse", "explained"),
    [
        ((500, "Traceback:\nRuntimeError: no job agent\n.\n"), r"Ray refuses: RuntimeError: no job agent \(500\)"),
        ((404, "404: Not Found"), "there is no job interface of Ray at .* is `address` that of the dashboard"),
        ((302, "http://elsewhere/"), "it is redirected to http://elsewhere/"),
        ((200, "<html>"), "answers, but not as Ray's dashboard does"),
    ],
)
def test_refused_run_has_failed_with_a_sentence_and_can_be_resumed(
    root: Path, ray: RayDashboard, refuse: tuple[int, str], explained: str
) -> None:
    ray.refuse = refuse
    with pytest.raises(EngineError, match=explained):
        runs.submit(root, CONFIG, "net", engine=NAME)
    (run,) = runs.list_runs(root)
    assert run.state.state == "failed"
    ray.refuse = None
    runs.resume(root, run.id)
    assert record_of(run.folder).job


def test_submission_whose_answer_is_lost_counts_where_ray_has_the_job(root: Path, ray: RayDashboard) -> None:
    ray.refuse_after = (504, "too late")
    _, record = submitted(root)
    assert record.job == record.name and len(ray.submitted) == 1


def test_submission_that_is_not_confirmed_is_found_and_submitted_once(root: Path, ray: RayDashboard) -> None:
    ray.refuse = (504, "too late")
    folder = root / runs.submit(root, CONFIG, engine=NAME)
    state = runs.get_run(root, folder.name).state
    assert state.state == "queued" and state.message.startswith(f"submission not confirmed: {NAME} did not say whether")
    ray.refuse = None
    runs.resume(root, folder.name)
    assert record_of(folder).job == record_of(folder).name and len(ray.submitted) == 1
    write_engine(folder, replace(record_of(folder), job="", problem="too late"))
    runs.resume(root, folder.name)  # Ray has it, which was not known
    assert record_of(folder).job == record_of(folder).name and len(ray.submitted) == 1


def test_dashboard_that_cannot_be_reached_got_no_submission(root: Path, dashboard: RayDashboard) -> None:
    declare(root, dashboard, address="http://127.0.0.1:9")
    with pytest.raises(EngineError, match="does not answer"):
        runs.submit(root, CONFIG, engine=NAME)
    assert [run.state.state for run in runs.list_runs(root)] == ["failed"]


def test_token_is_sought_where_ray_seeks_it(
    root: Path, dashboard: RayDashboard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    declare(root, dashboard, 'token_file = ""')
    with pytest.raises(EngineError, match="it asks for a token: name its file as `token_file`"):
        engine(root).status_many(["a"])
    home = tmp_path / "home" / ".ray" / "auth_token"
    home.parent.mkdir(parents=True)
    home.write_text("old")
    with pytest.raises(EngineError, match=r"refuses the token of .*auth_token"):
        engine(root).status_many(["a"])
    home.write_text(TOKEN)
    assert engine(root).status_many(["a"])["a"].state == "unknown"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(EngineError, match="expected a file with Ray's token"):
        engine(root).status_many(["a"])
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a\nb")
    with pytest.raises(EngineError, match="expected a token of one line") as caught:
        engine(root).status_many(["a"])
    assert "a\nb" not in str(caught.value)


def test_silent_dashboard_is_named_with_its_address(root: Path, dashboard: RayDashboard) -> None:
    declare(root, dashboard, address="http://127.0.0.1:9")
    with pytest.raises(EngineError, match=r"its dashboard at http://127\.0\.0\.1:9 does not answer"):
        engine(root).status_many(["a"])


def test_engine_without_jobs_is_asked_for_an_answer_alone(root: Path, ray: RayDashboard) -> None:
    engine(root).ping()
    assert ray.asked == [f"GET {JOBS}"]
    ray.refuse = (403, "Forbidden: Invalid authentication token")
    with pytest.raises(EngineError, match="it refuses the token"):
        engine(root).ping()


def test_cancelling_a_job_that_is_forgotten_has_no_effect(root: Path, ray: RayDashboard) -> None:
    engine(root).cancel("never-there")


def test_devices_that_make_no_whole_gpus_are_refused_before_a_run_is_made(root: Path, dashboard: RayDashboard) -> None:
    declare(root, dashboard, "gpus = 0.4")
    with pytest.raises(ConfigError, match=r"devices: expected a number that asks Ray for whole GPUs at 0\.4 each"):
        runs.submit(root, CONFIG.with_values({"devices": 3}), engine=NAME)
    assert runs.list_runs(root) == []


def test_check_names_what_no_node_has(root: Path, dashboard: RayDashboard) -> None:
    declare(root, dashboard, "gpus = 8")
    held = {check.what: check.held for check in engine(root).check(root)}
    assert held == {"token": True, "dashboard": True, "nodes": True, "resources": False}
    dashboard.nodes = []
    held = {check.what: check.held for check in engine(root).check(root)}
    assert not held["nodes"] and dashboard.submitted == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("1:30", 90), ("2:00:00", 7200), ("1-0", 86400), ("1-2:30", 95400), ("1-0:0:5", 86405)],
)
def test_time_limit_is_read_as_slurm_reads_it(text: str, seconds: int) -> None:
    assert time_limit_s(text) == seconds
