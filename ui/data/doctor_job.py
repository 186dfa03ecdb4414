"""Background job of the data doctor (``check``); a report is valid until a file of the data set changes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.config import field_specs
from core.datasets import DataOptions
from core.datasets.registry import DEFAULT_OPTIONS
from core.datasets.saved_descriptions import description_file
from core.datasets.saved_recipes import saved_recipe
from core.fields import FieldSpec
from core.files import file_stamp
from ui.shared import hashes, jobs
from ui.shared.paths import cache_root


def report_folder(path: Path, options: DataOptions = DEFAULT_OPTIONS) -> Path:
    """The folder of the report on a data set; it changes with the options of reading it, with its description and
    recipe, and with name, size or modification time of any of its files."""
    options = replace(options, needed=())  # all modalities are examined
    parts = [repr((options, file_stamp(description_file(path)), saved_recipe(path).digest))]
    for folder, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            size, mtime_ns = file_stamp(Path(folder, name))
            parts.append(f"{folder}/{name}\0{size}\0{mtime_ns}\n")
    return cache_root() / "doctor" / hashes.short_hash(str(path)) / hashes.short_hash("".join(parts))


def start(path: Path, folder: Path, options: DataOptions = DEFAULT_OPTIONS) -> None:
    """Start the data doctor on a data set, unless it is running; older reports on the data set are removed."""
    jobs.remove_others(folder)
    flags = [text for spec in field_specs() if spec.name in options.names() for text in _flag(spec, options)]
    jobs.start(folder, ["check", str(path), *flags, "--json", "--progress", "--thumbnails", str(folder)])


def finished_report(path: Path, options: DataOptions) -> dict[str, Any] | None:
    """The report on a data set as it is now; ``None`` if there is none."""
    folder = report_folder(path, options)
    return jobs.read_report(folder) if jobs.observe_report(folder).state == "done" else None


def _flag(spec: FieldSpec, options: DataOptions) -> list[str]:
    """The flag of an option and its value, if that is not the default."""
    value = getattr(options, spec.name)
    return [f"{spec.flag}={spec.format(value)}"] if value != spec.default else []
