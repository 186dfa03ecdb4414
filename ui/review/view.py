"""The parts of the Review page: which data, which cases in which order, scores, segmenting on demand, the viewer."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import streamlit as st

from core.checkpointing.metadata import Description
from core.datasets import Dataset
from core.datasets.layouts.base import natural_key
from core.formatting import format_score
from core.runs.predictions import Prediction, kept_predictions
from core.types import VoxelIndex
from ui.shared import cache, demo_jobs, evaluation_job, formatting, jobs
from ui.shared.errors import error_box
from ui.shared.progress import progress
from ui.shared.state import AT, CASE, DEMO, REVIEW_DATA, demo_folder, runs_root
from ui.viewer.component import ViewerOptions, viewer
from ui.viewer.scenes import Scene

OWN = "the data it was trained on"
COLUMNS = ("Dice", "HD95", "ASD", "true ml", "predicted ml")


def choose_data(own: Path | None) -> Path:
    """Let the reader choose the data set: the model's own, or another one under the data root.

    Raises
    ------
    DatasetError
        If the choice leads to no folder.
    """
    others = [choice for choice in cache.data_choices() if cache.data_path(choice) != own]
    choices = [OWN, *others] if own is not None else others
    key = REVIEW_DATA if own is not None else f"{REVIEW_DATA}-other"
    chosen = st.selectbox("Data", choices, key=key, persist_state="session", width=260)
    if chosen == OWN and own is not None:
        return own
    return cache.data_path(chosen or DEMO)


def held_out(description: Description) -> list[str]:
    """The subjects that the network never learned from: those kept for the test, then those that chose its epoch."""
    return [*description.split.get("test", []), *description.split.get("val", [])]


def make_demo_subject(folder: Path, held_out: Sequence[str]) -> None:
    """Where the demo data is looked at and not made yet: make one subject of it first, and say so."""
    subject = next(iter(held_out), "subject-1")
    if folder != demo_folder() or cache.demo_has(subject):
        return
    job = demo_jobs.demo_subject(subject)
    if job.state == "failed":
        error_box(job.message)
        if not st.button("Try again", icon=":material/refresh:"):
            st.stop()
    if job.state != "running":
        demo_jobs.start_demo_subject(subject)
    progress(f"Making the synthetic {subject}", lambda: demo_jobs.demo_subject(subject))
    st.skeleton(360)
    st.stop()


def worst_first(subjects: Sequence[str], kept: Mapping[str, Prediction]) -> list[str]:
    """By mean Dice, the lowest first; then what was segmented without truth, then what was not segmented."""

    def place(subject: str) -> tuple[int, float]:
        found = kept.get(subject)
        if found is None:
            return 2, 0.0
        mean = found.score.mean_dice if found.score is not None else math.nan
        return (1, 0.0) if math.isnan(mean) else (0, mean)

    return sorted(sorted(subjects, key=natural_key), key=place)


def about(dataset: Dataset, description: Description, subjects: Sequence[str], kept: Mapping[str, Prediction]) -> None:
    """One quiet line: what is looked at, and what its figures were measured on."""
    found = [score for id in subjects if id in kept and (score := kept[id].score) is not None]
    means = [score.mean_dice for score in found if not math.isnan(score.mean_dice)]
    epoch = description.progress.get("epoch")
    parts = [
        formatting.plain(dataset.name)
        + (", synthetic" if dataset.synthetic and "ynthetic" not in dataset.name else ""),
        formatting.count(len(subjects), "case"),
        f"epoch {epoch}" if epoch else "",
        f"mean Dice {format_score(sum(means) / len(means))}, whole volumes, n = {len(means)}" if means else "",
    ]
    st.caption(" · ".join(part for part in parts if part))


def step(subjects: Sequence[str], chosen: str) -> None:
    """The name of the case, its place in the list, and buttons (and keys) to the one before and after."""
    at = subjects.index(chosen)

    def go(to: int) -> None:
        st.session_state[CASE] = subjects[to]

    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader(formatting.plain(chosen), anchor=False, width="content")
        st.space("stretch")
        st.button(
            "Previous", key="case_before", shortcut="P", disabled=at == 0, on_click=go, args=(at - 1,), type="tertiary",
            help="the case before, in this order (key P)",
        )  # fmt: skip
        st.caption(f"{at + 1} / {len(subjects)}", width="content")
        st.button(
            "Next", key="case_next", shortcut="N", disabled=at == len(subjects) - 1, on_click=go, args=(at + 1,),
            type="tertiary", help="the next case, in this order (key N)",
        )  # fmt: skip


def scores(prediction: Prediction | None, classes: Sequence[Mapping[str, str]]) -> None:
    """Dice, distances and volumes per class of the chosen case."""
    if prediction is None:
        return
    score = prediction.score
    if score is None:
        st.caption("There is no truth to score this case with.")
        return
    rows = [_row("", [*COLUMNS], head=True)]
    for c in classes:
        name, volume = c["name"], score.volume_ml.get(c["name"], {})
        numbers = [
            format_score(score.dice.get(name)), _number(score.hd95_mm.get(name)), _number(score.asd_mm.get(name)),
            _number(volume.get("truth")), _number(volume.get("prediction")),
        ]  # fmt: skip
        swatch = f'<i style="{_SWATCH};background:{html.escape(c["colour"])}"></i>'
        missed = " <small>(missed)</small>" if name in score.missed else ""
        rows.append(_row(swatch + html.escape(name) + missed, numbers))
    rows.append(_row("mean", [format_score(score.mean_dice), "", "", "", ""]))
    st.html(f'<table style="{_TABLE}">{"".join(rows)}</table>')
    st.caption("HD95 and ASD in mm. The background is left out.")


def segmenting(
    checkpoint: Path, folder: Path, subjects: Sequence[str], chosen: str, kept: Mapping[str, Prediction], begin: bool
) -> None:
    """Segment the chosen case, or all of them, in a child process, with a bar; ``begin``: the chosen one unasked."""

    def job() -> jobs.Job:
        return evaluation_job.observe(checkpoint, folder, chosen in kept_predictions(runs_root(), checkpoint, folder))

    missing = [subject for subject in subjects if subject not in kept or kept[subject].stale]
    now = job()
    if now.state == "running":
        progress("Segmenting", job)
        return
    if not missing:
        return
    asked: list[str] = []
    if now.state == "failed":
        error_box(now.message, context="It could not be segmented")
    elif begin and chosen not in kept:
        asked = [chosen]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if chosen not in kept and st.button("Segment this case", type="primary", icon=":material/play_arrow:"):
            asked = [chosen]
        if chosen in kept and kept[chosen].stale:
            st.caption("Made with an earlier checkpoint of this run.", width="content")
            if st.button("Segment again", icon=":material/refresh:"):
                asked = [chosen]
        if len(missing) > 1 and st.button(f"Segment all {len(missing)} cases that wait"):
            asked = [subject for subject in (chosen, *missing) if subject in missing]
    if asked:
        evaluation_job.start(checkpoint, folder, list(dict.fromkeys(asked)))
        st.rerun()


@st.fragment
def look(scene: Scene, at: str | None) -> None:
    """The viewer: truth above prediction; the address keeps where the crosshair came to rest."""
    rows = [name for name in ("truth", "prediction") if name in scene.layers] or ["image"]
    options = ViewerOptions(rows=rows, start=_voxel(at, scene), dice_strip=True)
    settled = viewer(scene, "review", options, report_crosshair=True)
    if settled:
        st.query_params[AT] = ",".join(str(n + 1) for n in settled)


_LINE = "border-top:1px solid color-mix(in srgb, currentColor 14%, transparent)"
_SWATCH = "display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:6px"
_TABLE = "width:100%;border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums"


def _row(name: str, cells: Sequence[str], head: bool = False) -> str:
    """A line of the table of scores; ``name`` is HTML."""
    style = "opacity:.7" if head else _LINE
    tags = "".join(f'<td style="text-align:right;padding:4px 0 4px 12px">{cell}</td>' for cell in cells)
    return f'<tr style="{style}"><td style="padding:4px 0">{name}</td>{tags}</tr>'


def _voxel(at: str | None, scene: Scene) -> VoxelIndex | None:
    """A voxel from the address (counted from 1); ``None`` where it says none of this volume."""
    try:
        i, j, k = (int(part) - 1 for part in (at or "").split(","))
    except ValueError:
        return None
    return (i, j, k) if all(0 <= n < size for n, size in zip((i, j, k), scene.grid.shape, strict=True)) else None


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.1f}"
