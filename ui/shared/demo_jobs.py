"""The synthetic demo data of pages: background jobs that make it, and the shipped example."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from core.datasets.synthetic.demo import DEFAULT_SUBJECTS, has_subject
from core.errors import UserError
from core.paths import data_root, demo_folder
from core.runs import example
from ui.shared import hashes, jobs
from ui.shared.jobs import Job
from ui.shared.paths import cache_root, runs_root


def start_demo() -> None:
    """Start to make the demo data set, unless that job is running."""
    data_root().mkdir(parents=True, exist_ok=True)
    jobs.start(_folder(), ["demo", str(demo_folder()), "--subjects", str(DEFAULT_SUBJECTS)])


def observe_demo(complete: bool) -> Job:
    """The state of the job that makes the demo data set.

    Parameters
    ----------
    complete : bool. Whether the data set is complete.
    """
    job = jobs.observe(_folder(), complete)
    if job.state != "running":
        return job
    made = {path.name.partition("-label")[0] for path in demo_folder().glob("subject-*-label.*")}
    return replace(job, done=len(made), total=DEFAULT_SUBJECTS)


def install_example() -> None:
    """Copy the shipped subject and its segmentation to where pages look for them, unless they are there.

    Where that is not possible, the job that makes the subject fails for the same reason and states it.
    """
    with suppress(UserError):
        example.install_example(runs_root())


def start_demo_subject(subject: str) -> None:
    """Start to make one subject of the demo data, unless that job is running."""
    data_root().mkdir(parents=True, exist_ok=True)
    jobs.start(_subject_folder(subject), ["demo", str(demo_folder()), f"--only={subject}", "--progress"])


def observe_demo_subject(subject: str) -> Job:
    """The state of the job that makes one subject of the demo data."""
    return jobs.observe(_subject_folder(subject), has_subject(demo_folder(), subject))


def _folder() -> Path:
    return cache_root() / "demo"


def _subject_folder(subject: str) -> Path:
    return cache_root() / "demo-subject" / hashes.short_hash(subject)
