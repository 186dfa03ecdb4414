"""The background jobs that make the demo data."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.datasets.synthetic.demo import read_marker
from core.paths import demo_folder
from tests.support.background_jobs import wait_for_job
from ui.shared import demo_jobs


@pytest.mark.slow
def test_demo_data_is_made_subject_by_subject(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(demo_jobs, "DEFAULT_SUBJECTS", 1)
    assert demo_jobs.observe_demo_subject("subject-1").state == "none"
    demo_jobs.start_demo_subject("subject-1")
    assert demo_jobs.observe_demo_subject("subject-1").state == "running"
    assert wait_for_job(lambda: demo_jobs.observe_demo_subject("subject-1")).state == "done"
    assert len(list(demo_folder().glob("subject-*"))) == 3 and read_marker(demo_folder()) is None
    demo_jobs.start_demo()  # keeps the subject
    job = demo_jobs.observe_demo(False)
    assert (job.state, job.done, job.total) == ("running", 1, 1)
    assert wait_for_job(lambda: demo_jobs.observe_demo(read_marker(demo_folder()) is not None)).state == "done"


@pytest.mark.slow
def test_demo_subject_fails_in_a_foreign_folder_and_for_a_malicious_name(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMENTARIUM_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "demo").mkdir(parents=True)
    (tmp_path / "data" / "demo" / "mine.txt").write_text("1")
    demo_jobs.start_demo_subject("subject-1")
    job = wait_for_job(lambda: demo_jobs.observe_demo_subject("subject-1"))
    assert job.state == "failed" and "expected an empty or new folder" in job.message
    demo_jobs.start_demo_subject("../../out")  # the name is read from a file
    assert wait_for_job(lambda: demo_jobs.observe_demo_subject("../../out")).state == "failed"
    assert sorted(p.name for p in checkpoints.iterdir()) == [".cache"]
