"""The data of a run: opens the data set, splits it, and reads and normalises the subjects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.checkpointing.checkpoint import Checkpoint
from core.config import TrainConfig
from core.datasets import DataOptions, Dataset, fingerprint, open_dataset
from core.datasets.prepare import prepare_subject
from core.datasets.splits import Split, split_subjects
from core.datasets.synthetic.demo import ensure_demo
from core.errors import DatasetError
from core.events import Listener, Preparing
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
    started: float


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
    """

    dataset: Dataset
    split: Split
    modalities: tuple[str, ...]
    labels: LabelSpace
    shapes: dict[str, Size3]
    spacings_mm: dict[str, SpacingMm]

    @classmethod
    def open(cls, inputs: RunInputs, last: Checkpoint | None) -> RunData:
        """The configured data set, with the split of the configuration or of the checkpoint to resume."""
        config = inputs.config.data
        dataset = _open_dataset(inputs)
        split = (
            split_subjects(dataset.labelled_ids, inputs.config.split) if last is None else _stored_split(dataset, last)
        )
        geometry = fingerprint(dataset, (*split.train, *split.val))
        return cls(
            dataset,
            split,
            config.modalities or dataset.modalities,
            dataset.labels.subset(config.classes) if config.classes else dataset.labels,
            geometry.shapes,
            geometry.spacings_mm,
        )


def _open_dataset(inputs: RunInputs) -> Dataset:
    config = inputs.config.data
    if config.path != DEMO:
        return open_dataset(config.path, config.layout, DataOptions.from_config(config))

    def show(done: int, total: int) -> None:
        inputs.listener(Preparing("making synthetic demo subjects", done, total))

    return open_dataset(ensure_demo(demo_folder(), progress=show))


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
    return Split(**subsets)


def prepare_subjects(
    inputs: RunInputs, data: RunData, plan: TrainingPlan, store: SubjectStore | None
) -> dict[str, TrainingSubject] | None:
    """Read and normalise every training and validation subject, by id, and move it to the store if there is one;
    ``None`` if a stop is requested while subjects are read."""
    ids = (*data.split.train, *data.split.val)
    config = plan.config.data
    subjects = {}
    for number, id in enumerate(ids):
        inputs.listener(Preparing("reading subjects", number, len(ids)))
        if inputs.should_stop():
            return None
        subject = prepare_subject(
            data.dataset, id, data.modalities, config.classes, config.normalisation, plan.spacing_mm
        )
        subjects[id] = subject if store is None else store.add(subject)
    inputs.listener(Preparing("reading subjects", len(ids), len(ids)))
    return subjects
