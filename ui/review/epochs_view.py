"""Kept epochs of a run on the Review page: segmentations of the case by each of them, through which the viewer steps,
made by a background job."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import streamlit as st

from core.datasets import Dataset
from core.labels import LabelSpace
from core.runs.kept_epochs import KeptEpochs, epoch_predictions, kept_epochs
from core.runs.predictions import Prediction
from core.runs.store.folder import BEST, CONFIG, LAST
from ui.shared import cache, formatting, hashes, jobs
from ui.shared.cache import Model
from ui.shared.errors import error_box
from ui.shared.jobs import Job
from ui.shared.paths import cache_root, runs_root
from ui.shared.progress import progress
from ui.viewer.epochs import EpochFile, with_epochs
from ui.viewer.scenes import Scene


@dataclass(frozen=True)
class CaseEpochs:
    """The kept epochs of a run, and their segmentations of a case.

    Attributes
    ----------
    run : str. Id of the run.
    dataset : Dataset. The data set of the case.
    subject : str. Id of the case.
    kept : KeptEpochs. The epochs.
    predictions : mapping. Up-to-date predictions of the case by the name of the epoch.
    """

    run: str
    dataset: Dataset
    subject: str
    kept: KeptEpochs = KeptEpochs()
    predictions: Mapping[str, Prediction] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """Number of epochs that have not segmented the case."""
        return len(self.kept.epochs) - len(self.predictions)

    def start(self) -> None:
        """Segment the case with the epochs that have not; no effect while that is going on."""
        options = [f"--data={self.dataset.path}", f"--checkpoints={runs_root()}", "--json", "--progress"]
        # Behind "--", as the ID of a subject may begin with "-".
        jobs.start(self._folder, ["review", "epochs", *options, "--", self.run, self.subject])

    def observe(self) -> Job:
        """The state of the job."""
        return jobs.observe(self._folder, not self.missing)

    @property
    def _folder(self) -> Path:
        return cache_root() / "epochs" / hashes.short_hash(f"{self.run}\0{self.dataset.path}\0{self.subject}")


def read_epochs(model: Model, dataset: Dataset, subject: str) -> CaseEpochs:
    """The kept epochs of the run of a model; none for a model that is no run.

    Parameters
    ----------
    model : Model. The model under review.
    dataset : Dataset. The data set under review.
    subject : str. The chosen case.
    """
    folder = model.path.parent
    empty = CaseEpochs(folder.name, dataset, subject)
    if model.path.name not in (BEST, LAST) or not (folder / CONFIG).is_file():
        return empty
    kept = kept_epochs(folder, cache.checkpoint_metadata)
    if not kept.epochs:
        return empty
    return CaseEpochs(
        folder.name, dataset, subject, kept, epoch_predictions(runs_root(), kept.epochs, dataset, subject)
    )


def with_epoch_layers(scene: Scene, epochs: CaseEpochs, labels: LabelSpace) -> Scene:
    """The scene of the case with the segmentations by its epochs.

    Parameters
    ----------
    labels : LabelSpace. Classes of the run.
    """
    found = []
    for epoch in epochs.kept.epochs:
        prediction = epochs.predictions.get(epoch.name)
        if prediction is not None:
            dice = math.nan if prediction.score is None else prediction.score.mean_dice
            found.append(EpochFile(epoch.name, prediction.file, dice))
    return with_epochs(scene, epochs.dataset, epochs.subject, labels, found)


def epochs_controls(epochs: CaseEpochs) -> None:
    """Render how many epochs have segmented the case, the button that starts the others, and their progress."""
    for reason in epochs.kept.damaged:
        error_box(reason, context="A kept epoch is left out")
    if not epochs.kept.epochs:
        return
    job = epochs.observe()
    if job.state == "running":
        progress("Segmenting with the kept epochs", epochs.observe)
        return
    if job.state == "failed":
        error_box(job.message, context="The kept epochs could not segment this case")
    if not epochs.missing:
        return
    total = formatting.count(len(epochs.kept.epochs), "kept epoch")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        done = f"{len(epochs.predictions)} of the {total} have" if epochs.predictions else f"None of the {total} has"
        st.caption(f"{done} segmented this case: see how the segmentation formed.", width="content")
        if st.button(
            f"Segment it with {formatting.count(epochs.missing, 'epoch')}",
            icon=":material/play_arrow:",
            key="epochs-start",
        ):
            epochs.start()
            st.rerun()
