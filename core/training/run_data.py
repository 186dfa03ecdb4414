"""The data of a run: opens the data set, splits it, and reads and normalises the subjects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.checkpointing.checkpoint import Checkpoint
from core.config import DataConfig, TrainConfig
from core.datasets import DataOptions, Dataset, LoadedSubject, fingerprint, load_subject, open_dataset
from core.datasets.fitness import SubjectCounts, judge_counts, judge_split, refuse_unfit
from core.datasets.prepare import prepare_loaded
from core.datasets.split_groups import split_groups
from core.datasets.splits import Split, split_subjects
from core.datasets.synthetic.demo import DEFAULT_SUBJECTS, ensure_first_subjects
from core.errors import DatasetError
from core.events import Listener, Note, Preparing
from core.labels import LabelSpace
from core.paths import DEMO, demo_folder
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
    """

    dataset: Dataset
    split: Split
    modalities: tuple[str, ...]
    labels: LabelSpace
    shapes: dict[str, Size3]
    spacings_mm: dict[str, SpacingMm]
    unoriented: tuple[str, ...] = ()

    @classmethod
    def open(cls, inputs: RunInputs, last: Checkpoint | None) -> RunData:
        """The configured data set, with the split of the configuration or of the checkpoint to resume."""
        config = inputs.config.data
        dataset = _open_dataset(inputs, config if last is None else last.metadata.train_config.data)
        split = split_subjects(dataset.labelled, inputs.config.split) if last is None else _stored_split(dataset, last)
        geometry = fingerprint(dataset, (*split.train, *split.val))
        return cls(
            dataset,
            split,
            config.modalities or dataset.modalities,
            dataset.labels.subset(config.classes) if config.classes else dataset.labels,
            geometry.shapes,
            geometry.spacings_mm,
            geometry.unoriented,
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
    return open_dataset(ensure_first_subjects(demo_folder(), needed, progress=show))


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
    subjects : dict. Subjects by id.
    facts : dict of str. Facts about their voxels for the log and the page, by name.
    """

    subjects: dict[str, TrainingSubject]
    facts: dict[str, str]


def prepare_subjects(
    inputs: RunInputs,
    data: RunData,
    plan: TrainingPlan,
    store: SubjectStore | None,
    judged: bool,
    on_loaded: Callable[[LoadedSubject], None] = lambda loaded: None,
) -> PreparedSubjects | None:
    """Read and normalise every training and validation subject, and move it to the store if there is one.

    Parameters
    ----------
    judged : bool. Whether subjects that are not ready for training are refused, unless training is forced.
    on_loaded : callable. Called with each subject as read.

    Returns
    -------
    PreparedSubjects, or ``None`` if a stop is requested while subjects are read.

    Raises
    ------
    UserError
        If a file cannot be used, or the subjects are refused.
    """
    ids = (*data.split.train, *data.split.val)
    config = plan.config.data
    subjects: dict[str, TrainingSubject] = {}
    counts: dict[str, SubjectCounts] = {}
    for number, id in enumerate(ids):
        inputs.listener(Preparing("reading subjects", number, len(ids)))
        if inputs.should_stop():
            return None
        loaded = load_subject(data.dataset, id, data.modalities, config.classes)
        on_loaded(loaded)
        subject = prepare_loaded(loaded, plan.normaliser, plan.spacing_mm)
        counts[id] = SubjectCounts.of(loaded, data.modalities, data.labels)
        subjects[id] = subject if store is None else store.add(subject)
    inputs.listener(Preparing("reading subjects", len(ids), len(ids)))
    return PreparedSubjects(subjects, _judge_voxels(inputs, data, counts, judged))


def _judge_voxels(inputs: RunInputs, data: RunData, counts: dict[str, SubjectCounts], judged: bool) -> dict[str, str]:
    """Facts about the voxels that were read, after a refusal of what is not ready for training."""
    findings = judge_counts(data.labels, counts)
    if judged and not inputs.config.data.force:
        refuse_unfit(data.dataset, findings)
    shares = {id: c.shares for id, c in counts.items()}
    findings = [f for f in findings if f.severity == "error"] + judge_split(data.labels.names[1:], shares, data.split)
    for finding in findings:
        inputs.listener(Note(f"{finding.severity}: {finding.line}"))
    facts = {"warning": "; ".join(f.line for f in findings if f.severity != "note")}
    with_nan = sum(c.nan_voxels > 0 for c in counts.values())
    if data.dataset.nan_is_zero:
        facts["NaN"] = f"read as 0, in {with_nan} of {len(counts)} subjects"
    return {name: text for name, text in facts.items() if text}
