"""Chapters of the Learn page about images, sub-volumes and scores: a text and a figure each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from core.config import SamplingConfig
from core.datasets import Dataset
from core.errors import UserError
from core.formatting import format_size
from core.labels import LabelSpace
from core.presets import preset
from core.training.plan import make_plan
from core.types import Size3, triple
from ui.learn import figures
from ui.learn import jobs as learn_jobs
from ui.learn.layout import TEXT_WIDTH, chapter_heading, job_finished, no_subject_note
from ui.learn.subject_data import SubjectData, disc_mask
from ui.shared import formatting, jobs
from ui.shared.errors import error_box
from ui.viewer.component import ViewerOptions, viewer
from ui.viewer.scenes import subject_scene

SUB_VOLUMES = 200  # drawn per rule
PRESETS_WITH_FOREGROUND = ("quick", "fast")  # presets that centre sub-volumes on classes


def contrast(data: SubjectData | None, folder: Path, subject: str) -> None:
    """T1 and T2 in the viewer, and their histograms by tissue."""
    chapter_heading("contrast")
    if data is None:
        no_subject_note()
        return
    try:
        options = ViewerOptions(rows=("image", "truth"), height=300)
        viewer(subject_scene(folder, subject), "learn-viewer", options)
    except UserError as error:
        error_box(error)
    accuracies, modalities = data.intensities["accuracies"], data.intensities["modalities"]
    single = [f"{100 * a:.0f} % from {formatting.plain(m)}" for a, m in zip(accuracies, modalities, strict=False)]
    both = f", {100 * accuracies[-1]:.0f} % from both" if len(accuracies) > len(modalities) else ""
    st.markdown(
        "**Is intensity alone enough?** If it were, the histograms below would not overlap. Assign to each voxel of "
        f"the head the tissue that is most frequent at its intensity, and {', '.join(single)}{both} are right. No rule "
        "that uses the intensity of one voxel does better on this image. What is missing is the position of a voxel "
        "and its neighbourhood.",
        width=TEXT_WIDTH,
    )
    figures.intensities(data.intensities)


def convolution(data: SubjectData | None) -> None:
    """A kernel in two and in three dimensions."""
    chapter_heading("convolution")
    figures.kernel(data.block if data else None)


def sub_volumes(data: SubjectData | None, dataset: Dataset | None, subject: str) -> None:
    """Sub-volumes drawn by the sampler of training, in a child process."""
    chapter_heading("sub-volumes")
    if data is None or dataset is None:
        no_subject_note()
        return
    rules, sizes = _sampling_rules(), _sub_volume_sizes(data, dataset)
    options = ["--sub-volume", *(format_size(size) for _, size in sizes)]
    options += ["--foreground", *(str(rule["foreground"]) for rule in rules), "--count", str(SUB_VOLUMES)]
    label = dataset.subject(subject).label
    assert label is not None, "subject data exists only for labelled subjects"
    folder = learn_jobs.sub_volumes_folder(label, options)
    finished = job_finished(
        "Drawing sub-volumes",
        lambda: jobs.observe_report(folder),
        lambda: learn_jobs.start_sub_volumes(dataset.path, subject, options, folder),
    )
    if finished:
        figures.sub_volumes(_sub_volume_data(data, dataset.labels, folder, rules, sizes))


def dice(data: SubjectData | None) -> None:
    """A predicted mask that is dragged over the true one."""
    chapter_heading("dice")
    figures.overlap([disc_mask(), *(data.masks if data else ())])


def imbalance(data: SubjectData | None) -> None:
    """Accuracy and Dice by the size of a structure."""
    chapter_heading("imbalance")
    figures.imbalance(data.shares if data else None)


def _sampling_rules() -> list[dict[str, Any]]:
    """Uniform positions, and the foreground shares of the presets."""
    rules: list[dict[str, Any]] = [
        {
            "foreground": SamplingConfig().foreground,
            "name": "anywhere",
            "description": "Every position is equally likely.",
        }
    ]
    for name in PRESETS_WITH_FOREGROUND:
        share = preset(name).sampling.foreground
        description = (
            f"The preset {name} centres {100 * share:.0f} % of its sub-volumes on a class; the others lie anywhere."
        )
        rules.append(
            {"foreground": share, "name": f"{name}: {100 * share:.0f} % on a class", "description": description}
        )
    return rules


def _sub_volume_sizes(data: SubjectData, dataset: Dataset) -> list[tuple[str, Size3]]:
    """Name and value of two sizes: the one planned for this subject on a CPU, and the article's."""
    planned = make_plan(
        preset("quick"),
        shapes=[triple(data.slices["shape"])],
        spacings_mm=[tuple(data.slices["spacing"])],
        modalities=len(dataset.modalities),
        classes=len(dataset.labels),
    ).config.sampling.sub_volume
    article = preset("article").sampling.sub_volume
    return [
        (formatting.size(planned), triple(planned)),
        (f"{formatting.size(article)}, the article's", triple(article)),
    ]


def _sub_volume_data(
    data: SubjectData,
    labels: LabelSpace,
    folder: Path,
    rules: Sequence[dict[str, Any]],
    sizes: Sequence[tuple[str, Size3]],
) -> dict[str, Any]:
    """Data of the figure from a finished report, which lists all rules of the first size, then those of the second."""
    report = jobs.read_report(folder)
    draws = report["draws"]
    return {
        **data.slices,
        "rules": list(rules),
        "sizes": [{"name": name} for name, _ in sizes],
        "draws": [draws[n * len(rules) : (n + 1) * len(rules)] for n in range(len(sizes))],
        "classes": [{"name": c.name, "colour": c.colour} for c in labels.classes],
        "share": report["share"],
    }
