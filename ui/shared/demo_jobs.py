"""Background jobs that make the synthetic demo data: the whole data set, or one subject."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from core.datasets.synthetic.demo import has_subject
from core.paths import data_root, demo_folder
from ui.shared import hashes, jobs
from ui.shared.jobs import Job
from ui.shared.paths import cache_root

DEMO_SUBJECTS = 10


def start_demo() -> None:
    """Start to make the demo data set, unless that job is running."""
    data_root().mkdir(parents=True, exist_ok=True)
    jobs.start(_folder(), ["demo", str(demo_folder()), "--subjects", str(DEMO_SUBJECTS)])


def observe_demo(complete: bool) -> Job:
    """The state of the job that makes the demo data set.

    Parameters
    ----------
    complete : bool. Whether the data set is complete.
    """
    job = jobs.observe(_folder(), complete)
    if job.state != "running":
        return job
    return replace(job, done=len(list(demo_folder().glob("subject-*-label.img"))), total=DEMO_SUBJECTS)


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
