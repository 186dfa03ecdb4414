"""Splits of subjects into training, validation and test: explicit or k-fold, seeded, reproducible."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from core.config import SplitConfig
from core.datasets.layouts.base import natural_key
from core.errors import DatasetError
from core.formatting import format_list

DEFAULT_FOLDS = SplitConfig().folds


@dataclass(frozen=True)
class Split:
    """Subject ids by role, each in natural order; the roles are disjoint.

    Attributes
    ----------
    train, val, test : tuple of str. Ids for training, validation and test.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()


def split_subjects(ids: Iterable[str], config: SplitConfig) -> Split:
    """Assign a role to every subject.

    ``test_subjects`` are removed first; then only the first ``subjects`` in natural order are used, besides given
    ``val_subjects``. Validation subjects are ``val_subjects`` if given, else fold ``fold`` of
    :func:`number_of_folds`: the subjects, in natural order or shuffled by ``split_seed``, are assigned to the folds in
    turn, so that fold sizes differ by at most one and every subject is in exactly one fold. With the fold "none" there
    are no validation subjects: all that remain are trained on.

    Parameters
    ----------
    ids : iterable of str. Ids of the labelled subjects; their order is irrelevant.
    config : SplitConfig. Configuration of the split.

    Raises
    ------
    DatasetError
        If a listed subject is unknown, there are fewer subjects than folds, or none is left to train or validate on.
    """
    known = sorted(set(ids), key=natural_key)
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
        val = [] if config.holds_out_nothing else _fold_subjects(remaining, config)
    train = [id for id in remaining if id not in val]
    if not train:
        raise DatasetError(f"split: expected subjects to train on, got none out of {len(known)}; hold out fewer")
    if not val and not config.holds_out_nothing:
        raise DatasetError(
            f"split: expected subjects to validate on, got none out of {len(known)}; hold out at least one"
        )
    return Split(tuple(train), tuple(val), tuple(test))


def number_of_folds(subjects: int, config: SplitConfig) -> int:
    """Folds of a number of labelled subjects, test subjects left out: as configured, but one per subject for 0
    (leave-one-out), and where those used are fewer than the default number of folds and no other is configured."""
    if config.subjects:
        subjects = min(subjects, config.subjects)
    if config.folds in (0, DEFAULT_FOLDS):
        return min(config.folds or subjects, subjects)
    return config.folds


def adapted_folds(split: Split, config: SplitConfig) -> int:
    """Folds of a split where they are fewer than configured, as the subjects are; else 0."""
    folds = number_of_folds(len(split.train) + len(split.val), config)
    by_fold = not config.val_subjects and not config.holds_out_nothing
    return folds if folds < config.folds and by_fold else 0


def _first(ids: list[str], count: int) -> list[str]:
    """The first ``count`` ids; all of them for 0."""
    return ids[:count] if count else ids


def _fold_subjects(ids: list[str], config: SplitConfig) -> list[str]:
    """Ids of the configured fold, in the order of ``ids``."""
    if len(ids) < 2:
        raise DatasetError(
            f"expected at least 2 subjects with labels, one to train and one to validate, got {len(ids)}; add subjects"
        )
    folds = number_of_folds(len(ids), config)
    if folds > len(ids):
        raise DatasetError(f"folds: expected at most {len(ids)}, the number of subjects; got {folds}")
    if config.fold >= folds:
        raise DatasetError(
            f"fold: expected 0 to {folds - 1}, as {len(ids)} subjects make {folds} folds; got {config.fold}"
        )
    order = np.arange(len(ids))
    if config.shuffle_subjects:
        order = np.random.default_rng(config.split_seed).permutation(len(ids))
    chosen = set(order[config.fold :: folds].tolist())
    return [id for index, id in enumerate(ids) if index in chosen]
