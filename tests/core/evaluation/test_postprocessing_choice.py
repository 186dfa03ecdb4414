"""Choice of the postprocessing by held-out subjects, on hand-drawn volumes."""

from __future__ import annotations

import numpy as np
import pytest

from core.evaluation.metrics import dice_per_class
from core.evaluation.postprocessing_choice import Choice, HeldOutCase, choose_postprocessing
from core.imaging.postprocessing import ClassRule
from core.labels import IGNORE_INDEX
from core.packed_labels import PackedLabels
from core.regions import Region, RegionSpace

CLASSES = ("background", "a", "b")
VOXEL_ML = 1.0


def case(prediction: np.ndarray, truth: np.ndarray) -> HeldOutCase:
    return HeldOutCase(PackedLabels.pack(prediction), PackedLabels.pack(truth), VOXEL_ML)


def volume(*blocks: tuple[int, tuple[slice, slice, slice]]) -> np.ndarray:
    labels = np.zeros((20, 12, 12), np.uint8)
    for value, box in blocks:
        labels[box] = value
    return labels


def block(start: int, side: int) -> tuple[slice, slice, slice]:
    return slice(start, start + side), slice(1, 1 + side), slice(1, 1 + side)


ORGAN, ISLAND, TWIN = block(1, 6), block(12, 2), block(12, 5)


def test_false_island_is_removed_and_the_other_class_stays() -> None:
    truth = volume((1, ORGAN), (2, block(18, 1)))
    choice = choose_postprocessing([case(volume((1, ORGAN), (1, ISLAND), (2, block(18, 1))), truth)] * 3, CLASSES)
    decision = choice.classes["a"]
    assert decision.rule == ClassRule(minimum_ml=22), "a tenth of 216 ml removes it, and least else"
    assert (decision.before, decision.after) == (pytest.approx(2 * 216 / (216 + 224)), 1.0)
    assert not choice.classes["b"].rule and choice.subjects == 3
    assert list(choice.postprocessing.rules) == ["a"]


def test_structure_of_two_parts_keeps_both() -> None:
    both = volume((1, ORGAN), (1, TWIN))
    choice = choose_postprocessing([case(both, both)], CLASSES)
    assert not choice.postprocessing and choice.classes["a"].text == "nothing, Dice 1.0000"


def test_rule_that_helps_one_subject_and_costs_the_mean_is_not_taken() -> None:
    helped = case(volume((1, ORGAN), (1, ISLAND)), volume((1, ORGAN)))
    both = volume((1, ORGAN), (1, TWIN))
    only_one = choose_postprocessing([helped, case(both, both), case(both, both)], CLASSES).classes["a"]
    assert not only_one.rule.largest and only_one.rule.minimum_ml > 8
    assert only_one.after > only_one.before


def test_rule_that_helps_its_class_and_costs_a_union_is_not_taken() -> None:
    """An island of the wrong class in the union is an error of the class, not of the union."""
    truth = volume((1, ORGAN), (2, ISLAND))
    confused = [case(volume((1, ORGAN), (1, ISLAND), (1, block(18, 1))), truth)]
    assert choose_postprocessing(confused, CLASSES).classes["a"].rule.minimum_ml > 8
    unions = RegionSpace((Region("both", ("a", "b")), Region("b", ("b",))), CLASSES)
    choice = choose_postprocessing(confused, CLASSES, unions)
    assert not choice.classes["a"].rule and choice.classes["a"].after == choice.classes["a"].before
    false = [case(volume((1, ORGAN), (1, ISLAND)), volume((1, ORGAN)))]
    assert choose_postprocessing(false, CLASSES, unions) == choose_postprocessing(false, CLASSES)


def test_large_false_component_is_removed_as_all_but_the_largest() -> None:
    choice = choose_postprocessing([case(volume((1, ORGAN), (1, TWIN)), volume((1, ORGAN)))], CLASSES)
    assert choice.classes["a"].rule == ClassRule(largest=True)


def test_class_that_is_absent_from_the_truth_gains_by_its_removal() -> None:
    present = volume((1, ORGAN))
    choice = choose_postprocessing([case(present, present), case(volume((1, ISLAND)), volume())], CLASSES)
    assert choice.classes["a"].rule.minimum_ml > 8 and choice.classes["a"].after == 1.0


def test_holes_are_filled_where_that_helps_alone() -> None:
    hollow = volume((1, ORGAN))
    hollow[3:5, 3:5, 3:5] = 0
    filled = volume((1, ORGAN))
    assert choose_postprocessing([case(hollow, filled)], CLASSES).classes["a"].rule == ClassRule(fill_holes=True)
    assert not choose_postprocessing([case(hollow, hollow)], CLASSES).postprocessing


def test_ignored_voxels_do_not_count() -> None:
    truth = volume((1, ORGAN), (IGNORE_INDEX, ISLAND))
    assert not choose_postprocessing([case(volume((1, ORGAN), (1, ISLAND)), truth)], CLASSES).postprocessing


@pytest.mark.parametrize("seed", range(3))
def test_stated_dice_are_those_of_the_applied_rules(seed: int) -> None:
    """And no class loses."""
    generator = np.random.default_rng(seed)
    cases = []
    for _ in range(3):
        truth = volume((1, ORGAN), (2, TWIN))
        noise = generator.random(truth.shape) < 0.03
        cases.append(case(np.where(noise, generator.integers(0, 3, truth.shape, np.uint8), truth), truth))
    choice = choose_postprocessing(cases, CLASSES)
    assert choice.postprocessing
    check_dice(choice, cases)


def check_dice(choice: Choice, cases: list[HeldOutCase]) -> None:
    for index, (name, decision) in enumerate(choice.classes.items(), start=1):
        before, after = [], []
        for one in cases:
            truth, prediction = one.truth.unpack(), one.prediction.unpack()
            before.append(dice_per_class(truth, prediction, 3)[index])
            treated = choice.postprocessing(prediction, one.voxel_ml, CLASSES)
            after.append(dice_per_class(truth, treated, 3)[index])
        assert (decision.before, decision.after) == (pytest.approx(np.mean(before)), pytest.approx(np.mean(after)))
        assert decision.after >= decision.before, name


def test_choice_as_json() -> None:
    truth = volume((1, ORGAN))
    stored = choose_postprocessing([case(truth, truth)], CLASSES).to_json()
    assert stored["by"] == "auto" and stored["dice"]["a"] == {"before": 1.0, "after": 1.0}
