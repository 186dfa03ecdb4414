"""One measurement of the accuracy benchmark: a training with a budget, and the Dice of subjects it has not seen."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT
from benchmarks.result_file import ResultFile, machine_name, origin, program_name
from core.bench.models import loss_of
from core.cli.auto_preset import choose_values
from core.config import SplitConfig, TrainConfig
from core.config_data import NO_FOLD
from core.datasets import fingerprint, open_dataset
from core.datasets.splits import split_subjects
from core.inference.tile_grid import number_of_tiles
from core.presets import AUTO, command_line, preset
from core.runs import list_runs
from core.runs.store.metrics_file import read_metrics
from core.training.auto_network import FORWARD_SHARE, VALIDATIONS_SHARE
from core.training.plan import TrainingPlan, make_plan

COSTS = "costs"  # the suite that trains nothing
CALIBRATION_MINUTES = 1 / 3
TRAINED_BY = "trained_by.txt"  # in the folder of a finished run: the program that has trained it
NEVER_BEFORE_THE_END = 10**6  # epochs between validations of whole volumes
IGNORED_BY_CALIBRATION = (  # fields that do not change the duration of a training step
    *("path", "fold", "folds", "seed", "minutes", "epochs", "test_subjects", "val_subjects", "samples_train"),
    *("ema", "learning_rate", "mirror", "whole_every", "samples_val", "inference_mode", "overlap"),
)


class CaseError(Exception):
    """A case that could not be measured; the message is the last line of its command."""


@dataclass(frozen=True)
class Case:
    """What is trained, on what, and for how long.

    Attributes
    ----------
    suite, label : str. Group of the case in the tables, and its name there.
    data : str. Name of the data set.
    preset : str. Preset, ``auto`` among them.
    minutes : float. Time budget of a run.
    fold : int. Fold that is scored, of ``folds``. In the suites "refit" and "ensemble" no run has seen it, and the runs
        train on all others, or on all others but one fold each.
    values : tuple of (str, Any). Values of further fields.
    seed : int.
    """

    suite: str
    label: str
    data: str
    preset: str
    minutes: float
    fold: int = 0
    folds: int = 5
    values: tuple[tuple[str, Any], ...] = ()
    seed: int = 0

    @property
    def key(self) -> str:
        """Names the case in the file of results."""
        return (
            f"{self.suite}/{self.data}/{self.label}/{self.minutes:g} min/fold {self.fold} of {self.folds}/{self.seed}"
        )


@dataclass
class Measuring:
    """How cases are measured.

    Attributes
    ----------
    folders : dict. Folder of each data set by name.
    work : Path. Folder of the runs.
    file : ResultFile. Results and calibrations.
    in_steps : bool. Whether budgets are converted to numbers of steps, by the speed of a short training.
    device : str. As in the configuration.
    jobs : int. Cases that are measured at once, each on its part of the cores.
    again : bool. Whether finished trainings in the folder of the runs are repeated.
    """

    folders: dict[str, str]
    work: Path
    file: ResultFile
    in_steps: bool = False
    device: str = "auto"
    jobs: int = 1
    again: bool = False
    _no_runs: Path = field(init=False)
    _preparing: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self._no_runs = self.work / "no-runs"  # the preset auto chooses as on a machine without runs

    @functools.cached_property
    def _device(self) -> str:
        from core.compute.device import resolve_device

        return resolve_device(self.device).type

    def measure(self, case: Case) -> dict[str, Any]:
        """Train and score; the result is kept in the file, with the error if there was one."""
        started = time.monotonic()
        result: dict[str, Any] = {**_facts(case), **origin(self._device)}
        try:
            result |= self._bench(case.label) if case.suite == COSTS else self._accuracy(case)
        except CaseError as error:
            result["error"] = str(error)
        result["wall_s"] = round(time.monotonic() - started)
        self.file.add(case.key, result)
        return result

    def calibrate(self, case: Case) -> None:
        """Measure the speed of the trainings of a case before anything else runs, if it is needed and not known."""
        if self.in_steps and case.suite != COSTS:
            with self._preparing, contextlib.suppress(CaseError):  # which measuring the case will name
                for config in self._configs(case):
                    self._calibrated(config)

    def _accuracy(self, case: Case) -> dict[str, Any]:
        """What is trained and at what cost, and the Dice."""
        with self._preparing:  # a calibration measures time, and a trace changes torch's modes
            budgets = self._configs(case)
            configs = [self._final(config) for config in budgets]
            found = self._cost(configs[0]) | {"command": [_shown_command(config) for config in configs]}
            speed = self._calibrated(budgets[0]) if self.in_steps else None
        runs = [self._train(config, case) for config in configs]
        found |= {"epochs": configs[0].run.epochs if self.in_steps else 0, "in_steps": self.in_steps}
        return found | self._speed(runs[0], speed) | self._score(case, runs)

    def _bench(self, network: str) -> dict[str, Any]:
        """Cost of a training step of a network at its default widths, measured in a process of its own."""
        words = ["bench", "models", "--networks", network, "--device", self.device, "--json"]
        report = json.loads(self._command(words))
        (row,) = report["rows"]
        if row["ms"] is None:
            raise CaseError(row["note"] or "nothing was measured")
        names = ("precision", "batch", "parameters", "gflop", "ms", "ms_low", "ms_high")
        return {
            **{name: row[name] for name in names},
            "memory_mb": row["peak_memory_mb"],
            "estimated_memory_mb": row["estimated_memory_mb"],
            "settings": report["settings"],
            "command": [shlex.join(["python", "-m", "core", *words])],
        }

    # --- configurations -----------------------------------------------------------------------------------------------

    def _configs(self, case: Case) -> list[TrainConfig]:
        """The configurations of the runs of a case."""
        values: dict[str, Any] = {
            "path": self.folders[case.data],
            "device": self.device,
            "minutes": case.minutes,
            "seed": case.seed,
            "folds": case.folds,
            "fold": case.fold,
            "shuffle_subjects": True,
            **dict(case.values),
        }
        if "model" in values and "loss" not in values:
            values["loss"] = loss_of(values["model"])
        splits: list[dict[str, Any]] = [{}]
        if case.suite in ("refit", "ensemble"):
            ids = open_dataset(self.folders[case.data]).labelled_ids
            unseen = split_subjects(ids, SplitConfig(folds=case.folds, fold=case.fold)).val
            folds = [NO_FOLD] if case.suite == "refit" else range(case.folds)
            splits = [{"test_subjects": unseen, "fold": fold} for fold in folds]
        return [self._config(case.preset, {**values, **split}) for split in splits]

    def _config(self, name: str, values: dict[str, Any]) -> TrainConfig:
        config = preset(name).with_values(values)
        return choose_values(config, values, self._no_runs) if name == AUTO else config

    def _final(self, config: TrainConfig) -> TrainConfig:
        """The configuration, with its time budget converted to a number of sub-volumes where that is asked for."""
        if not self.in_steps:
            return config
        speed = self._calibrated(config)
        training_s = config.run.minutes * 60 * (1 - VALIDATIONS_SHARE) - self._validation_s(config, speed)
        sub_volumes = max(round(training_s * speed), config.sub_volumes_per_step)
        samples = min(config.sampling.samples_train, sub_volumes)
        values = {"minutes": 0.0, "samples_train": samples, "epochs": max(1, round(sub_volumes / samples))}
        if config.validation.whole_every:
            values["whole_every"] = NEVER_BEFORE_THE_END
        if self.jobs > 1:
            values["threads"] = max(1, (os.cpu_count() or 1) // self.jobs)
        return config.with_values(values)

    def _calibrated(self, config: TrainConfig) -> float:
        """Sub-volumes per second where nothing else runs: a high percentile of the speeds of a short training, which
        goes before all other work where the system allows it."""
        values = {n: v for n, v in config.values().items() if n not in IGNORED_BY_CALIBRATION}
        text = json.dumps([Path(config.data.path).name, values, machine_name(self._device)], sort_keys=True)
        key = f"{config.model.model} {hashlib.sha256(text.encode()).hexdigest()[:16]}"
        if key not in self.file.calibrations:
            short = config.with_values({"minutes": CALIBRATION_MINUTES, "whole_every": 0, "samples_val": 0})
            speeds = self._speeds(self._run(["train", *_arguments(short)], undisturbed=True))
            if not speeds:
                raise CaseError(f"no speed was measured in {CALIBRATION_MINUTES:g} minutes")
            self.file.add_calibration(key, sorted(speeds)[int(0.9 * (len(speeds) - 1))])
        return self.file.calibrations[key]

    def _validation_s(self, config: TrainConfig, speed: float) -> float:
        """Estimated duration of the last validation, which is part of a time budget."""
        if not config.validation.whole_every or config.split.holds_out_nothing:
            return 0.0
        shapes, _, labelled = _headers(config.data.path)
        held_out = len(split_subjects(labelled, config.split).val)
        size = self._plan(config).config.sampling.sub_volume
        tile = (size[0], size[1], size[2])
        tiles = statistics.mean(number_of_tiles(shape, tile, config.validation.overlap) for shape in shapes)
        passes = (2 if config.validation.inference_mode == "auto" else 1) * (2 if config.validation.mirror else 1)
        seconds = passes * held_out * tiles * FORWARD_SHARE / speed
        return min(seconds, config.run.minutes * 30)

    # --- training and scores ------------------------------------------------------------------------------------------

    def _train(self, config: TrainConfig, case: Case) -> Path:
        """Folder of a run with the configuration; one that the same program has finished is reused."""
        program = program_name()
        for run in () if self.again else list_runs(self.work):
            mark = run.folder / TRAINED_BY
            same = run.state.state == "finished" and command_line(run.config) == command_line(config)
            if same and mark.is_file() and mark.read_text("utf-8") == program:
                return run.folder
        folder = self._run(["train", *_arguments(config), "--name", case.label[:30]])
        (folder / TRAINED_BY).write_text(program, "utf-8")
        return folder

    def _run(self, command: list[str], undisturbed: bool = False) -> Path:
        """Train, and return the folder of the run."""
        return self.work / self._command(command, undisturbed).split()[0]

    def _command(self, command: list[str], undisturbed: bool = False) -> str:
        environment = {**os.environ, "SEGMENTARIUM_CHECKPOINTS": str(self.work)}
        words = [sys.executable, "-m", "core", *command]
        pipe = subprocess.PIPE
        with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
            if undisturbed:
                _go_before_all_others(process.pid)
            output, errors = process.communicate()
        if process.returncode:
            lines = [line for line in errors.splitlines() if line.strip()]
            raise CaseError(lines[-1][:500] if lines else f"exit status {process.returncode}")
        return output

    def _speeds(self, run: Path) -> list[float]:
        return [row.value for row in read_metrics(run) if row.name == "speed" and row.value > 0]

    def _speed(self, run: Path, calibrated: float | None) -> dict[str, Any]:
        """Milliseconds of a sub-volume: on the idle machine where that was measured, else in the median of the run."""
        speeds = self._speeds(run)
        speed = calibrated or (statistics.median(speeds) if speeds else None)
        return {} if speed is None else {"ms": round(1000 / speed, 1)}

    def _score(self, case: Case, runs: list[Path]) -> dict[str, Any]:
        """Dice of whole volumes with the last checkpoints, since the best ones were chosen on the held-out subjects."""
        split = "test" if case.suite in ("refit", "ensemble") else "val"
        model = "+".join(str(run / "last.safetensors") for run in runs)
        found = json.loads(self._command(["evaluate", model, self.folders[case.data], "--split", split, "--json"]))
        dice = found["mean"]["dice"]
        by_class = {name: [s["dice"][name] for s in found["subjects"] if s["dice"][name] is not None] for name in dice}
        return {
            "dice": dice,
            "spread": {n: round(statistics.stdev(v), 5) if len(v) > 1 else None for n, v in by_class.items()},
            "mean_dice": statistics.mean(dice.values()),
            "subjects": len(found["subjects"]),
            "mode": found["mode"],
        }

    # --- cost ---------------------------------------------------------------------------------------------------------

    def _plan(self, config: TrainConfig) -> TrainingPlan:
        from core.compute.device import resolve_device
        from core.compute.precision import resolve_precision

        device = resolve_device(config.run.device)
        dataset = open_dataset(config.data.path)
        shapes, spacings_mm, _ = _headers(config.data.path)
        return make_plan(
            config.with_values({"precision": resolve_precision(config.run.precision, device)}),
            shapes=shapes,
            spacings_mm=spacings_mm,
            modalities=len(dataset.modalities),
            classes=len(dataset.labels),
            device=device.type,
        )

    def _cost(self, config: TrainConfig) -> dict[str, Any]:
        """Parameters, operations and estimated memory of a training step, traced as before a run."""
        from core.errors import UserError
        from core.training.step_cost import trace_training_step

        try:
            plan = self._plan(config)
            cost = trace_training_step(plan.config, plan.in_channels, plan.classes, plan.device)
        except UserError as error:
            raise CaseError(str(error)) from error
        return {
            "parameters": cost.parameters,
            "gflop": round(cost.training_gflop * plan.config.sampling.batch_size, 2),
            "memory_mb": round(cost.step_bytes / 1e6),
            "sub_volume": list(plan.config.sampling.sub_volume),
            "channels": list(plan.config.model.channels),
        }


def _go_before_all_others(process: int) -> None:
    """Schedule a process, and what it starts, in real time; without the right to, it stays as it is."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(process, os.SCHED_RR, os.sched_param(1))


def _facts(case: Case) -> dict[str, Any]:
    names = ("suite", "label", "data", "preset", "minutes", "fold", "folds", "seed")
    return {name: getattr(case, name) for name in names}


def _shown_command(config: TrainConfig) -> str:
    """The command of a training, without the folders of this machine."""
    return command_line(config.with_values({"path": Path(config.data.path).name}))


def _arguments(config: TrainConfig) -> list[str]:
    """The configuration as words for ``train``."""
    return shlex.split(command_line(config))[4:]


@functools.cache
def _headers(path: str) -> tuple[list[Any], list[Any], tuple[str, ...]]:
    """Shapes and voxel sizes of the labelled subjects, and their ids."""
    dataset = open_dataset(path)
    geometry = fingerprint(dataset, dataset.labelled_ids)
    return list(geometry.shapes.values()), list(geometry.spacings_mm.values()), dataset.labelled_ids
