"""The data of a run: opens the data set, splits it, and reads and normalises the subjects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.checkpointing.checkpoint import Checkpoint
from core.choices import Targets
from core.class_positions import ClassPositions
from core.config import DataConfig, TrainConfig
from core.datasets import DataOptions, Dataset, fingerprint, open_dataset
from core.datasets.data_record import VoxelDigests
from core.datasets.findings import Finding
from core.datasets.fitness import judge_counts, judge_split, refuse_unfit
from core.datasets.leak_findings import judge_leaks
from core.datasets.leaks import find_leaks
from core.datasets.parallel_preparation import Resources, SubjectPreparation
from core.datasets.prepared_cache import Preparation, PreparedCache, PreparedSubject
from core.datasets.split_groups import split_groups
from core.datasets.splits import Split, split_subjects
from core.datasets.synthetic.demo import DEFAULT_SUBJECTS, ensure_first_subjects
from core.datasets.voxel_facts import VoxelFacts
from core.errors import DatasetError
from core.events import Listener, Note, Preparing
from core.files import allow_open_files
from core.labels import LabelSpace
from core.losses.targets import resolve_targets
from core.paths import DEMO, demo_folder
from core.regions import RegionSpace, region_space
from core.sampling.streaming import SubjectStore
from core.training.plan import TrainingPlan
from core.types import Size3, SpacingMm, TrainingSubject


@dataclass(frozen=True)
class RunInputs:
    """Arguments of :func:`core.training.experiment.train_run`, which documents them."""

    config: TrainConfig
    folder: Path
    listener: Listener
    should_stop: Callable[[], bool]
    resume: bool


@dataclass(frozen=True)
class RunData:
    """An opened data set with the choices of a run.

    Attributes
    ----------
    dataset : Dataset.
    split : Split. Subject ids for training, validation and test.
    modalities : tuple of str. Input channels of the network, in order.
    labels : LabelSpace. Classes of the network, background first.
    shapes, spacings_mm : dict. Voxels and voxel size along i, j, k by subject id, from headers only; training and
        validation subjects.
    unoriented : tuple of str. Ids of those whose files state no orientation.
    regions : RegionSpace or None. Regions of these classes, which are scored; ``None`` for none.
    targets : str. "labels", or "regions" where the network's output channels are the regions.
    """

    dataset: Dataset
    split: Split
    modalities: tuple[str, ...]
    labels: LabelSpace
    shapes: dict[str, Size3]
    spacings_mm: dict[str, SpacingMm]
    unoriented: tuple[str, ...] = ()
    regions: RegionSpace | None = None
    targets: Targets = "labels"

    @property
    def trained_regions(self) -> RegionSpace | None:
        """The regions that are the output channels of the network; ``None`` where the classes are."""
        return self.regions if self.targets == "regions" else None

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the output channels of the network."""
        return self.labels.names if self.trained_regions is None else self.trained_regions.names

    @classmethod
    def open(cls, inputs: RunInputs, last: Checkpoint | None) -> RunData:
        """The configured data set, with the split of the configuration or of the checkpoint to resume."""
        config = inputs.config.data
        dataset = _open_dataset(inputs, config if last is None else last.metadata.train_config.data)
        split = split_subjects(dataset.labelled, inputs.config.split) if last is None else _stored_split(dataset, last)
        geometry = fingerprint(dataset, (*split.train, *split.val))
        labels = dataset.labels.subset(config.classes) if config.classes else dataset.labels
        regions = region_space(dataset.regions, dataset.region_order, labels.names)
        targets = config.targets if last is None else last.metadata.train_config.data.targets
        return cls(
            dataset,
            split,
            config.modalities or dataset.modalities,
            labels,
            geometry.shapes,
            geometry.spacings_mm,
            geometry.unoriented,
            regions,
            resolve_targets(targets, inputs.config.loss.loss, regions),
        )


def _open_dataset(inputs: RunInputs, began_with: DataConfig) -> Dataset:
    """The data set of the configuration, read with the options that the run began with."""
    config = inputs.config.data
    if config.path != DEMO:
        return open_dataset(config.path, config.layout, DataOptions.from_config(began_with))

    def show(done: int, total: int) -> None:
        inputs.listener(Preparing("making synthetic demo subjects", done, total))

    split = inputs.config.split
    listed = split.val_subjects or split.test_subjects  # any of the subjects
    needed = DEFAULT_SUBJECTS if listed or not split.subjects else split.subjects
    folder = ensure_first_subjects(demo_folder(), needed, progress=show)
    return open_dataset(folder, config.layout, DataOptions.from_config(began_with))


