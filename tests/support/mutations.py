"""Random damage to the bytes of files, and small valid files of each image format to damage."""

from __future__ import annotations

import copy
import gzip
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from core.imaging.file_kinds import is_dicom
from tests.support.dicom_labels import SegOptions, contours_of, write_case, write_rtstruct, write_seg
from tests.support.foreign_volumes import (
    oblique_affine,
    phantom,
    write_metaimage,
    write_mgh,
    write_multiframe,
    write_nrrd,
    write_series,
)
from tests.support.volume_files import write_analyze, write_nifti

LABEL_SHAPE = (5, 6, 4)


def write_label(path: Path, kind: str) -> None:
    """A label map of two segments beside the folder of its images."""
    affine = oblique_affine()
    write_case(path.parent / "im", phantom(LABEL_SHAPE), affine, StudyInstanceUID="1.2.3")
    masks = {name: np.zeros(LABEL_SHAPE, bool) for name in ("liver", "tumour")}
    masks["liver"][1:4, 1:3], masks["tumour"][1:4, 3:5, 1:3] = True, True
    if kind == "RTSTRUCT":
        write_rtstruct(path, {name: contours_of(mask, affine) for name, mask in masks.items()})
    else:
        write_seg(path, masks, affine, options=SegOptions(kind))


def _write_analyze_gz(path: Path) -> None:
    """An Analyze pair, both files gzipped."""
    header = write_analyze(path.with_suffix(""), phantom())
    for file in (header, header.with_suffix(".img")):
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))
        file.unlink()


EXTREMES = np.array([0, 1, 0x7F, 0x80, 0xFF], np.uint8)
TEXT_VRS = ("UI", "LO", "SH", "CS", "PN", "LT", "ST", "DA", "TM", "DT", "AS")
ODD_TEXTS = ("", " ", "1", "1.2.3.4", "1.2.3.4.2", "9.9", "\\", "x" * 200, "BINARY", "SEG", "\u00e4\0", "a\nb")
ODD_NUMBERS = (0, 1, 2, 3, -1, 7, 255, 256, 65535, 32768, 1000)
# Name of the file that is damaged, and its writer, by format; a DICOM series is damaged in one of its files.
FORMATS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "nifti": ("a.nii", lambda path: write_nifti(path, phantom())),
    "nifti.gz": ("a.nii.gz", lambda path: write_nifti(path, phantom())),
    "nifti.pair": ("a.hdr", lambda path: nib.save(nib.Nifti1Pair(phantom(), oblique_affine()), path)),
    "nifti2": ("a.nii", lambda path: nib.save(nib.Nifti2Image(phantom(), oblique_affine()), path)),
    "nifti2.gz": ("a.nii.gz", lambda path: nib.save(nib.Nifti2Image(phantom(), oblique_affine()), path)),
    "analyze": ("a.hdr", lambda path: write_analyze(path, phantom())),
    "analyze.gz": ("a.hdr.gz", lambda path: _write_analyze_gz(path)),
    "mgh": ("a.mgh", lambda path: write_mgh(path, phantom(), oblique_affine(), b"tail")),
    "mgz": ("a.mgz", lambda path: write_mgh(path, phantom(), oblique_affine(), b"tail")),
    "nrrd": ("a.nrrd", lambda path: write_nrrd(path, phantom(), oblique_affine())),
    "nrrd.gz": ("a.nrrd", lambda path: write_nrrd(path, phantom(), oblique_affine(), encoding="gzip")),
    "nhdr": ("a.nhdr", lambda path: write_nrrd(path, phantom(), oblique_affine())),
    "mha": ("a.mha", lambda path: write_metaimage(path, phantom(), oblique_affine())),
    "mha.z": ("a.mha", lambda path: write_metaimage(path, phantom(), oblique_affine(), CompressedData="True")),
    "mhd": ("a.mhd", lambda path: write_metaimage(path, phantom(), oblique_affine())),
    "dicom": ("im000-1.dcm", lambda path: write_series(path.parent, phantom((5, 6, 3)), oblique_affine())),
    "multiframe": ("a.dcm", lambda path: write_multiframe(path, phantom(), oblique_affine())),
    "seg": ("a.dcm", lambda path: write_label(path, "BINARY")),
    "seg.labelmap": ("a.dcm", lambda path: write_label(path, "LABELMAP")),
    "rtstruct": ("a.dcm", lambda path: write_label(path, "RTSTRUCT")),
}
LABEL_FORMATS = ("seg", "seg.labelmap", "rtstruct")  # label maps on the grid of a DICOM series


