"""The second prediction on the Review page: another model or checkpoint of the run, another rater, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.checkpointing.metadata import CheckpointMetadata
from core.datasets import Dataset
from core.datasets.layouts.base import natural_key
from core.errors import UserError
from core.labels import LabelSpace
from core.paths import data_root
from core.runs.predictions import Prediction, read_predictions
from core.runs.store.folder import BEST, CONFIG, LAST, PREVIOUS
from ui.review.view import CaseList
from ui.shared import cache, evaluation_job, formatting, jobs
from ui.shared.cache import Model
from ui.shared.errors import error_box
from ui.shared.folders import file_inside
from ui.shared.paths import runs_root
from ui.shared.progress import progress
from ui.shared.state import load_from_url, save_to_url
from ui.viewer.scenes import Scene
from ui.viewer.second_prediction import SecondFile, with_second

WITH, FILE = "review_with", "review_with_file"  # session keys
NONE, OWN_FILE, RATER = "none", "file", "rater:"  # choices; that of a rater ends with the name
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
    """

    name: str
    path: Path
    metadata: CheckpointMetadata
    predictions: dict[str, Prediction]


def choose_second(
    models: Mapping[str, Model], model: Model, dataset: Dataset, chosen: str, below: DeltaGenerator
) -> SecondModel | Path | None:
    """Render the choice of the second prediction, which is part of the address.

    Parameters
    ----------
    models : mapping. Models by key.
    model : Model. The model under review.
    dataset : Dataset.
    chosen : str. The chosen case: each has a segmentation file of its own.
    below : DeltaGenerator. Container for what a choice needs or says.

    Returns
    -------
    SecondModel, Path of a segmentation file or of another rater's label map, or None for no second prediction.
    """
    others = {**_checkpoints(model), **{key: m for key, m in models.items() if key != model.key}}
    raters = {f"{RATER}{name}": f"reference by {name}" for name in other_raters(dataset)}
    models_and_raters = {**{key: other.name for key, other in others.items()}, **raters}
    labels = {NONE: "nothing", **models_and_raters, OWN_FILE: "a segmentation file"}
    load_from_url(WITH, NONE, labels, "with")
    if st.session_state[WITH] not in labels:  # the model that is now under review
        st.session_state[WITH] = NONE
    key = st.selectbox("Compare with", list(labels), key=WITH, format_func=lambda k: labels.get(k, k), width="stretch")
    save_to_url(WITH, key, "with", NONE)
    if key == NONE:
        save_to_url(FILE, "", "file", "")
        return None
    if key == OWN_FILE:
        with below:
            return _choose_file(chosen)
    save_to_url(FILE, "", "file", "")
    if key in raters:
        with below:
            return file_of_rater(dataset, chosen, key.removeprefix(RATER))
    other = others[key]
    try:
        metadata = cache.checkpoint_metadata(other.path)
        kept = read_predictions(runs_root(), other.path, dataset.path)
    except UserError as error:
        with below:
            error_box(error)
        return None
    return SecondModel(other.name, other.path, metadata, kept)


def second_file(second: SecondModel | Path, dataset: Dataset, subject: str) -> SecondFile | None:
    """The label map of a case; ``None`` where there is none yet. Renders whether it is outdated."""
    if isinstance(second, Path):
        return SecondFile(second, dataset.labels)
    if subject in second.predictions:
        kept = second.predictions[subject]
        if kept.stale:
            st.caption(f"The second prediction was made {kept.stale_reason}.")
        return SecondFile(kept.file, second.metadata.label_space)
    return None


def with_second_layer(
    scene: Scene, second: SecondModel | Path, dataset: Dataset, labels: LabelSpace, subject: str
) -> Scene:
    """The scene of a case with the second prediction, if there is one; why there is none is rendered."""
    found = second_file(second, dataset, subject)
    if found is None:
        return scene
    try:
        with_layer, warnings = with_second(scene, dataset, subject, labels, found)
    except UserError as error:
        error_box(error, context="The second prediction cannot be shown")
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


def other_raters(dataset: Dataset) -> list[str]:
    """Raters whose label map is not the reference of at least one case, in natural order."""
    found = {name for s in dataset.subjects for name, file in s.raters.items() if file != s.label}
    return sorted(found, key=natural_key)


def file_of_rater(dataset: Dataset, chosen: str, rater: str) -> Path | None:
    """The label map of a case by a rater; ``None``, with the reason on the page, where there is no other one."""
    subject = dataset.subject(chosen)
    file = subject.raters.get(rater)
    if file is None:
        st.caption(f"{formatting.plain(rater)} has drawn no label map of this case.")
    elif file == subject.label:
        st.caption(f"The reference of this case is by {formatting.plain(rater)}.")
        return None
    else:
        by = next((name for name, other in subject.raters.items() if other == subject.label), "")
        st.caption(
            f"The second prediction in the viewer is the label map by {formatting.plain(rater)}"
            + (f"; the reference is by {formatting.plain(by)}." if by else ".")
        )
    return file


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


def _choose_file(chosen: str) -> Path | None:
    """Render the field for the path of a segmentation file of a case."""
    key = f"{FILE}-{chosen}"
    load_from_url(key, "", parameter="file")
    text = st.text_input(
        "Segmentation file",
        key=key,
        placeholder="folder/case.nii.gz",
        help=f"a path below {data_root()}; label values as in the data set, on the grid of the image",
    )
    save_to_url(key, text, "file", "")
    if not text.strip():
        st.caption("Type the path of a label map of this case, below the folder of data.")
        return None
    try:
        return file_inside(data_root(), text)
    except UserError as error:
        error_box(error)
        return None
