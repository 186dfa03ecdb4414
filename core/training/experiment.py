"""One training run from its configuration: opens the data, decides what was left open, builds the network, trains.

This is what the trainer process of a run does. Everything it says goes to a listener (:mod:`core.events`); everything
it leaves, but what listeners write, is the checkpoints in the run's folder.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from core.checkpointing.checkpoint import Checkpoint, Description, load, load_latest, transfer
from core.checkpointing.foreign_weights import read_foreign
from core.checkpointing.metadata import LAST, is_foreign
from core.compute.allocator import retain_freed_memory
from core.compute.determinism import deterministic
from core.compute.device import check_memory, explain_memory, free_bytes, resolve_device, set_threads
from core.compute.distributed import DistributedContext, joined
from core.compute.precision import resolve_precision
from core.config import TrainConfig
from core.datasets import Dataset, fingerprint, open_dataset
from core.datasets.prepare import prepare_subject
from core.datasets.splits import Split, split_subjects
from core.datasets.synthetic.demo import ensure_demo
from core.errors import CheckpointError, ConfigError, DatasetError
from core.events import Ended, Listener, Preparing
from core.labels import LabelSpace
from core.models import build_model
from core.paths import DEMO, demo_folder
from core.sampling.streaming import SubjectStore
from core.training.plan import Plan, plan, spoils_bf16, suggest
from core.training.trainer import Task, fit
from core.types import Size3, SpacingMm, TrainingSubject

if TYPE_CHECKING:
    from torch import nn


def train_run(
    config: TrainConfig,
    folder: Path,
    listener: Listener,
    should_stop: Callable[[], bool] = lambda: False,
    resume: bool = False,
    started: float | None = None,
) -> None:
    """Train until the end, the time budget or a stop; checkpoints go to ``folder``.

    Parameters
    ----------
    config : what to train on what; a data path of "demo" makes the demo data on first use.
    folder : of the run.
    listener : gets every event; the last one is :class:`~core.events.Ended`. In a process that ``torchrun`` has started
        beside others only the leader's hears what training says.
    should_stop : asked between subjects while they are read, and after every step.
    resume : go on from the last checkpoint in the folder, or the one before where that is damaged, with the split that
        is stored there.
    started : ``time.monotonic()`` at which a time budget began; now if not given.

    Raises
    ------
    UserError
        If data, configuration or checkpoint cannot be used, the memory does not suffice, or the loss is not finite.
    LostProcessError
        If another process of the team is gone.
    """
    started = time.monotonic() if started is None else started
    with deterministic(config.run.deterministic), retain_freed_memory(), contextlib.ExitStack() as held:
        team, device = held.enter_context(joined(resolve_device(config.run.device)))
        if team.size != config.run.devices:
            raise ConfigError(
                f"devices: expected {config.run.devices} processes for a run on {config.run.devices} devices, found "
                f"{team.size}; start it with `python -m core train` or `submit`"
            )
        _train(config, folder, listener, should_stop, resume, started, team, device, held)


def _train(
    config: TrainConfig,
    folder: Path,
    listener: Listener,
    should_stop: Callable[[], bool],
    resume: bool,
    started: float,
    team: DistributedContext,
    device: torch.device,
    held: contextlib.ExitStack,
) -> None:
    threads = set_threads(config.run.threads, team.size)
    sharing = team.size if device.type == "cpu" else 1  # processes in the same memory
    needed, smaller = None, ""
    try:
        last, damage = load_latest(folder) if resume else (None, "")
        dataset = _open(config, listener)
        split = _split(dataset, config, last)
        subjects = _Subjects.from_dataset(dataset, config, split)
        decided = _decide(config, subjects, split, device)
        smaller = suggest(
            decided.config, in_channels=len(subjects.modalities), classes=len(subjects.labels),
            memory_bytes=free_bytes(device) // sharing, device=device.type,
        )  # fmt: skip
        needed = decided.step_bytes * sharing
        check_memory(needed, device, smaller)
        room = data_memory_budget(config, decided, device) // sharing
        store = None
        if decided.data_bytes > room:
            store = held.enter_context(contextlib.closing(SubjectStore(folder)))
        prepared = _prepare(dataset, subjects, decided, split, store, listener, should_stop)
        if prepared is None:
            done = last.description.progress if last is not None else {}
            listener(
                Ended("stopped", int(done.get("epoch", 0)), int(done.get("step", 0)), float(done.get("elapsed_s", 0)))
            )
            return
        model, copied = _network(decided.config, subjects, last is not None)
        task = Task(
            config=decided.config,
            model=model.to(device),
            train=[prepared[id] for id in split.train],
            held_out=[prepared[id] for id in split.val],
            classes=subjects.labels.names,
            colours=tuple(c.colour for c in subjects.labels.classes),
            folder=folder,
            description=_describe(dataset, subjects, decided, split),
            facts=_facts(decided, split, device, threads, copied, damage),
            resident_bytes=room,
            team=team,
        )
        if last is not None:
            _check_same(last.description, task.description, folder)
        fit(task, listener, should_stop=should_stop, resume=last, started=started)
    except (MemoryError, RuntimeError) as error:
        explained = explain_memory(error, device, needed, smaller)
        if explained is None:
            raise
        raise explained from error


@dataclass(frozen=True)
class _Subjects:
    """What training needs to know about the data set: channels, classes, and sizes by subject from headers alone."""

    modalities: tuple[str, ...]
    labels: LabelSpace
    shapes: dict[str, Size3]
    spacings_mm: dict[str, SpacingMm]

    @classmethod
    def from_dataset(cls, dataset: Dataset, config: TrainConfig, split: Split) -> _Subjects:
        wanted = config.data.classes
        seen = fingerprint(dataset, (*split.train, *split.val))
        return cls(
            config.data.modalities or dataset.modalities,
            dataset.labels.subset(wanted) if wanted else dataset.labels,
            seen.shapes,
            seen.spacings_mm,
        )


def _open(config: TrainConfig, listener: Listener) -> Dataset:
    if config.data.path != DEMO:
        return open_dataset(config.data.path, config.data.layout)

    def show(done: int, total: int) -> None:
        listener(Preparing("making synthetic demo subjects", done, total))

    return open_dataset(ensure_demo(demo_folder(), progress=show))


def _split(dataset: Dataset, config: TrainConfig, last: Checkpoint | None) -> Split:
    """The roles of the subjects; those of a resumed run are what they were, whatever was added to the folder since."""
    if last is None:
        return split_subjects(dataset.labelled_ids, config.split)
    roles = {role: tuple(last.description.split.get(role, ())) for role in ("train", "val", "test")}
    gone = [id for ids in roles.values() for id in ids if id not in dataset.labelled_ids]
    if gone:
        raise DatasetError(
            f"{dataset.path}: expected the subjects that the run began with, found no {', '.join(gone[:5])}; "
            "put them back to resume it"
        )
    return Split(**roles)


def _decide(config: TrainConfig, subjects: _Subjects, split: Split, device: torch.device) -> Plan:
    def decided(precision: str) -> Plan:
        return plan(
            config.with_values({"precision": precision}),
            shapes=list(subjects.shapes.values()),
            spacings_mm=list(subjects.spacings_mm.values()),
            in_channels=len(subjects.modalities),
            classes=len(subjects.labels),
            device=device.type,
        )

    result = decided(resolve_precision(config.run.precision, device))
    if result.config.run.precision == "bf16" and device.type == "cpu" and spoils_bf16(result.config):
        if config.run.precision == "bf16":
            raise ConfigError(
                "precision: expected fp32 or auto for a sub_volume that leaves two voxels along its first axis at the "
                f"deepest of {len(result.config.model.channels)} resolutions, got bf16, whose gradients are wrong "
                "there on a CPU; or choose a larger sub_volume, or fewer channels"
            )
        result = decided("fp32")
    modalities, names = subjects.modalities, subjects.labels.names[1:]
    return replace(result, config=result.config.with_values({"modalities": modalities, "classes": names}))


def _prepare(
    dataset: Dataset,
    subjects: _Subjects,
    decided: Plan,
    split: Split,
    store: SubjectStore | None,
    listener: Listener,
    should_stop: Callable[[], bool],
) -> dict[str, TrainingSubject] | None:
    """Read and normalise every subject that trains or validates, and move it to the store if there is one; ``None`` if
    asked to stop meanwhile."""
    ids = (*split.train, *split.val)
    data = decided.config.data
    prepared = {}
    for number, id in enumerate(ids):
        listener(Preparing("reading subjects", number, len(ids)))
        if should_stop():
            return None
        subject = prepare_subject(
            dataset, id, subjects.modalities, data.classes, data.normalisation, decided.spacing_mm
        )
        prepared[id] = subject if store is None else store.add(subject)
    listener(Preparing("reading subjects", len(ids), len(ids)))
    return prepared


def data_memory_budget(config: TrainConfig, decided: Plan, device: torch.device) -> int:
    """Bytes that images and labels may take on the device: as configured, or what a training step leaves free."""
    if config.data.resident_gb:
        return int(config.data.resident_gb * 1e9)
    # A step that is recorded on a GPU keeps its memory, and validation needs as much again.
    steps = 2 if device.type == "cuda" else 1
    return max(free_bytes(device) - steps * decided.step_bytes, 0)


def _network(config: TrainConfig, subjects: _Subjects, resumes: bool) -> tuple[nn.Module, str]:
    """The network with its first weights: from the seed, or from a checkpoint to fine-tune, ours or another
    program's; and a word about the latter. A run that is resumed has weights of its own."""
    torch.manual_seed(config.run.seed)
    model = build_model(config.model, len(subjects.modalities), len(subjects.labels))
    if resumes or not config.run.init_from:
        return model, ""
    path = Path(config.run.init_from)
    if is_foreign(path):
        foreign = read_foreign(path, model)
        copied, total = transfer(foreign.weights, model)
        return model, f"{copied} of {total} tensors from {path.name}{', by order' if foreign.in_order else ''}"
    copied, total = transfer(load(path).weights, model)
    return model, f"{copied} of {total} tensors from {path.parent.name}/{path.name}"


