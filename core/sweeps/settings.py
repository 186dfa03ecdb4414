"""Settings of a sweep: search space, sampler, pruner, number of trials and objective."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from core.config import TrainConfig
from core.errors import ConfigError
from core.events import SUB_VOLUME_DICE, SUB_VOLUMES_MEASURED, WHOLE_DICE, WHOLE_VOLUMES_MEASURED
from core.fields import Checked, option
from core.losses import check_loss
from core.models import check_indicator
from core.sweeps.history import STEPS
from core.sweeps.space import Dimension, Space, choice_text, combinations, grid_of, is_valid

Sampler = Literal["tpe", "random", "grid"]
Pruner = Literal["median", "asha", "none"]
SAMPLER_WORDS = {"tpe": "TPE", "random": "random", "grid": "grid"}
PRUNER_WORDS = {"median": "below median", "asha": "ASHA", "none": "never"}
SAMPLER_CLAUSES = {
    "tpe": "values chosen towards those that did well",
    "random": "values at random",
    "grid": "all combinations",
}
PRUNER_CLAUSES = {"median": ", below the median ended early", "asha": ", successive halving", "none": ""}
OPTUNA = "optuna>=5,<6"  # as in requirements.txt
GRID_LEVELS = 5  # values of a range without a step, in a grid
STARTUP_TRIALS = 8  # random trials before TPE models them
MEDIAN_TRIALS = 4  # finished trials before one is compared with their median
WARM_UP = 2  # twentieths of training before that
ASHA_FIRST, ASHA_REDUCTION = 2, 3  # twentieths of the first comparison, and of which one in how many goes on
ASHA_SHARE = "third"  # 1 / ASHA_REDUCTION, in words
_ASHA_STEPS = [step for step in (ASHA_FIRST * ASHA_REDUCTION**n for n in range(STEPS)) if step < STEPS]
*_ASHA_PERCENT, _ASHA_LAST = (str(100 * step // STEPS) for step in _ASHA_STEPS)
ASHA_PERCENT = f"{', '.join(_ASHA_PERCENT)} and {_ASHA_LAST}"  # of training, after which trials are compared
ENGINE_AT_ONCE = 4  # trials that train at the same time on another engine, where no number is given
MORE_TRIALS = 10  # further trials of a sweep, where no number is given
METRICS = {WHOLE_VOLUMES_MEASURED: WHOLE_DICE, SUB_VOLUMES_MEASURED: SUB_VOLUME_DICE}
_CHANGES_SUB_VOLUMES = ("sub_volume", "threshold", "foreground")
_KEEPS_FITTED_SIZE = ("loss", "optim", "augment", "validation")  # sections that a fitted sub-volume does not depend on


@dataclass(frozen=True)
class SweepOptions(Checked):
    """Search: number of trials, choice of values, and pruning."""

    trials: int = option(20, "Trials", "number of trials, each a training run", minimum=1, maximum=10_000)
    sampler: Sampler = option(
        "tpe",
        "Choice of values",
        "tpe: towards values that did well (tree-structured Parzen estimator); random; grid: all combinations, of a "
        f"range {GRID_LEVELS} values or those of its steps",
        texts=SAMPLER_WORDS,
    )
    pruner: Pruner = option(
        "median",
        "End trials early",
        "median: a trial whose best Dice so far is below the median of the finished trials at that point ends; asha: "
        f"only the best {ASHA_SHARE} goes on after {ASHA_PERCENT} % of training; none: all trials train to their end",
        texts=PRUNER_WORDS,
    )
    sampler_seed: int = option(
        0, "Seed of the search", "seed of the choice of values; that of training is --seed, equal in all trials",
        minimum=0, maximum=2**31 - 1,
    )  # fmt: skip

    at_once: int = option(
        0, "Trials at once",
        f"trials that train at the same time; 0: a device each on this machine, {ENGINE_AT_ONCE} on another engine",
        minimum=0, maximum=1000,
    )  # fmt: skip

    @property
    def summary(self) -> str:
        """How values are chosen, and which trials end early, as the end of a sentence."""
        return SAMPLER_CLAUSES[self.sampler] + PRUNER_CLAUSES[self.pruner]


@dataclass(frozen=True)
class SweepSettings:
    """Settings of a sweep, and the state of its search, as stored with its group.

    Attributes
    ----------
    space : tuple of Dimension. Fields that are searched.
    options : SweepOptions.
    stopped : bool. Whether no further trials are proposed, on request or for the reason in ``problem``.
    problem : str. Why the sweep cannot go on; empty where it can.
    exhausted : bool. Whether every combination of values was tried.
    pending_run : str. Id of the run that is being created; empty if none is. Any other run that is missing was deleted.
    failures_ignored_before : int. Number of trials when the sweep was last resumed; failures of these trials no longer
        end it.
    engine : str. Name of the engine that trains the trials; empty for this machine.
    """

    space: Space
    options: SweepOptions = field(default_factory=SweepOptions)
    stopped: bool = False
    problem: str = ""
    exhausted: bool = False
    pending_run: str = ""
    failures_ignored_before: int = 0
    engine: str = ""

    def at_once(self, devices: int) -> int:
        """Number of trials that train at the same time.

        Parameters
        ----------
        devices : int. Trials for which this machine has a device.
        """
        wanted = self.options.at_once
        return (wanted or ENGINE_AT_ONCE) if self.engine else min(wanted or devices, devices)

    def proposes(self, trials: int) -> bool:
        """Whether a sweep with this number of trials is to propose further ones."""
        return not self.stopped and not self.exhausted and trials < self.options.trials

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "search": [dimension.to_json() for dimension in self.space],
            **vars(self.options),
            "stopped": self.stopped,
            "problem": self.problem,
            "exhausted": self.exhausted,
            "pending_run": self.pending_run,
            "failures_ignored_before": self.failures_ignored_before,
            "engine": self.engine,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SweepSettings:
        """Inverse of :meth:`to_json`; it also reads the names that files of earlier versions have.

        Raises
        ------
        ConfigError, KeyError
            If a field or value is not allowed, or the search is missing.
        """
        names = [f.name for f in fields(SweepOptions)]
        return cls(
            tuple(Dimension.from_json(part) for part in data["search"]),
            SweepOptions(**{name: data[name] for name in names if name in data}),
            bool(data.get("stopped")),
            str(data.get("problem", "")),
            bool(data.get("exhausted")),
            str(data.get("pending_run", data.get("making", ""))),
            int(data.get("failures_ignored_before", data.get("forgiven", 0))),
            str(data.get("engine", "")),
        )


def optuna_missing(reason: str = "not installed here") -> ConfigError:
    """The error of a sweep that cannot import Optuna."""
    return ConfigError(f"sweep: it needs Optuna: pip install '{OPTUNA}' ({reason})")


def objective(config: TrainConfig) -> str:
    """What the Dice of the trials is measured on: held-out whole volumes, or sub-volumes where those are never scored.
    It is one of :data:`METRICS`."""
    return WHOLE_VOLUMES_MEASURED if config.validation.whole_every else SUB_VOLUMES_MEASURED


def check_sweep(settings: SweepSettings, config: TrainConfig) -> None:
    """Refuse a sweep whose trials could not be compared, or could not be made.

    Raises
    ------
    ConfigError
        If Optuna is missing, nothing is held out, a searched field changes what is measured or how long a trial trains,
        or no combination of values is a configuration.
    """
    if importlib.util.find_spec("optuna") is None:
        raise optuna_missing()
    if config.split.holds_out_nothing:
        raise ConfigError("fold: expected a fold that is held out, since trials are compared by its Dice; got none")
    if not config.run.minutes and any(dimension.name == "samples_train" for dimension in settings.space):
        raise ConfigError(
            "search: samples_train: trials of as many epochs would not train equally long; give a time budget with "
            "--minutes"
        )
    if objective(config) == SUB_VOLUMES_MEASURED:
        _check_sub_volumes(settings.space, config)
    _check_values(settings.space, config)


def grid(settings: SweepSettings, config: TrainConfig) -> list[dict[str, Any]] | None:
    """All valid combinations of values in order: those of the grid, or of a space that has few; ``None`` where there
    are too many to list them."""
    space = settings.space
    if settings.options.sampler == "grid":
        space = grid_of(space, GRID_LEVELS)
    rows = combinations(space, config)
    return None if rows is None else [values for values in rows if is_valid(values, config)]


def _check_sub_volumes(space: Space, config: TrainConfig) -> None:
    if not config.sampling.samples_val:
        raise ConfigError("samples_val: expected a validation that trials can be compared by, got none")
    for dimension in space:
        fitted = not config.sampling.sub_volume and dimension.spec.section not in _KEEPS_FITTED_SIZE
        if dimension.name in _CHANGES_SUB_VOLUMES or fitted:
            why = "its size is fitted to it" if fitted else "it changes them"
            raise ConfigError(
                f"search: {dimension.name}: trials would be measured on different sub-volumes, as {why}; measure whole "
                "volumes with --whole-every 5" + (", or state --sub-volume" if fitted else "")
            )


def _check_values(space: Space, config: TrainConfig) -> None:
    """Refuse a value that is in no configuration of the sweep; of ranges the bounds are tried."""
    bounds = grid_of(space, 2)
    rows = combinations(bounds, config)
    if rows is None:
        return
    valid = [values for values in rows if is_valid(values, config)]
    for dimension in bounds:
        possible = {values[dimension.name] for values in valid if dimension.name in values}
        for value in dimension.values or ():
            if value not in possible:
                text = choice_text(dimension.spec, value)
                raise ConfigError(f"search: {dimension.name}={text}: {_reason(dimension.name, value, space, config)}")


def _reason(name: str, value: Any, space: Space, config: TrainConfig) -> str:
    """Why no configuration of a sweep has a value."""
    if all(name not in values for values in combinations(grid_of(space, 2), config) or ()):
        return f"the network {config.model.model} and the loss {config.loss.loss} do not use this field"
    try:
        changed = config.with_values({name: value})
        check_loss(changed.loss, changed.model)
        check_indicator(changed)
    except ConfigError as error:
        return str(error)
    return "no configuration of the other searched fields has this value"
