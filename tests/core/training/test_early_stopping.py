"""Early stopping: validations without an improved smoothed Dice, and its state across a resume."""

from __future__ import annotations

import math

import pytest

from core.config import ValidationConfig
from core.errors import ConfigError
from core.training.early_stopping import SMOOTHING, EarlyStopping


def update_all(stopping: EarlyStopping, values: list[float]) -> list[bool]:
    should_stop = []
    for value in values:
        stopping.update(value)
        should_stop.append(stopping.should_stop)
    return should_stop


def test_stops_when_the_smoothed_dice_does_not_improve() -> None:
    stopping = EarlyStopping(3)
    assert update_all(stopping, [0.5, 0.6, 0.7, 0.5, 0.5, 0.5]) == [False] * 5 + [True]
    assert stopping.best == pytest.approx(SMOOTHING * (SMOOTHING * 0.5 + 0.3 * 0.6) + 0.3 * 0.7)
    assert "3 validations" in stopping.reason() and "0.5810" in stopping.reason()


def test_single_outlier_does_not_stop_training() -> None:
    stopping = EarlyStopping(4)
    rising = [0.5 + 0.02 * n for n in range(8)]
    assert not any(update_all(stopping, [*rising[:3], 0.58, *rising[3:]]))


def test_patience_0_never_stops_and_nan_is_no_improvement() -> None:
    assert not any(update_all(EarlyStopping(0), [0.5] * 50)) and not EarlyStopping(0).reason()
    assert update_all(EarlyStopping(2), [math.nan, math.nan]) == [False, True]
    assert update_all(EarlyStopping(2), [0.5, math.nan, 0.9, 0.1]) == [False] * 4


def test_patience_needs_whole_volume_validation() -> None:
    with pytest.raises(ConfigError, match=r"patience.*whole_every.*3"):
        ValidationConfig(whole_every=0, patience=3)


def test_resumed_run_continues_counting() -> None:
    values = [0.4, 0.6, 0.55, 0.5, 0.52, 0.51, 0.5, 0.5]
    uninterrupted = update_all(EarlyStopping(3), values)
    for cut in range(len(values)):
        first, second = EarlyStopping(3), EarlyStopping(3)
        update_all(first, values[:cut])
        second.load_state_dict(first.state_dict())
        assert update_all(second, values[cut:]) == uninterrupted[cut:]
