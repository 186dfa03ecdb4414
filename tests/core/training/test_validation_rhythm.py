"""When validations are due: early, at a bounded share of the time, and after every epoch without a time budget."""

from __future__ import annotations

import pytest

from core.training.validation_rhythm import ValidationRhythm


def validations(rhythm: ValidationRhythm, end_s: float, validation_s: float, step_s: float = 0.5) -> list[float]:
    """Training times at which validations within an epoch begin."""
    now, begun = 0.0, []
    while now < end_s:
        now += step_s
        if rhythm.is_due(now, epoch_complete=False):
            begun.append(now)
            now += validation_s
            rhythm.record(now, validation_s)
    return begun


@pytest.mark.parametrize(("budget_s", "first_s"), [(60, 6), (120, 12), (200, 20), (36_000, 20), (0, 20)])
def test_first_validation_comes_after_a_tenth_of_the_budget_and_at_most_20_seconds(
    budget_s: float, first_s: float
) -> None:
    assert validations(ValidationRhythm(budget_s), budget_s or 60, 0.1)[0] == first_s


@pytest.mark.parametrize("validation_s", [0.05, 1.0, 4.0, 40.0])
@pytest.mark.parametrize("budget_s", [120.0, 600.0, 36_000.0])
def test_validations_take_at_most_a_twentieth_of_a_budget(budget_s: float, validation_s: float) -> None:
    rhythm = ValidationRhythm(budget_s)
    rhythm.expected_s = validation_s
    begun = validations(rhythm, budget_s, validation_s)
    assert len(begun) * validation_s <= 0.05 * budget_s
    assert bool(begun) == (validation_s <= 0.05 * budget_s)
    assert len(begun) < 200  # also where they cost nothing


def test_short_epochs_under_a_budget_are_not_all_validated() -> None:
    rhythm = ValidationRhythm(120.0)
    due = []
    for second in range(1, 121):
        if rhythm.is_due(float(second), epoch_complete=True):
            due.append(second)
            rhythm.expected_s = 0.5
            rhythm.record(float(second), 0.5)
    assert due[0] == 12 and 5 <= len(due) <= 12


def test_every_epoch_is_validated_without_a_budget() -> None:
    rhythm = ValidationRhythm(0.0)
    for second in range(1, 10):
        assert rhythm.is_due(float(second), epoch_complete=True)
        rhythm.record(second + 0.9, 0.9)
    assert not rhythm.is_due(100.0, epoch_complete=False)  # they have their share of the time already


def test_resumed_run_trains_before_it_validates() -> None:
    rhythm = ValidationRhythm(600.0)
    rhythm.resume(300.0)
    assert not rhythm.is_due(301.0, epoch_complete=False)
    assert rhythm.is_due(321.0, epoch_complete=False)
