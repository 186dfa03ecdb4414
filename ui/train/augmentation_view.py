"""What a network will see, on the Train page: a sub-volume of a training subject, plain and augmented.

A child process (:mod:`core.inspection.augmentation_preview`) makes the pictures, so that the web server needs no torch.
Until those of the present settings are there, the earlier ones are shown as such.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from core.config import DataConfig, TrainConfig
from core.datasets import Dataset
from core.datasets.ct_modalities import examined_subjects
from core.datasets.prepared_cache import reading_of
from core.errors import UserError
from core.processes import JsonLinesChild
from core.training.plan import TrainingPlan
from ui.shared import formatting
from ui.shared.errors import error_box
from ui.shared.hashes import files_hash
from ui.shared.legend import legend
from ui.shared.network_inspector import NetworkInspector, start_child, wait_for
from ui.shared.paths import cache_root

VERSIONS = 4  # augmented ones
PLANES = ("axial", "coronal", "sagittal")
MAX_KEPT = 200  # answers
MIN_WIDTH = 135  # pixels of a picture: all are in a row on a page of 800 pixels
FOLDER = "augmentation"
CHILD = JsonLinesChild(partial(start_child, "core.inspection.augmentation_preview"))  # one for the whole web server

# Session keys.
SHOWN, SUBJECT, PLANE = "preview_augmentation", "augmentation_subject", "augmentation_plane"
SEED, LABELS = "augmentation_seed", "augmentation_labels"
_LAST = "augmentation_last"  # what was shown last: data set and subject, and its answer


@dataclass(frozen=True)
class AugmentationPreview:
    """The preview on the page.

    Attributes
    ----------
    complete : callable. Waits for the pictures where they are not there yet, and shows them; to be called when the rest
        of the page stands.
    """

    complete: Callable[[], None] = lambda: None


def offer_augmentation() -> bool:
    """The switch that shows the preview; whether it is on."""
    return st.toggle(
        "Preview the augmentation",
        key=SHOWN,
        persist_state="session",
        help="What the network will see: a sub-volume of a training subject as it is, and as training changes it at "
        "random. It follows the settings below.",
    )


def render(
    dataset: Dataset, subjects: Sequence[str], plan: TrainingPlan, unoriented: Sequence[str] = ()
) -> AugmentationPreview:
    """Render the controls, and the pictures as far as they are known.

    Parameters
    ----------
    dataset : Dataset.
    subjects : sequence of str. Training subjects.
    plan : TrainingPlan. Of the settings; the size of a sub-volume and the voxel size are resolved.
    unoriented : sequence of str. Subjects of the run whose files state no orientation.
    """
    if st.session_state.get(SUBJECT) not in subjects:
        st.session_state[SUBJECT] = subjects[0]
    seed = int(st.session_state.setdefault(SEED, 0))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        subject = st.selectbox("Subject", subjects, key=SUBJECT, persist_state="session", width=220)
        plane = st.segmented_control(
            "Plane",
            PLANES,
            default=PLANES[0],
            required=True,
            key=PLANE,
            persist_state="session",
            label_visibility="collapsed",
        )
        labels = st.toggle("Labels", True, key=LABELS, persist_state="session", help="the classes as coloured areas")
        st.button(
            "Another sub-volume",
            icon=":material/casino:",
            on_click=_next_seed,
            help="Another place and other random changes; without a click both stay as they are.",
        )
    data = plan.config.data
    examined = examined_subjects(dataset, subjects, data.modalities or dataset.modalities)
    question = {
        "data": str(dataset.path),
        "subject": subject,
        "config": _decisive(plan.config).to_json(),
        "spacing_mm": None if plan.spacing_mm is None else list(plan.spacing_mm),
        "seed": seed,
        "versions": VERSIONS,
        "plane": plane or PLANES[0],
        "examined": list(examined),
        "unoriented": list(unoriented),
        "stamp": _stamp(dataset, [subject, *examined], data),
    }
    status, place = st.empty(), st.empty()
    inspector = _inspector(cache_root() / FOLDER)
    identity = (str(dataset.path), subject, seed)

    def show(answer: dict[str, Any]) -> None:
        st.session_state[_LAST] = (identity, answer)
        status.caption(_described(answer))
        with place.container():
            _show(answer, bool(labels))

    def wait() -> None:
        status.caption("The pictures for these settings are being made …")

    def failed(error: UserError) -> None:
        status.empty()
        with place.container():
            error_box(error, context="The preview cannot be made")

    try:
        answer = inspector.ask(question)
    except UserError as error:
        failed(error)
        return AugmentationPreview()
    if answer is not None:
        show(answer)
        return AugmentationPreview()
    wait()
    earlier = st.session_state.get(_LAST)
    with place.container():
        if earlier is not None and earlier[0][:2] == identity[:2]:
            _show(earlier[1], bool(labels))
        else:
            st.skeleton(260)

    def complete() -> None:
        try:
            found = wait_for(lambda: inspector.ask(question), wait, inspector)
        except UserError as error:
            failed(error)
            return
        if found is not None:
            show(found)

    return AugmentationPreview(complete)


def _stamp(dataset: Dataset, subjects: Sequence[str], data: DataConfig) -> str:
    """Changes with the files of subjects, and with how they are read and their classes are shown."""
    records = [dataset.subject(id) for id in dict.fromkeys(subjects)]
    modalities = data.modalities or dataset.modalities
    reading = [reading_of(dataset, record, modalities, data.classes) for record in records]
    prefix = json.dumps([reading, dataset.labels.to_json()])
    return files_hash(prefix, [file for record in records for file in record.files])


def _decisive(config: TrainConfig) -> TrainConfig:
    """The settings that decide what is shown; the others are those of the default."""
    return TrainConfig(data=config.data, augment=config.augment).with_values(
        {
            "sub_volume": config.sampling.sub_volume,
            "foreground": config.sampling.foreground,
            "threshold": config.sampling.threshold,
        }
    )


def _next_seed() -> None:
    st.session_state[SEED] = int(st.session_state.get(SEED, 0)) + 1


def _described(answer: dict[str, Any]) -> str:
    """The sub-volume in words; while pictures are made, the line says so instead, and the pictures stay in place."""
    size, start = formatting.size(answer["size"]), ", ".join(str(n + 1) for n in answer["start"])
    spacing, shape = formatting.size(answer["spacing_mm"]), formatting.size(answer["shape"])
    return f"Middle slice of a sub-volume of {size} voxels of {spacing} mm, which begins at voxel {start} of {shape}"


def _show(answer: dict[str, Any], labels: bool) -> None:
    """The pictures: a row for each modality, a column for each version."""
    for modality, name in enumerate(answer["modalities"]):
        if len(answer["modalities"]) > 1:
            st.markdown(f"**{formatting.plain(name)}**")
        with st.grid("auto", min_column_width=MIN_WIDTH, gap="small") as grid:
            for number, version in enumerate(answer["versions"]):
                title = "as it is" if number == 0 else ", ".join(version["changes"]) or "unchanged"
                title += f", indicator {version['indicator'][modality]}" if version["indicator"] else ""
                kind = "Plain sub-volume" if number == 0 else f"Augmented version {number}"
                with grid.cell():
                    st.image(
                        base64.b64decode(version["labelled" if labels else "pictures"][modality]),
                        caption=formatting.plain(title),
                        width="stretch",
                        alt=f"{kind}, {name}: {title}" + (", with labels" if labels else ""),
                    )
    if labels:
        legend({c["name"]: c["colour"] for c in answer["classes"]}, answer["ignored"])
    for remark in answer["remarks"]:
        st.caption(formatting.plain(formatting.sentence(remark)))


@st.cache_resource(show_spinner=False)
def _inspector(folder: Path) -> NetworkInspector:
    return NetworkInspector(folder, CHILD, "the preview", MAX_KEPT)
