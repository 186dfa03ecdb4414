"""The slice viewer as a Streamlit component.

The browser fetches each volume once (:mod:`ui.viewer.volumes`); moving through it needs no request and no Python. The
scripts are plain JavaScript on 2D canvases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from core.evaluation.error_map import ERROR_KINDS
from core.evaluation.surface_meshes import DISTANCE_COLOURS, NO_DISTANCE_COLOUR, RANGE_MM, RANGES_MM
from core.types import Plane, VoxelIndex
from ui.shared.component import component
from ui.viewer.scenes import Scene

SCRIPTS = (
    "../shared/pixel_ratio.js",
    "elements.js",
    "menu.js",
    "geometry.js",
    "slices.js",
    "heat.js",
    "heat_bars.js",
    "volume.js",
    "stream.js",
    "pane.js",
    "windows.js",
    "window_panel.js",
    "modalities.js",
    "toolbar.js",
    "remembered.js",
    "class_menu.js",
    "legend.js",
    "readout.js",
    "strip.js",
    "errors.js",
    "second.js",
    "epochs.js",
    "compare.js",
    "cine.js",
    "tools.js",
    "look.js",
    "thumbnail.js",
    "findings.js",
    "surface_scene.js",
    "surface_gl.js",
    "surface_interaction.js",
    "surfaces.js",
    "picture.js",
    "full_screen.js",
    "wheel.js",
    "touch.js",
    "handover.js",
    "interaction.js",
    "rows.js",
    "viewer.js",
)

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")

CONSTANTS = {
    "ERROR_KINDS": [asdict(kind) for kind in ERROR_KINDS],
    "DISTANCE_COLOURS": DISTANCE_COLOURS,
    "NO_DISTANCE_COLOUR": NO_DISTANCE_COLOUR,
    "DISTANCE_RANGES_MM": RANGES_MM,
    "DISTANCE_RANGE_MM": RANGE_MM,
}

_mount = component("viewer", Path(__file__).parent, SCRIPTS, ("viewer.css",), CONSTANTS)


@dataclass(frozen=True)
class Target:
    """A place that the crosshair is moved to.

    Attributes
    ----------
    voxel : tuple of int. Voxel index.
    id : str. Unique: the crosshair is moved once for each.
    """

    voxel: VoxelIndex
    id: str


@dataclass(frozen=True)
class Reveal:
    """A row of panes that is shown beside the others, as if it was chosen in the toolbar.

    Attributes
    ----------
    row : str. As in :attr:`ViewerOptions.rows`.
    id : str. Unique: the row is shown once for each, and stays hidden where it is hidden afterwards.
    """

    row: str
    id: str


@dataclass(frozen=True)
class SurfaceUrls:
    """Surfaces of reference and prediction in 3D, made and fetched when they are first shown.

    Attributes
    ----------
    url : str. URL of the surfaces (:mod:`core.evaluation.surface_file`, without the picture).
    picture : str. URL of their picture, PNG, for a browser without WebGL 2.
    """

    url: str
    picture: str


@dataclass(frozen=True)
class ViewerOptions:
    """Initial display of a viewer.

    Attributes
    ----------
    rows : sequence of str. One row of panes each: "image" (no overlay), the name of a layer or of a heat layer, or
        "errors" (prediction against truth). With a single plane they stand side by side. The toolbar can change them.
    planes : sequence of str. Planes to choose from, one column of panes each.
    plane : str, optional. The only plane shown at first; by default all of ``planes``.
    start : tuple of int, optional. Voxel index (i, j, k) of the crosshair; by default the slices with the most labelled
        voxels of the first layer, or the centre of the head.
    height : int, optional. Height of a row of panes in pixels; by default as the width allows.
    findings : str. URL of what is wrong with the prediction (:class:`core.evaluation.findings.Findings` as JSON), which
        is listed below the panes; empty for no list. It is fetched after the volumes.
    surfaces : SurfaceUrls, optional. Surfaces that can be shown beside the panes.
    dice_strip : bool. Whether Dice per slice is shown below the panes (needs truth and prediction).
    look : str. Look of a viewer (:attr:`Settled.look`) that is opened for the first time.
    crosshair : bool. Whether the crosshair is shown at first.
    name : str. Beginning of the file name of a saved picture.
    target : Target, optional. Where the crosshair is moved to, once.
    reveal : Reveal, optional. A row that is shown too, once.
    position : str. Where the crosshair is when another image is shown: "start", where it was in this image, else at
        ``start``; "return", where it was in this image, else where it was put in the image before; "stay", where it
        was put in the image before. It is moved into a smaller grid.
    place_for : str. Key of a container of the page whose controls depend on the crosshair: when one of them is used,
        its position is reported even if it was not moved.
    """

    rows: Sequence[str] = ("image",)
    planes: Sequence[Plane] = PLANES
    plane: Plane | None = None
    start: VoxelIndex | None = None
    height: int | None = None
    findings: str = ""
    surfaces: SurfaceUrls | None = None
    dice_strip: bool = False
    look: str = ""
    crosshair: bool = True
    name: str = "segmentarium"
    target: Target | None = None
    reveal: Reveal | None = None
    position: Literal["start", "return", "stay"] = "start"
    place_for: str = ""


@dataclass(frozen=True)
class Settled:
    """What a person has chosen in a viewer.

    Attributes
    ----------
    voxel : tuple of int. Voxel index of the crosshair.
    look : str. Panes, window, overlay and hidden classes, as a text for the address of the page; empty by default.
    image : str. Address of the image that was shown, :attr:`Scene.image`; the page may show another one since.
    """

    voxel: VoxelIndex
    look: str
    image: str


def viewer(scene: Scene, key: str, options: ViewerOptions | None = None, *, report: bool = False) -> Settled | None:
    """Show a scene.

    Parameters
    ----------
    scene : Scene. The volume and its segmentations.
    key : str. Key of the component; the same key keeps crosshair, zoom and settings when the page runs again.
    options : ViewerOptions, optional. Initial display.
    report : bool. Whether the page runs again each time the crosshair stops moving, or the look has changed.

    Returns
    -------
    Settled or None. ``None`` if it is not reported or nothing has changed.
    """
    options = options or ViewerOptions()
    data: dict[str, Any] = {
        "grid": {**asdict(scene.grid), "tilt": scene.grid.tilt},
        "channels": [asdict(c) for c in scene.channels],
        "image": scene.image,
        "intensities": scene.intensities,
        "layers": dict(scene.layers),
        "titles": dict(scene.titles),
        "heat": [asdict(layer) for layer in scene.heat],
        "epochs": [asdict(layer) for layer in scene.epochs],
        "streamed": scene.streamed,
        "changes": scene.changes,
        "classes": [dict(c) for c in scene.classes],
        "ignore": dict(scene.ignore) if scene.ignore is not None else None,
        "rows": list(options.rows),
        "planes": list(options.planes),
        "plane": options.plane,
        "start": options.start,
        "height": options.height,
        "findings": options.findings,
        "surfaces": asdict(options.surfaces) if options.surfaces is not None else None,
        "diceStrip": options.dice_strip,
        "crosshair": options.crosshair,
        "name": options.name,
        "key": key,
        "look": options.look,
        "target": asdict(options.target) if options.target is not None else None,
        "reveal": asdict(options.reveal) if options.reveal is not None else None,
        "position": options.position,
        "reportSettled": report,
        "placeFor": options.place_for,
    }
    if not report:
        _mount(key=f"viewer-{key}", data=data)
        return None
    return _parse(_mount(key=f"viewer-{key}", data=data, on_settled_change=lambda: None).settled)


def last_settled(key: str) -> Settled | None:
    """What a viewer reported last, for callbacks, which run before the page; ``None`` if it has reported nothing."""
    state = st.session_state.get(f"viewer-{key}")
    return _parse(state.get("settled")) if state else None


def _parse(settled: Mapping[str, Any] | None) -> Settled | None:
    if not settled:
        return None
    i, j, k = (int(n) for n in settled["voxel"])
    return Settled((i, j, k), str(settled["look"]), str(settled.get("image", "")))
