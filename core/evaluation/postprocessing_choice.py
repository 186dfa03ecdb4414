"""Chooses the postprocessing of each class by the Dice of held-out subjects, as nnU-Net's ``determine_postprocessing``.

For each class the removal of components is tried first: those below a volume, for several volumes, and all but the
largest. It is taken where it improves the mean Dice of the class over the subjects. Then, on the label maps without the
removed components, filling holes is tried. Either changes voxels of its class and background only, so no other class
loses. A union of classes (:mod:`core.regions`) may: where the mean Dice of one falls, the rule that costs it most is
left out, and the others are decided again.

A subject in which a class is absent from truth and prediction counts as Dice 1 of the class here, so that removing
a false component raises the score. Voxels with the ignore label in the truth are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from core.imaging.postprocessing import ClassRule, Postprocessing, components, holes
from core.labels import IGNORE_INDEX, leave_out_ignored
from core.packed_labels import PackedLabels
from core.regions import RegionSpace

MIN_GAIN = 1e-4  # of the mean Dice; less is not worth a rule
ROUNDING = 1e-9
VOLUME_SHARES = (0.001, 0.003, 0.01, 0.03, 0.1)  # minimum volumes that are tried, of the median largest component


@dataclass(frozen=True)
class HeldOutCase:
    """A subject that the network was not trained on.

    Attributes
    ----------
    prediction, truth : PackedLabels. Class indices of the network; the prediction without postprocessing.
    voxel_ml : float. Volume of a voxel in ml.
    """

    prediction: PackedLabels
    truth: PackedLabels
    voxel_ml: float


@dataclass(frozen=True)
class ClassDecision:
    """What was decided for a class.

    Attributes
    ----------
    rule : ClassRule. The rule; none of its parts is set where nothing improves the class.
    before, after : float. Mean Dice without and with the rule.
    """

    rule: ClassRule
    before: float
    after: float

    @property
    def text(self) -> str:
        """The rule and the Dice in words."""
        if not self.rule:
            return f"nothing, Dice {self.before:.4f}"
        return f"{self.rule.text}, Dice {self.before:.4f} to {self.after:.4f}"


@dataclass(frozen=True)
class Choice:
    """The decisions.

    Attributes
    ----------
    classes : dict of ClassDecision. By class name, background left out.
    subjects : int. Number of held-out subjects.
    """

    classes: dict[str, ClassDecision]
    subjects: int

    @property
    def postprocessing(self) -> Postprocessing:
        """The rules."""
        return Postprocessing({name: decision.rule for name, decision in self.classes.items()})

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, without the rules."""
        dice = {name: {"before": d.before, "after": d.after} for name, d in self.classes.items()}
        return {"by": "auto", "subjects": self.subjects, "dice": dice}


def choose_postprocessing(
    cases: Sequence[HeldOutCase], classes: Sequence[str], regions: RegionSpace | None = None
) -> Choice:
    """Decide for each class.

    Parameters
    ----------
    cases : sequence of HeldOutCase. At least one.
    classes : sequence of str. Class names in index order, background first.
    regions : RegionSpace, optional. Regions of these classes that are scored.
    """
    tables = {name: [_components_table(case, index) for case in cases] for index, name in list(enumerate(classes))[1:]}
    unions = regions.unions if regions is not None else None
    costly: set[str] = set()
    while True:
        decisions = _decide(cases, classes, tables, costly)
        found = _costliest(cases, classes, decisions, unions) if unions is not None else None
        if found is None:
            return Choice(decisions, len(cases))
        costly.add(found)


def _decide(
    cases: Sequence[HeldOutCase],
    classes: Sequence[str],
    tables: Mapping[str, Sequence[_CaseTable]],
    costly: Collection[str],
) -> dict[str, ClassDecision]:
    """The decisions by the Dice of each class, with no rule for classes whose rule costs a union of classes."""
    removals = {name: ClassRule() if name in costly else _best_removal(table) for name, table in tables.items()}
    filled = [_hole_tables(case, Postprocessing(removals), classes) for case in cases]
    decisions = {}
    for number, (name, table) in enumerate(tables.items()):
        rule = removals[name]
        before = _mean_dice(table, ClassRule())
        after = _mean_dice(table, rule)
        with_holes = [one.dice(rule, holes[number]) for one, holes in zip(table, filled, strict=True)]
        if name not in costly and _mean(with_holes) > after + MIN_GAIN:
            after, rule = _mean(with_holes), ClassRule(rule.largest, rule.minimum_ml, fill_holes=True)
        decisions[name] = ClassDecision(rule, before, after)
    return decisions


