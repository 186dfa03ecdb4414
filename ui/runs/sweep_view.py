"""The view of a sweep: progress, the best trial, figures of the trials, and a table of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from core.formatting import MISSING, format_duration, format_score
from core.runs.group_summary import NOT_USED, SweepSummary, Trial, listed_group
from core.runs.sweeps import read_importance
from ui.runs import group_actions
from ui.runs.selection import open_run
from ui.shared import formatting
from ui.shared.navigation import tab_title

FIGURE_TRIALS = 2  # finished trials from which on figures say anything
BIASED = (
    "The best of many trials is chosen by the same held-out subjects that it is measured on, so its Dice is slightly "
    "too good: confirm it on all folds, or on test subjects."
)


def show_sweep(root: Path, summary: SweepSummary) -> None:
    """Show a sweep."""
    group, best = summary.group, summary.best
    tab_title(f"{summary.ended}/{summary.total}", f"Dice {format_score(best.dice)}" if best else "", group.name)
    group_actions.header(root, summary)
    if summary.settings.problem:
        st.error(
            f"The sweep ended: {formatting.plain(summary.settings.problem)}. Remove the cause, then resume it.",
            icon=":material/error:",
        )
    st.caption(_compared(summary))
    _progress(root, summary)
    _best(summary)
    if summary.finished >= FIGURE_TRIALS:
        from ui.runs.sweep_figures import show_figures  # loads plotly

        show_figures(summary, read_importance(root, group))
    elif summary.finished:
        st.caption(f"The figures follow with {FIGURE_TRIALS} finished trials.")
    _table(summary)


def _compared(summary: SweepSummary) -> str:
    """What is searched, and by which measure trials are compared."""
    names = formatting.plain(", ".join(dimension.spec.label for dimension in summary.settings.space))
    engine = summary.settings.engine
    where = f" The trials train on {formatting.plain(engine)}." if engine else ""
    return f"Compared by the {summary.measure}. Searched: {names or '?'}; {summary.settings.options.summary}.{where}"


def _progress(root: Path, summary: SweepSummary) -> None:
    """Progress over all trials and those that train, every two seconds while the sweep goes on; the page runs again
    when a trial is proposed or ends."""
    going_on = bool(summary.active) or summary.proposes
    before = _outline(summary)

    @st.fragment(run_every=2.0 if going_on else None)
    def fragment() -> None:
        now = listed_group(root, summary.group.id)
        assert isinstance(now, SweepSummary), "a group keeps its kind"
        if going_on:
            st.progress(min(1.0, now.progress), f"{now.ended} of {formatting.count(now.total, 'trial')} ended")
        for trial in now.active:
            st.caption(_activity(now, trial))
        if now.proposes and not now.active:
            st.caption("Choosing the values of the next trial …")
        if _outline(now) != before:
            st.rerun()

    fragment()


def _outline(summary: SweepSummary) -> tuple[object, ...]:
    """What the page below the progress depends on."""
    states = tuple((trial.member.run, trial.state) for trial in summary.trials)
    return (summary.state, summary.total, summary.settings.problem, *states)


def _activity(summary: SweepSummary, trial: Trial) -> str:
    state = trial.run.state if trial.run is not None else None
    what = "waits in the queue" if state is None or trial.state == "waiting" else state.what or state.state
    parts = [f"Trial {trial.number}: {what}"]
    if state is not None and state.epochs:
        parts.append(f"epoch {state.epoch}/{state.epochs}")
    if trial.dice is not None:
        parts.append(f"Dice {format_score(trial.dice)} so far")
    if state is not None and state.remaining_s is not None:
        parts.append(f"{format_duration(state.remaining_s)} left")
    return formatting.plain(f"{', '.join(parts)} · {_values_text(summary, trial)}")


def _values_text(summary: SweepSummary, trial: Trial) -> str:
    values = [(spec, trial.value(spec)) for spec in (dimension.spec for dimension in summary.settings.space)]
    return ", ".join(f"{spec.label} {spec.in_words(value)}" for spec, value in values if value is not None)


def _best(summary: SweepSummary) -> None:
    """The best trial with its values, and a link to its run."""
    best = summary.best
    if best is None:
        if not summary.active and not summary.proposes:
            st.info("No trial of this sweep has finished.", icon=":material/info:")
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", border=True):
        st.metric("Best mean Dice", format_score(best.dice), width="content")
        with st.container(gap="xxsmall"):
            st.markdown(f"**Trial {best.number}** of {summary.finished} finished")
            st.caption(formatting.plain(_values_text(summary, best)))
        if st.button("Open its run", icon=":material/open_in_new:"):
            open_run(best.member.run)
            st.rerun()
    st.caption(f"On {summary.objective}. {BIASED}")


def _table(summary: SweepSummary) -> None:
    """A row per trial, the best first; a selected one is opened."""
    if not summary.trials:
        return
    ordered = summary.ranked
    specs = [dimension.spec for dimension in summary.settings.space]
    rows = [
        {
            "trial": trial.number,
            "Dice": trial.dice,
            "state": trial.state,
            **{spec.label: _cell(spec, trial) for spec in specs},
            "epoch": trial.run.state.epoch if trial.run is not None else None,
            "length": format_duration(trial.run.state.elapsed_s or None) if trial.run is not None else MISSING,
            "reason": trial.reason,
        }
        for trial in ordered
    ]
    st.subheader("Trials", anchor=False)
    config: dict[str, Any] = {
        spec.label: st.column_config.NumberColumn(format="%.4g") for spec in specs if spec.type in (int, float)
    }
    event = st.dataframe(
        rows,
        hide_index=True,
        width="stretch",
        on_select="rerun",
        selection_mode="single-row",
        column_config={**config, "Dice": st.column_config.NumberColumn(format="%.3f")},
        placeholder=MISSING,
        key=f"trials-{summary.group.id}",
        alt="The trials of the sweep, the best first",
    )
    st.caption(
        "The best first; a Dice of a trial that has not finished is its best so far, which does not count. "
        f"Cells with {NOT_USED} or {MISSING}: the network or loss of the trial does not use the field. "
        "Select a row to open the run."
    )
    if chosen := event.selection.rows:
        open_run(ordered[chosen[0]].member.run)
        st.rerun()


def _cell(spec: Any, trial: Trial) -> Any:
    """The value of a field: a number where it is one, so that columns are sorted by it."""
    value = trial.value(spec)
    if spec.type in (int, float):
        return value
    return NOT_USED if value is None else spec.in_words(value)
