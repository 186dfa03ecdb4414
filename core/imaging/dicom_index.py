"""What lies in a folder of DICOM files: its series of images, and the segmentations and contours that refer to series.

Read with pydicom, only in the process of ``core.imaging.decoder``; :mod:`core.imaging.dicom_folders` asks for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.errors import VolumeError
from core.formatting import format_count
from core.imaging.dicom_colours import segment_colour
from core.imaging.dicom_links import read_reference
from core.imaging.dicom_planes import error_text, text_of, visible_files
from core.imaging.image_files import DICOM_LABELS, dicom_class, is_dicom_file
from core.imaging.segments import Segment

INDEX_FILE = "index.json"
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"  # SOP class of the table of contents of a disc, usually named DICOMDIR
OTHER_MODALITIES = ("SR", "RTPLAN", "RTDOSE", "PR", "KO", "DOC")  # of objects that are no images
SERIES_NUMBER = "SeriesNumber"
FRAMES = "NumberOfFrames"
LAST_TAG = 0x00280008  # number of frames, the last element that is read of an image
IDENTITY = (
    "SOPClassUID", "SOPInstanceUID", "Modality", "SeriesDescription", "PatientID", "ProtocolName", "StudyInstanceUID",
    "SeriesInstanceUID", SERIES_NUMBER, "FrameOfReferenceUID", FRAMES,
)  # fmt: skip


@dataclass(frozen=True)
class DicomSeries:
    """A series of images in a folder.

    Attributes
    ----------
    uid, study, frame_of_reference : str. UIDs.
    modality, description, patient : str. Modality such as CT; description; ID of the patient.
    number : int. Series number.
    file : str. Name of one of its files.
    files : int. Number of its files.
    instances : tuple of str. Short digests of the UIDs of its files, sorted: those of a copy are the same.
    protocol : str. Name of the protocol.
    slices : int. Number of its slices, without copies.
    """

    uid: str
    study: str
    frame_of_reference: str
    modality: str
    description: str
    patient: str
    number: int
    file: str
    files: int
    instances: tuple[str, ...]
    protocol: str = ""
    slices: int = 0

    @property
    def title(self) -> str:
        """Modality, number, description and number of slices, for lists."""
        name = " ".join(t for t in (self.modality, str(self.number or ""), self.description) if t)
        return f"{name or 'series'} · {format_count(self.slices, 'slice')}"


@dataclass(frozen=True)
class LabelObject:
    """A segmentation or contours in a folder.

    Attributes
    ----------
    file : str. Name of the file.
    kind : str. "SEG" or "RTSTRUCT".
    series : tuple of str. UIDs of the series that it refers to.
    images : tuple of str. Short digests of the UIDs of single images that it refers to, as those of a series: of those
        on which its frames or contours lie, where they state any; empty where it refers to one series.
    frames_of_reference : tuple of str. UIDs of its coordinates.
    study, patient, description : str.
    instance, content : str. UID of the file, and digest of its content.
    segments : tuple of Segment. What is segmented.
    """

    file: str
    kind: str
    series: tuple[str, ...]
    images: tuple[str, ...]
    frames_of_reference: tuple[str, ...]
    study: str
    patient: str
    description: str
    instance: str
    content: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class FolderIndex:
    """Content of a folder of DICOM files, without its subfolders.

    Attributes
    ----------
    series, labels : tuple. Series of images; segmentations and contours.
    problems : tuple of str. Segmentations and contours that cannot be read, and why.
    damaged : tuple of str. Names of files that belong to no series, as their headers are damaged.
    """

    series: tuple[DicomSeries, ...]
    labels: tuple[LabelObject, ...]
    problems: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Identity:
    """What a DICOM file is.

    Attributes
    ----------
    sop_class, instance, series, study, frame_of_reference : str. UIDs.
    modality, description, patient : str. Of the series, and ID of the patient.
    number : int. Of the series.
    protocol : str. Name of the protocol.
    frames : int. Number of slices in the file.
    """

    sop_class: str
    instance: str
    series: str
    study: str
    frame_of_reference: str
    modality: str
    description: str
    patient: str
    number: int
    protocol: str
    frames: int

    @property
    def is_label(self) -> bool:
        """Whether it is a segmentation or contours."""
        return self.sop_class in DICOM_LABELS


def read_identity(file: Path) -> Identity | None:
    """What a file is; ``None`` if it is not DICOM, or damaged."""
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag

    tags: list[Any] = [Tag(name) for name in IDENTITY]
    try:
        with open(file, "rb") as content:
            header = read_partial(content, lambda tag, vr, length: tag > LAST_TAG, force=True, specific_tags=tags)
        if "SOPClassUID" not in header:
            return None
        texts = {name: text_of(header.get(name)) for name in IDENTITY if name not in (SERIES_NUMBER, FRAMES)}
        return Identity(
            texts["SOPClassUID"],
            texts["SOPInstanceUID"],
            texts["SeriesInstanceUID"],
            texts["StudyInstanceUID"],
            texts["FrameOfReferenceUID"],
            texts["Modality"],
            texts["SeriesDescription"],
            texts["PatientID"],
            _whole_number(header, SERIES_NUMBER, 0),
            texts["ProtocolName"],
            _whole_number(header, FRAMES, 1),
        )
    except Exception:  # noqa: BLE001 - a damaged header may raise any exception
        return None


def _whole_number(header: Any, name: str, default: int) -> int:
    """A number that is only shown; its default where there is none, or text that is no whole number."""
    try:
        return int(header.get(name) or default)
    except (TypeError, ValueError):
        return default


def dicom_files(folder: Path) -> list[Path]:
    """Files of a folder that may be DICOM, sorted.

    Raises
    ------
    VolumeError
        If it cannot be listed, or holds too many.
    """
    return [file for file in visible_files(folder) if is_dicom_file(file)]


def write_index(folder: Path, target: Path) -> None:
    """Write what lies in a folder of DICOM files into another folder.

    Raises
    ------
    VolumeError
        If the folder cannot be listed, or holds too many files.
    """
    (target / INDEX_FILE).write_text(json.dumps(asdict(_index(folder))), "utf-8")


def _index(folder: Path) -> FolderIndex:
    series: dict[str, list[tuple[Identity, Path]]] = {}
    labels: list[LabelObject] = []
    problems: list[str] = []
    damaged: list[str] = []
    for file in dicom_files(folder):
        found = read_identity(file)
        if found is None:
            if dicom_class(file) != MEDIA_DIRECTORY:
                damaged.append(file.name)
        elif found.is_label:
            try:
                labels.append(_label_object(file, found))
            except VolumeError as error:
                problems.append(str(error))
        elif found.modality in OTHER_MODALITIES:
            continue
        elif not found.series:
            damaged.append(file.name)
        else:
            series.setdefault(found.series, []).append((found, file))
    images = tuple(_series(files) for files in series.values())
    return FolderIndex(images, tuple(labels), tuple(problems), tuple(damaged))


def _series(files: Sequence[tuple[Identity, Path]]) -> DicomSeries:
    """A series of its files."""
    first, file = files[0]
    return DicomSeries(
        first.series,
        first.study,
        first.frame_of_reference,
        first.modality,
        first.description,
        first.patient,
        first.number,
        file.name,
        len(files),
        _digests(found.instance for found, _ in files),
        first.protocol,
        sum({found.instance or str(path): found.frames for found, path in files}.values()),
    )


def _digests(uids: Iterable[str]) -> tuple[str, ...]:
    """A short digest of each UID, sorted."""
    return tuple(sorted(hashlib.sha256(uid.encode("utf-8", "replace")).hexdigest()[:12] for uid in uids))


def _label_object(file: Path, identity: Identity) -> LabelObject:
    header = read_label_header(file)
    kind = "RTSTRUCT" if "StructureSetROISequence" in header else "SEG"
    segments = read_segments(file, header)
    try:
        reference = read_reference(header, of_frames=False)
        if len(reference.series) != 1:
            reference = read_reference(header)
        with open(file, "rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()[:32]
    except Exception as error:  # noqa: BLE001 - damaged elements may raise any exception
        raise VolumeError(f"{file}: what it refers to cannot be read ({error_text(error)}); copy it again") from None
    return LabelObject(
        file.name,
        kind,
        tuple(reference.series),
        () if len(reference.series) == 1 else _digests(reference.deciding_instances),
        reference.frames_of_reference,
        identity.study,
        identity.patient,
        identity.description,
        identity.instance,
        digest,
        tuple(segments),
    )


def read_label_header(file: Path) -> Any:
    """The header of a segmentation, or all of contours.

    Raises
    ------
    VolumeError
        If the file is damaged.
    """
    import pydicom

    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, force=True)
        header.get("SOPClassUID")
        return header
    except Exception as error:  # noqa: BLE001 - a damaged header may raise any exception
        raise VolumeError(
            f"{file}: expected a DICOM file, got a damaged one ({error_text(error)}); copy it again"
        ) from None


def read_segments(file: Path, header: Any) -> list[Segment]:
    """The segments of a segmentation, or the regions of contours.

    Raises
    ------
    VolumeError
        If there are none, their elements are damaged, or two have one number.
    """
    try:
        found = list(_segments(header))
    except Exception as error:  # noqa: BLE001 - damaged elements may raise any exception
        raise VolumeError(f"{file}: expected segments with number and name ({error_text(error)})") from None
    if not found:
        raise VolumeError(f"{file}: expected at least one segment or region, got none; the file is cut off or empty")
    repeated = _first_repeated(number for number, _ in found)
    if repeated is not None:
        names = " and ".join(s.name for number, s in found if number == repeated)
        raise VolumeError(
            f"{file}: expected every segment once, got number {repeated} for {names}; export the segmentation again"
        )
    return [segment for _, segment in found]


def _segments(header: Any) -> Iterator[tuple[int, Segment]]:
    """Number in the file, and segment. Regions of contours, whose numbers may be 0, are counted from 1."""
    for item in header.get("SegmentSequence") or ():
        number = int(item.SegmentNumber)
        if number:  # 0 is the background of a label map
            name = text_of(item.get("SegmentLabel")) or f"segment {number}"
            yield number, Segment(number, name, segment_colour(item.get("RecommendedDisplayCIELabValue")))
    contours = header.get("ROIContourSequence") or ()
    colours = {int(c.ReferencedROINumber): c.get("ROIDisplayColor") for c in contours}
    for place, item in enumerate(header.get("StructureSetROISequence") or (), start=1):
        number = int(item.ROINumber)
        name = text_of(item.get("ROIName")) or f"region {number}"
        rgb = colours.get(number)
        colour = "#" + "".join(f"{min(255, max(0, int(v))):02x}" for v in rgb) if rgb and len(rgb) == 3 else ""
        yield number, Segment(place, name, colour)


def _first_repeated(numbers: Iterable[int]) -> int | None:
    seen: set[int] = set()
    for number in numbers:
        if number in seen:
            return number
        seen.add(number)
    return None
