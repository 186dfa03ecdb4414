"""Background job that reads all label maps of a folder, to name its classes by their values (``data describe``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.datasets.folder_description import pattern_lines
from ui.shared import hashes, jobs
from ui.shared.paths import cache_root


def report_folder(path: Path, content: Mapping[str, Any]) -> Path:
    """The folder of the report on the label maps of a folder; it changes with the patterns of its files."""
    texts = [pattern_lines(content.get(name, "")).splitlines() for name in ("images", "labels")]
    series = f"\n{content.get('modalities')}" if content.get("dicom") else ""
    return cache_root() / "file_names" / hashes.short_hash(f"{path}\n{texts}{series}")


def start(path: Path, content: Mapping[str, Any], folder: Path) -> None:
    """Start to read the label maps, unless the job is running.

    Parameters
    ----------
    path : Path. Folder of the data set.
    content : mapping. Its description, with patterns of label maps, and of images if these are not DICOM.
    folder : Path. As of :func:`report_folder`.
    """
    # Each in one word with its flag, as a pattern may begin with "-".
    flags = [f"--labels={p}" for p in _plain(content["labels"])]
    if content.get("dicom"):
        named = content.get("modalities", {}).items()
        flags = ["--from=dicom", *flags, *(f"--modalities={text}={name}" for text, name in named)]
    else:
        flags = [*(f"--pattern={p}" for p in _plain(content["images"])), *flags]
    report = ["--json", "--progress", "--report", str(folder / jobs.REPORT)]
    jobs.start(folder, ["data", "describe", str(path), *flags, *report])


def _plain(patterns: Any) -> list[str]:
    """All patterns, without the names of modalities."""
    listed = patterns.values() if isinstance(patterns, Mapping) else [patterns]
    return [p for ps in listed for p in ([ps] if isinstance(ps, str) else ps)]
