"""Time that a budget reserves for the final validation, and for the first held-out subject where there is none."""

from __future__ import annotations

import pytest

from core.config import RunConfig
from core.inference.tile_grid import number_of_tiles
from core.training.run_progress import RunProgress, keeping_limit_s
from core.training.validation_budget import KEPT_FACTOR, SAFETY_FACTOR, ValidationBudget

TILE = (64, 64, 64)
BOX = (slice(0, 128), slice(10, 138), slice(0, 64))  # 128 x 128 x 64 voxels
TILES = number_of_tiles((128, 128, 64), TILE, 0.5)


def budget(minutes: float, modes: tuple[str, ...], tile_s: float) -> ValidationBudget:
    made = ValidationBudget(RunProgress(RunConfig(minutes=minutes), 10), modes, 0.5)
    made.estimate(tile_s, TILE, 8, [BOX, BOX])
    return made


def test_first_held_out_subject_is_within_the_budget_where_no_whole_volumes_are_validated() -> None:
    made = budget(2.0, (), 0.5)
    kept_s = KEPT_FACTOR * TILES * 0.5
    assert 0 < kept_s < 0.15 * 120
    assert made.progress.reserve_s == pytest.approx(SAFETY_FACTOR * 8 * 0.5 + kept_s + 1)
    made.record("sub-volumes", 6.0)
    assert made.progress.reserve_s == pytest.approx(SAFETY_FACTOR * 6.0 + kept_s + 1)


@pytest.mark.parametrize(("minutes", "tile_s"), [(2.0, 1.5), (10.0, 3.0)])
def test_subject_that_takes_long_takes_nothing_of_the_budget(minutes: float, tile_s: float) -> None:
    kept_s = KEPT_FACTOR * TILES * tile_s
    assert kept_s > 0.15 * minutes * 60 or kept_s > keeping_limit_s(minutes * 60)
    assert budget(minutes, (), tile_s).progress.reserve_s == pytest.approx(SAFETY_FACTOR * 8 * tile_s + 1)


def test_validation_of_whole_volumes_is_all_that_is_reserved_where_there_is_one() -> None:
    made = budget(2.0, ("tiles",), 0.5)
    assert made.modes == ["tiles"]
    assert made.progress.reserve_s == pytest.approx(SAFETY_FACTOR * (8 + 2 * TILES) * 0.5 + 1)


def test_nothing_is_reserved_without_a_budget() -> None:
    assert budget(0.0, (), 0.5).progress.reserve_s == 0
