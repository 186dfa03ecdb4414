"""Geometry of a header: unit of length, sform and qform, in millimetres; and the fields that hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.errors import VolumeError
from core.imaging.geometry import Geometry, geometry_difference
from core.types import Affine, Size3

Format = Literal["nifti1", "nifti2", "analyze", "mgh", "nrrd", "metaimage", "dicom"]
LengthUnit = Literal["metre", "mm", "micron", "unknown"]

SMALLEST_MM, LARGEST_MM = 1e-6, 1e6  # outside this range a voxel size or position is a damaged one
ANALYZE_UNIT = slice(56, 60)  # bytes of vox_units
ANALYZE_UNITS: dict[bytes, LengthUnit] = {b"m": "metre", b"um": "micron", b"\xb5m": "micron"}
UNIT_BITS = 7  # of xyzt_units that hold the unit of length; the others hold that of time
UNIT_CODES: dict[LengthUnit, int] = {"unknown": 0, "metre": 1, "mm": 2, "micron": 3}
UNIT_MM: dict[LengthUnit, float] = {"metre": 1e3, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}


def length_unit(fields: Any, format: Format) -> LengthUnit:
    """The unit of length that a header states. Analyze has it as text, millimetres by convention."""
    if format == "analyze":
        text = fields.tobytes()[ANALYZE_UNIT].split(b"\0")[0].strip().lower()
        return ANALYZE_UNITS.get(text, "mm")
    code = int(fields["xyzt_units"]) & UNIT_BITS
    return next((unit for unit, known in UNIT_CODES.items() if known == code), "unknown")


def geometries(path: Path, fields: Any, format: Format, shape: Size3) -> tuple[Geometry, Geometry | None]:
    """Geometry of the sform, else of the qform, else an unknown orientation with the voxel sizes (methods 3, 2, 1 of
    the NIfTI-1 standard); and that of the qform where it differs from the sform."""
    unit_mm = UNIT_MM[length_unit(fields, format)]
    pixdim = [float(v) for v in fields["pixdim"]]
    sizes = np.abs(pixdim[1:4])
    sizes_are_valid = bool(np.isfinite(sizes).all() and (sizes > 0).all())
    has_qform = format != "analyze" and int(fields["qform_code"]) > 0
    if format != "analyze" and int(fields["sform_code"]) > 0:
        affine = np.eye(4)
        affine[:3] = [fields[name] for name in ("srow_x", "srow_y", "srow_z")]
        geometry = Geometry(shape, validated_affine(path, affine, "sform", unit_mm))
        try:
            if not (has_qform and sizes_are_valid):
                return geometry, None
            qform = Geometry(shape, validated_affine(path, _qform_affine(path, fields, sizes), "qform", unit_mm))
        except VolumeError:
            return geometry, None  # the sform takes precedence
        expected = _without_shear(geometry) if geometry.is_sheared else geometry
        return geometry, None if geometry_difference(expected, qform) is None else qform
    if not sizes_are_valid:
        raise VolumeError(f"{path}: expected voxel sizes above 0 mm, got {', '.join(f'{v:g}' for v in pixdim[1:4])}")
    if has_qform:
        return Geometry(shape, validated_affine(path, _qform_affine(path, fields, sizes), "qform", unit_mm)), None
    return Geometry(shape, np.diag([*sizes * unit_mm, 1.0]), oriented=False), None


def _without_shear(geometry: Geometry) -> Geometry:
    """The geometry with the nearest axes at right angles, which is what writers put into a qform beside a sheared
    sform."""
    affine = geometry.affine.copy()
    left, _, right = np.linalg.svd(geometry.axes_mm / geometry.spacing_mm)
    affine[:3, :3] = (left @ right) * geometry.spacing_mm
    return Geometry(geometry.shape, affine)


def orientation_values(path: Path, fields: Any, format: Format) -> dict[str, Any]:
    """The valid sform and qform of a header, by field, in the file's unit of length; empty for Analyze."""
    orientation: dict[str, Any] = {}
    if format == "analyze":
        return orientation
    unit_mm = UNIT_MM[length_unit(fields, format)]
    if int(fields["sform_code"]) > 0:
        orientation["sform_code"] = _orientation_code(fields["sform_code"])
        orientation |= {name: fields[name] for name in ("srow_x", "srow_y", "srow_z")}
    sizes = np.abs(np.asarray(fields["pixdim"][1:4], np.float64))
    if int(fields["qform_code"]) > 0 and plausible_sizes(sizes * unit_mm):
        try:
            validated_affine(path, _qform_affine(path, fields, sizes), "qform", unit_mm)
        except VolumeError:
            return orientation  # the sform takes precedence; an invalid qform is not copied
        orientation["qform_code"] = _orientation_code(fields["qform_code"])
        names = (*(f"quatern_{axis}" for axis in "bcd"), *(f"qoffset_{axis}" for axis in "xyz"))
        orientation |= {name: fields[name] for name in names}
        orientation["pixdim"] = [-1 if float(fields["pixdim"][0]) < 0 else 1, *sizes, 1, 1, 1, 1]
    return orientation


def _qform_affine(path: Path, fields: Any, sizes: np.ndarray) -> Affine:
    from nibabel.quaternions import fillpositive, quat2mat

    quaternion = np.array([fields[f"quatern_{axis}"] for axis in "bcd"], np.float64)
    try:
        rotation = quat2mat(fillpositive(quaternion, w2_thresh=-1e-5))
    except ValueError:
        raise VolumeError(f"{path}: expected a unit quaternion in the qform, got {quaternion.tolist()}") from None
    qfac = -1.0 if float(fields["pixdim"][0]) < 0 else 1.0
    affine = np.eye(4)
    affine[:3, :3] = rotation * (sizes * [1, 1, qfac])
    affine[:3, 3] = [fields[f"qoffset_{axis}"] for axis in "xyz"]
    return affine


def validated_affine(path: Path, affine: Affine, source: str, unit_mm: float) -> Affine:
    """An affine in the file's unit of length, converted to mm."""
    affine = np.diag([unit_mm, unit_mm, unit_mm, 1.0]) @ np.asarray(affine, np.float64)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or np.abs(affine).max() > LARGEST_MM:
        raise VolumeError(
            f"{path}: expected finite numbers in the {source} affine, got NaN, infinity or more than a million mm"
        )
    if not plausible_sizes(sizes) or abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-2:
        rows = "; ".join(" ".join(f"{v:g}" for v in row) for row in affine[:3])
        raise VolumeError(
            f"{path}: expected an invertible {source} affine, got a singular one [{rows}]; correct the header"
        )
    return affine


def plausible_sizes(sizes: np.ndarray) -> bool:
    """Whether voxel sizes are finite and between ``SMALLEST_MM`` and ``LARGEST_MM``."""
    return bool(np.isfinite(sizes).all() and (sizes > SMALLEST_MM).all() and (sizes < LARGEST_MM).all())


def _orientation_code(code: Any) -> int:
    """A code of the standard (1 to 5); other positive codes count as 1, scanner coordinates."""
    return int(code) if int(code) <= 5 else 1
