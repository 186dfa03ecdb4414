"""Runs of other roots in a shared database: listed beside those of this root, each with its place.

A run whose folder can be read here is shown from its folder, as its own root shows it. Of any other run there is what
the database holds: its last state and its curves. Nothing can be done to it from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import RunError
from core.hosts import host_name
from core.runs.catalog import RunSummary, get_run
from core.runs.store.heartbeat import OLD_S, last_heard
from core.runs.store.metrics_file import MetricRow
from core.runs.store.state import ACTIVE, OBSERVED

if TYPE_CHECKING:
    from core.runs.store.index import IndexedRun

SEPARATOR = ":"  # between the ids of a root and of a run


@dataclass(frozen=True)
class OtherRun:
    """A run of another root.

    Attributes
    ----------
    key : str. Ids of root and run, which name it among all roots.
    place : str. Host and folder of its root.
    root : Path or None. Its root, where it can be read here.
    summary : RunSummary. The run; of a root that cannot be read, from the database. Its id is that of the run.
    """

    key: str
    place: str
    root: Path | None
    summary: RunSummary


@dataclass(frozen=True)
class OtherRuns:
    """Result of a look into the database.

    Attributes
    ----------
    runs : tuple of OtherRun. Newest first.
    problem : str. Why the database cannot be read; empty if it can, or is not shared.
    """

    runs: tuple[OtherRun, ...] = ()
    problem: str = ""


def list_other_runs(root: Path, key: str = "") -> OtherRuns:
    """The runs of all other roots in a database that is chosen by its URL; none where each root has its own.

    Parameters
    ----------
    root : Path. Checkpoints root.
    key : str. Key of the only one that is wanted; all if empty.
    """
    from core.runs.store.database import is_shared
    from core.runs.store.index import open_index

    if not is_shared():
        return OtherRuns()
    try:
        found = [run for run in open_index(root).runs_of_other_roots() if key in ("", _key(run))]
    except RunError as error:
        return OtherRuns(problem=str(error))
    folders: dict[str, Path | None] = {}
    for run in found:
        if run.root not in folders:
            folders[run.root] = _readable_root(run)
    return OtherRuns(tuple(_other_run(run, folders[run.root]) for run in found))


def find_other_run(root: Path, key: str) -> OtherRun:
    """The run of another root with this key.

    Raises
    ------
    RunError
        If there is none, or the database cannot be read.
    """
    others = list_other_runs(root, key)
    found = next(iter(others.runs), None)
    if found is None:
        raise RunError(others.problem or f"expected a run of another root, found none with the ids {key!r}")
    return found


def unreachable_reason(run: OtherRun) -> str:
    """Why nothing can be done to a run from here, and what to do."""
    return (
        f"{run.summary.id}: its folder lies in {run.place}, which cannot be read on {host_name()}; stop, resume or "
        "delete it there, or mount that folder at the same path here"
    )


def other_metrics(root: Path, run: OtherRun, after_id: int = 0, limit: int = 5000) -> list[MetricRow]:
    """Values of a run of another root that the database holds, with an id above ``after_id``.

    Raises
    ------
    RunError
        If the database cannot be read.
    """
    from core.runs.store.index import open_index

    of_root, _, run_id = run.key.partition(SEPARATOR)
    return open_index(root).metrics_after(run_id, after_id, limit, root=of_root)


def _key(run: IndexedRun) -> str:
    return f"{run.root}{SEPARATOR}{run.id}"


def _readable_root(run: IndexedRun) -> Path | None:
    """The folder of a run's root where it can be read here: at one of its paths, with its id in it."""
    from core.runs.store.root_id import read_root_id

    return next((Path(path) for _, path in run.places if read_root_id(Path(path)) == run.root), None)


def _other_run(run: IndexedRun, root: Path | None) -> OtherRun:
    host, path = next(((h, p) for h, p in run.places if root is None or Path(p) == root), ("", run.root))
    place = f"{host}:{path}" if host else path
    key = _key(run)
    if root is not None:
        try:
            return OtherRun(key, place, root, get_run(root, run.id))
        except RunError:
            root = None  # deleted, or not readable for this user
    state = run.state
    if state.state in ACTIVE and run.silent_s > OLD_S:  # a trainer writes its row every 15 s at least
        heard = last_heard(host or "its host", run.silent_s)
        state = state.observed("unreachable", f"{heard}; it was {state.state} then")
    elif state.state in OBSERVED:
        state = state.observed(state.state, state.message or "seen so by another machine")
    summary = RunSummary(run.id, run.name, state, run.config, Path(path) / run.id, tags=run.tags)
    return OtherRun(key, place, root, summary)
