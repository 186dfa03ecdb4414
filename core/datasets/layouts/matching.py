"""What a description makes of a folder: by patterns of file names, or by what DICOM files refer to."""

from __future__ import annotations

from dataclasses import replace

from core.datasets.layouts.assignment import Assignment, assign
from core.datasets.layouts.dicom_sets import assign_dicom
from core.datasets.layouts.listing import Listing
from core.datasets.layouts.set_description import SetDescription


def match_files(description: SetDescription, listing: Listing) -> Assignment:
    """Match the files of a folder against a description.

    Raises
    ------
    DatasetError
        If DICOM files cannot be read.
    """
    found = (assign_dicom if description.flag("dicom") else assign)(description, listing)
    return replace(found, warnings=(*found.warnings, *listing.warnings)) if listing.warnings else found
