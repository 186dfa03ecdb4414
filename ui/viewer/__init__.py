"""The slice viewer: axial, coronal and sagittal panes of a volume with its segmentations, drawn in the browser.

The volume travels once (:mod:`ui.viewer.volumes`); moving through it needs neither the server nor Python. Where the crosshair
came to rest is reported only if asked for. The browser's part is plain JavaScript on 2D canvases, one module made of
the files below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from core.imaging.display import Channel, Grid
from core.types import VoxelIndex

_HERE = Path(__file__).parent
SCRIPTS = (
    "geometry.js",
    "slices.js",
    "volume.js",
    "pane.js",
    "toolbar.js",
    "strip.js",
    "moving.js",
    "viewer.js",
)  # in this order

Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")

_mount = st.components.v2.component(
    "segmentarium_viewer",
    html='<div class="root"></div>\n',
    css=(_HERE / "viewer.css").read_text(encoding="utf-8"),
    js="\n".join((_HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
)


@dataclass(frozen=True)
class Scene:
    """What a viewer shows.

    Attributes
    ----------
    grid : of all volumes of the scene; axes in canonical order.
    channels : the modalities of the image, with their ranges.
    image : address of the image (:func:`core.imaging.display.image_bytes`).
    layers : address of each segmentation (:func:`core.imaging.display.label_bytes`) by its name: "truth", "prediction", or
        any other.
    classes : ``{"name", "colour"}`` of the classes 1, 2, ... (the background, 0, is left out).
    """

    grid: Grid
    channels: tuple[Channel, ...]
    image: str
    classes: tuple[Mapping[str, str], ...] = ()
    layers: Mapping[str, str] = field(default_factory=dict)


def viewer(
    scene: Scene,
    *,
    key: str,
    rows: Sequence[str] = ("image",),
    planes: Sequence[Plane] = PLANES,
    start: VoxelIndex | None = None,
    controls: bool = True,
    height: int | None = None,
    on_settle: bool = False,
    boxes: Sequence[Sequence[int]] = (),
    strip: bool = False,
) -> VoxelIndex | None:
    """Draw the viewer.

    Parameters
    ----------
    key : of the component; the same key keeps crosshair, zoom and settings while the page runs again.
    rows : one row of panes each: "image" (nothing over it), the name of a layer, or "errors" (prediction against
        truth). The reader can choose others where ``controls`` is on. With a single plane they stand side by side.
    planes : one column of panes each.
    start : the voxel to begin with; by default where slices of the first layer show most, else the head's middle.
    controls : whether there is a toolbar; without it the first window and a filled overlay are shown.
    height : pixels of a row of panes; by default as the width allows.
    on_settle : report the voxel of the crosshair when it came to rest (the page then runs again).
    boxes : sub-volumes to outline: first voxel and size, (i, j, k, ni, nj, nk).
    strip : whether Dice per slice is shown below (needs truth and prediction).

    Returns
    -------
    The voxel at which the crosshair last came to rest; ``None`` if that is not asked for or it never moved.
    """
    data: dict[str, Any] = {
        "grid": asdict(scene.grid),
        "channels": [asdict(c) for c in scene.channels],
        "image": scene.image,
        "layers": dict(scene.layers),
        "classes": [dict(c) for c in scene.classes],
        "first": start,
        "rows": list(rows),
        "planes": list(planes),
        "controls": controls,
        "height": height,
        "report": on_settle,
        "boxes": [list(box) for box in boxes],
        "strip": strip,
    }
    if not on_settle:
        _mount(key=f"viewer-{key}", data=data)
        return None
    result = _mount(key=f"viewer-{key}", data=data, on_voxel_change=lambda: None)
    at = result.voxel
    if not at:
        return None
    i, j, k = (int(n) for n in at)
    return i, j, k
