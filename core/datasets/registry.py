"""Opening a folder as a data set.

A new layout is an entry of :mod:`core.datasets.layouts.known_sets`, or a module there and an entry in
:data:`core.datasets.recognition.CODED`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from core.datasets.dataset_json import advise_description
from core.datasets.layouts.base import Dataset
from core.datasets.layouts.decathlon import FILE as DESCRIPTION
from core.datasets.layouts.described_layout import DescribedLayout
from core.datasets.layouts.listing import Listing, list_folder
from core.datasets.options import DataOptions
from core.datasets.recognition import CODED, LAYOUTS, Recognition, named_layout, recognise, recognise_listing
from core.datasets.saved_recipes import apply_recipe, saved_recipe
from core.errors import DatasetError
from core.formatting import format_list

__all__ = ["DEFAULT_OPTIONS", "LAYOUTS", "UnknownLayoutError", "open_dataset", "open_recognised"]

MAX_NEARBY_FOLDERS = 200  # subfolders that are searched for the suggestion of an error message
MAX_PARENT_FILES = 20_000  # files of the parent folder up to which it is searched, too
DEFAULT_OPTIONS = DataOptions()


class UnknownLayoutError(DatasetError):
    """No layout fits a folder, which exists and can be listed.

    Attributes
    ----------
    nearest : str. The layout that comes nearest and what it leaves over; empty if none reads anything.
    """

    def __init__(self, message: str, nearest: str) -> None:
        super().__init__(message)
        self.nearest = nearest


def open_dataset(path: str | Path, layout: str = "auto", options: DataOptions = DEFAULT_OPTIONS) -> Dataset:
    """Open a folder as a data set.

    No image is read; :func:`core.datasets.doctor.check` verifies the files.

    Parameters
    ----------
    path : str or Path. Folder; ``~`` is expanded.
    layout : str. "auto" for that of the options; or a name as in :func:`core.datasets.recognition.named_layout`.
    options : DataOptions. Options of reading its files; a layout "auto" is recognised.

    Raises
    ------
    DatasetError
        If the folder is missing, cannot be listed, or no layout fits; the message says what comes nearest, how to
        describe the folder, and suggests a neighbouring folder that fits.
    """
    folder = _existing_folder(path)
    layout = options.layout if layout == "auto" else layout
    try:
        found = recognise(folder) if layout == "auto" else Recognition(named_layout(layout, folder), "")
        if found.layout is not None:
            return _open(folder, found, options)
        raise _unknown(folder, found)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror or error}; check its permissions") from None


def open_recognised(folder: Path) -> Dataset | None:
    """Open an existing folder as a data set; ``None`` if no layout fits, without searching for the reason.

    Raises
    ------
    DatasetError
        If a layout fits but the data set cannot be used, or the folder cannot be listed.
    """
    try:
        found = recognise(folder)
        return None if found.layout is None else _open(folder, found, DEFAULT_OPTIONS)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror or error}; check its permissions") from None


def _open(folder: Path, found: Recognition, options: DataOptions) -> Dataset:
    layout = found.layout
    assert layout is not None
    if isinstance(layout, DescribedLayout) and found.listing is not None:
        dataset = layout.open_listing(found.listing, options.ignore)
    else:
        dataset = layout.open(folder, options.ignore)
    dataset = replace(
        dataset,
        nan_is_zero=options.nan_is_zero,
        missing_modalities=options.missing_modalities,
        needed=options.needed,
        reason=found.reason,
    )
    return apply_recipe(dataset, saved_recipe(folder))


def _unknown(folder: Path, found: Recognition) -> UnknownLayoutError:
    """The error for a folder that no layout fits."""
    content = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    nearest = f"; {found.reason}" if found.reason else ""
    describe = f"describe its file names: data describe {folder}"
    advice = advise_description(folder)
    if advice:
        message = f"{folder}: expected a {DESCRIPTION}, found none; {advice}; or {describe}{nearest}"
        return UnknownLayoutError(message, found.reason)
    tried = ", or ".join(f"{name}: {layout.expects}" for name, layout in CODED.items())
    known = len(LAYOUTS) - len(CODED)
    got = format_list(content, 4) if content else "an empty folder"
    return UnknownLayoutError(
        f"{folder}: expected one of the layouts {tried}, or one of {known} others (data layouts lists them); got {got}"
        f"{nearest}; {_suggestion(folder, found.listing, describe)}",
        found.reason,
    )


def _existing_folder(path: str | Path) -> Path:
    if not str(path).strip():
        raise DatasetError("data: expected the folder of a data set, got nothing; name one, or 'demo'")
    try:
        folder = Path(os.path.expanduser(path))
        if folder.is_dir():
            return folder
        exists = folder.exists()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DatasetError(f"{path}: cannot be opened: {reason}; check the path") from None
    if exists:
        raise DatasetError(f"{folder}: expected a folder, got a file; name the folder that holds the data set")
    raise DatasetError(f"{folder}: expected a folder, found nothing there; check the path")


def _suggestion(path: Path, listing: Listing | None, describe: str) -> str:
    """What to do about an unknown folder: names the folder one level below or above that is a data set, if any."""
    try:
        subfolders = [p for p in sorted(path.iterdir()) if p.is_dir()][:MAX_NEARBY_FOLDERS]
    except OSError:
        return "check its permissions"
    inside = [(p, listing.below(p.name) if listing is not None else None) for p in subfolders]
    for folder, files in (*inside, (path.absolute().parent, None)):
        try:
            if any(layout.recognises(folder) for layout in CODED.values()):
                return f"did you mean {folder}?"
            files = files or list_folder(folder, MAX_PARENT_FILES)
            if recognise_listing(files).layout is not None:
                return f"did you mean {folder}?"
        except (OSError, DatasetError):
            continue
    return f"name the data set's own folder, or {describe}"
