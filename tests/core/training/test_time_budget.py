"""The time of a run: its budget, what validations may take of it, and the speed that it reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.checkpointing.checkpoint import load
from core.events import Ended, Event, Metrics, Picture, Ready, Saved
from core.training.trainer import fit
from tests.support.balls import tiny
from tests.support.training_tasks import (
    FakeClock,
    checkpoint_tensors,
    equal_tensors,
    fixed_dice,
    make_task,
    metric_values,
    validations,
)


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.mark.long
@pytest.mark.slow
def test_learning_rate_schedule_and_final_validation_fit_the_time_budget(
    tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget of 60 s, 1 s for a step or a tile: a final validation of 16 tiles leaves time for 39 steps."""
    clock = FakeClock(monkeypatch)
    task = make_task(tmp_path, tiny(minutes=1.0, batch_size=1, whole_every=1000, samples_val=0, inference_mode="tiles"))
    clock.advance_with(task.model, step_s=1.0, tile_s=1.0)
    fit(task, events.append)
    ended = events[-1]
    assert isinstance(ended, Ended) and ended.reason == "finished" and 30 < ended.step < 40
    (validated,) = [e.elapsed_s for e in events if isinstance(e, Metrics) and "whole/dice_mean" in e.values]
    assert 50 < validated <= 60
    (picture,) = [e for e in events if isinstance(e, Picture)]  # of a whole volume, as there are no sub-volumes
    assert picture.step == ended.step and picture.rgb.shape[1] % 3 == 0
    rates = metric_values(events, "lr")
    assert rates == sorted(rates, reverse=True) and rates[-1] < 0.01 * rates[0]
    assert load(tmp_path / "best.safetensors").metadata.progress["best"]["mean_dice"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(("minutes", "modes"), [(60.0, 2), (4.0, 1), (1.0, 0)])
def test_validation_beyond_half_of_the_time_budget_is_left_out(
    tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch, minutes: float, modes: int
) -> None:
    clock = FakeClock(monkeypatch)
    task = make_task(tmp_path, tiny(minutes=minutes, whole_every=1000, samples_val=2))
    clock.advance_with(task.model, step_s=300.0, tile_s=5.0)
    fit(task, events.append)
    best = load(tmp_path / "best.safetensors").metadata
    assert len(best.inference.get("dice", ())) == modes
    facts = next(e for e in events if isinstance(e, Ready)).facts
    assert ("whole volumes" in facts) == (modes == 0)
    assert best.progress["best"]["measured_on"] == ("held-out whole volumes" if modes else "held-out sub-volumes")


@pytest.mark.long
@pytest.mark.slow
def test_dice_and_a_checkpoint_come_early_where_the_first_epoch_outlasts_the_budget(
    tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget of 60 s, 2 s for a step, 0.1 s for a validation on two batches of sub-volumes."""
    clock = FakeClock(monkeypatch)
    task = make_task(tmp_path, tiny(minutes=1.0, samples_train=10_000, whole_every=20, inference_mode="tiles"))
    clock.advance_with(task.model, step_s=2.0, tile_s=0.05)
    fit(task, events.append)
    measured = [e.elapsed_s for e in events if isinstance(e, Metrics) and "val/dice_mean" in e.values]
    first_saved = next(e for e in events if isinstance(e, Saved))
    assert 6 <= measured[0] <= 7 and len(measured) >= 4
    assert (first_saved.kind, first_saved.step) == ("last", 3)
    assert len(measured) * 0.1 <= 0.05 * 60
    assert isinstance(events[-1], Ended) and events[-1].elapsed_s <= 61


@pytest.mark.long
@pytest.mark.slow
def test_validations_within_epochs_change_neither_weights_nor_the_best_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock decides about them, so nothing that a run by epochs leaves may depend on them."""
    config = tiny(epochs=2, samples_train=16, samples_val=2, whole_every=0)
    found = {}
    for step_s in (0.0, 30.0):
        with monkeypatch.context() as patch:
            clock = FakeClock(patch)
            task = make_task(tmp_path / f"{step_s:g}", config)
            clock.advance_with(task.model, step_s=step_s, tile_s=0.01)
            events: list[Event] = []
            fit(task, events.append)
        found[step_s] = validations(events)
    assert len(found[0.0]) == 2 and len(found[30.0]) > 4
    assert [v for v in found[30.0] if v[0] in (8, 16)] == found[0.0]
    for name in ("last.safetensors", "best.safetensors"):
        one, other = (checkpoint_tensors(tmp_path / folder / name) for folder in ("0", "30"))
        assert equal_tensors(one, other)
    best = [load(tmp_path / folder / "best.safetensors").metadata.progress["best"] for folder in ("0", "30")]
    assert best[0] == best[1]


@pytest.mark.slow
def test_whole_volumes_during_training_keep_to_their_share_of_a_budget(
    tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 tiles of 1 s after every epoch of 60 s would take a fifth of the time."""
    clock = FakeClock(monkeypatch)
    values = dict(minutes=10.0, samples_train=4, samples_val=0, whole_every=1, inference_mode="tiles")
    task = make_task(tmp_path, tiny(**values))
    clock.advance_with(task.model, step_s=30.0, tile_s=1.0)
    fit(task, events.append)
    measured = [e.elapsed_s for e in events if isinstance(e, Metrics) and "whole/dice_mean" in e.values]
    assert len(measured) == 2 and measured[-1] <= 630


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "step_s", "tile_s", "at_s"),
    [({"samples_train": 20, "patience": 50}, 31.0, 14.0, [565]), ({"samples_train": 4}, 7.0, 1.7, [594])],
    ids=["patience", "share"],
)
def test_whole_volumes_are_not_scored_just_before_the_end_of_a_budget(
    tmp_path: Path,
    events: list[Event],
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, int],
    step_s: float,
    tile_s: float,
    at_s: list[int],
) -> None:
    """16 tiles after an epoch that ends at 310 or 560 s of 600 s would leave too little for the 16 tiles at the end,
    for which time is reserved from 319 or 565 s on."""
    clock = FakeClock(monkeypatch)
    task = make_task(tmp_path, tiny(minutes=10.0, samples_val=0, whole_every=1, inference_mode="tiles", **values))
    clock.advance_with(task.model, step_s=step_s, tile_s=tile_s)
    fit(task, events.append)
    measured = [e.elapsed_s for e in events if isinstance(e, Metrics) and "whole/dice_mean" in e.values]
    assert [round(s) for s in measured] == at_s and isinstance(events[-1], Ended) and events[-1].elapsed_s <= 600


@pytest.mark.slow
@pytest.mark.parametrize(("inference_mode", "final_scores"), [("tiles", 0), ("auto", 1)])
def test_weights_that_were_scored_after_the_last_epoch_are_not_scored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inference_mode: str, final_scores: int
) -> None:
    """Early stopping ends training after an epoch whose whole volumes were scored in tiles."""
    scored = fixed_dice(monkeypatch, tiles=0.5, whole=0.5)
    config = tiny(epochs=9, samples_train=2, whole_every=1, patience=1, samples_val=0, inference_mode=inference_mode)
    fit(make_task(tmp_path, config), lambda event: None)
    assert scored == ["tiles", "tiles", *["whole"] * final_scores]
    inference = load(tmp_path / "last.safetensors").metadata.inference
    assert inference["dice"]["tiles"] == 0.5 and len(inference["dice"]) == 1 + final_scores


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"samples_train": 40, "samples_val": 0, "whole_every": 1},
        {"samples_train": 2, "samples_val": 16, "whole_every": 0},
        {"samples_train": 200, "samples_val": 16, "whole_every": 0, "minutes": 2.0},
    ],
    ids=["whole volumes", "short epochs", "within an epoch"],
)
def test_speed_is_that_of_training_without_validation(
    tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch, values: dict[str, float]
) -> None:
    """Two sub-volumes in steps of 0.8 s; validations take several seconds."""
    clock = FakeClock(monkeypatch)
    task = make_task(tmp_path, tiny(epochs=3, inference_mode="tiles", **values))
    clock.advance_with(task.model, step_s=0.8, tile_s=0.2)
    fit(task, events.append)
    assert metric_values(events, "speed") == pytest.approx([2.5] * len(metric_values(events, "speed")))
    assert any("dice_mean" in name for e in events if isinstance(e, Metrics) for name in e.values)
