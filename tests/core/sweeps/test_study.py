"""Optuna's part: values of the next trial, pruning in words, importance; the same trials give the same answer."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest

from core.config import TrainConfig
from core.errors import ConfigError
from core.sweeps.history import Measurement, TrialRecord, progress_curve
from core.sweeps.settings import SweepOptions, SweepSettings, check_sweep
from core.sweeps.space import key_of, parse_space
from core.sweeps.study import importances, propose, prune_reason

CONFIG = TrainConfig().with_values({"path": "data", "loss": "dice_ce", "learning_rate": 0.01})


def settings(*search: str, **options: object) -> SweepSettings:
    return SweepSettings(parse_space(search), SweepOptions(**options))  # type: ignore[arg-type]


def finished(dice: float, **values: object) -> TrialRecord:
    return TrialRecord(dict(values), "finished", dice, {step: dice * step / 20 for step in range(1, 21)}, 19)


def running(*curve: float) -> TrialRecord:
    """A trial with a Dice for each twentieth so far."""
    return TrialRecord({"learning_rate": 0.05}, "running", None, dict(enumerate(curve, start=1)), len(curve) - 1)


RATE = settings("learning_rate=1e-4:1:log")


def test_first_trial_is_the_configuration_as_it_is() -> None:
    assert propose(RATE, CONFIG, []) == {"learning_rate": 0.01}
    grid = settings("learning_rate=0.001,0.01,0.1", "batch_size=1:4", sampler="grid")
    assert propose(grid, CONFIG, []) == {"learning_rate": 0.01, "batch_size": 2}
    outside = settings("learning_rate=0.1:1:log")
    assert propose(outside, CONFIG, [])["learning_rate"] >= 0.1  # type: ignore[index]


def search(sampler: str, number: int) -> list[TrialRecord]:
    trials: list[TrialRecord] = []
    for _ in range(number):
        values = propose(replace(RATE, options=SweepOptions(sampler=sampler)), CONFIG, trials)  # type: ignore[arg-type]
        assert values is not None
        trials.append(finished(1 - 0.1 * abs(math.log10(values["learning_rate"]) + 3), **values))
    return trials


@pytest.mark.slow
def test_tpe_comes_nearer_to_the_best_value_than_chance() -> None:
    def distance(trials: list[TrialRecord]) -> float:
        return sum(abs(math.log10(trial.values["learning_rate"]) + 3) for trial in trials[-8:]) / 8

    assert distance(search("tpe", 24)) < 0.5 * distance(search("random", 24))


def test_same_trials_give_the_same_values_and_others_do_not_repeat_them() -> None:
    trials = search("tpe", 12)
    values = propose(RATE, CONFIG, trials)
    assert values == propose(RATE, CONFIG, trials)
    assert values is not None and key_of(values) not in {key_of(trial.values) for trial in trials}
    other = propose(replace(RATE, options=SweepOptions(sampler_seed=1)), CONFIG, trials)
    assert other != values
    at_once = propose(RATE, CONFIG, [*trials, TrialRecord(values, "running")])
    assert at_once != values


def test_few_combinations_are_each_tried_once_then_the_sweep_ends() -> None:
    space = ("loss=dice,dice_ce,tversky", "tversky_alpha=0.2,0.4", "optimizer=sgd,adamw")
    for sampler in ("tpe", "random", "grid"):
        trials: list[TrialRecord] = []
        while (values := propose(settings(*space, sampler=sampler), CONFIG, trials)) is not None:
            trials.append(TrialRecord(values, "failed" if len(trials) % 3 else "finished", 0.5))
        assert len(trials) == len({key_of(trial.values) for trial in trials}) == 8


def test_grid_that_is_cut_short_covers_all_values() -> None:
    trials: list[TrialRecord] = []
    for _ in range(12):
        values = propose(settings("batch_size=1:8", "accumulate=1:8", sampler="grid"), CONFIG, trials)
        trials.append(TrialRecord(values or {}, "finished", 0.5))
    assert min(len({t.values[name] for t in trials}) for name in ("batch_size", "accumulate")) >= 4


def test_values_that_make_no_configuration_are_not_proposed() -> None:
    space = settings("model=unet3d,resnet3d_vae", "loss=dice,vae", "learning_rate=1e-3:1e-1:log")
    trials: list[TrialRecord] = []
    for _ in range(12):
        values = propose(space, CONFIG, trials)
        assert values is not None
        assert (values["model"] == "resnet3d_vae") == (values["loss"] == "vae")
        trials.append(TrialRecord(values, "running"))


def test_trial_below_the_median_is_pruned_with_both_figures() -> None:
    others = [finished(dice, learning_rate=0.01 * n) for n, dice in enumerate((0.8, 0.85, 0.9, 0.95), start=1)]
    low, high = running(0.1, 0.1, 0.1, 0.1), running(0.3, 0.3, 0.3, 0.3)
    reason = prune_reason(RATE, [*others, low], 4)
    assert reason == "0.100 below the median 0.175 of 4 finished trials at 20 % of training"
    assert prune_reason(RATE, [*others, high], 4) == ""
    assert prune_reason(RATE, [*others[:3], low], 3) == ""  # too few finished trials
    assert prune_reason(RATE, [*others, running(0.01)], 4) == ""  # the warm-up
    unpruned = replace(RATE, options=SweepOptions(pruner="none"))
    assert prune_reason(unpruned, [*others, low], 4) == ""


def test_successive_halving_compares_with_all_trials_that_came_as_far() -> None:
    asha = replace(RATE, options=SweepOptions(pruner="asha"))
    others = [finished(dice, learning_rate=0.01 * n) for n, dice in enumerate((0.5, 0.7, 0.9), start=1)]
    reached = TrialRecord({"learning_rate": 0.2}, "pruned", None, {1: 0.1, 2: 0.12}, 1)
    trials = [*others, reached, TrialRecord({"learning_rate": 0.3}, "failed")]
    reason = prune_reason(asha, [*trials, running(0.05, 0.06)], 5)
    assert reason == "0.060 not among the best 1 of 5 trials at 10 % of training: 0.120 and more"
    assert prune_reason(asha, [*trials, running(0.05, 0.13)], 5) == ""
    # it was compared at 10 % when it came there; between two comparisons it goes on
    assert prune_reason(asha, [*trials, running(0.05, 0.06, 0.06, 0.06)], 5) == ""


def test_failed_trial_counts_neither_for_nor_against_the_others() -> None:
    others = [finished(dice, learning_rate=0.01 * n) for n, dice in enumerate((0.8, 0.85, 0.9), start=1)]
    failed = TrialRecord({"learning_rate": 0.4}, "failed")
    assert prune_reason(RATE, [*others, failed, running(0.1, 0.1, 0.1)], 4) == ""


@pytest.mark.slow
def test_importance_finds_the_field_that_decides() -> None:
    trials = [
        finished(1 - 0.2 * abs(math.log10(rate) + 2), learning_rate=rate, momentum=n % 5 / 10)
        for n, rate in enumerate([10 ** (-4 + 0.15 * n) for n in range(24)])
    ]
    shares = importances(settings("learning_rate=1e-4:1:log", "momentum=0:0.9"), trials)
    assert next(iter(shares)) == "learning_rate" and shares["learning_rate"] > 0.7
    assert importances(RATE, trials[:3]) == {}


def test_curve_is_the_best_so_far_by_share_of_the_budget() -> None:
    config = CONFIG.with_values({"epochs": 10})
    rows = [
        Measurement(1, 5.0, 0.3),
        Measurement(4, 20.0, math.nan),
        Measurement(5, 25.0, 0.2),
        Measurement(8, 40, 0.6),
    ]
    curve, compared_to = progress_curve(rows, config, ended=False)
    assert (min(curve), max(curve), compared_to) == (2, 16, 10)
    assert (curve[2], curve[10], curve[15], curve[16]) == (0.3, 0.3, 0.3, 0.6)
    assert max(progress_curve(rows, config, ended=True)[0]) == 20
    timed, _ = progress_curve(rows, config.with_values({"minutes": 1.0}), ended=False)
    assert max(timed) == 13  # 40 of 60 seconds
    assert progress_curve([], config, ended=True) == ({}, -1)


@pytest.mark.parametrize(
    ("search", "values", "message"),
    [
        (["loss=dice,vae"], {}, "loss=vae: .*resnet3d_vae"),
        (["tversky_alpha=0.1:0.9"], {}, "tversky_alpha=0.1: the network unet3d and the loss dice_ce do not use"),
        (["learning_rate=1e-3:1e-1"], {"fold": -1}, "fold: expected a fold that is held out"),
        (["sub_volume=32x32x32,64x64x64"], {"whole_every": 0}, "sub_volume: .*different sub-volumes.*--whole-every"),
        (["model=unet3d,vnet"], {"whole_every": 0}, "model: .*its size is fitted.*--sub-volume"),
        (["samples_train=100:200"], {}, "samples_train: .*--minutes"),
        (["optimizer=sgd,adamw"], {"whole_every": 0, "samples_val": 0}, "samples_val: expected a validation"),
    ],
)
def test_sweep_whose_trials_could_not_be_compared_is_refused(
    search: list[str], values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_sweep(settings(*search), CONFIG.with_values(values))


def test_sub_volumes_of_stated_size_can_be_compared() -> None:
    config = CONFIG.with_values({"whole_every": 0, "sub_volume": (32, 32, 32)})
    check_sweep(settings("model=unet3d,vnet", "learning_rate=1e-3:1e-1:log"), config)


def test_missing_optuna_is_an_error_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match="pip install 'optuna"):
        propose(RATE, CONFIG, [finished(0.5, learning_rate=0.01)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install 'optuna"):
        check_sweep(RATE, CONFIG)
