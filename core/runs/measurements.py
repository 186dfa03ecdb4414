"""Measurements of a run for pages: from the index, or from the run folder where the index is behind it."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path

from core.errors import RunError
from core.files import file_stamp
from core.runs.store import folder as files
from core.runs.store import metrics_file
from core.runs.store.metrics_file import MetricRow

FOLDER_IDS = 2**52  # ids of values that come from the folder; a browser counts exactly to 2**53
MAX_BEHIND_S = 5.0  # a trainer brings the index up to date every second
MAX_CLOCK_DIFFERENCE_S = 60.0  # time since a file was written that no difference between clocks explains
_behind_since: dict[Path, tuple[int, float]] = {}  # size in the index, and when it was first seen to differ


def metrics_after(root: Path, run_id: str, after_id: int = 0, limit: int = 5000) -> list[MetricRow]:
    """Values of a run with an id above ``after_id``, oldest first, so that pages can poll for new ones.

    Ids only grow. A value that a resumed run measures again has a new id, and the old one is removed. Where the index
    cannot be used, or is behind the run folder, the values come from the folder; their ids begin at ``FOLDER_IDS``, so
    that a page whose last value came from the other source gets all values again.

    Raises
    ------
    RunError
        If there is no such run.
    """
    folder = files.run_folder(root, run_id)
    from core.runs.store.index import open_index

    try:
        index = open_index(root)
        if not _is_behind(folder, index.metrics_size(run_id)):
            return index.metrics_after(run_id, after_id if after_id < FOLDER_IDS else 0, limit)
    except RunError:
        pass
    number = max(0, after_id - FOLDER_IDS)
    rows = (replace(row, id=FOLDER_IDS + row.id) for row in metrics_file.read_metrics(folder) if row.id > number)
    return list(itertools.islice(rows, limit))


def _is_behind(folder: Path, indexed: int | None) -> bool:
    """Whether the index lacks values of the metrics file, and not only for a moment.

    Parameters
    ----------
    folder : Path. The run folder.
    indexed : int, optional. Bytes of the metrics file whose values are in the index; ``None`` if it does not know the
        run.
    """
    size = metrics_file.metrics_size(folder)
    if indexed is None or indexed == size:
        _behind_since.pop(folder, None)
        return indexed is None and size > 0
    known = _behind_since.get(folder)
    if known is None or known[0] != indexed:
        written_s = max(0.0, time.time() - file_stamp(folder / metrics_file.METRICS).mtime_ns / 1e9)
        behind_s = written_s if written_s > MAX_CLOCK_DIFFERENCE_S else 0.0
        known = _behind_since[folder] = (indexed, time.monotonic() - behind_s)
    return time.monotonic() - known[1] > MAX_BEHIND_S
