"""Data sets: folder layouts, the subjects in them, the data doctor and the demo data."""

from __future__ import annotations

from pathlib import Path

from core.datasets.fingerprint import Fingerprint, fingerprint
from core.datasets.layouts import decathlon, iseg
from core.datasets.layouts.base import Dataset, ImageRef, Layout, Subject, shortened
from core.datasets.loading import LoadedSubject, load_subject
from core.errors import DatasetError

__all__ = [
    "LAYOUTS", "Dataset", "Fingerprint", "ImageRef", "Layout", "LoadedSubject", "Subject",
    "fingerprint", "load_subject", "open_dataset", "recognise",
]  # fmt: skip

LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (iseg.LAYOUT, decathlon.LAYOUT)}


def open_dataset(path: str | Path, layout: str = "auto") -> Dataset:
    """Open a folder as a data set. No image is read: :func:`core.datasets.doctor.check` looks into the files.

    Parameters
    ----------
    path : the folder; ``~`` is understood.
    layout : a key of :data:`LAYOUTS`, or "auto" to recognise it.

    Raises
    ------
    DatasetError
        If the folder is missing, cannot be listed, or is organised in no known way; the message names what each layout
        expected, and the folder next to it that fits, if one does.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise DatasetError(f"layout: expected auto or one of {', '.join(LAYOUTS)}; got {layout!r}")
    path = _folder(path)
    try:
        if layout != "auto":
            return LAYOUTS[layout].open(path)
        recognised = recognise(path)
        if recognised is not None:
            return LAYOUTS[recognised].open(path)
        content = [p.name for p in path.iterdir() if not p.name.startswith(".")]
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}; check its permissions") from None
    expected = "; or ".join(f"{known.expects} ({known.title})" for known in LAYOUTS.values())
    found = shortened(sorted(content), 4) if content else "an empty folder"
    raise DatasetError(f"{path}: expected {expected}; got {found}{_hint(path)}")


def recognise(path: Path) -> str | None:
    """The name of the layout that a folder has, or ``None``. Raises OSError where it cannot be listed."""
    return next((name for name, layout in LAYOUTS.items() if layout.recognises(path)), None)


def _folder(path: str | Path) -> Path:
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


def _hint(path: Path) -> str:
    """What to do: the folder one level below or above that is a data set, if any."""
    try:
        below = [p for p in sorted(path.iterdir()) if p.is_dir()][:200]
    except OSError:
        return "; check its permissions"
    for folder in (*below, path.absolute().parent):
        try:
            if recognise(folder) is not None:
                return f"; did you mean {folder}?"
        except OSError:
            continue
    return "; name the data set's own folder"
