"""Known data sets that people fetch from their publishers: where to register, and what their folder looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.datasets.downloads import known_downloads
from core.datasets.folder_description import pattern_lines
from core.datasets.layouts.assignment import IMAGE
from core.datasets.layouts.known_sets import known_sets
from core.datasets.layouts.set_description import SetDescription

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
    images, labels : str. Patterns of its images, with modalities, and of its label maps, none for one without; with
        semicolons between several.
    """

    name: str
    title: str
    source: str
    images: str
    labels: str


def sets_to_register() -> list[SetToRegister]:
    """The known data sets of one publisher that are not among the downloads."""
    downloads = {d.source for d in known_downloads().values()}
    return [
        SetToRegister(d.name, d.title, d.content["source"], _images(d), _listed(d.content.get("labels", [])))
        for d in known_sets().values()
        if d.name not in CONVENTIONS and d.content.get("source") and d.content["source"] not in downloads
    ]


def _images(described: SetDescription) -> str:
    """Patterns of the images, and the modalities by their text in the names."""
    names = described.content.get("modalities", {})
    texts = ", ".join(f"{text}: {name}" for text, name in names.items() if text != IMAGE)
    return _listed(described.content.get("images", "")) + (f" ({texts})" if texts else "")


def _listed(patterns: Any) -> str:
    return "; ".join(pattern_lines(patterns).splitlines())
