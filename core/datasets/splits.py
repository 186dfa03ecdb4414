"""Splits of subjects into training, validation and test: explicit or k-fold, seeded, reproducible.

Subjects of one group, such as the sessions of a person (:mod:`core.datasets.split_groups`), lie on one side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.config import SplitConfig
from core.datasets.layouts.base import natural_key
from core.datasets.split_groups import AUTO, Entities, split_groups
from core.errors import DatasetError
from core.formatting import format_list

DEFAULT_FOLDS = SplitConfig().folds
Labelled = Iterable[str] | Mapping[str, Entities]  # ids of the labelled subjects, or parts of their file names by id


@dataclass(frozen=True)
class Split:
    """Subject ids by role, each in natural order; the roles are disjoint.

    Attributes
    ----------
    train, val, test : tuple of str. Ids for training, validation and test.
    groups : dict. Group by id, of subjects that share one; such subjects have the same role.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()
    groups: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def role_of(self) -> dict[str, str]:
        """Role by id: "train", "val" or "test"."""
        return {id: role for role in ("train", "val", "test") for id in getattr(self, role)}


def split_subjects(labelled: Labelled, config: SplitConfig) -> Split:
    """Assign a role to every subject.

    ``test_subjects`` are removed first; then only the first ``subjects`` in natural order are used, besides given
    ``val_subjects``. Validation subjects are ``val_subjects`` if given, else fold ``fold`` of
    :func:`number_of_folds`: the subjects, in natural order or shuffled by ``split_seed``, are assigned to the folds in
    turn, so that fold sizes differ by at most one and every subject is in exactly one fold. Groups are assigned as a
    whole, the largest first, each to the fold that has the fewest subjects. With the fold "none" there are no
    validation subjects: all that remain are trained on.

    Parameters
    ----------
    labelled : iterable or mapping. Ids of the labelled subjects, or parts of their file names by id, of which groups
        are made; their order is irrelevant.
    config : SplitConfig. Configuration of the split.

    Raises
    ------
    DatasetError
        If a listed subject is unknown, there are fewer subjects or groups than folds, none is left to train or validate
        on, file names do not state the groups, or listed subjects divide one.
    """
    known = sorted(set(labelled), key=natural_key)
    groups = split_groups(labelled, config.group_by) if isinstance(labelled, Mapping) else {}
    for field in ("val_subjects", "test_subjects"):
        unknown = [id for id in getattr(config, field) if id not in known]
        if unknown:
            raise DatasetError(f"{field}: expected ids out of {format_list(known)}; got {format_list(unknown)}")
    test = [id for id in known if id in config.test_subjects]
    remaining = [id for id in known if id not in config.test_subjects]
    if config.val_subjects:
        val = [id for id in remaining if id in config.val_subjects]
        others = [id for id in remaining if id not in val]
        remaining = val + _first(others, config.subjects and max(config.subjects - len(val), 1))
    else:
        remaining = _first(remaining, config.subjects)
        val = [] if config.holds_out_nothing else _fold_subjects(remaining, config, groups)
    train = [id for id in remaining if id not in val]
    if not train:
        raise DatasetError(f"split: expected subjects to train on, got none out of {len(known)}; hold out fewer")
    if not val and not config.holds_out_nothing:
        raise DatasetError(
            f"split: expected subjects to validate on, got none out of {len(known)}; hold out at least one"
        )
    split = Split(tuple(train), tuple(val), tuple(test), groups)
    if config.group_by != AUTO:
        _refuse_torn_groups(split, config)
    return split


def number_of_units(labelled: Labelled, config: SplitConfig) -> int:
    """What folds are made of: the number of groups, of which a subject without one is one too, test subjects left out.

    Raises
    ------
    DatasetError
        If file names do not state the groups.
    """
    groups = split_groups(labelled, config.group_by) if isinstance(labelled, Mapping) else {}
    ids = [id for id in sorted(set(labelled), key=natural_key) if id not in config.test_subjects]
    return len(_units(_first(ids, config.subjects), groups))


def number_of_folds(subjects: int, config: SplitConfig) -> int:
    """Folds of a number of labelled subjects, or of their groups, test subjects left out: as configured, but one per
    subject for 0 (leave-one-out), and where those used are fewer than the default number and no other is configured."""
    if config.subjects:
        subjects = min(subjects, config.subjects)
    if config.folds in (0, DEFAULT_FOLDS):
        return min(config.folds or subjects, subjects)
    return config.folds


def adapted_folds(split: Split, config: SplitConfig) -> int:
    """Folds of a split where they are fewer than configured, as the subjects are; else 0."""
    folds = number_of_folds(len(_units((*split.train, *split.val), split.groups)), config)
    by_fold = not config.val_subjects and not config.holds_out_nothing
    return folds if folds < config.folds and by_fold else 0


def _first(ids: list[str], count: int) -> list[str]:
    """The first ``count`` ids; all of them for 0."""
    return ids[:count] if count else ids


def _units(ids: Sequence[str], groups: Mapping[str, str]) -> list[list[str]]:
    """Ids of each group, of which a subject without one is one too; in the order of their first subjects."""
    units: dict[tuple[bool, str], list[str]] = {}
    for id in ids:
        units.setdefault((id in groups, groups.get(id, id).casefold() if id in groups else id), []).append(id)
    return list(units.values())


def _fold_subjects(ids: list[str], config: SplitConfig, groups: Mapping[str, str]) -> list[str]:
    """Ids of the configured fold, in the order of ``ids``."""
    if len(ids) < 2:
        raise DatasetError(
            f"expected at least 2 subjects with labels, one to train and one to validate, got {len(ids)}; add subjects"
        )
    units = _units(ids, groups)
    kind = "subjects" if len(units) == len(ids) else f"groups, of {len(ids)} subjects"
    folds = number_of_folds(len(units), config)
    if folds > len(units):
        raise DatasetError(f"folds: expected at most {len(units)}, the number of {kind}; got {folds}")
    if len(units) < 2:
        raise DatasetError(
            f"group_by: expected at least 2 groups, one to train and one to validate, got {len(units)} of {len(ids)} "
            "subjects; choose another --group-by, or none"
        )
    if config.fold >= folds:
        raise DatasetError(
            f"fold: expected 0 to {folds - 1}, as {len(units)} {kind} make {folds} folds; got {config.fold}"
        )
    order = np.arange(len(units))
    if config.shuffle_subjects:
        order = np.random.default_rng(config.split_seed).permutation(len(units))
    members: list[list[str]] = [[] for _ in range(folds)]
    for unit in sorted((units[n] for n in order), key=len, reverse=True):  # stable: the order of equal sizes is kept
        min(members, key=len).extend(unit)
    chosen = set(members[config.fold])
    return [id for id in ids if id in chosen]


def _refuse_torn_groups(split: Split, config: SplitConfig) -> None:
    """Refuse lists of subjects that put subjects of one group on two sides."""
    roles = split.role_of
    first: dict[str, str] = {}
    for id, group in split.groups.items():
        if id not in roles:
            continue
        other = first.setdefault(group.casefold(), id)
        if roles[other] != roles[id]:
            names = {"train": "training", "val": "val_subjects", "test": "test_subjects"}
            raise DatasetError(
                f"group_by {config.group_by}: expected all subjects of {group} on one side, got {other} in "
                f"{names[roles[other]]} and {id} in {names[roles[id]]}; list all of them, or choose --group-by none"
            )
