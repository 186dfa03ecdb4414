"""Alignment of a subject's files with its first image, from their headers: unit of length, orientation, position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from core.imaging.geometry import Geometry, geometry_difference
from core.imaging.headers import Header

LOOK = "look at its picture: do labels and anatomy match?"
CORRECT = "resample one onto the other or correct its header"
PAD = "write it on the whole grid of the image"
WHOLE_VOXELS = 0.1  # largest distance, in voxels, of a cropped grid from the voxels of the whole one
SIDES = {"R": "left-right", "L": "left-right", "A": "front-back", "P": "front-back", "S": "up-down", "I": "up-down"}


@dataclass(frozen=True)
class Alignment:
    """Alignment of a file with the first image of its subject.

    Attributes
    ----------
    header : Header. Header of the file, with the geometry to use; its notes and warnings state how that was determined.
    problem : str. Why the file does not fit, and what to do; empty if it fits.
    """

    header: Header
    problem: str = ""


def in_common_unit(first: Header, others: Sequence[Header]) -> Header:
    """Header of the first image; where it states no unit of length, in the unit of another file that fits then."""
    if first.unit != "unknown":
        return first
    for other in others:
        for unit in dict.fromkeys((other.unit, "mm")) if other.unit != "unknown" else ():
            candidate = first.in_unit(unit)
            if geometry_difference(candidate.geometry.canonical, other.geometry.canonical) is None:
                return candidate if unit == "mm" else _with_note(candidate)
    return first


def align_to_first(first: Header, header: Header, follow_first: bool = False) -> Alignment:
    """Align a file with the first image.

    Files may store the same grid in any axis order. A file without orientation, or one after a first image without
    orientation, is aligned as stored. A file without a unit of length, or with another one but the same numbers, is
    read in the unit of the first image.

    Parameters
    ----------
    first, header : Header. First image of the subject (:func:`in_common_unit`), and the file; both may be the same.
    follow_first : bool. Whether a file is aligned as stored where its orientation contradicts that of the first image.
    """
    if header.path == first.path:
        return Alignment(first)
    stated = header
    if header.unit == "unknown" and first.unit != "unknown":
        stated = header.in_unit("mm")  # confirmed by the first image if it fits
    alignment = _align(first, stated, follow_first)
    if not alignment.problem or header.unit == first.unit:
        return alignment
    other = _align(first, header.in_unit(first.unit), follow_first)
    if other.problem:
        named = header.unit if header.unit != "unknown" else "no unit"
        of_first = first.unit if first.unit != "unknown" else "no unit"
        problem, separator, remedy = alignment.problem.rpartition("; ")
        return replace(
            alignment, problem=f"{problem} (its header states {named}, the image's {of_first}){separator}{remedy}"
        )
    if header.unit == "unknown":
        return replace(other, header=_with_note(other.header))
    warning = (
        f"lengths are stated in {header.unit}, those of the first image in {first.unit}, with the same numbers: "
        f"{first.unit} is used; correct the unit in the header"
    )
    return Alignment(replace(other.header, warnings=(*other.header.warnings, warning)))


def _align(first: Header, header: Header, follow_first: bool) -> Alignment:
    """Align a file whose unit of length is decided."""
    expected, own = first.geometry, header.geometry
    if expected.oriented and own.oriented:
        problem = geometry_difference(expected.canonical, own.canonical)
        if problem is None:
            return Alignment(header)
        turned = expected.axis_codes != own.axis_codes
        if follow_first and turned and geometry_difference(_as_stored(expected), _as_stored(own)) is None:
            warning = (
                f"its header states orientation {''.join(own.axis_codes)}, that of the first image "
                f"{''.join(expected.axis_codes)}; its voxels are aligned with the image's as stored; {LOOK}"
            )
            return Alignment(replace(header, geometry=expected, warnings=(*header.warnings, warning)))
        if turned:
            stored = f"stored as {''.join(own.axis_codes)}, the image as {''.join(expected.axis_codes)}"
            problem += f" ({stored}{_mirrored(expected, own)})"
        first_voxel = _cropped_at(expected.canonical, own.canonical)
        if first_voxel:
            return Alignment(header, f"{problem}; it is cropped: its first voxel is {first_voxel} of the image; {PAD}")
        return Alignment(header, _with_hint(problem, first, header))
    problem = geometry_difference(expected, own)
    if problem is not None:
        return Alignment(header, f"{problem}; {CORRECT}")
    if expected.oriented == own.oriented:
        return Alignment(replace(header, geometry=expected))
    unoriented = "the first image" if own.oriented else "it"
    warning = f"{unoriented} states no orientation: its voxels are aligned with the image's as stored; {LOOK}"
    return Alignment(replace(header, geometry=expected, warnings=(*header.warnings, warning)))


def _with_hint(problem: str, first: Header, header: Header) -> str:
    """A problem with the remedy; it names the qforms of two files if they would fit."""

    def fits(expected: Geometry | None, found: Geometry | None) -> bool:
        if expected is None or found is None:
            return False
        return geometry_difference(expected.canonical, found.canonical) is None

    if fits(first.geometry, header.qform):
        return f"{problem}, but its qform would fit; if that is right, set its sform_code to 0"
    if fits(first.qform, header.geometry):
        return (
            f"{problem}, but the image's qform would fit; if that is right, set the image's sform_code "
            f"to 0 ({first.path.name})"
        )
    if fits(first.qform, header.qform):
        return (
            f"{problem}, but its qform would fit the image's qform; if they are right, set the sform_code of both to 0"
        )
    return f"{problem}; {CORRECT}"


def _with_note(header: Header) -> Header:
    """A header whose unit of length is that of another file, with a note about that."""
    note = f"no unit of length is stated: {header.unit}, the unit of another file of the subject, is used"
    return replace(header, notes=(*header.notes, note))


def _mirrored(expected: Geometry, own: Geometry) -> str:
    """Along which axes a header mirrors voxels that are stored like those of the image; empty if it does not."""
    reversed_axes = [SIDES[a] for a, b in zip(expected.axis_codes, own.axis_codes, strict=True) if a != b]
    same_axes = [SIDES[a] for a in expected.axis_codes] == [SIDES[b] for b in own.axis_codes]
    if not same_axes or geometry_difference(_as_stored(expected), _as_stored(own)) is not None:
        return ""
    return f": one of the headers mirrors it {' and '.join(reversed_axes)}"


def _cropped_at(expected: Geometry, own: Geometry) -> str:
    """The voxel of the image, from 1, at which a grid that is a part of its grid begins; empty if it is none."""
    if expected.shape == own.shape or not np.allclose(expected.axes_mm, own.axes_mm, rtol=1e-3, atol=1e-4):
        return ""
    start = np.linalg.solve(expected.axes_mm, own.affine[:3, 3] - expected.affine[:3, 3])
    first = np.rint(start)
    if np.abs(start - first).max() > WHOLE_VOXELS or first.min() < 0 or (first + own.shape > expected.shape).any():
        return ""
    return ", ".join(str(int(n) + 1) for n in first)


def _as_stored(geometry: Geometry) -> Geometry:
    return Geometry(geometry.shape, geometry.affine, oriented=False)
