"""The view of a group of folds: progress, mean and spread per class, scores per subject, its runs and their curves."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from core import runs
from core.colours import RUN_PALETTE, run_colours
from core.formatting import MISSING, format_number, format_score
from core.runs.group_scores import CrossValidation, Spread
from core.runs.group_summary import GroupSummary, listed_group
from core.runs.store.groups import Group
from ui.runs import group_actions
from ui.runs.chart.component import run_chart
from ui.runs.missing_scores import offer_scoring
from ui.runs.one_model import show_one_model
from ui.runs.runs_table.component import Selection, runs_table
from ui.runs.selection import open_run
from ui.shared import cache, formatting
from ui.shared.class_table import ClassRow, class_table
from ui.shared.legend import class_colours
from ui.shared.navigation import go_to, page, tab_title
from ui.shared.query_params import query_params
from ui.shared.state import CASE, GROUP, MODEL, RUN_PARAMETER

COLUMNS = ("Dice", "SD over subjects", "SD over folds", "HD95 (mm)", "ASD (mm)", "n")
MEASURED = (
    "On whole volumes, each subject by the run that had not seen it. SD: sample standard deviation, over subjects and "
    "over the means of the folds. The best epoch of a run is chosen by its own held-out subjects, which makes the "
    "figures slightly too good; test subjects are in no fold. Postprocessing is left out."
)


def show_group(root: Path, summary: GroupSummary) -> None:
    """Show a group of folds."""
    group = summary.group
    scores = cache.cross_validation(root, summary)
    mean = scores.mean_spread()
    tab_title(
        f"{summary.finished}/{len(group.members)}", f"Dice {format_score(mean.mean)}" if mean.n else "", group.name
    )
    group_actions.header(root, summary)
    if summary.other_differences:
        names = formatting.plain(", ".join(summary.other_differences))
        st.warning(f"The runs differ in more than their held-out subjects: {names}.", icon=":material/warning:")
    _members(root, summary)
    _scores(summary, scores)
    offer_scoring(root, summary, scores)
    show_one_model(summary)
    _subjects(scores)
    _curves(summary)


def link_to(group: Group) -> None:
    """A link from one of its runs to a group."""
    st.page_link(
        page("runs"), label=formatting.plain(group.name), icon=":material/stacks:", query_params={GROUP: group.id}
    )


def _members(root: Path, summary: GroupSummary) -> None:
    """Progress and the table of the runs, updated every two seconds; a click opens a run."""
    waiting = {run.state.state for run in summary.runs} & set(formatting.WAITING_OR_ACTIVE)
    before = [(run.id, run.state.state) for run in summary.runs]

    @st.fragment(run_every=2.0 if waiting else None)
    def fragment() -> None:
        now = listed_group(root, summary.group.id)
        if waiting:
            st.progress(min(1.0, now.progress), f"{now.progress:.0%} of all folds")
        queued = runs.queued_runs(root)
        runs_table(now.runs, Selection(tickable=False), queued, on_choose=open_run, key="group_members")
        left = RUN_PARAMETER in query_params and GROUP not in query_params
        if left or [(run.id, run.state.state) for run in now.runs] != before:
            st.rerun()

    fragment()


def _scores(summary: GroupSummary, scores: CrossValidation) -> None:
    """Mean and spread per class, and what is not measured yet."""
    if scores.scored:
        colours = next((run.state for run in summary.runs if run.state.colours), summary.runs[0].state)
        colour_of = {c["name"]: c["colour"] for c in class_colours(colours)}
        missed = scores.mean.missed
        rows = [
            ClassRow(
                name,
                _cells(*(scores.spread(name, measure) for measure in ("dice", "hd95_mm", "asd_mm"))),
                colour_of.get(name, ""),
                f"missed in {missed[name]}" if missed.get(name) else "",
            )
            for name in scores.classes
        ]
        mean = _cells(*(scores.mean_spread(measure) for measure in ("dice", "hd95_mm", "asd_mm")))
        class_table(COLUMNS, [*rows, ClassRow("mean", mean)])
        st.caption(MEASURED)
    for text in scores.warnings:
        st.warning(formatting.plain(text), icon=":material/warning:")
    known = len(scores.subjects)
    if known and len(scores.scored) < known:
        st.caption(f"{len(scores.scored)} of {formatting.count(known, 'held-out subject')} scored so far.")
    for run, reason in scores.waiting.items():
        if reason.startswith("no checkpoint"):
            continue  # the table of runs shows its state
        st.caption(formatting.plain(f"{run}: {reason}."))
    if not known:
        st.caption("The scores follow when the first fold has a checkpoint.")


def _cells(dice: Spread, hd95: Spread, asd: Spread) -> list[str]:
    scores = (dice.mean, dice.sd_subjects, dice.sd_folds)
    return [*map(format_score, scores), format_number(hd95.mean, 2), format_number(asd.mean, 2), str(dice.n)]


def _subjects(scores: CrossValidation) -> None:
    """A row per subject, the worst first; a selected one is opened in Review."""
    if not scores.subjects:
        return
    ordered = sorted(scores.subjects, key=lambda s: (s.score is None, s.score.mean_dice if s.score else 0.0))
    rows = [
        {
            "subject": subject.id,
            **{f"Dice {name}": subject.score.dice.get(name) if subject.score else None for name in scores.classes},
            "mean": subject.score.mean_dice if subject.score else None,
            "missed": ", ".join(subject.score.missed) if subject.score else subject.reason,
            "run": subject.run,
        }
        for subject in ordered
    ]
    numbers = [*(f"Dice {name}" for name in scores.classes), "mean"]
    st.subheader("Subjects", anchor=False)
    event = st.dataframe(
        rows,
        hide_index=True,
        width="stretch",
        on_select="rerun",
        selection_mode="single-row",
        column_config={name: st.column_config.NumberColumn(format="%.3f") for name in numbers},
        placeholder=MISSING,
        key="group_subjects",
        alt="Dice of every held-out subject",
    )
    st.caption("The worst first. Select a row to look at the case in Review.")
    if chosen := event.selection.rows:
        subject = ordered[chosen[0]]
        go_to("review", **{MODEL: subject.run, CASE: subject.id})


def _curves(summary: GroupSummary) -> None:
    """The curves of the first runs over each other."""
    shown = summary.runs[: len(RUN_PALETTE)]
    palette = run_colours(sorted({colour for run in shown for colour in run.state.colours}))
    colour_of = dict(zip((run.id for run in shown), palette, strict=False))
    run_chart(shown, shown[0].id, colour_of, key="group_chart")
    if len(shown) < len(summary.runs):
        st.caption(f"The first {len(shown)} of {len(summary.runs)} runs.")
