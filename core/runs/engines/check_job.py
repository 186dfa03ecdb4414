"""A job that checks a cluster: it looks for the root, torch and GPUs where runs would train."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from core.files import read_tail
from core.runs.engines.engine import Check, Engine
from core.runs.store import folder as files
from core.runs.store.engine_records import ANSWERS, JobReport

TIMEOUT_S = 120.0  # a job that has not ended by then is cancelled
APPEARS_S = 10.0  # longest time until a network file system shows a new file


def run_check_job(engine: Engine, root: Path, python: str, submit: Callable[[str, str, Path], str]) -> Iterator[Check]:
    """Submit a job, wait for its end, and report what it found.

    Parameters
    ----------
    engine : Engine. The cluster.
    root : Path. Checkpoints root.
    python : str. Python there, as a word of the shell.
    submit : callable. Submits a job: its name, its command for the shell and the file of its output; returns its id.
    """
    token = secrets.token_hex(4)
    folder = root / ANSWERS / engine.name
    folder.mkdir(parents=True, exist_ok=True)
    found, output = folder / f"check-{token}.json", folder / f"check-{token}.out"
    probe = f"{python} -m core.runs.engines.probe {shlex.quote(str(root))} {shlex.quote(str(found))}"
    job = submit(f"check-{token}", probe, output)
    yield Check("submission", True, f"job {job}")
    report = _wait_for(engine, job)
    try:
        yield from _checks_of(report, found, output, job)
    finally:
        for path in (found, output):
            path.unlink(missing_ok=True)


def _wait_for(engine: Engine, job: str) -> JobReport:
    """Wait for a job to end; one that has not by then is cancelled."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        report = engine.status_many([job])[job]
        if report.state in ("ended", "unknown"):
            return report
        if time.monotonic() > deadline:
            engine.cancel(job)
            return report
        time.sleep(1.0)


def _checks_of(report: JobReport, found: Path, output: Path, job: str) -> Iterator[Check]:
    """What the job found."""
    if report.state in ("waiting", "running"):
        yield Check("job", False, f"it did not end within {TIMEOUT_S:g} s and was cancelled: {report.reason}")
        return
    deadline = time.monotonic() + APPEARS_S
    while not found.is_file() and time.monotonic() < deadline:
        time.sleep(0.5)
    if not found.is_file():
        said = " ".join(read_tail(output, 5).split())
        reason = report.reason.partition(";")[0]
        yield Check("job", False, f"job {job} left nothing in the root: {reason}; it wrote: {said or 'nothing'}")
        return
    facts = files.read_json(found)
    yield Check("job", True, f"ran on {facts['host']}, Python {facts['python']}")
    yield Check("root", bool(facts["root"]), "seen there" if facts["root"] else "not seen there under the same path")
    torch = str(facts["torch"])
    yield Check("torch", not facts["problem"], str(facts["problem"]) or f"{torch}, {facts['gpus']} GPUs")
