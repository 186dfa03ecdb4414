"""Asks a child process what a network costs, so that the web server needs no torch; answers are kept on disk.

The child (:mod:`core.inspection.network_inspector`) starts with the first question and ends when idle. An answer is
kept under everything that decides it: the question, the code of :mod:`core`, and the versions of torch and MONAI.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import subprocess
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st

from core.compute.expected_device import expected_precision
from core.compute.priority import JOB_NICENESS, lower_priority
from core.config import ModelConfig, TrainConfig
from core.errors import UserError
from core.files import atomic_write
from core.models import architecture
from core.models.own_source import code_files
from core.processes import (
    PROJECT,
    JsonLinesChild,
    LimitExceededError,
    ProcessLimits,
    start_json_lines_module,
)
from core.training.plan import StepCost, TrainingPlan
from core.types import Size3
from ui.shared.hashes import files_hash, short_hash
from ui.shared.paths import cache_root

Answer = TypeVar("Answer")

FOLDER = "networks"
MAX_WAITING = 32  # questions; older ones are dropped, since their pages were left
ERROR_S = 30.0  # for which an error is shown before the question is asked again
OWN_CODE_ERROR_S = 600.0  # the same of code of users; it is asked at once when the code has changed
POLL_S = 0.2  # between looks at an answer that is worked out
MAX_WAIT_S = 120.0
OWN_CODE_S, OWN_CODE_BYTES = 60.0, 8 * 10**9  # longest answer about a user's own network, and its memory
ESTIMATE = "the estimate of the network"
PACKAGES = ("torch", "monai", "numpy")


class EstimateError(UserError):
    """The child process could not answer."""


def start_child(module: str) -> subprocess.Popen[str]:
    """Start a module that answers questions (:mod:`core.inspection.questions`), at low priority and without a GPU."""
    process = start_json_lines_module(
        module,
        {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        start_new_session=True,  # Ctrl-C is the server's: the process ends with its input
    )
    lower_priority(process.pid, JOB_NICENESS)
    return process


_start_child = partial(start_child, "core.inspection.network_inspector")
CHILD = JsonLinesChild(_start_child)  # one for the whole web server
OWN_CODE_CHILD = JsonLinesChild(_start_child)  # for code of users, which may never end


class NetworkInspector:
    """Answers from disk, and a thread that gets the others from a child process.

    Parameters
    ----------
    folder : Path. Where answers are kept; errors are forgotten after a while.
    child : JsonLinesChild. The process that answers.
    subject : str. What is asked for, as the begin of messages.
    max_kept : int. Answers that are kept; the oldest are removed. 0 for all.
    """

    def __init__(
        self,
        folder: Path,
        child: JsonLinesChild = CHILD,
        subject: str = ESTIMATE,
        max_kept: int = 0,
    ) -> None:
        self.folder = folder
        self._child, self._subject, self._max_kept = child, subject, max_kept
        self._decided_by = _code_digest()
        self._waiting: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._errors: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None

    def ask(self, question: dict[str, Any]) -> dict[str, Any] | None:
        """The answer to a question of :mod:`core.inspection.network_inspector`; ``None`` while it is worked out.

        Raises
        ------
        UserError
            If the answer is an error.
        """
        key = short_hash(json.dumps([self._decided_by, question], sort_keys=True))
        answer = self._read(key)
        if answer is not None:
            return answer
        with self._lock:
            failed_at, error = self._errors.get(key, (-math.inf, ""))
        if time.monotonic() - failed_at < (OWN_CODE_ERROR_S if question.get("code") else ERROR_S):
            raise EstimateError(error)
        self._enqueue(key, question)
        return None

    def _read(self, key: str) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = json.loads((self.folder / f"{key}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return answer

    def _enqueue(self, key: str, question: dict[str, Any]) -> None:
        with self._lock:
            self._waiting[key] = question
            self._waiting.move_to_end(key)
            while len(self._waiting) > MAX_WAITING:
                self._waiting.popitem(last=False)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="network inspector", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        """Answer the newest question until none is left."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                key = next(reversed(self._waiting))
                question = self._waiting[key]
            reply = self._reply(question)
            error = str(reply.get("error", ""))
            if not error:
                try:
                    self.folder.mkdir(parents=True, exist_ok=True)
                    atomic_write(self.folder / f"{key}.json", json.dumps(reply["answer"]))
                    self._remove_oldest()
                except OSError as reason:
                    error = f"{self.folder}: {self._subject} cannot be kept: {reason.strerror or reason}"
            with self._lock:
                self._waiting.pop(key, None)
                if error:
                    self._errors[key] = time.monotonic(), error
                self._news.notify_all()

    def _reply(self, question: dict[str, Any]) -> dict[str, Any]:
        """The reply of the child process, or an error in its place."""
        try:
            if not question.get("code"):
                reply = self._child.ask(question)
            else:  # anew: a file of the user's may have changed since the process read it
                reply = self._child.ask(question, lambda fresh: ProcessLimits(OWN_CODE_BYTES, OWN_CODE_S), anew=True)
        except LimitExceededError as error:
            return {"error": f"{_whose(question)}: estimating it took {error}; look for code that never ends"}
        except OSError as error:  # such as too little memory for another process
            return self._failure(question, f"its process cannot be used: {error.strerror or error}")
        except ValueError:  # such as a line that code of a user printed, whose answer follows it
            self._child.close()
            return self._failure(question, "its process answered with a line that is not JSON")
        if reply is None:
            return self._failure(question, f"its process ended with status {self._child.returncode}")
        return reply

    def _failure(self, question: dict[str, Any], reason: str) -> dict[str, Any]:
        whose = f"{_whose(question)}: " if self._subject == ESTIMATE else ""
        return {"error": f"{whose}{self._subject} failed: {reason}"}

    def _remove_oldest(self) -> None:
        if self._max_kept:
            kept = sorted(self.folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
            for file in kept[: -self._max_kept]:
                file.unlink(missing_ok=True)

    def wait(self, timeout_s: float) -> None:
        """Wait for the next answer, at most for a time."""
        with self._news:
            self._news.wait(timeout_s)


def step_cost(plan: TrainingPlan, ignore: bool = False) -> StepCost | None:
    """The cost of a training step of a plan; ``None`` while it is worked out.

    Parameters
    ----------
    plan : TrainingPlan. Plan.
    ignore : bool. Whether label maps have an ignore label.

    Raises
    ------
    UserError
        If the network cannot be built.
    """
    config = plan.config
    decisive = TrainConfig(model=config.model, loss=config.loss, optim=config.optim).with_values(
        {
            "sub_volume": config.sampling.sub_volume,
            "batch_size": config.sampling.batch_size,
            "precision": expected_precision(config.run.precision, plan.device),
        }
    )
    answer = _ask(
        {
            "question": "training_step",
            "config": decisive.to_json(),
            "in_channels": plan.in_channels,
            "classes": plan.classes,
            "device": plan.device,
            "ignore": ignore,
            "overlapping": plan.config.data.targets == "regions",
            "code": _own_code(config.model.model),
        }
    )
    return None if answer is None else StepCost(**answer)


def network_description(config: ModelConfig, in_channels: int, classes: int, size: Size3) -> dict[str, Any] | None:
    """Parameters, operations and stages of a network for an image size, as
    :mod:`core.inspection.network_inspector` gives them; ``None`` while they are worked out.

    Raises
    ------
    UserError
        If the network cannot be built.
    """
    return _ask(
        {
            "question": "network",
            "model": TrainConfig(model=config).to_json()["model"],
            "in_channels": in_channels,
            "classes": classes,
            "size": list(size),
            "code": _own_code(config.model),
        }
    )


def wait_for(
    answer: Callable[[], Answer | None], on_wait: Callable[[], object], inspector: NetworkInspector | None = None
) -> Answer | None:
    """An answer once it is worked out; ``None`` if that takes too long.

    Parameters
    ----------
    answer : callable. Such as a call of :func:`step_cost`.
    on_wait : callable. Called repeatedly while it waits; what it renders lets a click end the wait.
    inspector : NetworkInspector, optional. What is asked; by default that of :func:`step_cost`.
    """
    inspector = inspector or _inspector(cache_root() / FOLDER)
    deadline = time.monotonic() + MAX_WAIT_S
    while (found := answer()) is None and time.monotonic() < deadline:
        inspector.wait(POLL_S)
        on_wait()
    return found


def _ask(question: dict[str, Any]) -> dict[str, Any] | None:
    inspector = _own_code_inspector if question["code"] else _inspector
    return inspector(cache_root() / FOLDER).ask(question)


def _whose(question: dict[str, Any]) -> str:
    """The network of a question, as errors begin."""
    model = question["config"]["model"] if "config" in question else question["model"]
    return f"model: {model['model']}"


@st.cache_resource(show_spinner=False)
def _inspector(folder: Path) -> NetworkInspector:
    return NetworkInspector(folder)


@st.cache_resource(show_spinner=False)
def _own_code_inspector(folder: Path) -> NetworkInspector:
    return NetworkInspector(folder, OWN_CODE_CHILD)


def _own_code(name: str) -> str:
    """Names, sizes and times of the files of a user's own network, as a digest; empty for other networks."""
    files = code_files(architecture(name))
    return files_hash("", files) if files else ""


def _code_digest() -> str:
    """A digest of the code of :mod:`core`, and the versions of the packages that decide an answer."""
    digest = hashlib.sha256()
    root = PROJECT
    for path in sorted((root / "core").rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode())
        digest.update(path.read_bytes())
    for package in PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "missing"
        digest.update(f"{package} {version}\n".encode())
    return digest.hexdigest()
