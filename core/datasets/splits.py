"""Which subjects train, which validate, which are kept for the test: explicit, seeded, the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from core.config import SplitConfig
from core.datasets.layouts.base import natural_key, shortened
from core.errors import DatasetError


@dataclass(frozen=True)
class Split:
    """Subject ids by role, each in natural order; no subject has two roles."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()


def split_subjects(ids: Iterable[str], config: SplitConfig) -> Split:
    """Give every subject a role.

    ``test_subjects`` are set aside first. Then either ``val_subjects`` validate, or fold ``fold`` of ``folds``: the
    subjects, in natural order or shuffled by ``split_seed``, are dealt to the folds in turn, so that fold sizes
    differ by at most one and every subject validates in exactly one fold. ``folds=0`` makes one fold per subject.

    The result depends on the set of ids and the configuration only, not on the order of the ids.

    Raises
    ------
    DatasetError
        If a listed subject is unknown, there are fewer subjects than folds, or nothing is left to train or validate on.
    """
    known = sorted(set(ids), key=natural_key)
    for field in ("val_subjects", "test_subjects"):
        unknown = [id for id in getattr(config, field) if id not in known]
        if unknown:
            raise DatasetError(f"{field}: expected ids out of {shortened(known)}; got {shortened(unknown)}")
    test = [id for id in known if id in config.test_subjects]
    rest = [id for id in known if id not in config.test_subjects]
    if config.val_subjects:
        val = [id for id in rest if id in config.val_subjects]
    else:
        val = _fold(rest, config)
    train = [id for id in rest if id not in val]
    if not train:
        raise DatasetError(f"split: expected subjects to train on, got none out of {len(known)}; hold out fewer")
    if not val:
        raise DatasetError(
            f"split: expected subjects to validate on, got none out of {len(known)}; hold out at least one"
        )
    return Split(tuple(train), tuple(val), tuple(test))


def _fold(ids: list[str], config: SplitConfig) -> list[str]:
    """The ids of one fold, in the order of ``ids``."""
    folds = config.folds or len(ids)
    if len(ids) < 2:
        raise DatasetError(f"split: expected at least 2 subjects, one to train and one to validate; got {len(ids)}")
    if folds > len(ids):
        raise DatasetError(f"folds: expected at most {len(ids)}, the number of subjects; got {folds}")
    if config.fold >= folds:
        raise DatasetError(f"fold: expected 0 to {folds - 1}, one fold per subject; got {config.fold}")
    order = np.arange(len(ids))
    if config.shuffle_subjects:
        order = np.random.default_rng(config.split_seed).permutation(len(ids))
    chosen = set(order[config.fold :: folds].tolist())
    return [id for index, id in enumerate(ids) if index in chosen]
