"""One training run from its configuration: open the data, resolve the plan, build the network, train.

This is the work of the trainer process of a run. It emits the events of :mod:`core.events` and writes the checkpoints
in the run folder; all other files of the run are written by listeners.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from core.checkpointing.checkpoint import Checkpoint, load_latest
from core.checkpointing.metadata import ACCEPT_DATA
from core.compute.allocator import retain_freed_memory
from core.compute.determinism import deterministic
from core.compute.device import (
    check_memory,
    device_name,
    free_bytes,
    out_of_memory_error,
    resolve_device,
    set_num_threads,
)
from core.compute.distributed import DistributedContext, init_process_group
from core.compute.precision import common_precision, resolve_precision
from core.config import TrainConfig
from core.datasets.data_record import ChangedCodeError
from core.datasets.parallel_preparation import Resources
from core.errors import ConfigError
from core.events import Ended, Listener, Note
from core.files import is_present
from core.formatting import format_count
from core.models.own_source import code_change
from core.sampling.streaming import SubjectStore
from core.training.initial_network import build_network
from core.training.plan import StepCost, TrainingPlan, make_plan, suggest_smaller
from core.training.recorded_data import DataCheck
from core.training.run_data import RunData, RunInputs, SubjectMemory, prepare_subjects
from core.training.run_loss import describe_loss_facts, loss_facts, with_loss_facts
from core.training.run_metadata import (
    check_unchanged,
    checkpoint_metadata,
    indicator_notes,
    region_facts,
    run_facts,
    seen_before_notes,
    spacing_notes,
)
from core.training.run_mirroring import decide_mirroring, keep_mirroring
from core.training.run_normalisation import choose_normaliser, normaliser_facts
from core.training.step_cost import TracedOutputs, trace_training_step
from core.training.task import TrainingTask
from core.training.trainer import fit


def train_run(
    config: TrainConfig,
    folder: Path,
    listener: Listener,
    should_stop: Callable[[], bool] = lambda: False,
    resume: bool = False,
) -> None:
    """Train until the end, the end of the time budget or a stop request; checkpoints are written to ``folder``. The
    time budget begins with the first step, when the data has been made, read and prepared.

    Parameters
    ----------
    config : TrainConfig. A data path of "demo" creates the demo data set on first use.
    folder : Path. Run folder.
    listener : callable. Receives every event, :class:`~core.events.Ended` last. Among processes started by ``torchrun``
        only that of rank 0 receives the events of training.
    should_stop : callable. Called between subjects while they are read, and after every step; true stops the run.
    resume : bool. Continue from the last checkpoint in the folder (the previous one if that is damaged), with the split
        stored in it.

    Raises
    ------
    UserError
        If data, configuration or checkpoint cannot be used, the memory does not suffice, or the loss is not finite.
    LostProcessError
        If another process of this run has ended.
    """
    inputs = RunInputs(config, folder, listener, should_stop, resume)
    with deterministic(config.run.deterministic), retain_freed_memory(), contextlib.ExitStack() as stack:
        distributed, device = stack.enter_context(init_process_group(resolve_device(config.run.device)))
        if distributed.world_size != config.run.devices:
            raise ConfigError(
                f"devices: expected {config.run.devices} processes for a run on {config.run.devices} devices, found "
                f"{distributed.world_size}; start it with `python -m core train` or `submit`"
            )
        threads = set_num_threads(config.run.threads, distributed.world_size)
        _train(inputs, _Machine(device, threads, distributed), stack)


@dataclass(frozen=True)
class _Machine:
    """Device, CPU threads and processes of a run."""

    device: torch.device
    threads: int
    distributed: DistributedContext

    @property
    def name(self) -> str:
        """For display: GPU model, or "cpu" and threads, with the number of processes."""
        kind = self.device.type
        name = f"cpu, {format_count(self.threads, 'thread')}" if kind == "cpu" else device_name(self.device)
        if kind in ("mps", "xpu"):
            name = f"{kind}, {name}"
        processes = self.distributed.world_size
        return f"{processes} x {name}" if processes > 1 else name

    @property
    def processes_per_memory(self) -> int:
        """Processes that share the memory of the device: all of them on a CPU."""
        return self.distributed.world_size if self.device.type == "cpu" else 1

    @property
    def resources(self) -> Resources:
        """What preparing the subjects may take: the cores that training will have, and half of the free memory."""
        processes = self.distributed.world_size
        memory_bytes = free_bytes(torch.device("cpu")) // 2 // processes
        return Resources(self.threads, memory_bytes, self.distributed.rank / processes)


@dataclass(frozen=True)
class _MemoryPlan:
    """Memory of a run on its device.

    Attributes
    ----------
    step_bytes : int. Estimated memory of a training step, over the processes that share the device's memory.
    resident_bytes : int. Memory for the subjects of each process.
    suggestion : callable. Smaller settings that would fit, as a text.
    """

    step_bytes: int
    resident_bytes: int
    suggestion: Callable[[], str]

    @classmethod
    def make(cls, plan: TrainingPlan, cost: StepCost, data: RunData, machine: _Machine) -> _MemoryPlan:
        sharing = machine.processes_per_memory
        memory_bytes = free_bytes(machine.device) // sharing  # before the run takes any of it

        def suggestion() -> str:
            return suggest_smaller(plan.config, memory_bytes, lambda config: _step_cost(plan, config, data).step_bytes)

        resident_bytes = data_memory_budget(plan.config, cost.step_bytes, machine.device) // sharing
        return cls(cost.step_bytes * sharing, resident_bytes, suggestion)


def data_memory_budget(config: TrainConfig, step_bytes: int, device: torch.device) -> int:
    """Device memory for images and labels in bytes: as configured, or what training steps leave free."""
    if config.data.resident_gb:
        return int(config.data.resident_gb * 1e9)
    # A captured CUDA graph keeps the memory of a step, and validation needs as much again.
    steps = 2 if device.type == "cuda" else 1
    return max(free_bytes(device) - steps * step_bytes, 0)


def _train(inputs: RunInputs, machine: _Machine, stack: contextlib.ExitStack) -> None:
    """Open, plan, prepare, build and train; the stack closes resources that have to outlive the training."""
    device = machine.device
    with _explained_out_of_memory(device):
        last, damage = load_latest(inputs.folder) if inputs.resume else (None, "")
        data = RunData.open(inputs, last)
        data_check = DataCheck(inputs, data, resumed=last is not None)
        plan, cost = _resolve_plan(_resolve_config(inputs, machine, last), data, device)
        if last is not None:
            check_unchanged(last.metadata, data, plan, inputs.folder)
            _check_code(last, inputs)
        notes = (*spacing_notes(data, plan), *indicator_notes(data, plan.config))
        for note in (*(inputs.config.reasons if last is None else ()), *notes):
            inputs.listener(Note(note))
        memory = _MemoryPlan.make(plan, cost, data, machine)
    with _explained_out_of_memory(device, memory.step_bytes, memory.suggestion):
        check_memory(memory.step_bytes, device, memory.suggestion)
        normaliser = choose_normaliser(inputs, data, last)
        if normaliser is None:
            inputs.listener(_stopped_while_preparing(last))
            return
        plan = plan.with_normaliser(normaliser)
        store = None
        if plan.data_bytes > memory.resident_bytes:
            store = stack.enter_context(contextlib.closing(SubjectStore(inputs.folder)))
        subject_memory = SubjectMemory(store, machine.resources)
        prepared = prepare_subjects(inputs, data, plan, subject_memory, last is None, data_check.add)
        if prepared is None:
            inputs.listener(_stopped_while_preparing(last))
            return
        if last is None:
            mirroring = decide_mirroring(plan.config, data, prepared.positions)
        else:
            mirroring = keep_mirroring(plan.config, last.metadata.train_config)
        for note in mirroring.notes:
            inputs.listener(Note(note))
        plan = replace(plan, config=mirroring.config)
        model, weights_source = build_network(plan, data, resumed=last is not None)
        facts = run_facts(plan, cost, data.split, machine.name) | prepared.facts | mirroring.facts
        facts |= normaliser_facts(normaliser, data.modalities)
        of_loss = loss_facts(plan, data, prepared.subjects, last)
        facts |= describe_loss_facts(of_loss, data.labels.names)
        facts |= region_facts(data)
        if data.labels.ignore is not None:
            facts["left out"] = f"label {data.labels.ignore.name} ({data.labels.ignore.raw})"
        if weights_source:
            facts["weights"] = weights_source
        if damage:
            facts["resumed from"] = f"the checkpoint before the last one, since {damage}"
        metadata = checkpoint_metadata(data, plan, None if last is None else last.metadata)
        for note in seen_before_notes(metadata):
            inputs.listener(Note(note))
        task = TrainingTask(
            config=plan.config,
            model=model.to(device),
            train=[prepared.subjects[id] for id in data.split.train],
            held_out=[prepared.subjects[id] for id in data.split.val],
            classes=data.labels.names,
            colours=tuple(c.colour for c in data.labels.classes),
            folder=inputs.folder,
            metadata=with_loss_facts(metadata, of_loss),
            facts=facts,
            resident_bytes=memory.resident_bytes,
            distributed=machine.distributed,
            ignore=data.labels.ignore is not None,
            loss_facts=of_loss,
            regions=data.regions,
        )
        data_check.finish(machine.distributed.is_main)
        fit(task, inputs.listener, should_stop=inputs.should_stop, resume=last)


@contextlib.contextmanager
def _explained_out_of_memory(
    device: torch.device, needed_bytes: int | None = None, suggestion: Callable[[], str] | None = None
) -> Iterator[None]:
    """Turn an out-of-memory error of the block into a ``DeviceError``."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        explained = out_of_memory_error(error, device, needed_bytes, suggestion)
        if explained is None:
            raise
        raise explained from error


