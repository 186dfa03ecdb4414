"""Early stopping counts validations without a better smoothed Dice, and survives a resume."""

from __future__ import annotations

import math

import pytest

from core.config import ValidationConfig
from core.errors import ConfigError
from core.training.early_stopping import SMOOTHING, EarlyStopping


def fed(patience: EarlyStopping, values: list[float]) -> list[bool]:
    over = []
    for value in values:
        patience.update(value)
        over.append(patience.should_stop)
    return over


def test_it_ends_when_the_smoothed_dice_stands_still() -> None:
    patience = EarlyStopping(3)
    assert fed(patience, [0.5, 0.6, 0.7, 0.5, 0.5, 0.5]) == [False] * 5 + [True]
    assert patience.best == pytest.approx(SMOOTHING * (SMOOTHING * 0.5 + 0.3 * 0.6) + 0.3 * 0.7)
    assert "has not grown in 3 validations; the best was 0.5810" in patience.reason()


def test_a_lucky_validation_does_not_count_for_ever() -> None:
    patience = EarlyStopping(4)
    rising = [0.5 + 0.02 * n for n in range(8)]
    assert not any(fed(patience, [*rising[:3], 0.58, *rising[3:]])), "the outlier is soon passed"


def test_off_by_default_and_no_numbers_count_as_no_better() -> None:
    assert not any(fed(EarlyStopping(0), [0.5] * 50)) and not EarlyStopping(0).reason()
    assert fed(EarlyStopping(2), [math.nan, math.nan]) == [False, True]
    assert fed(EarlyStopping(2), [0.5, math.nan, 0.9, 0.1]) == [False] * 4


def test_without_whole_volumes_there_is_nothing_to_wait_for() -> None:
    with pytest.raises(ConfigError, match="patience: expected 0 where whole_every is 0, got 3"):
        ValidationConfig(whole_every=0, patience=3)


def test_a_resumed_run_goes_on_counting() -> None:
    values = [0.4, 0.6, 0.55, 0.5, 0.52, 0.51, 0.5, 0.5]
    whole = fed(EarlyStopping(3), values)
    for cut in range(len(values)):
        first, second = EarlyStopping(3), EarlyStopping(3)
        fed(first, values[:cut])
        second.restore(first.to_json())
        assert fed(second, values[cut:]) == whole[cut:]
