"""``train`` and ``submit`` as real commands with a toy trainer: output, exit status, interrupts."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from core import runs
from core.processes import kill_tree, module_environment
from core.runs.store import folder as files
from tests.support.watching import TIMEOUT_S, TOYS, wait_until

RUN_ID = r"[a-z0-9-]+-\d{8}-\d{6}-[0-9a-z]{4}"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")


@pytest.fixture
def command(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command in a new process group, as a shell does."""
    monkeypatch.setenv("PYTHONPATH", str(TOYS))

    def start(*arguments: str, mode: str = "normal", epoch_s: float = 0.05, **options: Any) -> subprocess.Popen[str]:
        environment = {**module_environment(), "TOY": mode, "TOY_EPOCH_S": str(epoch_s)}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        words = [sys.executable, "-m", "toy_commands", *arguments]
        return subprocess.Popen(words, env=environment, text=True, start_new_session=True, **options)

    yield start
    for process in psutil.process_iter(["cmdline"]):
        if any(str(checkpoints) in word for word in process.info["cmdline"] or []):
            kill_tree(process.pid)


def only_run(root: Path) -> runs.RunSummary:
    (run,) = runs.list_runs(root)
    return run


def wait_for_first_epoch(root: Path) -> runs.RunSummary:
    wait_until(lambda: [run for run in runs.list_runs(root) if run.state.epoch >= 1])
    return only_run(root)


@pytest.mark.slow
def test_first_line_of_train_is_only_the_run_id(
    checkpoints: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    process = command("train", "demo", "--preset", "quick", "--epochs", "3", "--name", "My net")
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, errors
    assert re.fullmatch(RUN_ID, output.strip()) and output.startswith("my-net-")
    run = only_run(checkpoints)
    assert (run.id, run.name, run.state.state, run.state.epoch) == (output.strip(), "My net", "finished", 3)
    assert "epoch 3" in errors and "validation Dice 0.500 (CSF 0.500, GM " in errors
    assert f"tensorboard --logdir {run.folder / 'tensorboard'}" in errors
    assert "epoch 3" in runs.log_tail(checkpoints, run.id)
    assert files.read_json(run.folder / files.EXIT)["returncode"] == 0


@pytest.mark.slow
def test_failed_run_is_one_line_with_exit_status_1(
    checkpoints: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    process = command("train", "demo", mode="user_error")
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert re.fullmatch(RUN_ID, output.strip())
    assert [line for line in errors.splitlines() if line.startswith("error: ")] == [
        f"error: expected a label for subject 3, got none; add it (log: {only_run(checkpoints).folder / 'log.txt'})"
    ]
    assert "Traceback" not in errors
    assert only_run(checkpoints).state.state == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "submit"])
def test_missing_data_set_makes_no_run(
    checkpoints: Path, command: Callable[..., subprocess.Popen[str]], name: str
) -> None:
    process = command(name, str(checkpoints / "nowhere"))
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, output) == (1, "")
    assert len(errors.splitlines()) == 1 and errors.startswith("error: ") and "nowhere" in errors
    assert runs.list_runs(checkpoints) == []


@pytest.mark.slow
@pytest.mark.parametrize("target", ["process group", "process"])
def test_ctrl_c_saves_and_stops(checkpoints: Path, command: Callable[..., subprocess.Popen[str]], target: str) -> None:
    process = command("train", "demo", "--epochs", "1000", epoch_s=0.2)
    run = wait_for_first_epoch(checkpoints)
    (os.killpg if target == "process group" else os.kill)(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    assert "Traceback" not in errors and f"python -m core runs resume {run.id}" in errors
    assert only_run(checkpoints).state.state == "stopped"
    runs.resume(checkpoints, run.id, worker="toy_worker")
    wait_until(lambda: only_run(checkpoints).state.attempt == 2 and only_run(checkpoints).state.state == "running")


@pytest.mark.slow
def test_second_ctrl_c_ends_at_once(checkpoints: Path, command: Callable[..., subprocess.Popen[str]]) -> None:
    process = command("train", "demo", "--epochs", "1000", mode="unstoppable", epoch_s=0.1)
    wait_for_first_epoch(checkpoints)
    os.killpg(process.pid, signal.SIGINT)
    wait_until(lambda: only_run(checkpoints).state.state == "stopping")
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    assert only_run(checkpoints).state.message.startswith("killed on request")


@pytest.mark.slow
def test_killed_trainer_is_an_error_that_names_the_signal(
    checkpoints: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    process = command("train", "demo", "--epochs", "1000", epoch_s=0.1)
    pid = wait_for_first_epoch(checkpoints).state.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "error: its process was killed by SIGKILL" in errors
    assert only_run(checkpoints).state.state == "crashed"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux signals the death of a parent")
def test_trainer_saves_and_stops_when_its_command_is_killed(
    checkpoints: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    process = command("train", "demo", "--epochs", "1000", epoch_s=0.1, stderr=subprocess.DEVNULL)
    run = wait_for_first_epoch(checkpoints)
    process.kill()
    wait_until(lambda: only_run(checkpoints).state.state == "stopped")
    assert run.state.pid is not None
    wait_until(lambda: not psutil.pid_exists(run.state.pid) or psutil.Process(run.state.pid).status() == "zombie")
    process.communicate()


@pytest.mark.slow
def test_terminal_shows_one_bar_with_dice_per_class(
    checkpoints: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    import pty

    controller, terminal = pty.openpty()
    process = command("train", "demo", "--epochs", "4", epoch_s=0.4, stderr=terminal)
    os.close(terminal)
    output = b""
    while select.select([controller], [], [], TIMEOUT_S)[0]:
        try:
            output += os.read(controller, 65536)
        except OSError:  # the terminal is closed
            break
    process.communicate(timeout=TIMEOUT_S)
    os.close(controller)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", output.decode())
    assert process.returncode == 0
    assert "Ctrl-C saves a checkpoint and stops" in text
    assert "Dice 0.500 (CSF 0.500, GM " in text
    assert re.search(r"epoch 2/4 .*loss 0\.500 .*0:01 left", text)


@pytest.mark.slow
def test_submit_prints_only_the_run_id_and_the_run_finishes_without_it(
    checkpoints: Path, command: Callable[..., subprocess.Popen[str]]
) -> None:
    process = command("submit", "demo", "--preset", "quick", "--epochs", "2")
    output, errors = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, errors) == (0, "")
    assert re.fullmatch(RUN_ID + "\n", output)
    wait_until(lambda: only_run(checkpoints).state.state == "finished")
