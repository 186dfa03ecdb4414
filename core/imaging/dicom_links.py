"""What a DICOM segmentation or contours state about the images that they belong to: UIDs of series, of single images,
and of the coordinates."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.imaging.dicom_planes import text_of


@dataclass(frozen=True)
class Reference:
    """What a label map states about its images.

    Attributes
    ----------
    series : mapping of str to frozenset of str. UIDs of the series, each with those of the images that are stated with
        it, in the order of the file.
    instances : frozenset of str. UIDs of further images, stated without their series.
    frames_of_reference : tuple of str. UIDs of the coordinates of its segments; several only in contours.
    drawn_on : frozenset of frozenset of str. UIDs of the images that a frame or contour states, for those that state
        any; of frames that state the same ones once.
    """

    series: Mapping[str, frozenset[str]]
    instances: frozenset[str]
    frames_of_reference: tuple[str, ...]
    drawn_on: frozenset[frozenset[str]] = frozenset()

    @property
    def all_instances(self) -> frozenset[str]:
        """UIDs of all images that are stated."""
        return self.instances.union(*self.series.values())

    @property
    def deciding_instances(self) -> frozenset[str]:
        """UIDs of the images that frames or contours state; where they state none, of all."""
        return frozenset().union(*self.drawn_on) or self.all_instances

    @property
    def only_series(self) -> str:
        """The series on whose images all frames or contours lie, by the file's own lists; empty where these do not
        decide it."""
        listed = frozenset().union(*self.series.values())
        if not self.deciding_instances <= listed:
            return ""
        found = self.common_series(self.series)
        return found[0] if len(found) == 1 else ""

    def common_series(self, images: Mapping[str, Collection[str]]) -> tuple[str, ...]:
        """Series to whose images every frame or contour refers; none where they state no images.

        Parameters
        ----------
        images : mapping. UIDs of the images of each series.
        """
        if not self.drawn_on:
            return ()
        return tuple(s for s, own in images.items() if all(not uids.isdisjoint(own) for uids in self.drawn_on))

    def instances_of(self, series: str) -> frozenset[str]:
        """UIDs of the images that one series must have."""
        if len(self.series) < 2:
            return self.all_instances
        return self.series.get(series, frozenset())

    @property
    def is_empty(self) -> bool:
        """Whether no images are stated."""
        return not self.series and not self.instances


def read_reference(header: Any, of_frames: bool = True) -> Reference:
    """What the header of a segmentation, or contours, states about the images.

    Parameters
    ----------
    of_frames : bool. Whether what single frames and contours state is read too, which takes time.
    """
    series: dict[str, set[str]] = {}
    others: set[str] = set()
    for item in header.get("ReferencedSeriesSequence") or ():
        _add(series, others, item, "ReferencedInstanceSequence")
    for frame in header.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            for item in study.get("RTReferencedSeriesSequence") or ():
                _add(series, others, item, "ContourImageSequence")
    drawn_on: set[frozenset[str]] = set()
    if of_frames:
        drawn_on = {*_of_frames(header), *_of_contours(header)} - {frozenset()}
        others.update(*drawn_on)
    found = {uid: frozenset(instances) for uid, instances in series.items()}
    return Reference(found, frozenset(others), _frames_of_reference(header), frozenset(drawn_on))


def contour_images(contour: Any) -> tuple[str, ...]:
    """UIDs of the images that a contour states to lie on."""
    return tuple(_instances(contour, "ContourImageSequence"))


def _add(series: dict[str, set[str]], others: set[str], item: Any, name: str) -> None:
    uid = text_of(item.get("SeriesInstanceUID"))
    (series.setdefault(uid, set()) if uid else others).update(_instances(item, name))


def _instances(item: Any, name: str) -> Iterator[str]:
    for image in item.get(name) or ():
        uid = text_of(image.get("ReferencedSOPInstanceUID"))
        if uid:
            yield uid


def _of_frames(header: Any) -> Iterator[frozenset[str]]:
    """UIDs of the images of each frame; those of all frames together."""
    for name in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in header.get(name) or ():
            derivations = group.get("DerivationImageSequence") or ()
            yield frozenset(uid for item in derivations for uid in _instances(item, "SourceImageSequence"))


def _of_contours(header: Any) -> Iterator[frozenset[str]]:
    """UIDs of the images of each contour."""
    for region in header.get("ROIContourSequence") or ():
        for contour in region.get("ContourSequence") or ():
            yield frozenset(contour_images(contour))


def _frames_of_reference(header: Any) -> tuple[str, ...]:
    """Those of a segmentation, or of the regions of contours; where regions state none, of the contours in general."""
    own = text_of(header.get("FrameOfReferenceUID"))
    regions = header.get("StructureSetROISequence") or ()
    if not regions:
        return (own,) if own else ()
    found = [text_of(item.get("ReferencedFrameOfReferenceUID")) for item in regions]
    if not any(found):
        general = header.get("ReferencedFrameOfReferenceSequence") or ()
        found = [text_of(item.get("FrameOfReferenceUID")) for item in general]
    return tuple(sorted({uid for uid in found if uid}))
