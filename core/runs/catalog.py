"""The runs of a checkpoints root, as people and pages see them: list, find, stop, rename, delete, read measurements."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from core.config import TrainConfig
from core.errors import RunError
from core.paths import READY_MADE, ready_made
from core.runs.store import folder as files
from core.runs.store.folder import MetricRow
from core.runs.store.gpu_slots import in_order
from core.runs.store.process import alive, kill_tree
from core.runs.store.state import RunState, observe, write_state

Turn = Literal["first", "earlier", "later", "last"]
Written = tuple[TrainConfig, str, str, tuple[str, ...]]  # configuration, name, notes, tags
_written: dict[Path, tuple[tuple[int, ...], Written]] = {}


@dataclass(frozen=True)
class RunSummary:
    """One run: ``state`` is the observed truth, ``name`` falls back to the id, ``problem`` says what is damaged;
    ``notes`` and ``tags`` are what people wrote about it."""

    id: str
    name: str
    state: RunState
    config: TrainConfig
    folder: Path
    problem: str = ""
    notes: str = ""
    tags: tuple[str, ...] = ()

    @property
    def tensorboard(self) -> str:
        """The command that opens the run's TensorBoard events."""
        return shlex.join(["tensorboard", "--logdir", str(self.folder / files.TENSORBOARD)])

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values; ``state`` is its name, the rest of the state lies beside it."""
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
        return {**summary, "folder": str(self.folder), "tensorboard": self.tensorboard}


def list_runs(root: Path) -> list[RunSummary]:
    """All runs of a root, newest first; empty if the root does not exist. A damaged run is listed as such."""
    runs = [_summary(folder) for folder in files.run_folders(root)]
    return sorted(runs, key=lambda run: (run.state.created_at, run.id), reverse=True)


def get_run(root: Path, run_id: str) -> RunSummary:
    """One run by its full id.

    Raises
    ------
    RunError
        If there is none.
    """
    return _summary(files.run_folder(root, run_id))


def find_run(root: Path, text: str) -> RunSummary:
    """The run that somebody means: its id, an unambiguous beginning of its id, or its exact name.

    Raises
    ------
    RunError
        If no run or more than one fits; the message lists the candidates.
    """
    folders = {folder.name: folder for folder in files.run_folders(root)}
    if text in folders:
        return _summary(folders[text])
    fitting = [f for i, f in folders.items() if text and (i.startswith(text) or files.read_name(f) == text)]
    if len(fitting) == 1:
        return _summary(fitting[0])
    if fitting:
        raise RunError(f"{text!r} fits {len(fitting)} runs: {_some(f.name for f in fitting)}; give more of the id")
    known = f"there are: {_some(folders)}" if folders else "there are no runs yet"
    raise RunError(f"expected a run's id, its beginning, or its name in {root}; got {text!r}; {known}")


def find_checkpoint(root: Path, text: str) -> Path:
    """The checkpoint that somebody means: a file, a run (see :func:`find_run`), of which its best, else its last, or
    the ready-made model by its name.

    Raises
    ------
    RunError
        If there is no such file or run, or the run has no checkpoint yet.
    """
    path = Path(text).expanduser()
    if path.is_file():
        return path.absolute()
    if text == READY_MADE and ready_made().is_file():
        return ready_made()
    try:
        run = find_run(root, text)
    except RunError as error:
        raise RunError(f"expected a checkpoint file or a run, found no file {text!r}; {error}") from error
    found = run_checkpoint(run.folder)
    if found is None:
        raise RunError(f"{run.id}: it has no checkpoint yet (it is {run.state.state})")
    return found


def run_checkpoint(folder: Path) -> Path | None:
    """The checkpoint of a run to predict with: its best, else its last, ``None`` before there is one."""
    return next(((folder / n).absolute() for n in (files.BEST, files.LAST) if (folder / n).is_file()), None)


def queue(root: Path) -> list[str]:
    """The ids of the runs that wait, the next one first."""
    waiting = ((folder.name, observe(folder)) for folder in files.run_folders(root))
    return in_order((name, state) for name, state in waiting if state.state == "queued")


def move(root: Path, run_id: str, to: Turn) -> list[str]:
    """Move a waiting run within the queue: to its beginning or its end, or past one other; returns the new order.

    Raises
    ------
    RunError
        If there is no such run or it does not wait.
    """
    folder = files.run_folder(root, run_id)
    with files.lock(folder):
        state = observe(folder)
        if state.state != "queued":
            raise RunError(f"{run_id}: expected a run that waits in the queue, it is {state.state}")
        order = queue(root)
        before = order.index(run_id)
        order.remove(run_id)
        last = len(order)
        place = {"first": 0, "earlier": max(before - 1, 0), "later": min(before + 1, last), "last": last}[to]
        turns = [observe(root / name).turn for name in order]
        if place != before:
            turn = _between(turns[place - 1] if place else None, turns[place] if place < len(turns) else None)
            write_state(folder, replace(state, turn=turn))
    put_in_index(root, folder)
    return queue(root)


def _between(low: float | None, high: float | None) -> float:
    """A number that comes after one and before the other; at the end it comes before whoever is queued from now on."""
    if low is None:
        return (high or 0.0) - 1.0
    return max(time.time(), low + 1e-6) if high is None else (low + high) / 2


def request_stop(root: Path, run_id: str, now: bool = False) -> RunState:
    """Ask a run to stop: a queued one is stopped at once, a training one saves a checkpoint and ends.

    Asking again changes nothing. ``now`` ends the trainer at once; what came after its last checkpoint is lost.

    Raises
    ------
    RunError
        If there is no such run or it has ended already.
    """
    folder = files.run_folder(root, run_id)
    with files.lock(folder):
        state = observe(folder)
        if state.state == "queued":
            message = "stopped while it waited in the queue"
            state = write_state(folder, replace(state, state="stopped", message=message, ended_at=time.time()))
        elif not state.active:
            raise RunError(f"{run_id}: expected a queued or running run, it is {state.state} already")
        else:
            (folder / files.STOP).write_text("now" if now else "", encoding="utf-8")
            if now and state.pid and alive(state.pid, state.pid_start):
                kill_tree(state.pid)
    return observe(folder)


def rename(root: Path, run_id: str, name: str) -> None:
    """Give a run another name (its id stays); an empty one goes back to the id.

    Raises
    ------
    RunError
        If there is no such run or the name is not allowed.
    """
    annotate(root, run_id, name=name)


def annotate(
    root: Path, run_id: str, *, name: str | None = None, notes: str | None = None, tags: Sequence[str] | None = None
) -> None:
    """Write down a name, notes or tags; what is ``None`` stays as it is. Any run may be annotated at any time.

    Raises
    ------
    RunError
        If there is no such run, or what is written is not allowed.
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
    put_in_index(root, folder)