def valid_file(format: str, folder: Path) -> Path:
    """A valid file of a format in an empty folder."""
    name, write = FORMATS[format]
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / name)
    return folder / name


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Content with a few bytes changed, mostly in its header; or cut off, lengthened, or with a part repeated; of
    gzipped content often what is inside, of DICOM often elements of the header."""
    if is_dicom(content) and rng.random() < 0.5:
        return with_changed_elements(content, rng)
    if content[:2] == b"\x1f\x8b" and rng.random() < 0.7:
        return gzip.compress(mutated(gzip.decompress(content), rng), mtime=0)
    data = np.frombuffer(content, np.uint8).copy()
    kind = rng.random()
    if kind < 0.1:
        return data[: rng.integers(0, len(data))].tobytes()
    if kind < 0.2:
        return data.tobytes() + rng.bytes(int(rng.integers(1, 200)))
    if kind < 0.3:
        start, length = int(rng.integers(0, len(data))), int(rng.integers(1, 64))
        return np.concatenate([data[: start + length], data[start:]]).tobytes()
    limit = len(data) if rng.random() < 0.3 else min(len(data), 700)
    places = rng.integers(0, limit, rng.integers(1, 9))
    data[places] = rng.choice(EXTREMES, len(places)) if rng.random() < 0.5 else rng.integers(0, 256, len(places))
    return data.tobytes()


def with_changed_elements(content: bytes, rng: np.random.Generator) -> bytes:
    """A DICOM file in which some elements, at any depth, are missing, empty, repeated, or hold another value."""
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydicom, about the values
        header = pydicom.dcmread(io.BytesIO(content), force=True)
        for _ in range(int(rng.integers(1, 4))):
            places = list(_places(header))
            item, tag = places[int(rng.integers(0, len(places)))]
            _change_element(item, tag, rng)
        written = io.BytesIO()
        try:
            header.save_as(written, enforce_file_format=False)
        except Exception:  # noqa: BLE001 - pydicom does not write every value
            return content[: len(content) // 2]
    return written.getvalue()


def _places(item: Any) -> Any:
    for element in item:
        yield item, element.tag
        if element.VR == "SQ":
            for below in element.value:
                yield from _places(below)


def _change_element(item: Any, tag: Any, rng: np.random.Generator) -> None:
    element = item[tag]
    kind = rng.random()
    if kind < 0.3:
        del item[tag]
        return
    if element.VR == "SQ":
        items = list(element.value)
        if kind < 0.5:
            items = []
        elif kind < 0.7 and items:
            items.append(copy.deepcopy(items[int(rng.integers(0, len(items)))]))
        elif kind < 0.9:
            items = items[:-1]
        else:
            rng.shuffle(items)
        element.value = items
        return
    if isinstance(element.value, bytes):
        element.value = element.value[: int(rng.integers(0, len(element.value) + 1))]
        return
    odd = ODD_TEXTS if element.VR in TEXT_VRS else ODD_NUMBERS
    several = list(element.value) if element.VM > 1 else [element.value]
    if kind < 0.4:
        several = []
    elif kind < 0.5:
        several = several[:-1] or several * 2
    else:
        several[int(rng.integers(0, len(several)))] = odd[int(rng.integers(0, len(odd)))]
    try:
        element.value = several[0] if len(several) == 1 else several or None
    except Exception:  # noqa: BLE001 - pydicom does not take every value
        del item[tag]
