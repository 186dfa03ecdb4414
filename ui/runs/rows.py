"""The rows of the table of runs: a row per group, and per run that is in none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from core.runs import RunSummary
from core.runs.groups import GroupSummary


def table_rows(
    runs: Sequence[RunSummary], groups: Sequence[GroupSummary], matches: Callable[[RunSummary, str], bool]
) -> list[RunSummary | GroupSummary]:
    """The rows that pass a filter, the newest first.

    Parameters
    ----------
    runs, groups : sequence. All runs and groups of a root.
    matches : callable. Whether a run passes the filter, by itself and the name of its group.
    """
    grouped = {id for group in groups for id in group.group.runs}
    rows: list[RunSummary | GroupSummary] = [run for run in runs if run.id not in grouped and matches(run, "")]
    rows += [group for group in groups if not group.runs or any(matches(run, group.group.name) for run in group.runs)]
    return sorted(rows, key=_created_at, reverse=True)


def _created_at(row: RunSummary | GroupSummary) -> tuple[float, str]:
    if isinstance(row, GroupSummary):
        return max(((run.state.created_at, run.id) for run in row.runs), default=(row.group.created_at, row.group.id))
    return row.state.created_at, row.id
