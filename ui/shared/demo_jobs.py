"""Background jobs that make the synthetic demo data: the whole data set, or one subject."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from core.datasets.synthetic.demo import has_subject
from ui.shared import jobs
from ui.shared.jobs import Job
from ui.shared.state import cache_root, data_root, demo_folder

DEMO_SUBJECTS = 10


def start_demo(path: Path) -> None:
    """Start making the demo data set, unless that is running."""
    data_root().mkdir(parents=True, exist_ok=True)
    jobs.start(_folder(), ["demo", str(path), "--subjects", str(DEMO_SUBJECTS)])


def demo(complete: bool) -> Job:
    """The state of the demo data set.

    Parameters
    ----------
    complete : bool. Whether the data set exists.
    """
    job = jobs.observe(_folder(), complete)
    if job.state != "running":
        return job
    return replace(job, done=len(list(demo_folder().glob("subject-*-label.img"))), total=DEMO_SUBJECTS)


def start_demo_subject(subject: str) -> None:
    """Start making one subject of the demo data, unless that is running."""
    data_root().mkdir(parents=True, exist_ok=True)
    jobs.start(_subject_folder(subject), ["demo", str(demo_folder()), f"--only={subject}", "--progress"])


def demo_subject(subject: str) -> Job:
    """The state of one subject of the demo data."""
    return jobs.observe(_subject_folder(subject), has_subject(demo_folder(), subject))


def _folder() -> Path:
    return cache_root() / "demo"


def _subject_folder(subject: str) -> Path:
    return cache_root() / "demo-subject" / jobs.short_hash(subject)
