"""Writes small volumes in other formats than NIfTI, byte by byte from their standards, and DICOM with pydicom; and
compares what is read."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.errors import VolumeError
from core.imaging.geometry import to_canonical
from core.imaging.volume import read_header, read_image

LPS = np.diag([-1.0, -1.0, 1.0])
SHAPE = (5, 6, 7)
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
FRAME_OF_REFERENCE = "1.2.3.99"


def phantom(shape: Sequence[int] = SHAPE) -> np.ndarray:
    """Intensities of which each is different, int16, shape (i, j, k)."""
    return np.random.default_rng(3).permutation(int(np.prod(shape))).reshape(shape).astype(np.int16) - 50


def oblique_affine(shear: float = 0.0) -> np.ndarray:
    """Voxels of 1 x 1.5 x 2 mm whose axes run to P, S and L, turned by 0.2 rad about the z axis; a shear leans the
    third axis towards the second."""
    axes = np.array([[0.0, 0, -2], [-1, 0, 0], [0, 1.5, 0]])
    turn = np.array([[np.cos(0.2), -np.sin(0.2), 0], [np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ axes
    affine[:3, 2] += shear * affine[:3, 1]
    affine[:3, 3] = [10, -20, 30]
    return affine


def write_mgh(path: Path, array: np.ndarray, affine: np.ndarray | None, tail: bytes = b"") -> Path:
    """Write an MGH file, gzipped for a name that ends in .mgz; without an affine its orientation is not stated."""
    frames = array if array.ndim == 4 else array[..., None]
    code = {"uint8": 0, "int32": 1, "float32": 3, "int16": 4}[array.dtype.name]
    header = struct.pack(">7i", 1, *frames.shape, code, 0) + struct.pack(">h", affine is not None)
    if affine is None:
        header += struct.pack(">3f", 1, 1.5, 2) + bytes(48)
    else:
        delta = np.linalg.norm(affine[:3, :3], axis=0)
        centre = affine[:3, :3] @ (np.array(frames.shape[:3]) / 2) + affine[:3, 3]
        header += struct.pack(">15f", *delta, *(affine[:3, :3] / delta).T.ravel(), *centre)
    content = header.ljust(284, b"\0") + frames.astype(frames.dtype.newbyteorder(">")).tobytes(order="F") + tail
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".mgz" else content)
    return path


def write_nrrd(path: Path, array: np.ndarray, affine: np.ndarray, **fields: str) -> Path:
    """Write an NRRD file in the space LPS; ``fields`` replace fields of the header, or remove them where empty.

    The voxels lie in ``NAME.raw`` for a name that ends in .nhdr, and are gzipped for ``encoding="gzip"``.
    """
    axes, origin = LPS @ affine[:3, :3], LPS @ affine[:3, 3]
    header = {
        "type": {"int16": "short", "uint8": "uchar", "float32": "float"}[array.dtype.name],
        "dimension": str(array.ndim),
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, array.shape)),
        "space directions": " ".join(["none"] * (array.ndim - 3) + [_vector(axis) for axis in axes.T]),
        "kinds": " ".join(["list"] * (array.ndim - 3) + ["domain"] * 3),
        "endian": "little",
        "encoding": "raw",
        "space origin": _vector(origin),
    }
    header |= {name.replace("_", " "): value for name, value in fields.items()}
    voxels = array.tobytes(order="F")
    voxels = gzip.compress(voxels, mtime=0) if header["encoding"] == "gzip" else voxels
    if path.suffix == ".nhdr":
        header.setdefault("data file", f"{path.stem}.raw")
        path.with_suffix(".raw").write_bytes(voxels)
        voxels = b""
    text = "NRRD0005\n# a comment\n" + "".join(f"{name}: {value}\n" for name, value in header.items() if value)
    path.write_bytes(text.encode() + b"\n" + voxels)
    return path


def write_metaimage(path: Path, array: np.ndarray, affine: np.ndarray, **fields: str) -> Path:
    """Write a MetaImage; ``fields`` replace or remove fields. Voxels lie in ``NAME.raw`` for .mhd, and are compressed
    for ``CompressedData="True"``."""
    axes, origin = LPS @ affine[:3, :3], LPS @ affine[:3, 3]
    spacing = np.linalg.norm(axes, axis=0)
    voxels = array.tobytes(order="F")
    if fields.get("CompressedData") == "True":
        voxels = zlib.compress(voxels)
        fields.setdefault("CompressedDataSize", str(len(voxels)))
    header = {
        "ObjectType": "Image",
        "NDims": "3",
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "TransformMatrix": " ".join(f"{v:.17g}" for v in (axes / spacing).T.ravel()),
        "Offset": " ".join(f"{v:.17g}" for v in origin),
        "ElementSpacing": " ".join(f"{v:.17g}" for v in spacing),
        "DimSize": " ".join(map(str, array.shape[-3:])),
        "ElementType": {"int16": "MET_SHORT", "uint8": "MET_UCHAR", "float32": "MET_FLOAT"}[array.dtype.name],
    }
    header |= fields
    file = header.pop("ElementDataFile", "LOCAL" if path.suffix == ".mha" else f"{path.stem}.raw")
    header["ElementDataFile"] = file
    if path.suffix == ".mhd":
        path.with_suffix(".raw").write_bytes(voxels)
        voxels = b""
    path.write_bytes("".join(f"{n} = {v}\n" for n, v in header.items() if v).encode() + voxels)
    return path


@dataclass(frozen=True)
class Series:
    """What the files of a DICOM series have in common.

    Attributes
    ----------
    uid : str. UID of the series.
    slope, intercept : float. Rescaling.
    number : int. First instance number.
    elements : dict. Further elements by keyword.
    """

    uid: str = "1.2.3.4"
    slope: float = 1.0
    intercept: float = 0.0
    number: int = 1
    elements: dict[str, Any] | None = None


def write_series(folder: Path, array: np.ndarray, affine: np.ndarray, series: Series = Series()) -> Path:
    """Write a file for each slice, shape (i, j, k), under names that are not in the order of the slices."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(array.shape[2]):
        number = series.number + k
        header = dicom_header(array, affine, series, number)
        header.ImagePositionPatient = [_decimal(v) for v in LPS @ (affine[:3, :3] @ [0, 0, k] + affine[:3, 3])]
        header.InstanceNumber = number
        header.PixelData = np.ascontiguousarray(array[:, :, k].T).tobytes()
        header.save_as(folder / f"im{(k * 37) % 101:03d}-{number}.dcm", enforce_file_format=True)
    return folder


