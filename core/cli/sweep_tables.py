"""A sweep as text: its state, the table of its trials, the best one and what to do with it."""

from __future__ import annotations

from pathlib import Path

from core import strict_json
from core.cli.output import align_columns, number_cell
from core.cli.program import program_name, with_program_name
from core.presets import command_line
from core.runs.group_summary import SweepSummary
from core.runs.sweeps import best_config, read_importance
from core.sweeps.settings import MORE_TRIALS


def show(root: Path, summary: SweepSummary, as_json: bool) -> None:
    """Print a sweep."""
    if as_json:
        importance = read_importance(root, summary.group).shares
        print(strict_json.dumps({**summary.to_json(), "importance": importance}))
    else:
        print("\n".join(_lines(root, summary)))


def state_line(summary: SweepSummary) -> str:
    """State and progress in one line."""
    line = f"{summary.state}, {summary.ended} of {summary.total} trials ended"
    best = summary.best
    if best is not None:
        line += f", best {number_cell(best.dice)} (trial {best.number})"
    if summary.settings.exhausted:
        line += "; every combination of values was tried"
    return f"{line}; {summary.settings.problem}" if summary.settings.problem else line


def _lines(root: Path, summary: SweepSummary) -> list[str]:
    group, settings = summary.group, summary.settings
    lines = [f"{group.id}  {group.given_name}".rstrip(), state_line(summary), f"compared: {summary.measure}"]
    where = f", trials train on {settings.engine}" if settings.engine else ""
    lines.append(f"sampler {settings.options.sampler}, pruner {settings.options.pruner}{where}")
    lines += [f"search: {dimension.name}={dimension.text}" for dimension in settings.space]
    if summary.trials:
        lines += ["", *_trial_table(summary)]
    if importance := read_importance(root, group).shares:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in importance.items())
        lines += ["", f"importance for the Dice (PED-ANOVA): {shares}"]
    best = best_config(summary)
    if best is not None and summary.best is not None:
        lines += ["", f"best: trial {summary.best.number}, {summary.best.member.run}"]
        if not best.split.val_subjects:  # with which there are no folds
            lines.append(f"train it on all folds: {with_program_name(command_line(best, 'submit'))} --fold all")
    if not summary.active and not summary.proposes and not settings.exhausted:
        lines += ["", f"more trials: {program_name()} runs extend {group.id} --trials {MORE_TRIALS}"]
    return lines


def _trial_table(summary: SweepSummary) -> list[str]:
    """The trials, the highest Dice first, then those without one in order."""
    specs = [dimension.spec for dimension in summary.settings.space]
    rows = [("trial", "Dice", "state", *(spec.name for spec in specs), "run", "")]
    for trial in summary.ranked:
        values = ("-" if (value := trial.value(spec)) is None else spec.format(value) for spec in specs)
        rows.append((str(trial.number), number_cell(trial.dice), trial.state, *values, trial.member.run, trial.reason))
    return align_columns(rows)
