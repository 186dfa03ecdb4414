"""Places the slices of a DICOM image: their order, and the affine that they have.

Every slice states its own position (Image Position and Orientation (Patient)), so a volume is not assumed to be a stack
of equal steps: missing slices, unequal distances and mixed orientations are refused, and the slope of a tilted gantry
is kept as a sheared affine. (SimpleITK's reader of series averages unequal distances and drops the slope.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import VolumeError
from core.imaging.dicom_planes import CONVERT, Plane

POSITION_TOLERANCE = 0.1  # of the distance of two slices, by which one may deviate from its place


@dataclass(frozen=True)
class PlacedPlanes:
    """A volume of slices.

    Attributes
    ----------
    planes : list of list of Plane. Slices by channel, in the order of the third axis.
    affine : ndarray, float64, shape (4, 4). Indices of column, row and slice to LPS mm.
    oriented : bool. Whether the files state positions.
    notes, warnings : list of str.
    """

    planes: list[list[Plane]]
    affine: np.ndarray
    oriented: bool
    notes: list[str]
    warnings: list[str]


def place(path: Path, planes: list[Plane]) -> PlacedPlanes:
    """The order of slices, and their affine.

    Raises
    ------
    VolumeError
        If slices are missing, at unequal distances or not at the same number of each position.
    """
    notes = ["the least value is white (MONOCHROME1): values are taken as stored"] if planes[0].inverted else []
    first = planes[0]
    row_mm, column_mm = first.spacing_mm
    if first.directions is None or any(plane.position is None for plane in planes):
        planes = sorted(planes, key=lambda plane: (plane.order[-1], plane.frame))
        thickness_mm = first.thickness_mm or 1.0
        warning = (
            "its slices state no position: they are ordered by their number, and left and right are unknown; convert "
            "the original images again"
        )
        return PlacedPlanes([planes], np.diag([column_mm, row_mm, thickness_mm, 1.0]), False, notes, [warning])
    normal = np.cross(*first.directions)
    stacks = _stack(path, planes, normal)
    if len(stacks) > 1:
        notes.append(f"{len(stacks)} slices at each position are read as channels, in the order of time or number")
    positions = np.array([plane.position for plane in stacks[0]])
    step, warnings = _step(path, stacks[0], positions, normal)
    _check_channels(path, stacks, positions)
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * column_mm
    affine[:3, 1] = first.directions[1] * row_mm
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    return PlacedPlanes(stacks, affine, True, notes, warnings)


def _stack(path: Path, planes: Iterable[Plane], normal: np.ndarray) -> list[list[Plane]]:
    """Slices by channel, each in the order of their positions along the normal."""
    heights = sorted(((float(plane.position @ normal), plane) for plane in planes), key=lambda pair: pair[0])
    places: list[list[Plane]] = []
    last = -np.inf
    for height, plane in heights:
        if height - last > 1e-3:
            places.append([])
            last = height
        places[-1].append(plane)
    counts = {len(group) for group in places}
    if len(counts) > 1:
        raise VolumeError(
            f"{path}: expected the same number of slices at every position, got {min(counts)} to {max(counts)}; slices "
            "are missing, or several images are in one series: export it again, or put each image into a folder"
        )
    for group in places:
        group.sort(key=lambda plane: (plane.order, plane.frame))
    return [[group[channel] for group in places] for channel in range(counts.pop())]


def _step(path: Path, planes: list[Plane], positions: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The vector from a slice to the next in LPS mm, and warnings."""
    if len(positions) == 1:
        thickness_mm = planes[0].thickness_mm
        if thickness_mm is None:
            return normal, ["it is one slice without a thickness: 1 mm is assumed"]
        return normal * thickness_mm, []
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    distance_mm = float(np.linalg.norm(step))
    deviation = np.linalg.norm(positions - (positions[0] + np.outer(range(len(positions)), step)), axis=1)
    if float(deviation.max()) > POSITION_TOLERANCE * distance_mm:
        gaps = np.diff(positions @ normal)
        median, widest = float(np.median(gaps)), int(np.argmax(gaps))
        between = f"{planes[widest].file.name} and {planes[widest + 1].file.name}"
        missing = round(gaps[widest] / median) - 1
        if missing >= 1 and abs(gaps[widest] / median - missing - 1) < POSITION_TOLERANCE:
            raise VolumeError(
                f"{path}: expected slices {median:.4g} mm apart, got {gaps[widest]:.4g} mm between {between}: "
                f"{missing} slice{'s are' if missing > 1 else ' is'} missing; export or copy the series again"
            )
        raise VolumeError(
            f"{path}: expected slices at equal distances, got {gaps.min():.4g} to {gaps.max():.4g} mm; "
            f"{CONVERT}, which resamples them"
        )
    stated = planes[0].thickness_mm
    along = abs(float(step @ normal))
    if stated is not None and along > 1.5 * stated:
        warning = (
            f"its slices are {along:.4g} mm apart and {stated:.4g} mm thick: there are gaps, or every other slice is "
            "missing; compare with the original series"
        )
        return step, [warning]
    return step, []


def _check_channels(path: Path, stacks: list[list[Plane]], positions: np.ndarray) -> None:
    """Refuse slices at one height that lie beside each other: they are no channels of one image."""
    for stack in stacks[1:]:
        moved_mm = np.linalg.norm(np.array([plane.position for plane in stack]) - positions, axis=1)
        if float(moved_mm.max()) > 1e-2:
            at = int(np.argmax(moved_mm))
            raise VolumeError(
                f"{path}: expected slices of one place at each height, got {stacks[0][at].file.name} and "
                f"{stack[at].file.name}, {moved_mm[at]:.4g} mm beside each other; put each image into a folder of its "
                "own"
            )
