"""Where a run is between its start and its end."""

from __future__ import annotations

import pytest

from core.config import RunConfig
from core.training import schedule
from core.training.schedule import Schedule


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(schedule, "time", made)
    return made


def test_by_epochs(clock: Clock) -> None:
    run = Schedule(RunConfig(epochs=4), steps_per_epoch=5, started=100.0)
    assert (run.progress(0), run.epochs(0), run.remaining_s(0)) == (0.0, 4, None)
    clock.now = 130.0
    assert (run.elapsed_s, run.progress(5), run.remaining_s(5)) == (30.0, 0.25, pytest.approx(90.0))
    assert run.progress(20) == 1.0 and run.remaining_s(20) == 0.0
    assert run.affords(1e9), "without a budget every validation is affordable"


def test_by_the_clock_with_time_kept_for_the_last_validation(clock: Clock) -> None:
    run = Schedule(RunConfig(minutes=2.0), steps_per_epoch=10, started=100.0)
    run.keep(20.0)
    clock.now = 150.0
    assert (run.progress(12), run.epochs(12), run.remaining_s(12)) == (0.5, 2, 70.0)
    clock.now = 200.0
    assert run.progress(25) == 1.0 and run.epochs(25) == 3
    clock.now = 300.0
    assert run.progress(25) > 1.0 and run.remaining_s(25) == 0.0


def test_at_most_half_of_a_budget_is_kept(clock: Clock) -> None:
    run = Schedule(RunConfig(minutes=2.0), steps_per_epoch=10, started=100.0)
    assert run.affords(60.0) and not run.affords(60.1)
    run.keep(100.0)
    assert run.reserve_s == 60.0


def test_time_before_a_resume_counts(clock: Clock) -> None:
    run = Schedule(RunConfig(minutes=1.0), steps_per_epoch=10, started=100.0)
    run.elapsed_before_s = 45.0
    assert (run.elapsed_s, run.progress(3)) == (45.0, 0.75)
