"""Slurm as an engine, with stand-ins for its clients: what is asked for, found again, understood and explained."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from core import cli, runs
from core.errors import ConfigError, RunError
from core.presets import preset
from core.runs import engine_poller, groups
from core.runs.engines.engine import EngineError
from core.runs.engines.registry import get_engine
from core.runs.engines.slurm import JOB_FIELDS
from core.runs.engines.slurm_reasons import explain_end, explain_refusal, explain_waiting
from core.runs.launch import create_run
from core.runs.processes.engine_job import EngineJob
from core.runs.store import folder as files
from core.runs.store.engine_records import (
    ENGINE,
    JOB_SIGNAL_S,
    LOCAL,
    EngineRecord,
    change_engine,
    read_engine,
    write_engine,
)
from core.runs.store.state import read_state
from core.runs.store.submissions import submission
from tests.support.cluster.slurm_clients import SlurmClients, job_line
from tests.support.elsewhere import CLUSTER, SETTINGS

CONFIG = preset("quick").with_values({"path": "demo", "devices": 2})


@pytest.fixture
def slurm(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmClients:
    (root / "engines.toml").write_text(
        SETTINGS + 'partition = "gpu"\ntime = "1:00:00"\ncpus = 4\nmemory = "9G"\nextra = ["--qos=long"]\n'
    )
    clients = SlurmClients(tmp_path / "bin", monkeypatch)
    clients.answer("sbatch", "42\n")
    return clients


def queued(root: Path, number: int = 1) -> list[Path]:
    return [create_run(root, CONFIG, engine=CLUSTER) for _ in range(number)]


def test_job_asks_for_what_run_and_settings_need(root: Path, slurm: SlurmClients) -> None:
    (folder,) = queued(root)
    runs.start_queued(root, [folder.name], "toy")
    (call,) = slurm.calls("sbatch")
    for option in ("--partition=gpu", "--time=1:00:00", "--gres=gpu:2", "--cpus-per-task=8", "--mem=9G", "--qos=long",
                   "--requeue", "--signal=B:TERM@120", f"--job-name={folder.name}-1"):  # fmt: skip
        assert f" {option}" in f" {call}"
    assert "--array" not in call and f"folders=({folder})" in slurm.script
    assert "exec " in slurm.script.splitlines()[-1] and '"$folder" --worker toy' in slurm.script
    assert f" {JOB_SIGNAL_S}=120\n" in slurm.script  # for what the run says of the signal
    record = read_engine(folder)
    assert record is not None and (record.engine, record.job, record.task) == (CLUSTER, "42", None)


def test_several_runs_are_one_job_array(root: Path, slurm: SlurmClients) -> None:
    folders = queued(root, 3)
    runs.start_queued(root, [folder.name for folder in folders], "toy")
    (call,) = slurm.calls("sbatch")
    assert "--array=0-2" in call
    assert [record.job for f in folders if (record := read_engine(f))] == ["42_0", "42_1", "42_2"]


def test_submission_that_was_killed_before_it_was_noted_is_found_again(root: Path, slurm: SlurmClients) -> None:
    (folder,) = queued(root)
    write_engine(folder, EngineRecord(CLUSTER, f"{folder.name}-1", None, "", 0.0))
    slurm.answer("squeue", "41\n")
    runs.start_queued(root, [folder.name], "toy")
    assert slurm.calls("sbatch") == []
    record = read_engine(folder)
    assert record is not None and record.job == "41"
    runs.start_queued(root, [folder.name], "toy")  # again: it has a job
    assert slurm.calls("sbatch") == []


def test_submission_that_never_reached_the_cluster_fails_with_what_to_do(root: Path, slurm: SlurmClients) -> None:
    (folder,) = queued(root)
    write_engine(folder, EngineRecord(CLUSTER, f"{folder.name}-1", None, "", 0.0))
    os.utime(folder / ENGINE, (0.0, 0.0))
    engine_poller.ask(root, get_engine(root, CLUSTER))
    assert read_state(folder).state == "failed" and "interrupted" in read_state(folder).message


@pytest.fixture
def unconfirmed(root: Path, slurm: SlurmClients) -> Path:
    """A run whose submission was not answered."""
    slurm.answer("sbatch", "", 1, "sbatch: error: Socket timed out on send/recv operation")
    folder = root / runs.submit(root, CONFIG, "net", engine=CLUSTER)
    state = runs.get_run(root, folder.name).state
    assert (state.state, read_state(folder).state) == ("queued", "queued")
    assert state.message.startswith(f"submission not confirmed: {CLUSTER} did not say whether it took it")
    assert "Socket timed out" in state.message and len(slurm.calls("sbatch")) == 1
    slurm.answer("sbatch", "43\n")
    return folder


@pytest.mark.fault(56, "engine does not answer a submission: not confirmed, its job found by name, no second job")
def test_job_of_a_submission_that_was_not_answered_is_found_by_its_name(
    root: Path, slurm: SlurmClients, unconfirmed: Path
) -> None:
    name = read_engine(unconfirmed).name  # type: ignore[union-attr]
    waits = job_line("41", "PENDING", "Resources")
    (slurm.folder / "squeue").write_text(
        f'#!/bin/bash\necho "squeue $*" >>{slurm.folder}/calls\n'
        f'case " $* " in *" --name {name} "*) echo "41|{name}" ;; *) echo "{waits}" ;; esac\n'
    )
    engine_poller.ask(root, get_engine(root, CLUSTER))
    record = read_engine(unconfirmed)
    assert record is not None and (record.job, record.problem) == ("41", "")
    assert runs.get_run(root, unconfirmed.name).state.message == "it waits for free nodes, GPUs or memory"
    assert len(slurm.calls("sbatch")) == 1


@pytest.mark.parametrize("taken", [True, False])
def test_submission_that_was_not_answered_is_tried_again_without_a_second_job(
    root: Path, slurm: SlurmClients, unconfirmed: Path, taken: bool
) -> None:
    slurm.answer("squeue", "41\n" if taken else "")
    runs.resume(root, unconfirmed.name)
    record = read_engine(unconfirmed)
    assert record is not None and record.job == ("41" if taken else "43") and not record.problem
    assert len(slurm.calls("sbatch")) == (1 if taken else 2) and read_state(unconfirmed).state == "queued"
    with pytest.raises(RunError, match="expected a stopped, failed or crashed run, it is queued"):
        runs.resume(root, unconfirmed.name)


def test_submission_that_was_not_answered_has_failed_once_the_cluster_says_that_it_has_no_such_job(
    root: Path, slurm: SlurmClients, unconfirmed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = get_engine(root, CLUSTER)
    monkeypatch.setattr(engine, "poll_s", 0.0)
    assert engine_poller.ask(root, engine)
    assert read_state(unconfirmed).state == "queued", "its request may be on its way for a minute"
    monkeypatch.setattr("core.runs.store.heartbeat.OLD_S", 0.0)
    slurm.answer("squeue", "", 1, "squeue: error: Unable to contact slurm controller")
    assert engine_poller.ask(root, engine)
    assert read_state(unconfirmed).state == "queued", "nothing is known of it"
    slurm.answer("squeue", "")
    assert engine_poller.ask(root, engine)
    assert read_state(unconfirmed).state == "failed"
    assert f"{CLUSTER} has no job of its submission, it was not taken" in read_state(unconfirmed).message
    runs.resume(root, unconfirmed.name)
    assert read_engine(unconfirmed).job == "43"  # type: ignore[union-attr]


def test_submission_that_another_process_tries_again_is_left_to_it(
    root: Path, slurm: SlurmClients, unconfirmed: Path
) -> None:
    def resume_too() -> None:
        with pytest.raises(RunError, match="being submitted to gpu-cluster just now"):
            runs.resume(root, unconfirmed.name)

    with submission(root) as lease:
        record = read_engine(unconfirmed)
        assert record is not None
        write_engine(unconfirmed, replace(record, lease=lease, problem=""))
        with ThreadPoolExecutor() as other:
            other.submit(resume_too).result()
    assert len(slurm.calls("sbatch")) == 1


def test_submission_that_was_not_answered_goes_to_another_engine(
    root: Path, slurm: SlurmClients, unconfirmed: Path, no_supervisor: None
) -> None:
    earlier = read_engine(unconfirmed)
    assert earlier is not None
    runs.resume(root, unconfirmed.name, engine=LOCAL)
    assert read_engine(unconfirmed) is None and runs.queued_runs(root) == [unconfirmed.name]
    assert not EngineJob("41", name=earlier.name).is_of(EngineRecord(CLUSTER, "another-name"))


def test_command_that_gets_no_answer_prints_the_run_and_how_to_try_again(
    root: Path, slurm: SlurmClients, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.answer("sbatch", "", 1, "sbatch: error: Socket timed out on send/recv operation")
    arguments = ["submit", "demo", "--preset", "quick", "--checkpoints", str(root), "--engine", CLUSTER]
    assert cli.main(arguments) == 1
    printed = capsys.readouterr()
    (run,) = runs.list_runs(root)
    assert printed.out == f"{run.id}\n" and run.state.state == "queued"
    assert "submission not confirmed" in printed.err and f"runs resume {run.id}" in printed.err
    slurm.answer("sbatch", "43\n")
    assert cli.main(["runs", "resume", run.id, "--checkpoints", str(root)]) == 0
    assert capsys.readouterr().out == f"{run.id}: queued\n" and read_engine(run.folder).job == "43"  # type: ignore[union-attr]


@pytest.mark.parametrize("found", [True, False])
def test_folds_whose_submission_was_not_answered_are_submitted_again_together(
    root: Path, slurm: SlurmClients, found: bool
) -> None:
    slurm.answer("sbatch", "", 1, "sbatch: error: Socket timed out on send/recv operation")
    group = groups.submit_folds(root, CONFIG.with_values({"folds": 3}), "folds", engine=CLUSTER)
    assert {run.state.state for run in groups.summarise(root, group).runs} == {"queued"}
    slurm.answer("sbatch", "43\n")
    slurm.answer("squeue", "41\n" if found else "")
    groups.resume_group(root, group)
    number = "41" if found else "43"
    assert [read_engine(root / run).job for run in group.runs] == [f"{number}_{n}" for n in range(3)]  # type: ignore[union-attr]
    assert len(slurm.calls("sbatch")) == (1 if found else 2)


def test_run_of_an_array_that_is_queued_again_has_a_job_of_its_own(root: Path, slurm: SlurmClients) -> None:
    first, second = queued(root, 2)
    runs.start_queued(root, [first.name, second.name], "toy")
    runs.request_stop(root, first.name)
    before = read_engine(second)
    assert before is not None
    # The other run of the array still waits: the cluster has a living job of that name.
    asked = f'[[ " $* " != *" --name {before.name} "* ]]'
    (slurm.folder / "squeue").write_text(f'#!/bin/bash\n{asked} || echo "42|{before.name}"\n')
    slurm.answer("sbatch", "43\n")
    time.sleep(0.002)  # names differ by milliseconds
    runs.resume(root, first.name)
    again = read_engine(first)
    assert again is not None and (again.job, again.task) == ("43", None) and again.name != before.name


def test_answer_that_comes_after_the_run_was_queued_again_is_not_noted(root: Path, slurm: SlurmClients) -> None:
    (folder,) = queued(root)
    record = change_engine(folder, EngineRecord(CLUSTER), name="first")
    assert record is not None
    write_engine(folder, EngineRecord(CLUSTER, "second"))
    assert change_engine(folder, record, job="41") is None
    assert read_engine(folder) == EngineRecord(CLUSTER, "second")


def test_refusal_that_comes_after_the_run_was_queued_again_fails_nothing(
    root: Path, slurm: SlurmClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder,) = queued(root)
    again = EngineRecord(CLUSTER, "of-another-process", lease="its-lease")

    def refuse(*_: object) -> None:
        write_engine(folder, again)  # stopped and resumed there, while this process waits for an answer
        raise EngineError("no")

    monkeypatch.setattr("core.runs.engines.slurm.SlurmEngine.submit", refuse)
    with pytest.raises(EngineError):
        runs.start_queued(root, [folder.name])
    assert read_state(folder).state == "queued" and read_engine(folder) == again


@pytest.mark.parametrize(
    ("said", "explained"),
    [
        ("sbatch: error: Batch job submission failed: Invalid partition name specified", "there is no such partition"),
        ("sbatch: error: Unable to contact slurm controller (connect failure)", "its controller does not answer"),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", "lower `gpus`"),
        ("sbatch: error: something new", "sbatch failed: something new"),
    ],
)
def test_refused_run_has_failed_with_a_sentence_and_can_be_resumed(
    root: Path, slurm: SlurmClients, said: str, explained: str
) -> None:
    slurm.answer("sbatch", "", 1, said)
    with pytest.raises(EngineError, match=explained):
        runs.submit(root, CONFIG, "net", engine=CLUSTER)
    (run,) = runs.list_runs(root)
    assert run.state.state == "failed" and explained in run.state.message
    slurm.answer("sbatch", "43\n")
    runs.resume(root, run.id)
    record = read_engine(run.folder)
    assert record is not None and record.job == "43"


def test_devices_that_the_nodes_cannot_share_are_refused_before_a_run_is_made(root: Path, slurm: SlurmClients) -> None:
    (root / "engines.toml").write_text(SETTINGS + "nodes = 2\n")
    with pytest.raises(ConfigError, match="devices: expected a multiple of the 2 nodes"):
        runs.submit(root, CONFIG.with_values({"devices": 3}), engine=CLUSTER)
    assert runs.list_runs(root) == [] and slurm.calls("sbatch") == []


def test_job_on_several_nodes_names_where_they_meet(root: Path, slurm: SlurmClients) -> None:
    (root / "engines.toml").write_text(SETTINGS + 'nodes = 2\nnetwork = "eth0"\nport = 4321\n')
    (folder,) = queued(root)
    runs.start_queued(root, [folder.name], "toy")
    assert "--nodes=2" in slurm.calls("sbatch")[0] and "--gres=gpu:1" in slurm.calls("sbatch")[0]
    assert ":4321" in slurm.script and "GLOO_SOCKET_IFNAME=eth0" in slurm.script and "srun" in slurm.script


def test_one_question_reports_all_jobs(root: Path, slurm: SlurmClients) -> None:
    lines = [
        job_line("42_0", "RUNNING", nodes="n1", gres="gres:gpu:a100:2", restarts=2),
        job_line("42_1", "PENDING", "Resources", gres="gres:gpu:2", restarts=1),
        job_line("43", "TIMEOUT", "TimeLimit", nodes="n2"),
        job_line("44", "CANCELLED"),
    ]
    slurm.answer("squeue", "\n".join(lines))
    slurm.answer("sacct", "45|OUT_OF_MEMORY|n3\n")
    reports = get_engine(root, CLUSTER).status_many(["42_0", "42_1", "43", "44", "45", "46"])
    assert {job: report.state for job, report in reports.items()} == {
        "42_0": "running", "42_1": "waiting", "43": "ended", "44": "ended", "45": "ended", "46": "unknown",
    }  # fmt: skip
    assert reports["42_0"].place == "n1, 2 GPUs" and "free nodes" in reports["42_1"].reason
    assert reports["43"].reason.startswith("out of time") and reports["44"].cancelled
    assert "out of memory" in reports["45"].reason and "does not know" in reports["46"].reason
    assert [reports[job].restarts for job in ("42_0", "42_1", "43", "45")] == [2, 1, 0, 0]
    (call,) = slurm.calls("squeue")
    assert f"-O {','.join(f'{name}:{width}' for name, width in JOB_FIELDS.items())} " in call


def test_task_of_an_array_is_recognised_in_both_forms_of_its_number(root: Path, slurm: SlurmClients) -> None:
    full = job_line("42_1", "RUNNING", nodes="n1")
    slurm.answer("squeue", f"{full}\n{job_line('43_1', 'RUNNING').replace('43_1', '43  ')}")
    reports = get_engine(root, CLUSTER).status_many(["42_1", "43_1"])
    assert {report.state for report in reports.values()} == {"running"}


def test_engine_without_jobs_is_asked_for_an_answer_alone(root: Path, slurm: SlurmClients) -> None:
    get_engine(root, CLUSTER).ping()
    assert len(slurm.calls("sinfo")) == 1 and not slurm.calls("squeue")
    slurm.answer("sinfo", "", 1, "slurm_load_partitions: Unable to contact slurm controller (connect failure)")
    with pytest.raises(EngineError, match="its controller does not answer"):
        get_engine(root, CLUSTER).ping()


def test_job_that_the_controller_has_forgotten_is_unknown(root: Path, slurm: SlurmClients) -> None:
    slurm.answer("squeue", "", 1, "slurm_load_jobs error: Invalid job id specified")
    slurm.answer("sacct", "", 1, "Slurm accounting storage is disabled")
    assert get_engine(root, CLUSTER).status_many(["42"])["42"].state == "unknown"


def test_controller_that_does_not_answer_is_an_error_in_time(root: Path, slurm: SlurmClients) -> None:
    (root / "engines.toml").write_text(SETTINGS + "timeout_s = 0.1\n")
    (slurm.folder / "squeue").write_text("#!/bin/bash\nexec sleep 60\n")
    with pytest.raises(EngineError, match=r"squeue did not answer within 0.1 s"):
        get_engine(root, CLUSTER).status_many(["42"])


def test_cluster_without_client_says_what_to_install(
    root: Path, slurm: SlurmClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(root))
    (check,) = get_engine(root, CLUSTER).check(root)
    assert not check.held and "install Slurm's client" in check.found


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        ("NODE_FAIL", "None", "node failed"),
        ("PREEMPTED", "None", "preempted"),
        ("OUT_OF_MEMORY", "OutOfMemory", "raise `memory`"),
        ("FAILED", "RaisedSignal:9(Killed)", "signal 9(Killed)"),
        ("FAILED", "NonZeroExitCode", "look at the output"),
        ("COMPLETED", "None", "did not report"),
        ("SOMETHING_NEW", "None", "ended as SOMETHING_NEW"),
    ],
)
def test_end_of_a_job_is_explained(state: str, reason: str, said: str) -> None:
    assert said in explain_end(state, reason)


def test_reasons_to_wait_are_explained_and_new_ones_quoted() -> None:
    assert "account or QOS" in explain_waiting("QOSMaxJobsPerUserLimit")
    assert "node that it needs" in explain_waiting("ReqNodeNotAvail, UnavailableNodes:n1")
    assert explain_waiting("Novelty") == "Slurm says: Novelty"
    assert explain_refusal("squeue", "") == "squeue failed: nothing"


def test_cancelled_in_the_queue_is_stopped_and_its_job_cancelled(root: Path, slurm: SlurmClients) -> None:
    (folder,) = queued(root)
    runs.start_queued(root, [folder.name], "toy")
    assert runs.request_stop(root, folder.name).state == "stopped"
    assert slurm.calls("scancel") == ["42"]
    assert "waited in the queue" in read_state(folder).message
    runs.delete(root, folder.name)


def test_queued_run_of_a_cluster_is_not_deleted_before_it_is_stopped(root: Path, slurm: SlurmClients) -> None:
    (folder,) = queued(root)
    runs.start_queued(root, [folder.name], "toy")
    with pytest.raises(RunError, match="stop it first"):
        runs.delete(root, folder.name)
    assert (folder / files.CONFIG).is_file()


def test_jobs_of_several_submissions_are_looked_for_by_their_names_in_one_call(root: Path, slurm: SlurmClients) -> None:
    lines = ["43|b", "41|a", "42|a", "44|of-another-user"]
    (slurm.folder / "squeue").write_text(
        f'#!/bin/bash\necho "squeue $*" >>{slurm.folder}/calls\nprintf "%s\\n" {" ".join(map(repr, lines))}\n'
    )
    records = [
        EngineRecord(CLUSTER, "a", 3),
        EngineRecord(CLUSTER, "b"),
        EngineRecord(CLUSTER, "c"),
        EngineRecord(CLUSTER),
    ]
    assert get_engine(root, CLUSTER).find(records) == ["42_3", "43", "", ""]
    (call,) = slurm.calls("squeue")
    assert "--name a,b,c " in call and "-o %F|%j" in call
    assert get_engine(root, CLUSTER).find(records[-1:]) == [""] and len(slurm.calls("squeue")) == 1
