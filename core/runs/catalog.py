"""The runs of a checkpoints root: listed, found by a text, with their checkpoints, logs and rows in the index."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.config import TrainConfig
from core.errors import RunError
from core.files import StampedCache, may_be_present
from core.formatting import format_list
from core.paths import DEMO_MODEL, absolute_path, demo_model_path
from core.runs.store import folder as files
from core.runs.store.engine_records import EngineRecord, JobReport, read_engine, read_report
from core.runs.store.reconciliation import listed_state, reconciled_state
from core.runs.store.state import RunState

_Facts = tuple[TrainConfig, str, str, tuple[str, ...]]  # configuration, name, notes, tags
_facts: StampedCache[_Facts] = StampedCache()


@dataclass(frozen=True)
class RunSummary:
    """One run.

    Attributes
    ----------
    id, name : str. Folder name; display name, which is the id where the run has none.
    state : RunState. State reconciled with the run's processes.
    config : TrainConfig. Configuration; the default one where ``config.json`` is damaged.
    folder : Path. Run folder.
    problem : str. Message about a damaged run folder; empty if it is intact.
    notes, tags : str, tuple of str. Annotations.
    engine : EngineRecord, optional. Engine and job; ``None`` for the queue of this machine and runs in a terminal.
    report : JobReport, optional. What the engine last said about the job.
    """

    id: str
    name: str
    state: RunState
    config: TrainConfig
    folder: Path
    problem: str = ""
    notes: str = ""
    tags: tuple[str, ...] = ()
    engine: EngineRecord | None = None
    report: JobReport | None = None

    @property
    def given_name(self) -> str:
        """The name that a person gave; empty where there is none."""
        return "" if self.name == self.id else self.name

    @property
    def tensorboard(self) -> str:
        """The shell command that opens the run's TensorBoard events."""
        return shlex.join(["tensorboard", "--logdir", str(self.folder / files.TENSORBOARD)])

    @property
    def progress(self) -> float | None:
        """Share of the expected time that has passed, 0 to 1, of a run that trains; ``None`` before it is known."""
        state = self.state
        if not state.active or state.remaining_s is None or state.elapsed_s <= 0:
            return None
        return state.elapsed_s / (state.elapsed_s + state.remaining_s)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values; the fields of the state are merged in, ``state`` is its name."""
        summary = {
            "id": self.id,
            "name": self.name,
            "notes": self.notes,
            "tags": list(self.tags),
            **self.state.to_json(),
            "config": self.config.to_json(),
        }
        stalled = self.state.stalled_s(time.time())
        summary["stalled_s"] = None if stalled is None else round(stalled, 1)
        summary["engine"] = None if self.engine is None else asdict(self.engine)
        summary["job"] = None if self.report is None else asdict(self.report)
        return {**summary, "folder": str(self.folder), "tensorboard": self.tensorboard}


def list_runs(root: Path) -> list[RunSummary]:
    """All runs of a root, newest first, damaged ones included; empty if the root does not exist."""
    runs = [_summary(folder, listed_state(folder)) for folder in files.run_folders(root)]
    return sorted(runs, key=lambda run: (run.state.created_at, run.id), reverse=True)


def get_run(root: Path, run_id: str) -> RunSummary:
    """The run with this full id.

    Raises
    ------
    RunError
        If there is none.
    """
    return _summary(files.run_folder(root, run_id))


def matching_ids(text: str, names: Mapping[str, str]) -> list[str]:
    """The ids that a text stands for: those of its first rule that fits any.

    The rules are: the id itself; an exact name, which several may have; the beginning of ids.

    Parameters
    ----------
    text : str. Id, name, or beginning of an id.
    names : mapping. Name by id.
    """
    if text in names:
        return [text]
    named = [id for id, name in names.items() if text and name == text]
    return named or [id for id in names if text and id.startswith(text)]


def find_run(root: Path, text: str) -> RunSummary:
    """The run with this id, exact name, or unambiguous beginning of its id, in this order (:func:`matching_ids`).

    Raises
    ------
    RunError
        If no run or more than one matches; the message lists candidates.
    """
    folders = {folder.name: folder for folder in files.run_folders(root)}
    matching = matching_ids(text, {id: files.read_name(folder) for id, folder in folders.items()})
    if len(matching) == 1:
        return _summary(folders[matching[0]])
    if matching:
        candidates = format_list(sorted(matching, reverse=True))
        raise RunError(f"{text!r} matches {len(matching)} runs: {candidates}; give more of the id")
    known = f"there are: {format_list(sorted(folders, reverse=True))}" if folders else "there are no runs yet"
    raise RunError(f"expected a run's id, its beginning, or its name in {root}; got {text!r}; {known}")


def find_checkpoint(root: Path, text: str) -> Path:
    """The checkpoint file that a text names: a file, the demo model, or a run (:func:`find_run`; its best checkpoint,
    else its last).

    Raises
    ------
    RunError
        If there is no such file or run, or the run has no checkpoint yet.
    """
    path = absolute_path(text)
    if os.path.isfile(path):  # also of a name that is too long
        return path
    if text == DEMO_MODEL and demo_model_path().is_file():
        return demo_model_path()
    try:
        run = find_run(root, text)
    except RunError as error:
        raise RunError(f"expected a checkpoint file or a run, found no file {text!r}; {error}") from error
    checkpoint = run_checkpoint(run.folder)
    if checkpoint is None:
        raise RunError(f"{run.id}: it has no checkpoint yet (it is {run.state.state})")
    return checkpoint


def run_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of a run to predict with: its best, else its last; ``None`` before the first one."""
    candidates = [(folder / name).absolute() for name in (files.BEST, files.LAST)]
    return next((path for path in candidates if may_be_present(path)), None)


def log_tail(root: Path, run_id: str, lines: int = 200) -> str:
    """The last lines of a run's log.

    Raises
    ------
    RunError
        If there is no such run.
    """
    return files.read_log_tail(files.run_folder(root, run_id), lines)


def update_index(root: Path, folder: Path) -> None:
    """Update a run's row in the index; an error is logged in the run folder, not raised."""
    from core.runs.store.index import open_index

    run = _summary(folder)
    try:
        open_index(root).put_run(folder, run.state, run.config, run.name)
    except RunError as error:
        files.append_log(folder, f"note: {error}")


def _summary(folder: Path, state: RunState | None = None) -> RunSummary:
    state, problem = state or reconciled_state(folder), ""
    try:
        config, name, notes, tags = _read_facts(folder)
    except RunError as error:
        config, (name, notes, tags) = TrainConfig(), files.read_annotations(folder)
        problem = str(error)
    try:
        engine = read_engine(folder)
    except RunError as error:
        engine, problem = None, str(error)
    report = None if engine is None else read_report(folder.parent, engine)[0]
    return RunSummary(folder.name, name, state, config, folder, problem, notes, tags, engine, report)


def _read_facts(folder: Path) -> _Facts:
    """Configuration, name, notes and tags of a run, cached: parsing takes milliseconds, and a page lists a hundred runs
    every second."""

    def read() -> _Facts:
        return files.read_config(folder), *files.read_annotations(folder)

    return _facts.get(read, folder / files.CONFIG, folder / files.RUN)
