"""Known data sets that people fetch from their publishers: where to register, and what their folder looks like."""

from __future__ import annotations

from dataclasses import dataclass

from core.datasets.downloads import known_downloads
from core.datasets.layouts.known_sets import known_sets

CONVENTIONS = (
    "freesurfer",
    "fastsurfer",
    "bids",
    "bids-masks",
    "plain",
    "dicom",
)  # of programs and standards: no data sets


@dataclass(frozen=True)
class SetToRegister:
    """A data set that its publisher gives to those who ask.

    Attributes
    ----------
    name, title : str. Layout and title.
    source : str. Page of the publisher.
    files : str. Pattern of its images.
    """

    name: str
    title: str
    source: str
    files: str


def sets_to_register() -> list[SetToRegister]:
    """The known data sets of one publisher that are not among the downloads."""
    downloads = {d.source for d in known_downloads().values()}
    return [
        SetToRegister(d.name, d.title, d.content["source"], _example(d.content.get("images", "")))
        for d in known_sets().values()
        if d.name not in CONVENTIONS and d.content.get("source") and d.content["source"] not in downloads
    ]


def _example(images: object) -> str:
    while isinstance(images, (dict, list)):
        images = next(iter(images.values() if isinstance(images, dict) else images))
    return str(images)
