"""The data doctor (``check``) as a background job; its report is kept until a file of the data set changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from ui.shared import jobs
from ui.shared.jobs import Job
from ui.shared.state import cache_root

REPORT = "report.json"


def folder_of(path: Path) -> Path:
    """The folder of the report on a data set; it changes with the size or time of any file of the data set."""
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            try:
                facts = os.stat(os.path.join(folder, name))
            except OSError:
                continue  # a broken link: the report names it
            digest.update(f"{folder}/{name}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return cache_root() / "doctor" / jobs.short_hash(str(path)) / digest.hexdigest()[:16]


def start(path: Path, folder: Path) -> None:
    """Start the data doctor on a data set, unless it is running; older reports on the data set are removed."""
    jobs.remove_others(folder)
    jobs.start(folder, ["check", str(path), "--json", "--progress", "--thumbnails", str(folder)])


def observe(folder: Path) -> Job:
    """The state of the data doctor."""
    return jobs.observe(folder, (folder / REPORT).is_file())


def report(folder: Path) -> dict[str, Any]:
    """The finished report of the data doctor."""
    return jobs.read_json(folder / REPORT)
