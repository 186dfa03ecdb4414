"""The ways to start: look at a trained model, train, segment a scan, check one's own data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from core import runs
from core.errors import UserError
from core.paths import DEMO, DEMO_MODEL, project_root
from core.presets import preset
from ui.shared.errors import error_box
from ui.shared.navigation import go_to, page
from ui.shared.state import MODEL, RUN_PARAMETER

FEW = 3  # subjects of the first training, so that it begins soon; one of them is shipped
PICTURE = project_root() / "docs" / "images" / "segmented-brain.png"
STEPS = (
    ("learn", "Learn", "T1 and T2, how a network computes labels from them, how Dice is measured."),
    ("data", "Choose data", "The demo data is made for you; the Data page checks your own."),
    ("train", "Train", "A preset has a value for every setting. Training continues without the browser."),
    ("runs", "Watch", "Loss and Dice per class appear on the Runs page while the network learns."),
    ("review", "Review", "Each case slice by slice, the prediction beside the reference, the worst case first."),
    ("predict", "Segment", "Your own images, with any of your models or the ready-made one."),
    ("quiz", "Judge", "Two segmentations of one slice: which one is the ground truth?"),
)


@dataclass(frozen=True)
class Start:
    """A way to start.

    Attributes
    ----------
    label, icon : str. Of its button.
    text : str. What happens, in a sentence or two.
    action : callable. Called with the root of the runs.
    primary : bool. Whether its button stands out.
    """

    label: str
    icon: str
    text: str
    action: Callable[[Path], None]
    primary: bool = False


def train_on_demo(root: Path) -> None:
    """Queue a training on the demo data, and go to it on the Runs page."""
    config = preset("quick").with_values({"path": DEMO, "subjects": FEW})
    try:
        run_id = runs.submit(root, config, "demo, quick")
    except UserError as error:
        error_box(error)
    else:
        go_to("runs", **{RUN_PARAMETER: run_id})


STARTS = (
    Start(
        "Look at a trained model",
        ":material/compare:",
        "A synthetic brain, segmented by the ready-made model, beside its reference. Nothing has to be prepared.",
        lambda _: go_to("review", **{MODEL: DEMO_MODEL}),
        primary=True,
    ),
    Start(
        "Train on the demo data",
        ":material/play_arrow:",
        f"Makes {FEW - 1} more synthetic brains, once, then trains a small network for two minutes, on a laptop too: "
        "watch its Dice rise on the brain that it does not learn from.",
        train_on_demo,
        primary=True,
    ),
    Start(
        "Segment a scan",
        ":material/imagesmode:",
        "Your own images, in the browser. They stay on the computer that runs this page.",
        lambda _: go_to("predict"),
    ),
    Start(
        "My data",
        ":material/database:",
        "Check your scans and labels, then train on them: iSEG, Decathlon, nnU-Net, or pairs of files.",
        lambda _: go_to("data"),
    ),
)


def start_buttons(root: Path, first_visit: bool) -> None:
    """The ways to start: on a first visit each with its text, beside a picture, and what the pages are for; else a row.

    Parameters
    ----------
    root : Path. Root of the runs.
    first_visit : bool. Whether there is no run yet.
    """
    chosen = None
    if not first_visit:
        with st.container(horizontal=True, gap="small"):
            for start in STARTS:
                chosen = start if _button(start, help=start.text) else chosen
    else:
        with st.grid(5, min_column_width=180, gap=("small", "medium")) as columns:
            with columns.cell(column_span=3):
                for start in STARTS:
                    with st.container(gap="xxsmall"):
                        chosen = start if _button(start, width=260) else chosen
                        st.caption(start.text)
            with columns.cell(column_span=2):
                st.image(
                    PICTURE,
                    width="stretch",
                    caption="A brain that the ready-made model never saw in training, with its segmentation: CSF "
                    "blue, GM green, WM yellow. Synthetic, made from the MNI152 template.",
                    alt="Slices of a synthetic brain with the segmentation in colours",
                )
    if chosen is not None:
        chosen.action(root)


def steps() -> None:
    """What each page is for, in the order in which they are used."""
    st.header("The pages", anchor=False)
    with st.grid(2, min_column_width=380, gap=("xsmall", "large")) as grid:
        for name, title, text in STEPS:
            with grid.cell(), st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small"):
                with st.container(width=130):
                    st.page_link(page(name), label=f"**{title}**")
                st.caption(text)


def _button(start: Start, **options: object) -> bool:
    kind = "primary" if start.primary else "secondary"
    return st.button(start.label, type=kind, icon=start.icon, **options)  # type: ignore[arg-type]
