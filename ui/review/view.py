"""Parts of the Review page: order of the cases, scores, segmentation on demand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import streamlit as st

from core.checkpointing.metadata import MEMBERS, CheckpointMetadata, may_be_training_subjects
from core.datasets import Dataset
from core.evaluation.surfaces import tolerance_key
from core.formatting import MISSING, format_list, format_number, format_score
from core.imaging.postprocessing import Postprocessing
from core.paths import demo_folder
from core.regions import RegionSpace
from core.runs.predictions import Prediction
from ui.review.case_viewer import STEPPED
from ui.shared import cache, demo_jobs, evaluation_job, formatting, jobs
from ui.shared.class_table import ClassRow, class_table
from ui.shared.data_choice import FIRST_DEMO_SUBJECT
from ui.shared.errors import error_box
from ui.shared.progress import progress
from ui.shared.state import CASE
from ui.shared.voxel_size import show_warnings, subject_warning
from ui.viewer.scenes import Scene, missing_classes

NBSP, MINUS = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}"
TOLERANCE_MM = 1.0  # of the surface Dice in the table
SURFACE_DICE = "Surface Dice"
SCORE_COLUMNS = ("Dice", SURFACE_DICE, "HD95 (mm)", "ASD (mm)", "Volume (ml)")


@dataclass(frozen=True)
class CaseList:
    """The cases under review.

    Attributes
    ----------
    checkpoint, folder : Path. The model, and the folder of the data set.
    subjects : list of str. Ids in the order of the list.
    predictions : mapping. Kept predictions by subject.
    """

    checkpoint: Path
    folder: Path
    subjects: list[str]
    predictions: Mapping[str, Prediction]


def make_demo_subject(folder: Path, held_out: Sequence[str]) -> None:
    """Make a demo subject, with its progress, and stop the page if the demo data is chosen and lacks the subject."""
    subject = next(iter(held_out), FIRST_DEMO_SUBJECT)
    if folder != demo_folder():
        return
    demo_jobs.install_example()
    if cache.demo_subject_exists(subject):
        return
    job = demo_jobs.observe_demo_subject(subject)
    if job.state == "failed":
        error_box(job.message)
        if not st.button("Try again", icon=":material/refresh:"):
            st.stop()
    if job.state != "running":
        demo_jobs.start_demo_subject(subject)
    progress(f"Making the synthetic {subject}", lambda: demo_jobs.observe_demo_subject(subject))
    st.skeleton(360)
    st.stop()


def summary(dataset: Dataset, metadata: CheckpointMetadata, cases: CaseList) -> None:
    """Data set, number of cases, epoch and mean Dice, in one line."""
    scores = [cases.predictions[id].score for id in cases.subjects if id in cases.predictions]
    means = [score.mean_dice for score in scores if score is not None and not math.isnan(score.mean_dice)]
    epoch, members = metadata.progress.get("epoch"), metadata.inference.get(MEMBERS, ())
    named_synthetic = "synthetic" in dataset.name.lower()
    parts = [
        formatting.plain(dataset.name) + (", synthetic" if dataset.synthetic and not named_synthetic else ""),
        formatting.count(len(cases.subjects), "case"),
        f"epoch {epoch}" if epoch else "",
        f"{len(members)} networks" if members else "",
        f"mean Dice {format_score(sum(means) / len(means))}, whole volumes, n = {len(means)}" if means else "",
    ]
    st.caption(" · ".join(part for part in parts if part))


def seen_note(metadata: CheckpointMetadata, is_training_data: bool, cases: CaseList, held_out: Sequence[str]) -> None:
    """Remark that the model, or a network of an ensemble, was trained on cases under review.

    Parameters
    ----------
    is_training_data : bool. Whether the cases are of the data set of the training.
    cases : CaseList. Cases under review.
    held_out : sequence of str. Ids of the cases of the data set that it was not trained on.
    """
    trained = set(metadata.split.get("train", ())) if is_training_data else set()
    seen = trained.intersection(cases.subjects)
    seen_before = set(metadata.seen_in_training(cases.folder, cases.subjects)) - seen
    scored = [id for id in cases.subjects if id in cases.predictions and cases.predictions[id].score is not None]
    seen_scored = seen.intersection(scored)
    if metadata.train_config.split.holds_out_nothing and seen:
        st.caption(
            "Trained on every subject of this data but its test subjects: scores of the others say nothing about new "
            "data."
        )
    elif metadata.inference.get(MEMBERS) and seen and not held_out:
        st.caption(
            "Every subject was trained on by at least one of the networks, so these scores are too good: review the "
            "runs of the ensemble, each on its own held-out subjects, or other data."
        )
    elif seen_scored:
        st.caption(
            f"The model was trained on {formatting.count(len(seen_scored), 'case')} of the {len(scored)} with a score, "
            "so that the mean is too good. *held out* above leaves them out."
        )
    if seen_before.intersection(scored):
        number = formatting.count(len(seen_before.intersection(scored)), "case")
        st.caption(f"The network that this one began with was trained on {number} of these: the mean is too good.")
    if perhaps := metadata.may_be_seen_in_training(cases.folder, scored):
        st.caption(f"{formatting.plain(may_be_training_subjects('The model', perhaps))}.")


def other_classes_note(dataset: Dataset, metadata: CheckpointMetadata) -> None:
    """Remark that the data set does not have classes of the model, so that there is no reference to compare with."""
    missing = missing_classes(metadata.label_space, dataset)
    if missing and dataset.labelled_ids:
        st.warning(
            f"The label maps of {formatting.plain(dataset.name)} do not have {formatting.plain(format_list(missing))}: "
            "there is no reference of the classes of this model, and no score.",
            icon=":material/warning:",
        )


def case_stepper(subjects: Sequence[str], chosen: str) -> None:
    """The name of the case, its position in the list, and buttons with shortcuts for the previous and next case."""
    index = subjects.index(chosen)

    def choose(new_index: int) -> None:
        st.session_state[CASE] = st.session_state[STEPPED] = subjects[new_index]

    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.header(formatting.plain(chosen), anchor=False, width="content")
        st.space("stretch")
        st.button(
            "Previous",
            key="case_before",
            shortcut="P",
            disabled=index == 0,
            on_click=choose,
            args=(index - 1,),
            type="tertiary",
            help="the previous case of the list (key P)",
        )
        st.caption(f"{index + 1} / {len(subjects)}", width="content")
        st.button(
            "Next",
            key="case_next",
            shortcut="N",
            disabled=index == len(subjects) - 1,
            on_click=choose,
            args=(index + 1,),
            type="tertiary",
            help="the next case of the list (key N)",
        )


def score_table(
    prediction: Prediction | None,
    classes: Sequence[Mapping[str, str]],
    tolerance_mm: float = TOLERANCE_MM,
    regions: RegionSpace | None = None,
) -> None:
    """Dice, surface Dice, distances and volumes per class of a case.

    Parameters
    ----------
    prediction : Prediction or None. Nothing is rendered without one.
    classes : sequence of mapping. ``{"name", "colour"}`` of each class.
    tolerance_mm : float. Of the surface Dice.
    regions : RegionSpace, optional. Unions of classes, which are scored too.
    """
    if prediction is None:
        return
    score = prediction.score
    if prediction.mean_disagreement is not None:
        share = format_number(100 * prediction.mean_disagreement, 1)
        st.caption(f"In the predicted voxels, {share} % of the pairs of networks disagree.")
    if score is None:
        st.caption("This case has no reference, so it has no scores.")
        return
    rows = []
    colours = {c["name"]: c["colour"] for c in classes}
    unions = {region.name: " + ".join(region.classes) for region in (regions.regions if regions else ())}
    columns = [column for column in SCORE_COLUMNS if column != SURFACE_DICE or score.surface_dice]
    for name in (*colours, *(name for name in score.dice if name not in colours)):  # unions of classes have no colour
        values = {
            "Dice": format_score(score.dice.get(name)),
            SURFACE_DICE: format_score(score.surface_dice.get(name, {}).get(tolerance_key(tolerance_mm))),
            "HD95 (mm)": format_number(score.hd95_mm.get(name), 1),
            "ASD (mm)": format_number(score.asd_mm.get(name), 1),
            "Volume (ml)": _volumes(score.volume_ml.get(name, {})),
        }
        notes = ["" if name in colours else unions.get(name, ""), "missed" if name in score.missed else ""]
        note = "; ".join(filter(None, notes))
        rows.append(ClassRow(name, [values[column] for column in columns], colours.get(name, ""), note))
    mean = [format_score(score.mean_dice)] + [""] * (len(columns) - 1)
    class_table(columns, [*rows, ClassRow("mean", mean)])
    surface = f"Surface Dice within {tolerance_mm:g} mm. " if score.surface_dice else ""
    st.caption(f"{surface}Volume of the reference → of the prediction. The background is left out.")
    if not score.surface_dice:
        st.caption("Scored by a version that did not know the surface Dice; `evaluate --keep` scores this case again.")
    if prediction.unprocessed_score is not None:
        rules = Postprocessing.from_json(prediction.settings.get("postprocessing", {}))
        without = format_score(prediction.unprocessed_score.mean_dice)
        st.caption(f"Postprocessing: {formatting.plain(rules.text)}. Mean Dice without it {without}.")


def _volumes(volume_ml: Mapping[str, float]) -> str:
    """Volumes of reference and prediction, and their difference in percent: ``1.5 → 2.7 (+80 %)``."""
    truth, prediction = volume_ml.get("truth"), volume_ml.get("prediction")
    if truth is None or prediction is None:
        return MISSING
    change = f" ({round(100 * (prediction - truth) / truth):+d}{NBSP}%)".replace("-", MINUS) if truth else ""
    return f"{format_number(truth, 1)}{NBSP}→{NBSP}{format_number(prediction, 1)}{change}"


def case_warnings(cases: CaseList, dataset: Dataset, metadata: CheckpointMetadata, chosen: str) -> None:
    """What is to be known about the segmentation of a case, or of the image before it is segmented."""
    prediction = cases.predictions.get(chosen)
    if prediction is not None:
        show_warnings(prediction.warnings)
    else:
        show_warnings([subject_warning(cases.checkpoint, dataset, chosen, metadata.modalities)])


def segmentation_controls(cases: CaseList, chosen: str, start_unasked: bool) -> None:
    """Buttons that segment the chosen case or all cases in a child process, and its progress.

    Parameters
    ----------
    start_unasked : bool. Whether the chosen case is segmented without a click.
    """

    kept = cases.predictions
    missing = [subject for subject in cases.subjects if subject not in kept or kept[subject].stale]
    if not missing:
        return
    pending = evaluation_job.pending(cases.checkpoint, cases.folder)
    if pending:
        _segmentation_progress(cases, chosen, pending)
    job = evaluation_job.observe(cases.checkpoint, cases.folder, [chosen])
    if job.state == "done" and chosen in missing:
        st.rerun()  # finished since the page read the predictions
    requested: list[str] = []
    if job.state == "failed":
        error_box(job.message, context="The segmentation failed")
    elif start_unasked and chosen not in kept and chosen not in pending:
        requested = [chosen]
    unasked = [subject for subject in missing if subject not in pending]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if (
            chosen in unasked
            and chosen not in kept
            and st.button("Segment this case", type="primary", icon=":material/play_arrow:")
        ):
            requested = [chosen]
        if chosen in kept and kept[chosen].stale:
            st.caption(f"Made {kept[chosen].stale_reason}.", width="content")
            if chosen in unasked and st.button("Segment again", icon=":material/refresh:"):
                requested = [chosen]
        if len(unasked) > 1 and st.button(f"Segment all {len(unasked)} remaining cases"):
            requested = [subject for subject in (chosen, *unasked) if subject in unasked]
    if requested:
        evaluation_job.start(cases.checkpoint, cases.folder, list(dict.fromkeys(requested)))
        st.rerun()


def _segmentation_progress(cases: CaseList, chosen: str, pending: Sequence[str]) -> None:
    """The progress of the chosen case, or of all cases that were asked for; the page runs again as each is finished."""

    def observe() -> jobs.Job:
        if evaluation_job.pending(cases.checkpoint, cases.folder) != pending:
            return jobs.Job("done")
        return evaluation_job.observe(cases.checkpoint, cases.folder, [chosen] if chosen in pending else pending)

    progress("Segmenting", observe)


def resampling_note(prediction: Prediction | None, scene: Scene) -> None:
    """The voxel size of a segmentation, if it is not that of the image."""
    resampled_mm = prediction.settings.get("resampled_mm") if prediction is not None else None
    if resampled_mm and not np.allclose(resampled_mm, scene.grid.spacing_mm, rtol=1e-3):
        st.caption(f"Segmented at voxels of {formatting.size(resampled_mm)} mm.")
