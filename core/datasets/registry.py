"""Registry of folder layouts, and opening a folder as a data set.

A new layout is a module in :mod:`core.datasets.layouts` and an entry in :data:`LAYOUTS`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from core.datasets.description import advise_description
from core.datasets.layouts.base import Dataset, Layout
from core.datasets.layouts.decathlon import FILE as DESCRIPTION
from core.datasets.layouts.decathlon import DecathlonLayout
from core.datasets.layouts.iseg import IsegLayout
from core.datasets.layouts.nnunet import NnunetLayout
from core.datasets.options import DataOptions
from core.errors import DatasetError
from core.formatting import format_list

MAX_NEARBY_FOLDERS = 200  # subfolders that are searched for the suggestion of an error message
DEFAULT_OPTIONS = DataOptions()

# By name, in the order of recognition: the first layout that recognises a folder opens it.
LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (IsegLayout(), NnunetLayout(), DecathlonLayout())}


def open_dataset(path: str | Path, layout: str = "auto", options: DataOptions = DEFAULT_OPTIONS) -> Dataset:
    """Open a folder as a data set.

    No image is read; :func:`core.datasets.doctor.check` verifies the files.

    Parameters
    ----------
    path : str or Path. Folder; ``~`` is expanded.
    layout : str. Key of :data:`LAYOUTS`, or "auto" to recognise it.
    options : DataOptions. Options of reading its files.

    Raises
    ------
    DatasetError
        If the folder is missing, cannot be listed, or no layout fits; the message lists the layouts that were tried and
        what each expects, and suggests a neighbouring folder that fits.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise DatasetError(f"layout: expected auto or one of {', '.join(LAYOUTS)}; got {layout!r}")
    folder = _existing_folder(path)
    try:
        name = recognise_layout(folder) if layout == "auto" else layout
        if name is not None:
            return replace(LAYOUTS[name].open(folder, options.ignore), nan_is_zero=options.nan_is_zero)
        content = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
        advice = advise_description(folder)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror or error}; check its permissions") from None
    if advice:
        raise DatasetError(f"{folder}: expected a {DESCRIPTION}, found none; {advice}")
    tried = ", or ".join(f"{known.name}: {known.expects}" for known in LAYOUTS.values())
    found = format_list(content, 4) if content else "an empty folder"
    raise DatasetError(f"{folder}: expected one of the layouts {tried}; got {found}; {_suggestion(folder)}")


def recognise_layout(folder: Path) -> str | None:
    """Name of the first layout that recognises a folder, or ``None``.

    Raises
    ------
    OSError
        If the folder cannot be listed.
    """
    return next((name for name, layout in LAYOUTS.items() if layout.recognises(folder)), None)


def _existing_folder(path: str | Path) -> Path:
    if not str(path).strip():
        raise DatasetError("data: expected the folder of a data set, got nothing; name one, or 'demo'")
    try:
        folder = Path(path).expanduser()
        if folder.is_dir():
            return folder
        exists = folder.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be opened: {error}; check the path") from None
    if exists:
        raise DatasetError(f"{folder}: expected a folder, got a file; name the folder that holds the data set")
    raise DatasetError(f"{folder}: expected a folder, found nothing there; check the path")


def _suggestion(path: Path) -> str:
    """What to do about an unknown folder: names the folder one level below or above that is a data set, if any."""
    try:
        subfolders = [p for p in sorted(path.iterdir()) if p.is_dir()][:MAX_NEARBY_FOLDERS]
    except OSError:
        return "check its permissions"
    for folder in (*subfolders, path.absolute().parent):
        try:
            if recognise_layout(folder) is not None:
                return f"did you mean {folder}?"
        except OSError:
            continue
    return "name the data set's own folder"
