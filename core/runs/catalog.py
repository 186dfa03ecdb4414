"""Operations on the runs of a checkpoints root: list, find, stop, rename, annotate, delete, read measurements."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from core.config import TrainConfig
from core.errors import RunError
from core.files import StampedCache, atomic_write, file_stamp
from core.formatting import format_list
from core.paths import DEMO_MODEL, demo_model_path
from core.processes import kill_tree
from core.runs.engines.registry import get_engine
from core.runs.store import folder as files
from core.runs.store import metrics_file, stop_file
from core.runs.store.elsewhere import is_here
from core.runs.store.engine_records import EngineRecord, JobReport, read_engine, read_report
from core.runs.store.metrics_file import MetricRow
from core.runs.store.process import is_alive
from core.runs.store.state import ENDED, OBSERVED, RunState, read_state, reconciled_state, write_state

_Facts = tuple[TrainConfig, str, str, tuple[str, ...]]  # configuration, name, notes, tags
FOLDER_IDS = 2**52  # ids of values that come from the folder; a browser counts exactly to 2**53
MAX_BEHIND_S = 5.0  # a trainer brings the index up to date every second
MAX_CLOCK_DIFFERENCE_S = 60.0  # time since a file was written that no difference between clocks explains
_behind_since: dict[Path, tuple[int, float]] = {}  # size in the index, and when it was first seen to differ
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
    runs = [_summary(folder) for folder in files.run_folders(root)]
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
    path = Path(text).expanduser()
    if path.is_file():
        return path.absolute()
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
    return next((path for path in candidates if path.is_file()), None)


def request_stop(root: Path, run_id: str, now: bool = False) -> RunState:
    """Request a run to stop: a queued one is stopped at once, an active one saves a checkpoint and ends. On whichever
    host it trains, the request is a file in its folder.

    Parameters
    ----------
    root : Path. Checkpoints root.
    run_id : str. The run.
    now : bool. Whether the trainer is killed; the progress since its last checkpoint is lost.

    Raises
    ------
    RunError
        If there is no such run or it has ended already.
    UserError
        If the job of a run cannot be cancelled now; the request stands, and the job ends when it sees it.
    """
    folder = files.run_folder(root, run_id)
    with files.lock(folder):
        state, waits = reconciled_state(folder), read_state(folder).state == "queued"
        if state.state in ENDED:
            raise RunError(f"{run_id}: expected a queued or running run, it is {state.state} already")
        if waits:  # also where its job has begun: it finds that the run is stopped, and ends
            message = "stopped while it waited in the queue"
            write_state(folder, replace(state, state="stopped", message=message, what="", ended_at=time.time()))
        else:
            at_once = now or state.state == "queued"  # its job waits to be restarted: there is nothing to save
            stop_file.write_stop(folder, stop_file.AT_ONCE if at_once else "")
            here = is_here(state.host, state.shim_start)
            if now and here and state.pid and is_alive(state.pid, state.pid_start):
                kill_tree(state.pid)
        record = read_engine(folder)
    if record is not None and record.job and (waits or now or state.state == "queued"):
        get_engine(root, record.engine).cancel(record.job)
    return reconciled_state(folder)


def what_to_do(state: RunState, run_id: str) -> str:
    """What to do about a run that is stalled or unreachable."""
    if state.state == "stalled":
        return f"wait for it, or end it: runs stop {run_id} --now"
    return f"wait for it, or, if its machine is gone for good: runs give-up {run_id}"


def prune(root: Path, run_id: str, reason: str) -> None:
    """Request a running run to save a checkpoint and end early, for a reason that its state then has as its message.

    Raises
    ------
    RunError
        If there is no such run.
    """
    folder = files.run_folder(root, run_id)
    with files.lock(folder):
        if reconciled_state(folder).state == "running":
            atomic_write(folder / stop_file.PRUNED, reason)  # first: a run that stops for it is known as pruned
            if not stop_file.stop_requested(folder):
                stop_file.write_stop(folder)


def rename(root: Path, run_id: str, name: str) -> None:
    """Change the display name of a run; its id stays. With an empty name the id is displayed.

    Raises
    ------
    RunError
        If there is no such run or the name is not allowed.
    """
    annotate(root, run_id, name=name)


def annotate(
    root: Path, run_id: str, *, name: str | None = None, notes: str | None = None, tags: Sequence[str] | None = None
) -> None:
    """Change the name, notes or tags of a run in any state; ``None`` keeps the present value.

    Raises
    ------
    RunError
        If there is no such run, or a value is not allowed.
    """
    folder = files.run_folder(root, run_id)
    changes: dict[str, Any] = {}
    if name is not None:
        changes["name"] = files.check_name(name)
    if notes is not None:
        changes["notes"] = files.check_notes(notes)
    if tags is not None:
        changes["tags"] = list(files.check_tags(tags))
    with files.lock(folder):
        try:
            facts = files.read_json(folder / files.RUN)
        except RunError:
            facts = {"version": 1}
        files.write_json(folder / files.RUN, {**facts, **changes})
    update_index(root, folder)


def delete(root: Path, run_id: str) -> None:
    """Remove a run folder and the run's rows in the index.

    Raises
    ------
    RunError
        If there is no such run, it is active, nobody confirms that it has ended, or it cannot be removed. If only the
        index fails, `runs rebuild` repairs it.
    """
    folder = files.run_folder(root, run_id)
    with files.lock(folder):
        state = reconciled_state(folder)
        if state.state in OBSERVED:
            raise RunError(
                f"{run_id}: it is {state.state}, and nobody confirms that it has ended: {state.message}; "
                f"{what_to_do(state, run_id)}"
            )
        if state.active or (state.state == "queued" and read_engine(folder) is not None):
            raise RunError(f"{run_id}: it is {state.state}; stop it first, then delete it")
        doomed = root / f"{files.HIDDEN_DELETED}{run_id}"
        try:
            os.replace(folder, doomed)  # hidden at once: not listed, not started
        except OSError as error:
            raise RunError(f"{folder}: cannot be deleted: {error.strerror or error}") from error
    from core.runs.store.index import open_index

    for leftover in root.glob(f"{files.HIDDEN_DELETED}*"):  # this run, and the remains of killed deletions
        shutil.rmtree(leftover, ignore_errors=leftover != doomed)
    open_index(root).delete_run(run_id)


def metrics_after(root: Path, run_id: str, after_id: int = 0, limit: int = 5000) -> list[MetricRow]:
    """Values of a run with an id above ``after_id``, oldest first, so that pages can poll for new ones.

    Ids only grow. A value that a resumed run measures again has a new id, and the old one is removed. Where the index
    cannot be used, or is behind the run folder, the values come from the folder; their ids begin at ``FOLDER_IDS``, so
    that a page whose last value came from the other source gets all values again.

    Raises
    ------
    RunError
        If there is no such run.
    """
    folder = files.run_folder(root, run_id)
    from core.runs.store.index import open_index

    try:
        index = open_index(root)
        if not _is_behind(folder, index.metrics_size(run_id)):
            return index.metrics_after(run_id, after_id if after_id < FOLDER_IDS else 0, limit)
    except RunError:
        pass
    number = max(0, after_id - FOLDER_IDS)
    rows = (replace(row, id=FOLDER_IDS + row.id) for row in metrics_file.read_metrics(folder) if row.id > number)
    return list(itertools.islice(rows, limit))


def _is_behind(folder: Path, indexed: int | None) -> bool:
    """Whether the index lacks values of the metrics file, and not only for a moment.

    Parameters
    ----------
    folder : Path. The run folder.
    indexed : int, optional. Bytes of the metrics file whose values are in the index; ``None`` if it does not know the
        run.
    """
    size = metrics_file.metrics_size(folder)
    if indexed is None or indexed == size:
        _behind_since.pop(folder, None)
        return indexed is None and size > 0
    known = _behind_since.get(folder)
    if known is None or known[0] != indexed:
        written_s = max(0.0, time.time() - file_stamp(folder / metrics_file.METRICS).mtime_ns / 1e9)
        behind_s = written_s if written_s > MAX_CLOCK_DIFFERENCE_S else 0.0
        known = _behind_since[folder] = (indexed, time.monotonic() - behind_s)
    return time.monotonic() - known[1] > MAX_BEHIND_S


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


def _summary(folder: Path) -> RunSummary:
    state, problem = reconciled_state(folder), ""
    try:
        config, name, notes, tags = _read_facts(folder)
    except RunError as error:
        config, name, (notes, tags) = TrainConfig(), files.read_name(folder), files.read_notes(folder)
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
        return files.read_config(folder), files.read_name(folder), *files.read_notes(folder)

    return _facts.get(read, folder / files.CONFIG, folder / files.RUN)
