"""Submissions in progress: the lease of each is renewed while a process works on it, and judged by whether it changes.

A cluster may take minutes to answer. A run without a job is being submitted for as long as the lease that its record
names is renewed, whichever host its submitter is on; what is left without a job then was interrupted.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from core.files import NO_FILE, file_stamp
from core.hosts import boot_id
from core.runs.store import heartbeat
from core.runs.store.engine_records import ANSWERS, ENGINE, EngineRecord
from core.runs.store.file_clock import age_s, has_own_clock
from core.runs.store.heartbeat import Beat, ChangeWatch, Heartbeat, read_beat

LEASES = ".submissions"  # in the folder of answers; no engine has such a name
FORGOTTEN_S = 86400.0  # leases of killed processes are removed after that time
TRIED_AGAIN_S = 600.0  # longest time until an unanswered submission is tried again

_open: ContextVar[str] = ContextVar("lease", default="")
_watch = ChangeWatch()


@contextmanager
def submission(root: Path) -> Iterator[str]:
    """Hold the lease of a submission to an engine; gives its name. Within another submission it is that one's."""
    if _open.get():
        yield _open.get()
        return
    folder, lease = root / ANSWERS / LEASES, secrets.token_hex(8)
    with suppress(OSError):  # a root that cannot be written is reported by what is written there next
        folder.mkdir(parents=True, exist_ok=True)
        _remove_forgotten(folder)
    given = _open.set(lease)
    try:
        with Heartbeat(folder, file=f"{lease}.json"):
            yield lease
    finally:
        _open.reset(given)
        with suppress(OSError):
            (folder / f"{lease}.json").unlink(missing_ok=True)


def current_lease() -> str:
    """Name of the lease that this thread holds; empty outside a submission."""
    return _open.get()


def is_held(root: Path, record: EngineRecord) -> bool:
    """Whether a process works on the submission of a run: its lease is there and, for all that is known, renewed."""
    if not record.lease or file_stamp(_lease_file(root, record)) == NO_FILE:
        return False  # without the wait for a file that is just replaced: lists ask about every run
    beat = _read_lease(root, record)
    return beat is not None and _is_renewed(root, record, beat)


def may_get_job(folder: Path, record: EngineRecord) -> bool:
    """Whether a run without a job may still get one: its lease is held, or it was a moment ago, as its submission may
    have been taken without an answer, or it is to be submitted again.

    Parameters
    ----------
    folder : Path. The run folder.
    record : EngineRecord. Its record.
    """
    root = folder.parent
    beat = _read_lease(root, record)
    if beat is not None:
        return _is_renewed(root, record, beat)
    since = _watch.silence(_key(root, record), None, lambda: age_s(folder / ENGINE, root, record.submitted_at))
    known_s = since.age_s if has_own_clock(root) else since.observed_s
    return known_s < (TRIED_AGAIN_S if record.tried_again else heartbeat.OLD_S)


def _read_lease(root: Path, record: EngineRecord) -> Beat | None:
    path = _lease_file(root, record)
    return read_beat(path.parent, path.name) if record.lease else None


def _lease_file(root: Path, record: EngineRecord) -> Path:
    return root / ANSWERS / LEASES / f"{record.lease}.json"


def _is_renewed(root: Path, record: EngineRecord, beat: Beat) -> bool:
    """Whether a lease is renewed: by the clock of this machine for its own and on its disks, elsewhere by what this
    process has observed."""
    silence = _watch.silence(_key(root, record), beat, lambda: age_s(_lease_file(root, record), root, beat.at))
    on_this_clock = beat.boot == boot_id() or has_own_clock(root)
    return not (silence.certain or (on_this_clock and silence.old))


def _key(root: Path, record: EngineRecord) -> tuple[Path, str, float]:
    return root, record.lease, record.submitted_at


def _remove_forgotten(folder: Path) -> None:
    for path in folder.iterdir():
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > FORGOTTEN_S:
                path.unlink()
