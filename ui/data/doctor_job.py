"""Background job of the data doctor (``check``); a report is valid until a file of the data set changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from core.files import file_stamp
from ui.shared import hashes, jobs
from ui.shared.jobs import Job
from ui.shared.paths import cache_root

REPORT = "report.json"


def report_folder(path: Path) -> Path:
    """The folder of the report on a data set; it changes with name, size or modification time of any of its files."""
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            size, mtime_ns = file_stamp(Path(folder, name))
            digest.update(f"{folder}/{name}\0{size}\0{mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return cache_root() / "doctor" / hashes.short_hash(str(path)) / digest.hexdigest()[:16]


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
