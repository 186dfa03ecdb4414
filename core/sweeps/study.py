"""Optuna's part in a sweep: values of the next trial, pruning, and importance of the fields.

No study is stored. Each question builds one in memory from the trials so far, which are read from their run folders, so
that a study cannot be damaged, and cannot differ from the runs. The same trials give the same answer.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from core.config import TrainConfig
from core.errors import ConfigError
from core.sweeps.history import OPEN, STEPS, TrialRecord
from core.sweeps.settings import (
    ASHA_FIRST,
    ASHA_REDUCTION,
    MEDIAN_TRIALS,
    STARTUP_TRIALS,
    WARM_UP,
    Sampler,
    SweepSettings,
    grid,
    optuna_missing,
)
from core.sweeps.space import (
    Dimension,
    Space,
    choice_text,
    conditions_first,
    is_valid,
    key_of,
    unused_fields,
    used_values,
)

if TYPE_CHECKING:
    import optuna

ATTEMPTS = 200  # to draw values that are valid and were not tried


def propose(settings: SweepSettings, config: TrainConfig, trials: Sequence[TrialRecord]) -> dict[str, Any] | None:
    """Values of the next trial; ``None`` when every combination was tried.

    Parameters
    ----------
    settings : SweepSettings.
    config : TrainConfig. Configuration of the sweep; the first trial has its values, where the space contains them.
    trials : sequence of TrialRecord. All trials so far, in order.

    Raises
    ------
    ConfigError
        If Optuna is missing, or no values can be found.
    """
    tried = {key_of(trial.values) for trial in trials}
    rows = grid(settings, config)
    if rows is not None:
        rows = [values for values in rows if key_of(values) not in tried]
        if not rows:
            return None
    present = None if trials else _present(settings.space, config)
    if settings.options.sampler == "grid":
        if rows is None:
            raise ConfigError("search: expected fewer combinations for a grid; use steps, or the sampler tpe or random")
        if present in rows:
            return present
        # in random order, so that a grid that is not completed covers all values
        return random.Random(f"{settings.options.sampler_seed}/{len(trials)}").choice(rows)
    if present is not None:
        return present
    for values in _draws(settings, config, trials):
        if key_of(values) not in tried and is_valid(values, config):
            return values
    if rows:
        return random.Random(f"{settings.options.sampler_seed}/{len(trials)}").choice(rows)
    raise ConfigError(f"search: none of {ATTEMPTS} draws was a valid configuration that was not tried before")


def prune_reason(settings: SweepSettings, trials: Sequence[TrialRecord], number: int) -> str:
    """Why a running trial is to end early; empty where it is not.

    Parameters
    ----------
    trials : sequence of TrialRecord. All trials, the one in question among them.
    number : int. Index of the trial.
    """
    trial = trials[number]
    if settings.options.pruner == "none" or not trial.curve or max(trial.curve) >= STEPS:
        return ""
    study = _new_study()
    import optuna

    study.pruner = _pruner(settings)
    others = [other for n, other in enumerate(trials) if n != number and other.state != "failed"]
    for other in others:
        asked = _repeat(study, settings.space, other)
        _report(asked, other)
        if other.state == "finished":
            study.tell(asked, other.dice)
        elif other.state not in OPEN:
            study.tell(asked, state=optuna.trial.TrialState.PRUNED if other.curve else optuna.trial.TrialState.FAIL)
    asked = _repeat(study, settings.space, trial)
    for step in trial.steps:
        if step <= trial.compared_to:
            asked.report(trial.curve[step], step)
            asked.should_prune()
            continue
        asked.report(trial.best, step)
        if asked.should_prune():
            return _in_words(settings, others, trial.best, step)
    return ""


def importances(settings: SweepSettings, trials: Sequence[TrialRecord]) -> dict[str, float]:
    """How much each searched field decides the Dice (PED-ANOVA), the most important first; shares of 1. Empty where
    the finished trials do not suffice."""
    finished = [trial for trial in trials if trial.state == "finished" and trial.dice is not None]
    if len(finished) < 4 or len({trial.dice for trial in finished}) < 2:
        return {}
    study = _new_study()
    import optuna

    for trial in finished:
        study.tell(_repeat(study, settings.space, trial), trial.dice)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fields that few trials use: their share is small
        found = optuna.importance.get_param_importances(study)
    return {name: round(float(share), 4) for name, share in found.items()}


def _draws(settings: SweepSettings, config: TrainConfig, trials: Sequence[TrialRecord]) -> Any:
    """Values that the sampler proposes, one after another."""
    study = _new_study()
    import optuna

    for trial in trials:
        if trial.state in ("stopped", "deleted"):
            continue  # neither a result nor expected
        asked = _repeat(study, settings.space, trial)
        for step, dice in trial.curve.items():
            asked.report(dice, step)
        if trial.state == "finished":
            study.tell(asked, trial.dice)
        elif trial.state == "pruned" and trial.curve:
            study.tell(asked, state=optuna.trial.TrialState.PRUNED)
        elif trial.state not in OPEN:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
    study.sampler = _sampler(settings.options.sampler, settings.options.sampler_seed, len(trials))
    for _ in range(ATTEMPTS):
        asked = study.ask()
        yield _suggest(asked, settings.space, config)
        study.tell(asked, state=optuna.trial.TrialState.FAIL)


def _new_study() -> optuna.Study:
    """An empty study in memory, which repeats known trials at no cost.

    Raises
    ------
    ConfigError
        If Optuna is missing.
    """
    try:
        import optuna
    except ImportError as error:
        raise optuna_missing(str(error)) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))


def _repeat(study: optuna.Study, space: Space, trial: TrialRecord) -> optuna.Trial:
    """A trial of the study with the values of a known one."""
    fixed = {d.name: _to_optuna(d, trial.values[d.name]) for d in space if d.name in trial.values}
    study.enqueue_trial(fixed)
    asked = study.ask()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a value outside of the space: it was changed by hand
        for dimension in conditions_first(space):
            if dimension.name in fixed:
                _ask_for(asked, dimension)
    return asked


def _suggest(asked: optuna.Trial, space: Space, config: TrainConfig) -> dict[str, Any]:
    """Values for the fields that the proposed network and loss use."""
    values: dict[str, Any] = {}
    for dimension in conditions_first(space):
        if dimension.name not in unused_fields({**config.values(), **values}):
            values[dimension.name] = _ask_for(asked, dimension)
    return values


def _ask_for(asked: optuna.Trial, dimension: Dimension) -> Any:
    """The value that Optuna suggests for a field."""
    if dimension.choices:
        by_text = {choice_text(dimension.spec, value): value for value in dimension.choices}
        return by_text.get(asked.suggest_categorical(dimension.name, list(by_text)))
    if dimension.is_whole:
        low, high, step = int(dimension.low), int(dimension.high), int(dimension.step)
        return asked.suggest_int(dimension.name, low, high, log=dimension.log, step=step or 1)
    value = asked.suggest_float(
        dimension.name, dimension.low, dimension.high, log=dimension.log, step=dimension.step or None
    )
    return round(value, 12) if dimension.step else min(max(float(f"{value:.4g}"), dimension.low), dimension.high)


def _to_optuna(dimension: Dimension, value: Any) -> Any:
    """A value as Optuna knows it: choices by their text."""
    value = dimension.spec.coerce(value)
    return choice_text(dimension.spec, value) if dimension.choices else value


def _present(space: Space, config: TrainConfig) -> dict[str, Any] | None:
    """The values that the configuration has, if the space contains them."""
    values = used_values(space, config.values(), config)
    inside = all(d.contains(values[d.name]) for d in space if d.name in values)
    return values if inside and is_valid(values, config) else None


def _sampler(name: Sampler, seed: int, number: int) -> optuna.samplers.BaseSampler:
    import optuna

    seed = random.Random(f"{seed}/{number}").getrandbits(31)
    if name == "random":
        return optuna.samplers.RandomSampler(seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)


def _pruner(settings: SweepSettings) -> optuna.pruners.BasePruner:
    import optuna

    if settings.options.pruner == "median":
        return optuna.pruners.MedianPruner(MEDIAN_TRIALS, WARM_UP)
    return optuna.pruners.SuccessiveHalvingPruner(ASHA_FIRST, ASHA_REDUCTION)


def _report(asked: optuna.Trial, trial: TrialRecord) -> None:
    """Report a trial's Dice step by step, and have the pruner note what it compares."""
    for step, dice in trial.curve.items():
        asked.report(dice, step)
        asked.should_prune()


def _in_words(settings: SweepSettings, others: Sequence[TrialRecord], dice: float, step: int) -> str:
    """The comparison that ended a trial with the others, at a twentieth of training."""
    at = f"at {100 * step // STEPS} % of training"
    if settings.options.pruner == "median":
        values = [other.curve[step] for other in others if other.state == "finished" and step in other.curve]
        return f"{dice:.3f} below the median {median(values):.3f} of {len(values)} finished trials {at}"
    reached = [other.curve[max(step, min(other.curve))] for other in others if max(other.curve, default=-1) >= step]
    ranked = sorted([*reached, dice], reverse=True)
    best = max(1, len(ranked) // ASHA_REDUCTION)
    return f"{dice:.3f} not among the best {best} of {len(ranked)} trials {at}: {ranked[best - 1]:.3f} and more"
