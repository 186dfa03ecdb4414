"""What the Runs page shows below its table: the run or the group that the URL names, else the newest run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import streamlit as st

from core import runs
from core.runs import RunSummary
from core.runs.groups import GroupSummary
from core.runs.store.groups import Group
from ui.shared import formatting
from ui.shared.query_params import query_params
from ui.shared.state import GROUP, RUN_PARAMETER


@dataclass(frozen=True)
class Shown:
    """What is shown.

    Attributes
    ----------
    run, group : str, optional. Id of a run or of a group; or the name that the URL gives, where there is none like it.
    namesakes : int. Number of runs that go by the name that the URL gives, where there are several.
    """

    run: str | None
    group: str | None
    namesakes: int = 0

    @property
    def id(self) -> str | None:
        """The id of either."""
        return self.group or self.run


def group_by_run(groups: Sequence[GroupSummary]) -> dict[str, Group]:
    """The group of each run that is in one."""
    return {run_id: summary.group for summary in groups for run_id in summary.group.runs}


def shown_by_url(all_runs: Sequence[RunSummary], groups: Sequence[GroupSummary]) -> Shown:
    """What the URL names by id, by the start of an id or by name; without a name the newest run, or its group. A group
    in the place of a run is put into its own place."""
    given, given_group = query_params.get(RUN_PARAMETER), query_params.get(GROUP)
    matching_groups = runs.matching_ids(given_group or given or "", {s.group.id: s.group.name for s in groups})
    group_id = matching_groups[0] if len(matching_groups) == 1 else None
    if given_group:
        return Shown(None, group_id or given_group)
    if given:
        matching = runs.matching_ids(given, {run.id: run.name for run in all_runs})
        if not matching and group_id:
            open_group(group_id)
            return Shown(None, group_id)
        return Shown(matching[0], None) if len(matching) == 1 else Shown(given, None, len(matching))
    newest = next((run for run in all_runs if run.state.active), all_runs[0] if all_runs else None)
    if newest is None:
        return Shown(None, None)
    group = group_by_run(groups).get(newest.id)
    return Shown(newest.id, None) if group is None else Shown(None, group.id)


def choose(row_id: str, group_ids: Collection[str]) -> None:
    """Select a run or a group (callback)."""
    (open_group if row_id in group_ids else open_run)(row_id)


def open_run(run_id: str) -> None:
    """Have the URL name a run, which the page shows when it runs again."""
    query_params.pop(GROUP, None)
    query_params[RUN_PARAMETER] = run_id


def open_group(group_id: str) -> None:
    """Have the URL name a group, which the page shows when it runs again."""
    query_params.pop(RUN_PARAMETER, None)
    query_params[GROUP] = group_id


def chosen_now(shown: Shown, known: Collection[str]) -> str | None:
    """The selected run or group by the URL, which a click has changed before the page shows it.

    Parameters
    ----------
    shown : Shown. What the page shows.
    known : collection of str. Ids of all runs and groups.
    """
    given = query_params.get(GROUP) or query_params.get(RUN_PARAMETER)  # as in shown_by_url
    return given if given in known else shown.id


def report_unknown(shown: Shown) -> None:
    """Say that there is no such run or group, or several, and offer the newest run."""
    name = formatting.plain(str(shown.id))
    text = f"There is no {'group' if shown.group else 'run'} called {name}; it may have been deleted."
    if shown.namesakes:
        text = f"{shown.namesakes} runs are called {name} or have ids that begin with it; choose one in the table."
    st.warning(text, icon=":material/search_off:")
    if st.button("Show the newest run"):
        for parameter in (RUN_PARAMETER, GROUP):
            query_params.pop(parameter, None)
        st.rerun()
