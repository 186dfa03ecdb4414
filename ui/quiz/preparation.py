"""Preparation of a first game: the demo subject is made and held-out subjects are segmented, in background jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from core.checkpointing.metadata import CheckpointMetadata
from core.datasets import DataOptions, Dataset
from core.errors import UserError
from core.formatting import format_score
from core.runs.predictions import Prediction, read_predictions
from ui.quiz.game import Case
from ui.shared import cache, demo_jobs, evaluation_job, formatting, jobs
from ui.shared.errors import error_box
from ui.shared.folders import training_data_folder
from ui.shared.navigation import page
from ui.shared.paths import runs_root
from ui.shared.progress import progress
from ui.shared.voxel_size import show_warnings, subject_warning

MAX_SEGMENTED = 4  # subjects per request
MAX_LISTED = 8  # subjects whose Dice is shown
DEMO_STAGE, SEGMENT_STAGE = "subject", "segment"

# Session key: the request for a game that cannot begin yet, as (model, folder, stage).
REQUEST = "quiz_preparing"


@dataclass(frozen=True)
class Selection:
    """A model and the data to play on.

    Attributes
    ----------
    model, model_name : str. Key of the model, and its name on screen.
    checkpoint : Path. File of the model.
    metadata : CheckpointMetadata. Metadata of the checkpoint.
    data : str. Key of the data set.
    folder : Path. Folder of the data set.
    missing_demo_subject : str. Subject of the demo data that has to be made first; empty if none.
    """

    model: str
    model_name: str
    checkpoint: Path
    metadata: CheckpointMetadata
    data: str
    folder: Path
    missing_demo_subject: str = ""

    @property
    def options(self) -> DataOptions:
        """Options of reading the data set, those of the model's training."""
        config = self.metadata.train_config.data
        is_own = self.folder == training_data_folder(self.metadata)
        return DataOptions.of_own_data(config) if is_own else DataOptions.from_config(config)


def unseen_subjects(metadata: CheckpointMetadata, dataset: Dataset) -> list[str]:
    """Labelled subjects that the model was not trained on."""
    trained_on = set(metadata.split.get("train", []))
    return [subject for subject in dataset.labelled_ids if subject not in trained_on]


def is_requested(selection: Selection) -> bool:
    """Whether a game with this selection was requested and waits for its preparation."""
    request = st.session_state.get(REQUEST)
    return request is not None and request[:2] == (selection.model, str(selection.folder))


def clear_request() -> None:
    """Remove the request of a game."""
    st.session_state.pop(REQUEST, None)


def playable_cases(selection: Selection) -> list[Case]:
    """Subjects with a prediction; renders a list of missing predictions with a button that makes them."""
    if selection.missing_demo_subject:
        _prepare_demo_subject(selection)
        return []
    try:
        dataset = cache.dataset(selection.folder, selection.options)
    except UserError as error:
        error_box(error)
        st.page_link(page("data"), label="Check the folder on the Data page", icon=":material/database:")
        return []
    subjects = unseen_subjects(selection.metadata, dataset)
    if not subjects:
        st.warning("The model was trained on every labelled subject of this data set. Choose another one.")
        return []
    kept = read_predictions(runs_root(), selection.checkpoint, selection.folder)
    predictions = {subject: kept[subject] for subject in subjects if subject in kept}
    synthetic = " The data is synthetic." if dataset.synthetic else ""
    st.markdown(
        f"{formatting.count(len(subjects), 'held-out subject')} of {formatting.plain(dataset.name)}, "
        f"{len(predictions) or 'none'} of them segmented.{synthetic}"
    )
    _show_warnings(selection, dataset, subjects, predictions)
    _prepare_predictions(selection, subjects, predictions)
    return [Case(subject, p.file, p.epoch, p.step) for subject, p in predictions.items()]


def _prepare_demo_subject(selection: Selection) -> None:
    subject = formatting.plain(selection.missing_demo_subject)
    st.markdown(
        f"First a synthetic subject that is new to this model is made ({subject} of the demo data, a few seconds), "
        "then the model segments it."
    )
    if _prepare_button("Prepare and play", selection, DEMO_STAGE):
        demo_jobs.start_demo_subject(selection.missing_demo_subject)
        st.rerun()
    _show_job(selection, DEMO_STAGE, f"Making {subject}", [])


