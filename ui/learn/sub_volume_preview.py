"""Preview of the sub-volumes that a configuration draws from a subject: the figure of the Learn page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from core.config import SamplingConfig
from core.datasets import Dataset
from core.errors import UserError
from core.formatting import format_size
from core.types import Size3, SpacingMm
from ui.learn import figures
from ui.learn import jobs as learn_jobs
from ui.learn.layout import job_finished
from ui.learn.subject_data import SubjectData, cached_subject_data
from ui.shared import formatting, jobs
from ui.shared.errors import error_box

COUNT = 200  # sub-volumes that are drawn
MIN_SIDE = 8  # voxels, as in the configuration


def sub_volume_preview(
    dataset: Dataset, subject: str, sampling: SamplingConfig, spacing_mm: SpacingMm | None, crop: bool = False
) -> None:
    """Render the figure, after the background job that draws the sub-volumes.

    Parameters
    ----------
    dataset, subject : Dataset and str. The data set and a labelled subject of it.
    sampling : SamplingConfig. With the size of a sub-volume resolved.
    spacing_mm : tuple of float or None. Voxel size that training resamples to; the figure shows the subject as it is
        stored, and sub-volumes of the same extent in mm.
    crop : bool. Whether training leaves out margins, which is said: the figure shows the whole subject.
    """
    label = dataset.subject(subject).label
    assert label is not None, "a labelled subject"
    try:
        data = cached_subject_data(dataset.path, subject)
    except UserError as error:
        error_box(error)
        return
    size = stored_size(sampling.sub_volume, spacing_mm, data.slices["spacing"])
    options = ["--sub-volume", format_size(size), "--foreground", str(sampling.foreground)]
    options += ["--threshold", str(sampling.threshold), "--count", str(COUNT)]
    folder = learn_jobs.sub_volumes_folder(label, options)
    if job_finished(
        "Drawing sub-volumes",
        lambda: jobs.observe_report(folder),
        lambda: learn_jobs.start_sub_volumes(dataset.path, subject, options, folder),
    ):
        figures.sub_volumes(_figure_data(data, dataset, sampling, size, folder))
        if crop:
            st.caption("These are places in the whole image; training draws them in what cropping leaves of it.")


def stored_size(size: Sequence[int], spacing_mm: SpacingMm | None, own_mm: Sequence[float]) -> Size3:
    """The size in voxels of the subject's own grid of a sub-volume that has ``size`` voxels of ``spacing_mm``."""
    if spacing_mm is None:
        i, j, k = size
    else:
        i, j, k = (max(MIN_SIDE, round(n * mm / own)) for n, mm, own in zip(size, spacing_mm, own_mm, strict=True))
    return i, j, k


def _figure_data(
    data: SubjectData, dataset: Dataset, sampling: SamplingConfig, size: Size3, folder: Path
) -> dict[str, Any]:
    report = jobs.read_report(folder)
    share = f"{100 * sampling.foreground:.0f} % centred on a class"
    rule = {
        "foreground": sampling.foreground,
        "name": share if sampling.foreground else "anywhere",
        "description": f"{share[:1].upper()}{share[1:]}, the others anywhere.",
    }
    return {
        **data.slices,
        "rules": [rule],
        "sizes": [{"name": formatting.size(size)}],
        "draws": [report["draws"]],
        "classes": [{"name": c.name, "colour": c.colour} for c in dataset.labels.classes],
        "share": report["share"],
    }


def offer_preview(key: str) -> bool:
    """The switch that shows the preview; whether it is on."""
    return st.toggle(
        "Preview the sub-volumes",
        key=key,
        persist_state="session",
        help="Where training would cut sub-volumes out of a training subject, and the classes inside.",
    )
