"""Background jobs that segment and score subjects of a data set with a checkpoint, for Review and Quiz.

A checkpoint and a data set have one job at a time, which makes the subjects that were asked for, by any page and
person; further ones wait for it. What is said about a subject concerns that subject alone.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import UserError
from core.files import FileStamp, file_stamp
from core.runs.predictions import Prediction, read_predictions
from ui.shared import hashes, jobs
from ui.shared.jobs import Job
from ui.shared.paths import cache_root, runs_root

MAX_BATCH = 4  # subjects per process: a case that a user waits for does not wait for all others

_lock = threading.Lock()


@dataclass
class _Queue:
    """Subjects that were asked for.

    Attributes
    ----------
    batch : tuple of str. Those of the running job; empty without one.
    waiting : list of str. Those of the next jobs, in their order.
    failures : dict. Reason by subject, and the stamp of the checkpoint that it concerns.
    """

    batch: tuple[str, ...] = ()
    waiting: list[str] = field(default_factory=list)
    failures: dict[str, tuple[FileStamp, str]] = field(default_factory=dict)


_queues: dict[Path, _Queue] = {}


def start(checkpoint: Path, data: Path, subjects: Sequence[str]) -> None:
    """Ask for subjects to be segmented and scored; those asked for already are not repeated.

    A single subject comes before the others that wait. The results are kept by :mod:`core.runs.predictions`.
    """
    folder = _folder(checkpoint, data)
    with _lock:
        queue = _queues.setdefault(folder, _Queue())
        for subject in subjects:
            queue.failures.pop(subject, None)
        new = [subject for subject in dict.fromkeys(subjects) if subject not in queue.batch]
        first, last = (new, []) if len(new) == 1 else ([], new)
        queue.waiting = list(dict.fromkeys([*first, *queue.waiting, *last]))
        if queue.batch or not queue.waiting:
            return
        _take_batch(queue)
    work = threading.Thread(target=_work, args=(queue, folder, runs_root(), checkpoint, data), daemon=True)
    work.start()


def observe(checkpoint: Path, data: Path, subjects: Sequence[str], kept: Mapping[str, Prediction] | None = None) -> Job:
    """The state of some subjects: done if all have an up-to-date prediction; failed if the job of one of them failed.

    Parameters
    ----------
    checkpoint, data : Path. Checkpoint file and folder of the data set.
    subjects : sequence of str. The subjects that the answer is about.
    kept : mapping of Prediction, optional. Predictions by subject, where they were read just now.
    """
    missing = (
        _without_prediction(subjects, kept) if kept is not None else _missing(runs_root(), checkpoint, data, subjects)
    )
    if not missing:
        return Job("done")
    folder = _folder(checkpoint, data)
    with _lock:
        queue = _queues.get(folder, _Queue())
        batch, waiting, failures = queue.batch, tuple(queue.waiting), dict(queue.failures)
    if set(missing) & set(batch):
        return _running_job(folder, batch)
    ahead = next((n for n, subject in enumerate(waiting) if subject in missing), None)
    if ahead is not None:
        return Job("running", message=f"{waiting[ahead]}, after {', '.join((*batch, *waiting[:ahead]))}")
    stamp = file_stamp(checkpoint)
    reasons = {subject: failures[subject][1] for subject in missing if failures.get(subject, ("",))[0] == stamp}
    if not reasons:
        return Job("none")
    names = ", ".join(reasons) + ": " if len(subjects) > 1 else ""
    return Job("failed", message=names + next(iter(reasons.values())))


def without_prediction(checkpoint: Path, data: Path, subjects: Sequence[str]) -> list[str]:
    """Those of some subjects that have no up-to-date prediction now."""
    return _missing(runs_root(), checkpoint, data, subjects)


def pending(checkpoint: Path, data: Path) -> list[str]:
    """Subjects that were asked for and are not finished."""
    with _lock:
        queue = _queues.get(_folder(checkpoint, data), _Queue())
        asked = [*queue.batch, *queue.waiting]
    return _missing(runs_root(), checkpoint, data, asked) if asked else []


def _work(queue: _Queue, folder: Path, root: Path, checkpoint: Path, data: Path) -> None:
    """Run the jobs of a queue one after another until it is empty."""
    batch = queue.batch
    while batch:  # not that of the queue, which may be the first one of the next thread
        stamp, failed = file_stamp(checkpoint), list(batch)
        options = [f"--checkpoints={root}", *(f"--subject={subject}" for subject in batch)]
        try:
            jobs.start(folder, ["evaluate", str(checkpoint), str(data), *options, "--keep", "--progress"])
            reason = jobs.wait(folder)
            failed = _missing(root, checkpoint, data, batch) if reason else []
        except OSError as error:
            reason = f"{folder}: {error.strerror or error}"
        except UserError as error:
            reason = str(error)
        except BaseException:
            with _lock:  # a fault of the program, which is reported, so that no page waits for ever
                queue.batch, queue.waiting = (), []
            raise
        with _lock:
            queue.failures.update(dict.fromkeys(failed, (stamp, reason)))
            batch = _take_batch(queue)


def _take_batch(queue: _Queue) -> tuple[str, ...]:
    """Move the subjects of the next job from those that wait, and return them."""
    queue.batch, queue.waiting = tuple(queue.waiting[:MAX_BATCH]), queue.waiting[MAX_BATCH:]
    return queue.batch


def _missing(root: Path, checkpoint: Path, data: Path, subjects: Sequence[str]) -> list[str]:
    """Those of the subjects that have no up-to-date prediction."""
    return _without_prediction(subjects, read_predictions(root, checkpoint, data))


def _without_prediction(subjects: Sequence[str], kept: Mapping[str, Prediction]) -> list[str]:
    return [subject for subject in subjects if subject not in kept or kept[subject].stale]


def _running_job(folder: Path, batch: Sequence[str]) -> Job:
    job = jobs.observe(folder, False)
    if job.state != "running":  # it begins or ends just now
        return Job("running", message=batch[0])
    position = min(len(batch) - 1, job.done * len(batch) // job.total) if job.total else 0
    counted = f" ({position + 1} of {len(batch)})" if len(batch) > 1 else ""
    return Job("running", job.done, job.total, batch[position] + counted)


def _folder(checkpoint: Path, data: Path) -> Path:
    return cache_root() / "segment" / hashes.short_hash(f"{checkpoint}\0{data}")