def delete(root: Path, run_id: str) -> None:
    """Remove a run with everything in its folder, and its rows in the index.

    Raises
    ------
    RunError
        If there is no such run, a process works on it, or it cannot be removed (then `runs rebuild` mends the index).
    """
    folder = files.run_folder(root, run_id)
    with files.lock(folder):
        state = observe(folder)
        if state.active:
            raise RunError(f"{run_id}: it is {state.state}; stop it first, then delete it")
        doomed = root / f".deleted-{run_id}"
        try:
            os.replace(folder, doomed)  # from here on nobody lists or starts it
        except OSError as error:
            raise RunError(f"{folder}: cannot be deleted: {error.strerror or error}") from error
    from core.runs.store.index import open_index

    for leftover in root.glob(".deleted-*"):  # this one, and those of which a kill left something
        shutil.rmtree(leftover, ignore_errors=leftover != doomed)
    open_index(root).delete_run(run_id)


def metrics_after(root: Path, run_id: str, after_id: int = 0, limit: int = 5000) -> list[MetricRow]:
    """The measured values of a run with an id above ``after_id``, oldest first; ids only grow, so pages ask for news.

    After a resume the values that training makes again have new ids; the old ones are gone. Where the index cannot be
    used the values come from the run's folder, numbered in order.

    Raises
    ------
    RunError
        If there is no such run.
    """
    folder = files.run_folder(root, run_id)
    from core.runs.store.index import open_index

    try:
        return open_index(root).metrics_after(run_id, after_id, limit)
    except RunError:
        return [row for row in files.read_metrics(folder) if row.id > after_id][:limit]


def log_tail(root: Path, run_id: str, lines: int = 200) -> str:
    """The last lines of a run's log.

    Raises
    ------
    RunError
        If there is no such run.
    """
    return files.read_log_tail(files.run_folder(root, run_id), lines)


def put_in_index(root: Path, folder: Path) -> None:
    """Bring a run's row in the index up to date; where that fails the run's log says so and the run goes on."""
    from core.runs.store.index import open_index

    run = _summary(folder)
    try:
        open_index(root).put_run(folder, run.state, run.config, run.name)
    except RunError as error:
        files.append_log(folder, f"note: {error}")


def _summary(folder: Path) -> RunSummary:
    state, problem = observe(folder), ""
    try:
        config, name, notes, tags = _read(folder)
    except RunError as error:
        config, name, (notes, tags) = TrainConfig(), files.read_name(folder), files.read_notes(folder)
        problem = str(error)
    return RunSummary(folder.name, name, state, config, folder, problem, notes, tags)


def _read(folder: Path) -> Written:
    """Parsing a configuration takes milliseconds and a page lists a hundred of them every second: keep them."""
    changed = tuple(_changed_at(folder / name) for name in (files.CONFIG, files.RUN))
    known = _written.get(folder)
    if known is None or known[0] != changed:
        written = (files.read_config(folder), files.read_name(folder), *files.read_notes(folder))
        known = _written[folder] = (changed, written)
    return known[1]


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _some(ids: Iterable[str]) -> str:
    shown = sorted(ids, reverse=True)
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")