def dicom_header(array: np.ndarray, affine: np.ndarray, series: Series = Series(), number: int = 1) -> Any:
    """A header with the geometry of a slice, without position and pixels."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.4")
    meta.MediaStorageSOPInstanceUID = UID(f"{series.uid}.{number}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.SeriesInstanceUID, header.StudyInstanceUID = series.uid, "1.2.3"
    header.Modality, header.SeriesDescription = "MR", "phantom"
    axes = LPS @ affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    header.ImageOrientationPatient = [_decimal(v) for v in (axes / spacing).T[:2].ravel()]
    header.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
    header.SliceThickness = _decimal(spacing[2])
    header.Rows, header.Columns = array.shape[1], array.shape[0]
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = array.dtype.itemsize * 8
    header.BitsAllocated, header.BitsStored, header.HighBit = bits, bits, bits - 1
    header.PixelRepresentation = int(array.dtype.kind == "i")
    header.RescaleSlope, header.RescaleIntercept = _decimal(series.slope), _decimal(series.intercept)
    for name, value in (series.elements or {}).items():
        setattr(header, name, value)
    return header


def write_multiframe(
    path: Path, array: np.ndarray, affine: np.ndarray, order: Sequence[int] = (), series: Series = Series()
) -> Path:
    """Write an enhanced multi-frame file (Enhanced MR) whose frames are the slices in this order; each has the slope 2
    and the intercept -7."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as DicomSequence
    from pydicom.uid import UID

    header = dicom_header(array, affine, series)
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = UID(ENHANCED_MR)
    header.FrameOfReferenceUID = FRAME_OF_REFERENCE
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = header.PixelSpacing, header.SliceThickness
    orientation.ImageOrientationPatient = header.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = (
        DicomSequence([measures]),
        DicomSequence([orientation]),
    )
    for name in ("PixelSpacing", "SliceThickness", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept"):
        delattr(header, name)
    frames, numbers = [], list(order) or list(range(array.shape[2]))
    for k in numbers:
        frame, position, values = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [_decimal(v) for v in LPS @ (affine[:3, :3] @ [0, 0, k] + affine[:3, 3])]
        values.RescaleSlope, values.RescaleIntercept = "2", "-7"
        frame.PlanePositionSequence = DicomSequence([position])
        frame.PixelValueTransformationSequence = DicomSequence([values])
        frames.append(frame)
    path.parent.mkdir(parents=True, exist_ok=True)
    header.NumberOfFrames = len(numbers)
    header.SharedFunctionalGroupsSequence = DicomSequence([shared])
    header.PerFrameFunctionalGroupsSequence = DicomSequence(frames)
    header.PixelData = np.ascontiguousarray(array[:, :, numbers].transpose(2, 1, 0)).tobytes()
    header.save_as(path, enforce_file_format=True)
    return path


def _vector(values: np.ndarray) -> str:
    return f"({','.join(f'{v:.17g}' for v in values)})"


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return f"{value:.9g}"[:16]


def assert_phantom(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """The file is read as this array, shape (i, j, k), with this affine."""
    header, image = read_header(path), read_image(path)
    np.testing.assert_allclose(header.geometry.affine, affine, atol=1e-5)
    assert header.shape == array.shape
    np.testing.assert_array_equal(image.data[0], to_canonical(array, header.geometry))


def refused(path: Path) -> str:
    """The message with which a file is refused; it names the file in one line."""
    with pytest.raises(VolumeError) as caught:
        read_image(path)
    assert str(path.parent) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)
