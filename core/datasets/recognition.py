"""Recognition of the layout of a folder, with the reason: saved description, layouts in code, known data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.datasets.layouts.assignment import Assignment
from core.datasets.layouts.base import CodedLayout, Layout
from core.datasets.layouts.decathlon import DecathlonLayout
from core.datasets.layouts.described_layout import DescribedLayout, fits
from core.datasets.layouts.iseg import IsegLayout
from core.datasets.layouts.known_sets import known_layouts, known_sets
from core.datasets.layouts.listing import Listing, list_folder
from core.datasets.layouts.matching import match_files
from core.datasets.layouts.nnunet import NnunetLayout
from core.datasets.layouts.set_description import read_description
from core.datasets.saved_descriptions import SAVED, description_file, saved_description
from core.errors import DatasetError
from core.formatting import format_count, format_list
from core.paths import absolute_path

# Layouts in code, in the order of recognition: the first that recognises a folder opens it.
CODED: dict[str, CodedLayout] = {layout.name: layout for layout in (IsegLayout(), NnunetLayout(), DecathlonLayout())}
LAYOUTS: dict[str, Layout] = {**CODED, **known_layouts()}


@dataclass(frozen=True)
class Recognition:
    """The layout of a folder.

    Attributes
    ----------
    layout : Layout or None. ``None`` if no layout fits.
    reason : str. Why it was chosen; if none fits, the layout that comes nearest and the files it does not explain.
    listing : Listing or None. The files of the folder, where they were listed.
    """

    layout: Layout | None
    reason: str
    listing: Listing | None = None


def layout_names() -> list[str]:
    """The names that :func:`named_layout` takes, variants included, and "auto"."""
    variants = [f"{known.name}/{variant}" for known in known_sets().values() for variant in known.variants]
    return ["auto", *LAYOUTS, *variants, SAVED]


def named_layout(name: str, folder: Path) -> Layout:
    """The layout of a name: a key of :data:`LAYOUTS`, one with a variant behind a slash, "saved", or a TOML file.

    Raises
    ------
    DatasetError
        If there is none, or the file is no description.
    """
    if name.lower().endswith(".toml"):
        return DescribedLayout(read_description(absolute_path(name)))
    if name == SAVED:
        saved = saved_description(folder)
        if saved is None:
            raise DatasetError(
                f"{folder}: expected its saved description, found none at {description_file(folder)}; describe the "
                f"folder again: data describe {folder}"
            )
        return DescribedLayout(saved, SAVED)
    base, _, variant = name.partition("/")
    if base not in LAYOUTS:
        known = [*CODED, SAVED, *known_layouts()]
        raise DatasetError(
            f"layout: expected auto or one of {', '.join(known)}, or a TOML file that describes one; got {name!r}"
        )
    layout = LAYOUTS[base]
    if not variant:
        return layout
    if not isinstance(layout, DescribedLayout):
        raise DatasetError(f"layout: expected {base}, which has no variants; got {name!r}")
    return DescribedLayout(layout.description.variant(variant))


def layout_title(name: str) -> str:
    """Name on screen of the layout of an opened data set."""
    base, _, variant = name.partition("/")
    if base in LAYOUTS and variant:
        return DescribedLayout(LAYOUTS[base].description.variant(variant)).title  # type: ignore[attr-defined]
    return LAYOUTS[base].title if base in LAYOUTS else "described"


def recognise(folder: Path) -> Recognition:
    """Find the layout of a folder.

    Raises
    ------
    DatasetError
        If two known data sets explain its files equally well, or a saved description cannot be read.
    OSError
        If the folder cannot be listed.
    """
    saved = saved_description(folder)
    if saved is not None:
        return Recognition(DescribedLayout(saved, SAVED), f"a description is saved for it ({description_file(folder)})")
    for layout in CODED.values():
        if layout.recognises(folder):
            return Recognition(layout, layout.reason)
    return recognise_listing(list_folder(folder), look_inside=True)


def recognise_listing(listing: Listing, look_inside: bool = False) -> Recognition:
    """Find the known data set that explains the files of a folder.

    Parameters
    ----------
    look_inside : bool. Whether the headers of DICOM files are read, where no names of files fit.

    Raises
    ------
    DatasetError
        If two explain its files equally well.
    """
    automatic = [layout.description for layout in known_layouts().values() if layout.is_automatic]
    named_files = [d for d in automatic if not d.flag("dicom")] if listing.images else []
    found = [match_files(description, listing) for description in named_files]
    if look_inside and not any(map(fits, found)) and listing.dicom_folders:
        found += [match_files(description, listing) for description in automatic if description.flag("dicom")]
    fitting = [a for a in found if fits(a)]
    named = [a for a in fitting if not a.description.flag("general")] or fitting
    ordered = sorted(named, key=_weight, reverse=True)
    if len(ordered) > 1 and _weight(ordered[0]) == _weight(ordered[1]):
        first, second = (f"{a.description.name} ({a.description.title})" for a in ordered[:2])
        raise DatasetError(
            f"{listing.folder}: expected one layout, got two that explain its files equally well: {first} and "
            f"{second}; choose with --layout {ordered[0].description.name} or --layout {ordered[1].description.name}"
        )
    if not ordered:
        return Recognition(None, _nearest(found, listing), listing)
    best, images = ordered[0], len(listing.images)
    if best.description.flag("dicom"):
        reason = f"{best.labels} of its segmentations or contours refer to {best.images} of its DICOM series"
        return Recognition(known_layouts()[best.description.name], reason, listing)
    others = f"; {ordered[1].description.name} fits {ordered[1].matched}" if len(ordered) > 1 else ""
    reason = f"{min(best.matched, images)} of its {images} image files are named as in {best.description.title}{others}"
    return Recognition(known_layouts()[best.description.name], reason, listing)


def _weight(found: Assignment) -> tuple[int, int, int]:
    """Numbers of files read, files explained and modalities; a better description has more."""
    return found.images + found.labels, found.matched, len(found.modalities)


def _nearest(found: Sequence[Assignment], listing: Listing) -> str:
    """The known data set that reads most of a folder's images, and what it leaves over."""
    best = max(found, key=_weight, default=None)
    if best is None or not best.images:
        return ""
    why = "" if best.classes_known else ", but nothing states its classes"
    left = f"; left over: {format_list(list(best.left_over), 3)}" if best.left_over else ""
    return (
        f"{best.description.name} ({best.description.title}) comes nearest{why}: it reads "
        f"{format_count(best.images, 'image')} and {format_count(best.labels, 'label map')} of "
        f"{format_count(len(listing.images or listing.files), 'file')}{left}"
    )
