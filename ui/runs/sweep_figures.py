"""Figures of a sweep: trials in parallel coordinates, history of the best Dice, importance of the fields."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import streamlit as st
from plotly.colors import sample_colorscale
from plotly.graph_objects import Figure

from core.formatting import format_score
from core.runs.group_summary import NOT_USED, SweepSummary, Trial
from core.runs.sweeps import Importance
from core.sweeps.space import Dimension, choice_text, exact_number, is_number
from ui.shared import formatting
from ui.shared.theme import ink_and_paper

MAX_LINES = 150  # trials in parallel coordinates, the best ones
SCALE, BRIGHTEST = "Viridis", 0.85
DARKEST = {"light": 0.2, "dark": 0.42}  # of the scale, by theme: thin translucent lines are seen too
HEIGHT = 320
TITLES_LENGTH, LINE_HEIGHT = 100, 16  # characters of a line of all axis titles, which would touch each other; pixels
MAX_TICKS = 12  # of the axis of trials
CONFIG = {"displaylogo": False, "displayModeBar": False}


def show_figures(summary: SweepSummary, importance: Importance) -> None:
    """Render the figures of the finished trials."""
    finished = [trial for trial in summary.trials if trial.state == "finished" and trial.dice is not None]
    best = sorted(finished, key=lambda trial: -(trial.dice or 0.0))[:MAX_LINES]
    st.subheader("Values and Dice", anchor=False)
    which = f"the best {MAX_LINES} of {len(finished)}" if len(best) < len(finished) else "all"
    st.caption(f"A line per finished trial ({which}); the brighter and thicker, the higher its Dice.")
    st.plotly_chart(_parallel(summary, best), key="sweep-parallel", config=CONFIG)
    columns = st.grid(2, min_column_width=360, gap="medium")
    with columns, st.container():
        st.caption("Dice of the trials, and the best so far. Filled: finished; open: ended early.")
        st.plotly_chart(_history(summary), key="sweep-history", config=CONFIG)
    with columns, st.container():
        if importance.shares:
            st.caption(
                "How much each setting decides whether a trial is among the better ones (PED-ANOVA), of "
                f"{formatting.count(importance.finished, 'finished trial')}."
            )
            st.plotly_chart(_importance(summary, importance), key="sweep-importance", config=CONFIG)
        else:
            st.caption("The importance of the settings follows with more finished trials.")


def _parallel(summary: SweepSummary, trials: Sequence[Trial]) -> Figure:
    """An axis per field and one for the Dice, a line per trial; the lines of good trials are on top."""
    axes = [_Axis(dimension, trials) for dimension in summary.settings.space]
    dice = [trial.dice or 0.0 for trial in trials]
    low, high = min(dice), max(dice)
    spread = high - low or 1.0
    traces: list[dict[str, Any]] = []
    for trial in reversed(trials):
        share = ((trial.dice or 0.0) - low) / spread
        values = "<br>".join(f"{axis.title}: {axis.text(trial)}" for axis in axes)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": list(range(len(axes) + 1)),
                "y": [*(axis.position(trial) for axis in axes), share],
                "line": {"color": _colour(share), "width": 1 + 2.5 * share**2},
                "marker": {"size": 4 + 3 * share**2, "color": _colour(share)},
                "opacity": 0.6 + 0.4 * share,
                "hovertemplate": f"<b>Trial {trial.number}: {format_score(trial.dice)}</b><br>{values}<extra></extra>",
            }
        )
    annotations, shapes = [], []
    ink, paper = ink_and_paper()
    for x, ticks in enumerate([*(axis.ticks for axis in axes), [(0.0, format_score(low)), (1.0, format_score(high))]]):
        shapes.append({"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": {"width": 1, "color": "#8b909a"}})
        side = "left" if x < len(axes) else "right"
        for y, text in ticks:
            annotations.append(
                {"x": x, "y": y, "text": text, "showarrow": False, "font": {"size": 12, "color": ink}, "bgcolor": paper,
                 "xshift": 6 if side == "left" else -6, "xanchor": "left" if side == "left" else "right"}
            )  # fmt: skip
    titles = [textwrap.wrap(title, TITLES_LENGTH // (len(axes) + 1)) for title in (*(a.title for a in axes), "Dice")]
    layout = {
        "height": HEIGHT,
        "margin": {"l": 40, "r": 40, "t": 20 + LINE_HEIGHT * max(map(len, titles)), "b": 12},
        "showlegend": False,
        "hovermode": "closest",
        "xaxis": {
            "tickvals": list(range(len(titles))),
            "ticktext": [f"<b>{'<br>'.join(lines)}</b>" for lines in titles],
            "side": "top",
            "showgrid": False,
            "zeroline": False,
            "range": [-0.2, len(titles) - 0.8],
            "fixedrange": True,
        },
        "yaxis": {"visible": False, "range": [-0.06, 1.06], "fixedrange": True},
        "annotations": annotations,
        "shapes": shapes,
    }
    return Figure(traces, layout)


class _Axis:
    """Positions from 0 to 1 of the values of a field.

    Parameters
    ----------
    dimension : Dimension. The field.
    trials : sequence of Trial. Trials that are shown; where one does not use the field, the axis has a place for it.
    """

    def __init__(self, dimension: Dimension, trials: Sequence[Trial]) -> None:
        self.dimension = dimension
        self.title = dimension.spec.label
        self._unused = any(dimension.name not in trial.member.values for trial in trials)
        self._places = [
            *((NOT_USED,) if self._unused else ()),
            *(choice_text(dimension.spec, v) for v in dimension.choices),
        ]

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Position and text of the marks."""
        if self.dimension.choices:
            spec = self.dimension.spec
            words = [*([NOT_USED] if self._unused else []), *(_words(spec, value) for value in self.dimension.choices)]
            return [(self._place(n), word) for n, word in enumerate(words)]
        low, high = self.dimension.low, self.dimension.high
        middle = math.sqrt(low * high) if self.dimension.log else (low + high) / 2
        middle = round(middle) if self.dimension.is_whole else float(f"{middle:.2g}")
        marks = [(self._number(value), exact_number(value)) for value in dict.fromkeys((low, middle, high))]
        return [*([(0.0, NOT_USED)] if self._unused else []), *marks]

    def position(self, trial: Trial) -> float:
        """Position of a trial's value."""
        if self.dimension.choices:
            return self._place(self._places.index(self._label(trial)) if self._label(trial) in self._places else 0)
        value = trial.value(self.dimension.spec)
        return 0.0 if value is None else self._number(float(value))

    def text(self, trial: Trial) -> str:
        """A trial's value in words."""
        value = trial.value(self.dimension.spec)
        return NOT_USED if value is None else _words(self.dimension.spec, value)

    def _label(self, trial: Trial) -> str:
        value = trial.value(self.dimension.spec)
        return NOT_USED if value is None else choice_text(self.dimension.spec, value)

    def _place(self, number: int) -> float:
        return number / max(1, len(self._places) - 1)

    def _number(self, value: float) -> float:
        low, high = self.dimension.low, self.dimension.high
        if self.dimension.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, 1e-300))
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return 0.15 + 0.85 * share if self._unused else share


