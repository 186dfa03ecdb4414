"""The chapters of the Learn page: words (chapters.md) and a figure each; without a subject, what it waits for."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from core.config import SamplingConfig
from core.datasets import Dataset
from core.errors import UserError
from core.labels import LabelSpace
from core.presets import preset
from core.training.plan import plan
from ui.learn import figures
from ui.learn import jobs as learn_jobs
from ui.learn.subject_data import Lesson, blob
from ui.shared import formatting, jobs
from ui.shared.errors import error_box
from ui.shared.progress import progress
from ui.viewer import viewer
from ui.viewer.scenes import subject_scene

TEXT = Path(__file__).with_suffix(".md")
COUNT = 200  # sub-volumes drawn for each rule
READING = 760  # pixels of a line of text


def contents() -> None:
    """The way to each chapter."""
    with st.grid(3, min_column_width=230, gap="xsmall"):
        for number, (anchor, (title, _)) in enumerate(chapters().items(), start=1):
            st.markdown(f"{number}  [{title}](#{anchor})")


@functools.cache
def chapters() -> dict[str, tuple[str, str]]:
    """Title and words of each chapter by its anchor, in order."""
    parts = re.findall(r"^# ([a-z-]+): (.+)\n((?:(?!# ).*\n?)*)", TEXT.read_text("utf-8"), re.MULTILINE)
    return {anchor: (title, text.strip()) for anchor, title, text in parts}


def head(anchor: str) -> None:
    """A chapter's title and its words."""
    title, text = chapters()[anchor]
    st.space("small")
    st.header(f"{list(chapters()).index(anchor) + 1}  {title}", anchor=anchor)
    st.markdown(text, width=READING)


def contrast(lesson: Lesson | None, folder: Path, subject: str) -> None:
    """T1 and T2 in the viewer, and their histograms by tissue."""
    head("contrast")
    if lesson is None:
        _waiting()
        return
    try:
        viewer(subject_scene(folder, subject), key="learn-viewer", rows=("image", "truth"), height=300)
    except UserError as error:
        error_box(error)
    guesses, names = lesson.intensities["guesses"], lesson.intensities["modalities"]
    alone = [f"{100 * g:.0f} % from {formatting.plain(m)}" for g, m in zip(guesses, names, strict=False)]
    both = f", {100 * guesses[-1]:.0f} % from both" if len(guesses) > len(names) else ""
    st.markdown(
        "**Can the grey value alone tell?** If it could, the hills below would stand apart. Guess for each voxel of "
        f"the head the tissue that is most frequent at its grey value, and {', '.join(alone)}{both} are right. No rule "
        "that looks at one voxel at a time does better here. The rest has to come from where a voxel lies and what "
        "surrounds it.",
        width=READING,
    )
    figures.intensities(lesson.intensities)


def convolution(lesson: Lesson | None) -> None:
    """A kernel in two and in three dimensions."""
    head("convolution")
    figures.kernel(lesson.block if lesson else None)


def sub_volumes(lesson: Lesson | None, dataset: Dataset | None, subject: str) -> None:
    """Places drawn by the sampler of training, in a child process."""
    head("sub-volumes")
    if lesson is None or dataset is None:
        _waiting()
        return
    rules, sizes = _rules(), _sizes(lesson, dataset)
    options = [
        "--sub-volume", *("x".join(map(str, size)) for _, size in sizes),
        "--foreground", *(str(rule["foreground"]) for rule in rules), "--count", str(COUNT),
    ]  # fmt: skip
    label = dataset.subject(subject).label
    assert label is not None, "a lesson has a label"
    folder = learn_jobs.places_folder(label, options)
    if made(
        "Drawing sub-volumes", lambda: learn_jobs.places(folder),
        lambda: learn_jobs.start_places(dataset.path, subject, options, folder),
    ):  # fmt: skip
        figures.places(_places(lesson, dataset.labels, folder, rules, sizes))


def dice(lesson: Lesson | None) -> None:
    """A mask to drag."""
    head("dice")
    figures.overlap([blob(), *(lesson.masks if lesson else ())])


def imbalance(lesson: Lesson | None) -> None:
    """Accuracy and Dice by the size of a structure."""
    head("imbalance")
    figures.imbalance(lesson.shares if lesson else None)


def made(doing: str, observe: Callable[[], jobs.Job], start: Callable[[], None]) -> bool:
    """Whether something made in a child process is there; else it is started, and how it goes is shown."""
    job = observe()
    if job.state == "none":
        start()
        job = observe()
    if job.state == "running":
        progress(doing, observe)
    elif job.state == "failed":
        error_box(job.message, context=f"{doing} failed")
        if st.button("Try again", key=f"again-{doing}", icon=":material/refresh:"):
            start()
            st.rerun()
    return job.state == "done"


def _waiting() -> None:
    st.caption("This figure needs the synthetic subject; see the top of the page.")


def _rules() -> list[dict[str, Any]]:
    """Anywhere, and the shares of the presets that centre sub-volumes on classes."""
    rules: list[dict[str, Any]] = [
        {"foreground": SamplingConfig().foreground, "name": "anywhere", "say": "Each place is as likely as any other."}
    ]
    for name in ("quick", "fast"):
        share = preset(name).sampling.foreground
        say = f"The preset {name} draws {100 * share:.0f} % of its sub-volumes around a class, the others anywhere."
        rules.append({"foreground": share, "name": f"{name}: {100 * share:.0f} % around a class", "say": say})
    return rules


def _sizes(lesson: Lesson, dataset: Dataset) -> list[tuple[str, tuple[int, ...]]]:
    """The size that a CPU gets for such a subject, and the article's."""
    i, j, k = lesson.slices["shape"]
    fitted = plan(
        preset("quick"), shapes=[(i, j, k)], spacings_mm=[tuple(lesson.slices["spacing"])],
        in_channels=len(dataset.modalities), classes=len(dataset.labels),
    ).config.sampling.sub_volume  # fmt: skip
    article = preset("article").sampling.sub_volume
    return [(formatting.size(fitted), fitted), (f"{formatting.size(article)}, the article's", article)]


def _places(
    lesson: Lesson, labels: LabelSpace, folder: Path, rules: Sequence[dict[str, Any]],
    sizes: Sequence[tuple[str, tuple[int, ...]]],
) -> dict[str, Any]:  # fmt: skip
    """What the figure needs of a finished report: the report lists sizes, and for each of them the rules."""
    report = learn_jobs.drawn_places(folder)
    drawn = report["draws"]
    return {
        **lesson.slices,
        "rules": list(rules),
        "sizes": [{"name": name} for name, _ in sizes],
        "draws": [drawn[n * len(rules) : (n + 1) * len(rules)] for n in range(len(sizes))],
        "classes": [{"name": c.name, "colour": c.colour} for c in labels.classes],
        "share": report["share"],
    }
