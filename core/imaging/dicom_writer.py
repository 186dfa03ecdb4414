"""Builds a DICOM segmentation (SEG) of the images of a series, with highdicom.

Only in the process of ``core.imaging.decoder``; :mod:`core.imaging.dicom_output` asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import VolumeError
from core.imaging.decoded_image import LimitMemory
from core.imaging.dicom_placing import place
from core.imaging.dicom_planes import Plane, error_text, find_planes

JOB_FILE, LABEL_FILE, OUTPUT_FILE = "job.json", "labels.raw", "segmentation.dcm"
LIBRARY_BYTES = 512 * 2**20  # of highdicom and what it imports
HEADER_BYTES = 4 * 2**20  # of a source file without its pixels
NAME_LENGTH = 64  # longest name of a segment
CODING_SCHEME = "99SEGMENTARIUM"  # of classes: a private one, since their names are free
ANATOMY = ("123037004", "SCT", "Anatomical Structure")
LESION = ("49755003", "SCT", "Morphologically Abnormal Structure")
LESION_WORDS = (
    "tumo",
    "lesion",
    "edema",
    "necro",
    "infarct",
    "metasta",
    "cancer",
    "nodule",
    "cyst",
    "haemorrh",
    "hemorr",
)
MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime",
)  # fmt: skip


def write_segmentation(path: Path, folder: Path, limit_memory: LimitMemory) -> None:
    """Build the segmentation that the files of a folder describe, and write it there.

    Parameters
    ----------
    path : Path. The segmented series: its folder, or one of its files.
    folder : Path. With the job, the class of each voxel, and then the segmentation.

    Raises
    ------
    VolumeError
        If the series cannot be read, or lacks what a segmentation refers to.
    """
    job = json.loads((folder / JOB_FILE).read_text("utf-8"))
    columns, rows, slices = job["shape"]
    voxels = columns * rows * slices
    planes, *_ = find_planes(path)
    placed = place(path, planes)
    shape = (planes[0].columns, planes[0].rows, len(placed.planes[0]))
    if shape != (columns, rows, slices) or job["channel"] >= len(placed.planes):
        raise VolumeError(f"{path}: expected the series that was segmented, got another one; segment it again")
    if not placed.oriented:
        raise VolumeError(
            f"{path}: expected slices that state their position, got none; save the segmentation as NIfTI"
        )
    limit_memory(LIBRARY_BYTES + 24 * voxels + HEADER_BYTES * len(planes))
    labels = np.fromfile(folder / LABEL_FILE, np.uint8).reshape(slices, rows, columns)
    sources, pixels = _sources(path, placed.planes[job["channel"]], labels)
    try:
        segmentation = _segmentation(sources, pixels, job)
        segmentation.save_as(folder / OUTPUT_FILE)
    except (MemoryError, ImportError, OSError):
        raise
    except Exception as error:  # noqa: BLE001 - highdicom raises any exception for elements that it lacks
        raise VolumeError(
            f"{path}: a segmentation of it cannot be written as DICOM ({error_text(error)}); save it as NIfTI"
        ) from None


def _sources(path: Path, planes: Sequence[Plane], labels: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """Headers of the source files, and classes of their frames, shape (frame, row, column)."""
    import pydicom

    files = list(dict.fromkeys(plane.file for plane in planes))
    headers = [pydicom.dcmread(file, stop_before_pixels=True, force=True) for file in files]
    for header in headers:
        for name in MAY_BE_EMPTY:
            if name not in header:
                setattr(header, name, "")
        for name in ("FrameOfReferenceUID", "StudyInstanceUID"):
            if not header.get(name):
                raise VolumeError(
                    f"{path}: expected {name} in its files, got none: a DICOM segmentation cannot refer to them; save "
                    "it as NIfTI"
                )
    frames = int(headers[0].get("NumberOfFrames") or 1)
    if len(files) == len(planes) and "PerFrameFunctionalGroupsSequence" not in headers[0]:
        return headers, labels
    if len(files) > 1:
        raise VolumeError(f"{path}: expected a slice a file or all in one, got {len(files)} files; save it as NIfTI")
    pixels = np.zeros((frames, *labels.shape[1:]), np.uint8)
    pixels[[plane.frame for plane in planes]] = labels
    return headers, pixels


def _segmentation(sources: list[Any], pixels: np.ndarray, job: dict[str, Any]) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=job["algorithm"][:NAME_LENGTH], family=codes.cid7162.ArtificialIntelligence, version=job["version"]
    )
    descriptions = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=highdicom.sr.CodedConcept(*_category(name)),
            segmented_property_type=highdicom.sr.CodedConcept(f"label{segment['raw']}", CODING_SCHEME, name),
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            display_color=highdicom.color.CIELabColor.from_string(segment["colour"]),
        )
        for number, (segment, name) in enumerate(zip(job["classes"], _names(job["classes"]), strict=True), start=1)
    ]
    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(prefix=None),
        series_number=900,
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        manufacturer="Segmentarium",
        manufacturer_model_name="Segmentarium",
        software_versions=job["version"],
        device_serial_number="0",
        content_description=f"Segmentation by {job['algorithm']}"[:NAME_LENGTH],
        series_description=f"Segmentation by {job['algorithm']}"[:NAME_LENGTH],
        specific_character_set="ISO_IR 192",
    )


def _category(name: str) -> tuple[str, str, str]:
    """Code of what a class is, by its name: a lesion, else anatomy."""
    return LESION if any(word in name.lower() for word in LESION_WORDS) else ANATOMY


def _names(classes: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the segments: those of the classes, cut to the length that DICOM allows, each different."""
    names: list[str] = []
    for segment in classes:
        name = " ".join(segment["name"].replace("\\", "/").split())[:NAME_LENGTH]
        if name in names:
            name = f"{name[: NAME_LENGTH - 8]} ({segment['raw']})"[:NAME_LENGTH]
        names.append(name)
    return names