def _history(summary: SweepSummary) -> Figure:
    shown = [trial for trial in summary.trials if trial.dice is not None and trial.state in ("finished", "pruned")]
    traces: list[dict[str, Any]] = []
    finished = [trial for trial in shown if trial.state == "finished"]
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "best so far",
            "x": [trial.number for trial in finished],
            "y": list(accumulate((trial.dice or 0.0 for trial in finished), max)),
            "line": {"shape": "hv", "width": 2, "color": _colour(1.0)},
            "hovertemplate": "best until trial %{x}: <b>%{y:.3f}</b><extra></extra>",
        }
    )
    for state, symbol in (("finished", "circle"), ("pruned", "circle-open")):
        points = [trial for trial in shown if trial.state == state]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": state,
                "x": [trial.number for trial in points],
                "y": [trial.dice for trial in points],
                "marker": {"size": 8, "symbol": symbol, "color": _colour(0.4), "line": {"width": 2}},
                "hovertemplate": f"trial %{{x}}, {state}: <b>%{{y:.3f}}</b><extra></extra>",
            }
        )
    step = math.ceil(len(summary.trials) / MAX_TICKS)  # whole: there is no trial 2.5
    layout = {
        "height": HEIGHT - 60,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 36},
        "showlegend": False,
        "xaxis": {"title": {"text": "trial"}, "automargin": True, "tickformat": "d", "dtick": step},
        "yaxis": {"title": {"text": "Dice"}, "automargin": True, "tickformat": ".3~f"},
    }
    return Figure(traces, layout)


def _importance(summary: SweepSummary, importance: Importance) -> Figure:
    labels = {dimension.name: dimension.spec.label for dimension in summary.settings.space}
    names = list(importance.shares)[::-1]
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [importance.shares[name] for name in names],
        "y": [labels.get(name, name) for name in names],
        "marker": {"color": _colour(0.5)},
        "hovertemplate": "%{y}: <b>%{x:.0%}</b><extra></extra>",
    }
    layout = {
        "height": HEIGHT - 60,
        "margin": {"l": 8, "r": 8, "t": 8, "b": 36},
        "xaxis": {"range": [0, 1], "tickformat": ".0%"},
        "yaxis": {"automargin": True},
    }
    return Figure([trace], layout)


def _words(spec: Any, value: Any) -> str:
    """A value in words; numbers in few digits."""
    return exact_number(value) if is_number(spec) and not spec.is_special(value) else str(spec.in_words(value))


def _colour(share: float) -> str:
    """Colour of a trial by its place between the lowest (0) and the highest Dice (1)."""
    darkest = DARKEST.get(st.context.theme.type or "", DARKEST["light"])
    return str(sample_colorscale(SCALE, [darkest + (BRIGHTEST - darkest) * share])[0])