def _show_warnings(
    selection: Selection, dataset: Dataset, subjects: Sequence[str], predictions: Mapping[str, Prediction]
) -> None:
    """Warnings of the predictions, and about images that are segmented next, each once with its subjects."""
    warnings = {subject: list(prediction.warnings) for subject, prediction in predictions.items()}
    for subject in [s for s in subjects if s not in predictions][:MAX_SEGMENTED]:
        warnings[subject] = [subject_warning(selection.checkpoint, dataset, subject, selection.metadata.modalities)]
    by_text: dict[str, list[str]] = {}
    for subject, texts in warnings.items():
        for text in filter(None, texts):
            by_text.setdefault(text, []).append(subject)
    for text, ids in by_text.items():
        show_warnings([text], ids)


def _prepare_predictions(selection: Selection, subjects: Sequence[str], predictions: Mapping[str, Prediction]) -> None:
    """Offer to segment subjects without an up-to-date prediction."""
    missing = [s for s in subjects if s not in predictions or predictions[s].stale][:MAX_SEGMENTED]
    names = formatting.plain(missing[0]) if len(missing) == 1 else f"{len(missing)} subjects"
    if predictions:
        st.caption(_dice_list(predictions))
    else:
        early = " The game begins as soon as one is ready." if len(missing) > 1 else ""
        st.markdown(f"First the model segments {names}; the predictions are kept.{early}")
    if not missing:
        return
    again = "again" if all(subject in predictions for subject in missing) else "too"
    label = f"Segment {names} {again}" if predictions else "Prepare and play"
    if _prepare_button(label, selection, SEGMENT_STAGE, plays=not predictions):
        evaluation_job.start(selection.checkpoint, selection.folder, missing)
        st.rerun()
    _show_job(selection, SEGMENT_STAGE, f"Segmenting {names}", missing)


def _show_job(selection: Selection, stage: str, title: str, subjects: Sequence[str]) -> None:
    """Progress or failure of a stage; starts the segmentation of a requested game once the demo subject exists."""

    def observe() -> jobs.Job:
        if stage == DEMO_STAGE:
            return demo_jobs.observe_demo_subject(selection.missing_demo_subject)
        kept = read_predictions(runs_root(), selection.checkpoint, selection.folder)
        ready = [subject for subject in subjects if subject in kept and not kept[subject].stale]
        if ready and is_requested(selection):
            return jobs.Job("done")  # enough for a game; the job continues for the next one
        return evaluation_job.observe(selection.checkpoint, selection.folder, subjects, kept)

    job = observe()
    if job.state != "running" and is_requested(selection) and st.session_state[REQUEST][-1] != stage:
        st.session_state[REQUEST] = _request(selection, stage)
        evaluation_job.start(selection.checkpoint, selection.folder, subjects)
        job = observe()
    if job.state == "running":
        progress("Segmenting" if stage == SEGMENT_STAGE else title, observe)
    elif job.state == "failed":
        clear_request()
        error_box(job.message, context=f"{title} failed")


def _prepare_button(label: str, selection: Selection, stage: str, plays: bool = True) -> bool:
    """A button that starts a stage; ``plays``: the game begins when all is ready."""
    if is_requested(selection):
        return False
    icon, key = ":material/auto_awesome:", f"prepare-{stage}"
    if not st.button(label, type="primary" if plays else "secondary", icon=icon, key=key):
        return False
    if plays:
        st.session_state[REQUEST] = _request(selection, stage)
    return True


def _request(selection: Selection, stage: str) -> tuple[str, str, str]:
    return selection.model, str(selection.folder), stage


def _dice_list(predictions: Mapping[str, Prediction]) -> str:
    parts = []
    for subject, prediction in list(predictions.items())[:MAX_LISTED]:
        dice = f" (Dice {format_score(prediction.score.mean_dice)})" if prediction.score is not None else ""
        stale = f", made {prediction.stale_reason}" if prediction.stale else ""
        parts.append(formatting.plain(subject) + dice + stale)
    more = f" and {len(predictions) - MAX_LISTED} more" if len(predictions) > MAX_LISTED else ""
    return f"{', '.join(parts)}{more}"