def _costliest(
    cases: Sequence[HeldOutCase], classes: Sequence[str], decisions: Mapping[str, ClassDecision], unions: RegionSpace
) -> str | None:
    """The class whose rule lowers the mean Dice of a union most; ``None`` where no union loses."""
    rules = {name: decision.rule for name, decision in decisions.items() if decision.rule}

    def least_gain(chosen: Mapping[str, ClassRule]) -> float:
        processing = Postprocessing(chosen)
        after = _union_dice(cases, unions, lambda case, labels: processing(labels, case.voxel_ml, classes))
        return min(new - old for new, old in zip(after, before, strict=True))

    if not rules:
        return None
    before = _union_dice(cases, unions, lambda case, labels: labels)
    if least_gain(rules) > -ROUNDING:
        return None
    return max(rules, key=lambda name: least_gain({other: rule for other, rule in rules.items() if other != name}))


def _union_dice(
    cases: Sequence[HeldOutCase], unions: RegionSpace, changed: Callable[[HeldOutCase, np.ndarray], np.ndarray]
) -> list[float]:
    """Mean Dice of each union over the subjects, of label maps that are changed."""
    rows = []
    for case in cases:
        truth, labels = case.truth.unpack(), changed(case, case.prediction.unpack())
        labels = leave_out_ignored(truth, labels)
        masks = [(np.isin(truth, members), np.isin(labels, members)) for members in unions.members]
        rows.append([_overlap(a, b) for a, b in masks])
    return [_mean(column) for column in zip(*rows, strict=True)]


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks; 1 where both are empty."""
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / total if total else 1.0


@dataclass(frozen=True)
class _Voxels:
    """Voxels of regions: all of them, and those that are not ignored, and of these the ones in the class of the truth;
    int64, shape (region,)."""

    all: np.ndarray
    counted: np.ndarray
    correct: np.ndarray


@dataclass(frozen=True)
class _CaseTable:
    """What the Dice of a class of one subject follows from, regardless of which components are removed."""

    components: _Voxels
    in_truth: int
    voxel_ml: float

    def dice(self, rule: ClassRule, filled: tuple[int, int] = (0, 0)) -> float:
        """Dice of the components that a rule keeps, with filled holes; 1 where truth and prediction are empty."""
        kept = rule.keeps(self.components.all * self.voxel_ml)
        counted, correct = int(self.components.counted[kept].sum()), int(self.components.correct[kept].sum())
        counted, correct = counted + filled[0], correct + filled[1]
        return 2 * correct / (counted + self.in_truth) if counted + self.in_truth else 1.0


def _components_table(case: HeldOutCase, index: int) -> _CaseTable:
    truth, found = case.truth.unpack(), components(case.prediction.unpack(), index)
    in_truth = int(np.count_nonzero(truth == index))
    if found is None:
        empty = np.zeros(0, np.int64)
        return _CaseTable(_Voxels(empty, empty, empty), in_truth, case.voxel_ml)
    truth, count = truth[found.box], len(found.sizes) + 1
    counted, correct = (
        np.bincount(found.numbers[chosen], minlength=count)[1:] for chosen in (truth != IGNORE_INDEX, truth == index)
    )
    return _CaseTable(_Voxels(found.sizes, counted, correct), in_truth, case.voxel_ml)


def _hole_tables(case: HeldOutCase, removal: Postprocessing, classes: Sequence[str]) -> list[tuple[int, int]]:
    """Voxels in the holes of each class but the background after the removal of components: those that are not ignored,
    and of these the ones in the class of the truth."""
    truth, labels = case.truth.unpack(), removal(case.prediction.unpack(), case.voxel_ml, classes)
    tables = []
    for index in range(1, len(classes)):
        found = holes(labels, index)
        inside = truth[found[0]][found[1]] if found is not None else np.zeros(0, np.uint8)
        tables.append((int(np.count_nonzero(inside != IGNORE_INDEX)), int(np.count_nonzero(inside == index))))
    return tables


def _best_removal(table: Sequence[_CaseTable]) -> ClassRule:
    """The removal with the best mean Dice; of equal ones the one that removes least, none if the gain is too small."""
    best, best_dice = ClassRule(), _mean_dice(table, ClassRule()) + MIN_GAIN
    largest_ml = [one.components.all.max() * one.voxel_ml for one in table if len(one.components.all)]
    typical_ml = median(largest_ml) if largest_ml else 0.0
    volumes_ml = [float(f"{share * typical_ml:.2g}") for share in VOLUME_SHARES if typical_ml]
    for rule in (*(ClassRule(minimum_ml=ml) for ml in volumes_ml), ClassRule(largest=True)):
        dice = _mean_dice(table, rule)
        if dice > best_dice:
            best, best_dice = rule, dice
    return best


def _mean_dice(table: Sequence[_CaseTable], rule: ClassRule) -> float:
    return _mean([one.dice(rule) for one in table])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
