"""Questions about networks are answered by a child process and kept; the asking process needs no torch."""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.config import ModelConfig, TrainConfig
from core.errors import UserError
from core.paths import project_root
from core.processes import JsonLinesChild
from tests.support.background_jobs import poll
from ui.shared.network_inspector import CHILD, EstimateError, NetworkInspector

NETWORK = {
    "question": "network",
    "model": {"model": "unet3d", "channels": [2, 4]},
    "in_channels": 1,
    "classes": 2,
    "size": [8, 8, 6],
}


def answer_of(inspector: NetworkInspector, question: dict[str, Any]) -> dict[str, Any]:
    """The answer, once it is there."""
    answer = poll(lambda: inspector.ask(question), lambda found: found is not None)
    assert answer is not None
    return answer


@pytest.mark.slow
def test_answers_come_from_one_child_and_are_kept(tmp_path: Path) -> None:
    inspector = NetworkInspector(tmp_path)
    assert inspector.ask(NETWORK) is None
    answer = answer_of(inspector, NETWORK)
    from core.models.build import build_model

    network = build_model(ModelConfig(channels=(2, 4)), 1, 2)
    assert answer["parameters"] == sum(p.numel() for p in network.parameters())
    assert [(s["kind"], s["channels"], s["size"]) for s in answer["stages"]][-1] == ("logits", 2, [8, 8, 6])
    child = CHILD.process
    config = TrainConfig().with_values({"channels": [2, 4], "sub_volume": [8, 8, 8]})
    step = {"question": "training_step", "config": config.to_json(), "in_channels": 1, "classes": 2}
    cost = answer_of(inspector, {**step, "device": "cpu", "ignore": False})
    assert cost["parameters"] == answer["parameters"] and cost["step_bytes"] > 0
    assert CHILD.process is child
    again = NetworkInspector(tmp_path)
    assert again.ask(NETWORK) == answer

    with pytest.raises(UserError, match="unet4d"):
        answer_of(inspector, {**NETWORK, "model": {"model": "unet4d"}})
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    other = {**NETWORK, "size": [10, 8, 6]}
    assert answer_of(inspector, other)["stages"][-1]["size"] == [10, 8, 6]


@pytest.mark.long
@pytest.mark.slow
def test_child_ends_with_its_input_and_uses_no_cuda() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "core.inspection.network_inspector"],
        cwd=project_root(), input=json.dumps(NETWORK) + "\n", capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert set(json.loads(done.stdout)["answer"]) == {"parameters", "forward_gflop", "stages"}


@pytest.mark.slow
def test_child_ends_by_itself_without_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    from core.inspection import network_inspector

    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as silent, os.fdopen(write_end, "w"):
        monkeypatch.setattr(sys, "stdin", silent)
        monkeypatch.setattr(network_inspector, "IDLE_S", 0.01)
        network_inspector.main()


def test_only_the_newest_questions_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Callable[[], None]] = []

    class Thread:
        def __init__(self, target: Callable[[], None], **_: object) -> None:
            started.append(target)

        def start(self) -> None:
            """Leave the questions where they are."""

        def is_alive(self) -> bool:
            return True

    monkeypatch.setattr("ui.shared.network_inspector.threading.Thread", Thread)
    inspector = NetworkInspector(tmp_path)
    for number in range(50):
        assert inspector.ask({"number": number}) is None
    assert len(started) == 1
    assert [q["number"] for q in inspector._waiting.values()] == list(range(18, 50))


def test_code_of_a_user_that_never_ends_is_an_error_and_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ui.shared.network_inspector.OWN_CODE_S", 0.2)
    started = []

    def start() -> subprocess.Popen[str]:
        endless = [sys.executable, "-S", "-c", "while True: pass"]
        started.append(subprocess.Popen(endless, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    inspector = NetworkInspector(tmp_path, JsonLinesChild(start))
    question = {"question": "network", "model": {"model": "Net"}, "code": "digest"}
    changed = {**question, "code": "after the file was changed"}
    for asked in (question, question, changed):
        with pytest.raises(EstimateError, match=r"model: Net: estimating it took more than 0\.2 s of processor"):
            poll(functools.partial(inspector.ask, asked))
    assert len(started) == 2 and all(process.poll() is not None for process in started)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "cannot be used: Resource temporarily"),
        (json.JSONDecodeError("Expecting value", "hello", 0), "answered with a line that is not JSON"),
    ],
)
def test_a_child_that_cannot_be_used_is_an_error_and_asked_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, message: str
) -> None:
    child = JsonLinesChild(lambda: pytest.fail("no process is needed"))
    replies: list[Exception | dict[str, Any]] = [failure, {"answer": {"parameters": 5}}]

    def reply(question: object) -> dict[str, Any]:
        following = replies.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    monkeypatch.setattr(child, "ask", reply)
    inspector = NetworkInspector(tmp_path, child)
    with pytest.raises(EstimateError, match=f"model: unet3d: the estimate of the network failed: .*{message}"):
        poll(lambda: inspector.ask(NETWORK))
    monkeypatch.setattr("ui.shared.network_inspector.ERROR_S", 0.0)
    assert answer_of(inspector, NETWORK) == {"parameters": 5}


def test_a_thread_that_has_ended_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = JsonLinesChild(lambda: pytest.fail("no process is needed"))
    monkeypatch.setattr(child, "ask", lambda question: {"answer": {"parameters": 5}})
    inspector = NetworkInspector(tmp_path, child)
    ended = threading.Thread(target=lambda: None)
    ended.start()
    ended.join()
    inspector._thread = ended
    assert answer_of(inspector, NETWORK) == {"parameters": 5}
