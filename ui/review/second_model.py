"""The second prediction on the Review page: another model, a checkpoint or kept epoch of the run, or segmentations that
no model has made (:mod:`ui.review.second_files`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.checkpointing.metadata import CheckpointMetadata
from core.datasets import Dataset
from core.datasets.segmentation_files import other_raters
from core.errors import UserError
from core.labels import LabelSpace
from core.runs.kept_epochs import kept_epochs
from core.runs.predictions import Prediction, read_predictions
from core.runs.store.folder import BEST, CONFIG, LAST, PREVIOUS
from ui.review import second_files
from ui.review.second_files import RATER, SecondFiles
from ui.review.view import CaseList
from ui.shared import cache, evaluation_job, formatting, jobs, uploads
from ui.shared.cache import Model
from ui.shared.errors import error_box
from ui.shared.paths import runs_root
from ui.shared.progress import progress
from ui.shared.state import load_from_url, save_to_url
from ui.viewer.scenes import Scene
from ui.viewer.second_prediction import LAYER, SecondFile, with_second

WITH = "review_with"  # session key
NONE, UPLOADED = "none", "upload"  # choices; that of a rater begins with RATER
OWN_FILE, OWN_FOLDER = second_files.FILE_PARAMETER, second_files.FOLDER_PARAMETER
OF_FILES = {
    OWN_FILE: "a segmentation file",
    OWN_FOLDER: "a folder of segmentations",
    UPLOADED: "uploaded segmentations",
}
STATES = {BEST: "best checkpoint", LAST: "last checkpoint", PREVIOUS: "checkpoint before the last"}


@dataclass(frozen=True)
class SecondModel:
    """A model that is compared with the one under review.

    Attributes
    ----------
    name : str. Name on screen.
    path : Path. Its checkpoint.
    metadata : CheckpointMetadata.
    predictions : dict. Kept predictions by case.
    title : str. Of the layer in the viewer.
    view_title : str. Of the view of all cases.
    """

    name: str
    path: Path
    metadata: CheckpointMetadata
    predictions: dict[str, Prediction]
    title: str = LAYER
    view_title: str = "two models"


Second: TypeAlias = SecondModel | SecondFiles


def choose_second(
    models: Mapping[str, Model], model: Model, dataset: Dataset, chosen: str, below: DeltaGenerator
) -> Second | None:
    """Render the choice of the second prediction, which is part of the address.

    Parameters
    ----------
    models : mapping. Models by key.
    model : Model. The model under review.
    dataset : Dataset.
    chosen : str. The chosen case.
    below : DeltaGenerator. Container for what a choice needs or says.

    Returns
    -------
    SecondModel, SecondFiles, or None for no second prediction.
    """
    of_run, epochs = _checkpoints(model), _epochs(model)
    others = {**of_run, **epochs, **{key: m for key, m in models.items() if key != model.key}}
    raters = {f"{RATER}{name}": f"reference by {name}" for name in other_raters(dataset)}
    labels = {NONE: "nothing", **{key: other.name for key, other in others.items()}, **raters, **OF_FILES}
    load_from_url(WITH, NONE, labels, "with")
    if st.session_state[WITH] not in labels:  # the model that is now under review
        st.session_state[WITH] = NONE
    key = st.selectbox("Compare with", list(labels), key=WITH, format_func=lambda k: labels.get(k, k), width="stretch")
    save_to_url(WITH, key, "with", NONE)
    second_files.forget_places(but=key)
    if key == NONE:
        return None
    with below:
        if key == OWN_FILE:
            return second_files.choose_file(chosen)
        if key == OWN_FOLDER:
            return second_files.choose_folder(dataset, chosen)
        if key == UPLOADED:
            return second_files.choose_uploads(dataset, chosen)
        if key in raters:
            return second_files.of_rater(dataset, chosen, key.removeprefix(RATER))
        other = others[key]
        try:
            metadata = cache.checkpoint_metadata(other.path)
            kept = read_predictions(runs_root(), other.path, dataset.path)
        except UserError as error:
            error_box(error)
            return None
    title = f"epoch {metadata.progress.get('epoch')}" if key in epochs else LAYER
    return SecondModel(other.name, other.path, metadata, kept, title)


def second_file(second: Second, dataset: Dataset, subject: str) -> SecondFile | None:
    """The label map of a case; ``None`` where there is none yet. Renders whether it is outdated."""
    if isinstance(second, SecondFiles):
        file = second.files.get(subject)
        return None if file is None else SecondFile(file, dataset.labels, second.title)
    if subject in second.predictions:
        kept = second.predictions[subject]
        if kept.stale:
            st.caption(f"The second prediction was made {kept.stale_reason}.")
        return SecondFile(kept.file, second.metadata.label_space, second.title)
    return None


def with_second_layer(scene: Scene, second: Second, dataset: Dataset, labels: LabelSpace, subject: str) -> Scene:
    """The scene of a case with the second prediction, if there is one; why there is none is rendered."""
    found = second_file(second, dataset, subject)
    if found is None:
        return scene
    try:
        with_layer, warnings = with_second(scene, dataset, subject, labels, found)
    except UserError as error:
        error_box(uploads.without_session_folder(str(error)), context="The second prediction cannot be shown")
        return scene
    for warning in warnings:
        st.caption(f"The second prediction: {formatting.plain(warning)}")
    return with_layer


def second_controls(cases: CaseList, second: SecondModel, chosen: str) -> None:
    """What the second prediction is, and buttons that segment the case, or all that the first model has segmented.

    Parameters
    ----------
    cases : CaseList. The cases of the model under review.
    second : SecondModel.
    chosen : str. The chosen case.
    """
    kept = second.predictions
    pending = evaluation_job.pending(second.path, cases.folder)
    if pending:

        def observe() -> jobs.Job:
            if evaluation_job.pending(second.path, cases.folder) != pending:
                return jobs.Job("done")
            return evaluation_job.observe(second.path, cases.folder, [chosen] if chosen in pending else pending)

        progress("Segmenting with the second model", observe)
    job = evaluation_job.observe(second.path, cases.folder, [chosen])
    if job.state == "failed":
        error_box(job.message, context="The second model could not segment this case")
    segmented = [id for id in cases.subjects if id in cases.predictions]
    missing = [id for id in dict.fromkeys((chosen, *segmented)) if id not in kept and id not in pending]
    if not missing:
        return
    if job.state == "done" and chosen in missing:
        st.rerun()  # finished since the page read the predictions
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(
            f"{second.name} has segmented {len([id for id in segmented if id in kept])} of these cases.",
            width="content",
        )
        if chosen in missing and st.button("Segment this case with it", icon=":material/play_arrow:"):
            evaluation_job.start(second.path, cases.folder, [chosen])
            st.rerun()
        if len(missing) > 1 and st.button(f"Segment {len(missing)} cases with it"):
            evaluation_job.start(second.path, cases.folder, missing)
            st.rerun()


def _checkpoints(model: Model) -> dict[str, Model]:
    """The other checkpoints of the run of a model, with their epochs."""
    folder, found = model.path.parent, {}
    if not (folder / CONFIG).is_file():
        return {}
    for file, title in STATES.items():
        path = folder / file
        if path == model.path or not path.is_file():
            continue
        try:
            epoch = cache.checkpoint_metadata(path).progress.get("epoch")
        except UserError:
            continue
        key = f"{model.key}@{path.stem}"
        found[key] = Model(key, f"{model.name}, {title}" + (f" (epoch {epoch})" if epoch else ""), path.absolute())
    return found


def _epochs(model: Model) -> dict[str, Model]:
    """The kept epochs of the run of a model, without the one that is the model itself."""
    folder, found = model.path.parent, {}
    if not (folder / CONFIG).is_file():
        return {}
    own = _progress(model.path)
    for epoch in kept_epochs(folder, cache.checkpoint_metadata).epochs:
        if epoch.checkpoint.name not in STATES and _progress(epoch.checkpoint) != own:
            key = f"{model.key}@{epoch.checkpoint.stem}"
            found[key] = Model(key, f"{model.name}, {epoch.name}", epoch.checkpoint)
    return found


def _progress(checkpoint: Path) -> tuple[object, object]:
    progress = cache.checkpoint_metadata(checkpoint).progress
    return progress.get("epoch"), progress.get("step")