def _check_code(last: Checkpoint, inputs: RunInputs) -> None:
    """Compare the code of a user's own network with that of the checkpoint.

    Raises
    ------
    ChangedCodeError
        If it has changed, unless the change was accepted (``runs resume --force``).
    """
    change = code_change(inputs.config.model.model, last.metadata.network_code)
    if change and not is_present(inputs.folder / ACCEPT_DATA):
        raise ChangedCodeError([change])
    if change:
        inputs.listener(Note(f"resumed all the same: {change}"))


def _stopped_while_preparing(last: Checkpoint | None) -> Ended:
    """The event of a run that was stopped before its first step."""
    progress = last.metadata.progress if last is not None else {}
    return Ended(
        "stopped",
        int(progress.get("epoch", 0)),
        int(progress.get("step", 0)),
        float(progress.get("elapsed_s", 0)),
    )


# --- plan -------------------------------------------------------------------------------------------------------------


def _resolve_config(inputs: RunInputs, machine: _Machine, last: Checkpoint | None) -> TrainConfig:
    """The configuration with what depends on the device resolved: the precision, and for a resumed run the sub-volume
    size, which is the one that it began with, also on another kind of device."""
    own = resolve_precision(inputs.config.run.precision, machine.device)
    precision = common_precision(own, machine.distributed)
    if precision != own:
        inputs.listener(Note(f"precision {precision}: the devices of this run differ, and not all compute in {own}"))
    config = inputs.config.with_values({"precision": precision})
    if last is None or config.sampling.sub_volume:
        return config
    return config.with_values({"sub_volume": last.metadata.train_config.sampling.sub_volume})


def _resolve_plan(config: TrainConfig, data: RunData, device: torch.device) -> tuple[TrainingPlan, StepCost]:
    """The plan of the run, and the cost of its training step."""
    plan = make_plan(
        config,
        shapes=list(data.shapes.values()),
        spacings_mm=list(data.spacings_mm.values()),
        modalities=len(data.modalities),
        classes=len(data.output_names),
        device=device.type,
    )
    cost = _step_cost(plan, plan.config, data)
    values = {"modalities": data.modalities, "classes": data.labels.names[1:], "targets": data.targets}
    return replace(plan, config=plan.config.with_values(values)), cost


def _step_cost(plan: TrainingPlan, config: TrainConfig, data: RunData) -> StepCost:
    """The cost of a training step of a configuration on the data and device of a plan."""
    outputs = TracedOutputs(plan.classes, data.labels.ignore is not None, data.trained_regions is not None)
    return trace_training_step(config, plan.in_channels, outputs, plan.device)
