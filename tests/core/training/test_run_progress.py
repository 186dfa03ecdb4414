"""Progress, elapsed and remaining time of a run, by epochs and under a time budget."""

from __future__ import annotations

import pytest

from core.config import RunConfig
from core.training import run_progress
from core.training.run_progress import RunProgress


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(run_progress, "time", clock)
    return clock


def test_progress_by_epochs(clock: Clock) -> None:
    run = RunProgress(RunConfig(epochs=4), steps_per_epoch=5)
    run.start()
    assert (run.fraction(0), run.estimated_epochs(0, 1), run.remaining_s(0)) == (0.0, 4, None)
    clock.now = 130.0
    assert (run.elapsed_s, run.fraction(5), run.remaining_s(5)) == (30.0, 0.25, pytest.approx(90.0))
    assert run.fraction(20) == 1.0 and run.remaining_s(20) == 0.0
    assert run.can_reserve(1e9)


def test_progress_under_a_time_budget_excludes_reserved_time(clock: Clock) -> None:
    run = RunProgress(RunConfig(minutes=2.0), steps_per_epoch=10)
    run.start()
    run.reserve(20.0)
    clock.now = 150.0
    assert (run.fraction(12), run.estimated_epochs(12, 2), run.remaining_s(12)) == (0.5, 2, 70.0)
    clock.now = 200.0
    assert run.fraction(25) == 1.0 and run.estimated_epochs(25, 3) == 3
    assert run.estimated_epochs(20, 3) == 3, "the third epoch has begun"
    clock.now = 300.0
    assert run.fraction(25) > 1.0 and run.remaining_s(25) == 0.0


def test_at_most_half_of_a_budget_is_reserved(clock: Clock) -> None:
    run = RunProgress(RunConfig(minutes=2.0), steps_per_epoch=10)
    run.start()
    assert run.can_reserve(60.0) and not run.can_reserve(60.1)
    run.reserve(100.0)
    assert run.reserve_s == 60.0


def test_time_before_a_resume_counts(clock: Clock) -> None:
    run = RunProgress(RunConfig(minutes=1.0), steps_per_epoch=10)
    run.start()
    run.previous_elapsed_s = 45.0
    assert (run.elapsed_s, run.fraction(3)) == (45.0, 0.75)


def test_nothing_elapses_before_the_first_step(clock: Clock) -> None:
    run = RunProgress(RunConfig(minutes=1.0), steps_per_epoch=10)
    clock.now = 500.0
    assert (run.elapsed_s, run.fraction(0), run.remaining_s(0)) == (0.0, 0.0, 60.0)
    run.start()
    clock.now = 530.0
    assert (run.elapsed_s, run.fraction(3)) == (30.0, 0.5)
