"""The viewer of the Review page: what it shows of a case, and what the URL of the page keeps of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import streamlit as st

from core.imaging.display import Grid
from core.types import Plane, VoxelIndex
from ui.review.notes_view import FORM
from ui.review.views import VIEWER
from ui.shared.query_params import query_params
from ui.shared.state import CROSSHAIR, LOOK
from ui.viewer import look
from ui.viewer.component import Reveal, Settled, SurfaceUrls, Target, ViewerOptions, viewer
from ui.viewer.scenes import Scene
from ui.viewer.second_prediction import LAYER as SECOND_PREDICTION

SKELETON_PX = 480
THICK = 1.5  # times the other sides: a voxel is thick along this axis
STEPPED = "review_stepped"  # session key: the case that was opened as the next or previous one


@dataclass(frozen=True)
class Found:
    """What is made of a prediction when the viewer asks for it.

    Attributes
    ----------
    findings : str. URL of the list of errors; empty for none.
    surfaces : SurfaceUrls, optional. Surfaces in 3D.
    """

    findings: str = ""
    surfaces: SurfaceUrls | None = None


NOTHING_FOUND = Found()


@dataclass(frozen=True)
class ShownOnce:
    """What the page asks the viewer to show, each once.

    Attributes
    ----------
    target : Target, optional. Where the crosshair is moved to.
    reveal : Reveal, optional. A row that is shown too.
    """

    target: Target | None = None
    reveal: Reveal | None = None


NOTHING_ASKED = ShownOnce()


@contextmanager
def first_picture(key: str = VIEWER) -> Iterator[None]:
    """Show that a picture is to come while the scene of the first case is made; from then on the viewer of this key
    shows itself what it waits for."""
    place = st.empty()
    if f"viewer-{key}" not in st.session_state:
        with place:
            st.skeleton(SKELETON_PX)
    try:
        yield
    finally:
        place.empty()


@st.fragment
def case_viewer(
    scene: Scene,
    crosshair: str | None,
    subject: str,
    found: Found = NOTHING_FOUND,
    once: ShownOnce = NOTHING_ASKED,
    key: str = VIEWER,
) -> None:
    """The viewer of a key with one plane: truth beside prediction and errors, and what was found out about them; the
    URL of the page keeps the position of the crosshair and the look of the viewer. The next or previous case keeps the
    position; one that is chosen otherwise is shown where it was seen last. The page runs again where a class has got
    another colour, which its lists and figures have too."""
    stepped = st.session_state.get(STEPPED) == subject
    if not stepped:
        st.session_state.pop(STEPPED, None)
    options = ViewerOptions(
        rows=_rows(scene),
        plane=sharpest_plane(scene.grid),
        start=parse_crosshair(crosshair, scene),
        dice_strip=True,
        findings=found.findings,
        surfaces=found.surfaces,
        look=query_params.get(LOOK, ""),
        name=subject,
        target=once.target,
        reveal=once.reveal,
        position="stay" if stepped else "return",
        place_for=FORM if key == VIEWER else "",
    )
    settled = viewer(scene, key, options, report=True)
    if settled is None:
        return
    colours = look.class_colours(query_params.get(LOOK, ""))
    keep_in_address(settled, scene.image)
    if look.class_colours(settled.look) != colours:
        st.rerun()


def keep_in_address(settled: Settled, image: str) -> None:
    """Write what a viewer has reported into the URL of the page; the crosshair only if it is that of the image that is
    shown: a report may arrive when the page has gone on to another case."""
    if settled.image == image:
        query_params[CROSSHAIR] = ",".join(str(n + 1) for n in settled.voxel)
    if settled.look:
        query_params[LOOK] = settled.look
    else:
        query_params.pop(LOOK, None)


def shown_classes(classes: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """``[{"name", "colour"}]`` of classes in the colours of the viewer, which a person may have chosen."""
    return look.recoloured(classes, query_params.get(LOOK, ""))


def _rows(scene: Scene) -> tuple[str, ...]:
    """The panes that are shown at first."""
    if "prediction" not in scene.layers:
        return ("image", "truth")
    if "truth" not in scene.layers:
        return ("image", "prediction")
    return ("truth", "prediction", SECOND_PREDICTION if SECOND_PREDICTION in scene.layers else "errors")


def sharpest_plane(grid: Grid) -> Plane:
    """The plane whose slices are cut along the longest side of the voxels; axial for voxels with about equal sides."""
    longest = int(np.argmax(grid.spacing_mm))
    sharpest = grid.spacing_mm[longest] > THICK * sorted(grid.spacing_mm)[1]
    return ("sagittal", "coronal", "axial")[longest] if sharpest else "axial"


def parse_crosshair(text: str | None, scene: Scene) -> VoxelIndex | None:
    """A voxel index of the URL, counted from 1 there, moved into the volume if it is beyond its end, as one of another
    case may be; ``None`` if it is invalid."""
    try:
        i, j, k = (int(part) - 1 for part in (text or "").split(","))
    except ValueError:
        return None
    ni, nj, nk = scene.grid.shape
    return (min(i, ni - 1), min(j, nj - 1), min(k, nk - 1)) if min(i, j, k) >= 0 else None