def _stored_split(dataset: Dataset, last: Checkpoint) -> Split:
    """The split stored in a checkpoint; subjects added to the folder since are ignored."""
    stored = last.metadata.split
    subsets = {name: tuple(stored.get(name, ())) for name in ("train", "val", "test")}
    missing = [id for ids in subsets.values() for id in ids if id not in dataset.labelled_ids]
    if missing:
        raise DatasetError(
            f"{dataset.path}: expected the subjects that the run began with, found no {', '.join(missing[:5])}; "
            "put them back to resume it"
        )
    groups = split_groups(dataset.labelled, last.metadata.train_config.split.group_by)
    return Split(subsets["train"], subsets["val"], subsets["test"], groups)


@dataclass(frozen=True)
class PreparedSubjects:
    """Training and validation subjects of a run, ready for the network.

    Attributes
    ----------
    subjects : dict. Subjects by id; their images are float16.
    positions : dict. Positions of the classes in each.
    facts : dict of str. Facts about their voxels for the log and the page, by name.
    """

    subjects: dict[str, TrainingSubject]
    positions: dict[str, ClassPositions]
    facts: dict[str, str]


@dataclass(frozen=True)
class SubjectMemory:
    """Where the subjects of a run are kept while it trains.

    Attributes
    ----------
    store : SubjectStore or None. File of those that are streamed from disk and not mapped from where they are kept;
        ``None`` where all fit on the device.
    resources : Resources. What preparing them may take.
    """

    store: SubjectStore | None
    resources: Resources

    def place(self, prepared: PreparedSubject) -> TrainingSubject:
        """A subject where it stays: in memory, or mapped."""
        if self.store is None:
            return prepared.in_memory()
        subject = prepared.subject
        return subject if isinstance(subject.image, np.memmap) else self.store.add(subject)


def prepare_subjects(
    inputs: RunInputs,
    data: RunData,
    plan: TrainingPlan,
    memory: SubjectMemory,
    judged: bool,
    on_digests: Callable[[str, VoxelDigests], None] = lambda id, digests: None,
) -> PreparedSubjects | None:
    """Open the training and validation subjects that are kept as prepared, and read and prepare the others.

    Parameters
    ----------
    memory : SubjectMemory. Where they are kept during the run.
    judged : bool. Whether subjects that are not ready for training are refused, unless training is forced.
    on_digests : callable. Called with the id and the digests of the voxels of each subject.

    Returns
    -------
    PreparedSubjects, or ``None`` if a stop is requested while subjects are read.

    Raises
    ------
    UserError
        If a file cannot be used, or the subjects are refused.
    """
    ids = (*data.split.train, *data.split.val)
    sizes = dict(zip(data.shapes, plan.prepared_bytes(data.shapes, data.spacings_mm), strict=True))
    allow_open_files(2 * len(ids))
    preparation = Preparation.of_run(plan.config.data, data.modalities, plan.normaliser, plan.spacing_mm)
    preparing = SubjectPreparation(
        data.dataset, preparation, PreparedCache.of_root(inputs.folder.parent), memory.resources
    )
    subjects: dict[str, TrainingSubject] = {}
    measured: dict[str, VoxelFacts] = {}
    inputs.listener(Preparing("reading subjects", 0, len(ids)))
    for id, prepared in preparing.subjects({id: sizes[id] for id in ids}, inputs.should_stop):
        on_digests(id, prepared.facts.digests)
        measured[id] = prepared.facts
        subjects[id] = memory.place(prepared)
        inputs.listener(Preparing("reading subjects", len(subjects), len(ids)))
    if len(subjects) < len(ids):
        return None
    measured = {id: measured[id] for id in ids}
    facts = _judge_voxels(inputs, data, measured, judged)
    if preparing.not_kept:
        inputs.listener(Note(f"note: {preparing.not_kept}"))
    return PreparedSubjects(subjects, {id: found.positions for id, found in measured.items()}, facts)


def _judge_voxels(inputs: RunInputs, data: RunData, measured: dict[str, VoxelFacts], judged: bool) -> dict[str, str]:
    """Facts about the voxels that were read, after a refusal of what is not ready for training."""
    counts = {id: found.counts for id, found in measured.items()}
    findings = judge_counts(data.labels, counts)
    if judged and not inputs.config.data.force:
        refuse_unfit(data.dataset, findings)
    shares = {id: c.shares for id, c in counts.items()}
    findings = [f for f in findings if f.severity == "error"] + judge_split(data.labels.names[1:], shares, data.split)
    leaks = find_leaks({id: found.fingerprint for id, found in measured.items()})
    findings += judge_leaks(leaks, data.dataset.labelled, data.split)
    findings += (Finding("warning", text) for text in data.dataset.warnings)
    for finding in findings:
        inputs.listener(Note(f"{finding.severity}: {finding.line}"))
    facts = {"warning": "; ".join(f.line for f in findings if f.severity != "note")}
    with_nan = sum(c.nan_voxels > 0 for c in counts.values())
    if data.dataset.nan_is_zero:
        facts["NaN"] = f"read as 0, in {with_nan} of {len(counts)} subjects"
    return {name: text for name, text in facts.items() if text}