def _describe(dataset: Dataset, subjects: _Subjects, decided: Plan, split: Split) -> Description:
    return Description(
        config=decided.config.to_json(),
        labels=subjects.labels.to_json(),
        modalities=subjects.modalities,
        spacing_mm=decided.spacing_mm,
        dataset={
            "name": dataset.name,
            "path": str(dataset.path.resolve()),
            "layout": dataset.layout,
            "synthetic": dataset.synthetic,
            "licence": dataset.licence,
        },
        split={"train": list(split.train), "val": list(split.val), "test": list(split.test)},
    )


def _check_same(before: Description, now: Description, folder: Path) -> None:
    """A run goes on with the network that it began with: the data may not have changed under it."""
    for what, old, new in (
        ("classes", before.label_space.names, now.label_space.names),
        ("modalities", before.modalities, now.modalities),
        ("sub-volume", before.train_config.sampling.sub_volume, now.train_config.sampling.sub_volume),
        ("network", before.train_config.model, now.train_config.model),
    ):
        if old != new:
            raise CheckpointError(
                f"{folder / LAST}: expected the {what} that the run began with ({old}), got {new} from the data set "
                "as it is now; put the data back as it was, or start a new run with --init-from"
            )


def _facts(decided: Plan, split: Split, device: torch.device, threads: int, copied: str, damage: str) -> dict[str, str]:
    config = decided.config
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {threads} threads"
    if config.run.devices > 1:
        name = f"{config.run.devices} x {name}"
    network = f"{config.model.model} {'-'.join(map(str, config.model.channels))}"
    facts = {
        "device": name,
        "precision": config.run.precision,
        "network": f"{network}, {decided.parameters:,} parameters",
        "subjects": f"{len(split.train)} train, {len(split.val)} validate, {len(split.test)} test",
        "sub-volume": "x".join(map(str, config.sampling.sub_volume)) + " voxels",
    }
    if decided.spacing_mm is not None:
        facts["voxel size"] = "x".join(f"{s:.3g}" for s in decided.spacing_mm) + " mm"
    if copied:
        facts["weights"] = copied
    if damage:
        facts["resumed from"] = f"the checkpoint before the last one, since {damage}"
    return facts
