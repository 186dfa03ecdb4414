"""Finds the files of models: runs, groups of runs, checkpoint files, and ensembles under ``<root>/ensembles``."""

from __future__ import annotations

import os
from pathlib import Path

from core.errors import RunError
from core.formatting import format_count
from core.paths import DEMO_MODEL, absolute_path
from core.runs.catalog import find_checkpoint, matching_ids
from core.runs.group_summary import SweepSummary
from core.runs.groups import find_group, summarise
from core.runs.store import folder as files
from core.runs.store.groups import Group, read_groups

ENSEMBLES = "ensembles"  # folder below the root, and beginning of the key of an ensemble
SUFFIX = ".safetensors"
JOIN = "+"  # between the models of an ensemble that has no file


def list_ensembles(root: Path) -> list[Path]:
    """The files of all ensembles of a root, newest first."""
    files = [path for path in (root / ENSEMBLES).glob(f"*{SUFFIX}") if not path.name.startswith(".")]
    return sorted(files, key=lambda path: (path.stat().st_mtime, path.name), reverse=True)


def ensemble_key(path: Path) -> str:
    """The name of an ensemble of :func:`list_ensembles` as argument of a command: ``ensembles/<name>``."""
    return f"{ENSEMBLES}/{path.stem}"


def find_models(root: Path, text: str) -> tuple[Path, ...]:
    """The files that a text names.

    They are, in this order: a checkpoint file or the demo model; a run by its id or exact name
    (:func:`core.runs.catalog.find_checkpoint`); an ensemble of the root by its name; the runs of a group by its id or
    exact name (of a sweep its best trial); a run or a group by the beginning of its id; several of these, joined by
    ``+``.

    Raises
    ------
    RunError
        If a part names nothing, several runs or groups, or a run without a checkpoint.
    """
    runs = {folder.name: files.read_name(folder) for folder in files.run_folders(root)}
    named = text in runs or text in runs.values()
    if named or text == DEMO_MODEL or os.path.isfile(absolute_path(text)):
        return (find_checkpoint(root, text),)
    name = text.removeprefix(f"{ENSEMBLES}/").removesuffix(SUFFIX)
    ensembles = {path.stem: path.absolute() for path in list_ensembles(root)}
    if name in ensembles:
        return (ensembles[name],)
    groups = {group.id: group.name for group in read_groups(root)}
    if any(id in groups for id in matching_ids(text, runs | groups)) and (group := find_group(root, text)) is not None:
        return tuple(find_checkpoint(root, run) for run in _models_of(root, group))
    parts = [part.strip() for part in text.split(JOIN)]
    try:
        return (find_checkpoint(root, text),)
    except RunError:
        if len(parts) < 2 or not all(parts):
            raise
    return tuple(path for part in parts for path in find_models(root, part))


def find_model(root: Path, text: str, option: str = "") -> Path:
    """The one file that a text names (:func:`find_models`).

    Parameters
    ----------
    root : Path. Checkpoints root.
    text : str. Name of a model.
    option : str. Option that takes a single model, for the error; empty where the command does.

    Raises
    ------
    RunError
        If it names nothing, or several models.
    """
    path, *others = find_models(root, text)
    if others:
        named = f"{option}: " if option else ""
        raise RunError(
            f"{named}expected one model, got {1 + len(others)} of {text}; write them as one: "
            f"python -m core ensemble {text}"
        )
    return path


def _models_of(root: Path, group: Group) -> tuple[str, ...]:
    """The runs of a group that predict together: all folds, or the best trial of a sweep.

    Raises
    ------
    RunError
        If no trial has finished, or a fold has no run any more.
    """
    summary = summarise(root, group)
    if not isinstance(summary, SweepSummary):
        if summary.missing:
            number = format_count(len(summary.missing), "fold")
            raise RunError(
                f"{group.id}: expected a run of each fold, {number} of {len(group.members)} without one; queue what is "
                f"missing (runs group {group.id} --complete), or name the runs that are there, joined by {JOIN}"
            )
        return group.runs
    if summary.best is None:
        raise RunError(f"{group.id}: expected a sweep with a finished trial, none of {summary.total} has finished yet")
    return (summary.best.member.run,)
