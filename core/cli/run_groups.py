"""``runs group`` and ``runs make-group``, and the other commands of ``runs`` where a group is named."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from core import strict_json
from core.cli import sweep_tables
from core.cli.output import align_columns, number_cell
from core.cli.program import program_name, with_program_name
from core.cli.unconfirmed import report_unconfirmed
from core.errors import RunError
from core.events import SUB_VOLUMES_MEASURED
from core.formatting import format_count
from core.presets import command_line
from core.runs import groups, sweeps
from core.runs.group_summary import SweepSummary
from core.runs.groups import GroupSummary
from core.runs.store.groups import Group, read_group

if TYPE_CHECKING:
    from core.runs.group_scores import CrossValidation, HeldOutSubject, Spread


def list_all(root: Path, args: argparse.Namespace) -> int:
    """All groups, the newest first."""
    summaries = groups.list_groups(root)
    if args.json:
        print(strict_json.dumps([summary.to_json() for summary in summaries]))
    elif summaries:
        print("\n".join(align_columns([(s.group.id, s.group.given_name, _state(s)) for s in summaries])))
    else:
        print(
            f"no groups in {root} yet; queue all folds of a data set: {program_name()} submit DATA --fold all; search "
            f"for settings: {program_name()} sweep DATA --search FIELD=LOW:HIGH"
        )
    return 0


def show(root: Path, args: argparse.Namespace) -> int:
    """State and scores of a group, or state and trials of a sweep.

    Raises
    ------
    RunError
        If there is no such group.
    """
    summary = groups.summarise(root, _group(root, args.run))
    if isinstance(summary, SweepSummary):
        sweep_tables.show(root, summary, args.json)
        return 0
    from core.runs.group_scores import cross_validation  # imports what reads data sets

    scores = cross_validation(root, summary)
    if args.json:
        print(strict_json.dumps({**summary.to_json(), "scores": scores.to_json()}))
        return 0
    print("\n".join(_lines(summary, scores)))
    return 0


def make(root: Path, args: argparse.Namespace) -> int:
    """Make a group of runs.

    Raises
    ------
    UserError
        If the runs cannot be one.
    """
    return report(root, groups.make_group(root, args.run, args.name or ""), args)


def complete(root: Path, args: argparse.Namespace) -> int:
    """Queue the members of a group that have no run.

    Raises
    ------
    RunError
        If there is none.
    """
    group = _group(root, args.run)
    if not groups.complete(root, group):
        raise RunError(f"{group.id}: expected a group with members that have no run, every member has one")
    return report(root, group, args)


def stop(root: Path, group: Group, args: argparse.Namespace) -> int:
    """Stop the runs of a group; with ``--no-more-trials`` only the proposals of a sweep.

    Raises
    ------
    RunError
        If none is queued or active, or no trial is to be proposed.
    """
    if not args.no_more_trials:
        groups.stop_group(root, group, args.now)
    elif not groups.end_proposals(root, group):
        raise RunError(f"{group.id}: expected a sweep that is to propose trials, it is not")
    return report(root, group, args)


def resume(root: Path, group: Group, args: argparse.Namespace) -> int:
    """Resume the runs of a group that ended early."""
    resumed = groups.resume_group(root, group, data=args.data, force=args.force, engine=args.engine)
    return report(root, group, args) or report_unconfirmed(root, resumed, group.id)


def extend(root: Path, group: Group, args: argparse.Namespace) -> int:
    """Have a sweep propose further trials."""
    return report(root, sweeps.extend(root, group, args.trials).group, args)


def rename(root: Path, group: Group, args: argparse.Namespace) -> int:
    """Rename a group."""
    groups.rename_group(root, group.id, args.name)
    return report(root, group, args)


def delete(root: Path, group: Group, args: argparse.Namespace) -> int:
    """Delete a group, with or without its runs."""
    groups.delete_group(root, group, args.keep_runs)
    kept = "; its runs are kept" if args.keep_runs else " with its runs"
    print(strict_json.dumps({"deleted": group.id}) if args.json else f"{group.id}: deleted{kept}")
    return 0


def report(root: Path, group: Group, args: argparse.Namespace) -> int:
    """Print the state of a group after a change."""
    summary = groups.summarise(root, read_group(root, group.id))
    if args.json:
        print(strict_json.dumps(summary.to_json()))
    else:
        print(f"{group.id}: {_state(summary)}")
    return 0


def _group(root: Path, text: str) -> Group:
    group = groups.find_group(root, text)
    if group is None:
        known = ", ".join(summary.group.id for summary in groups.list_groups(root)) or "none"
        raise RunError(f"expected a group in {root}, {text!r} is a run; groups: {known}")
    return group


def _lines(summary: GroupSummary, scores: CrossValidation) -> list[str]:
    group = summary.group
    lines = [f"{group.id}  {group.given_name}".rstrip(), _state(summary)]
    rows = [("run", "state", "held out", "best Dice")]
    for run in summary.runs:
        best = run.state.score
        held_out = sum(subject.run == run.id for subject in scores.subjects)
        dice = number_cell(None if best is None else best.mean_dice)
        if best is not None and best.measured_on == SUB_VOLUMES_MEASURED:
            dice += f" ({best.measured_on})"
        rows.append((run.id, run.state.state, format_count(held_out, "subject") if held_out else "-", dice))
    rows += [(member.run, "no run", "-", "-") for member in summary.missing]
    lines += ["", *align_columns(rows)]
    if summary.other_differences:
        lines += ["", f"note: the runs differ in {', '.join(summary.other_differences)} too"]
    if scores.scored:
        lines += ["", *_class_table(scores), "", *_subject_table(scores)]
    lines += [f"warning: {text}" for text in scores.warnings]
    lines += _missing(summary, scores)
    refit = with_program_name(command_line(groups.refit_config(group), "submit"))
    return [*lines, "", f"train on every subject: {refit}"]


def _class_table(scores: CrossValidation) -> list[str]:
    """Mean and spread of each class."""
    mean = scores.mean
    rows = [("class", "Dice", "SD subjects", "SD folds", "HD95 mm", "SD subjects", "ASD mm", "n", "missed")]
    for name in scores.classes:
        dice, hd95, asd = (scores.spread(name, measure) for measure in ("dice", "hd95_mm", "asd_mm"))
        rows.append((name, *_dice(dice), *_distances(hd95, asd), str(dice.n), str(mean.missed.get(name, 0))))
    dice, hd95, asd = (scores.mean_spread(measure) for measure in ("dice", "hd95_mm", "asd_mm"))
    rows.append(("mean", *_dice(dice), *_distances(hd95, asd), str(dice.n), ""))
    title = (
        f"whole volumes, each subject by the run that had not seen it; n = {len(scores.scored)}, "
        f"{format_count(dice.folds, 'fold')}; without postprocessing; SD: sample standard deviation over subjects, and "
        "over the means of folds"
    )
    return [title, *align_columns(rows)]


def _dice(spread: Spread) -> tuple[str, str, str]:
    return number_cell(spread.mean), number_cell(spread.sd_subjects), number_cell(spread.sd_folds)


def _distances(hd95: Spread, asd: Spread) -> tuple[str, str, str]:
    return number_cell(hd95.mean, 2), number_cell(hd95.sd_subjects, 2), number_cell(asd.mean, 2)


def _subject_table(scores: CrossValidation) -> list[str]:
    rows = [("subject", *(f"Dice {name}" for name in scores.classes), "mean", "run")]
    for subject in scores.scored:
        score = subject.score
        assert score is not None
        dice = (number_cell(score.dice.get(name)) for name in scores.classes)
        rows.append((subject.id, *dice, number_cell(score.mean_dice), subject.run))
    return align_columns(rows)


def _missing(summary: GroupSummary, scores: CrossValidation) -> list[str]:
    """What has no score yet, and the commands that make it."""
    lines = [f"{run}: {reason}" for run, reason in scores.waiting.items()]
    by_run: dict[str, list[HeldOutSubject]] = {}
    for subject in scores.missing:
        by_run.setdefault(subject.run, []).append(subject)
    for run in summary.runs:
        if run.id in by_run:
            number = format_count(len(by_run[run.id]), "subject")
            command = f"{program_name()} evaluate {run.id} {shlex.quote(run.config.data.path)} --split val --keep"
            lines.append(f"{number} of {run.id} without a score, {by_run[run.id][0].reason}: {command}")
    if summary.missing:
        lines.append(f"queue the members without a run: {program_name()} runs group {summary.group.id} --complete")
    return ["", *lines] if lines else []


def _state(summary: GroupSummary) -> str:
    if isinstance(summary, SweepSummary):
        return sweep_tables.state_line(summary)
    return f"{summary.state}, {summary.finished} of {format_count(summary.total, 'run')} finished"
