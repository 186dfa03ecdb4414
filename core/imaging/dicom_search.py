"""Search for the images of a DICOM segmentation or contours near its file, by the UIDs that it states.

It begins in the folder of the file and those below, then goes on in those around it: everything below the folder above,
and below the one above that. It ends after a number of files, so that a label map without its images on a large disk is
refused soon.

What files are, and what lies in folders, is kept while they do not change: the label maps of a set are decoded one
after the other, and each would read the same files again. Only in the process of ``core.imaging.decoder``.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import VolumeError
from core.files import StampedCache
from core.formatting import format_count, format_list
from core.imaging.dicom_index import Identity, read_identity
from core.imaging.dicom_links import Reference
from core.imaging.image_files import exact_stamp, is_dicom_file, may_be_dicom

LEVELS_UP = 2  # folders above that of the file
DEPTH = 4  # folders below each of them
MAX_LISTED = 300_000  # files and folders whose names are read
MAX_READ = 5000  # files that are opened
OWN_FILES = 200  # of the folder of the label map, which are opened before those of other folders
TRIED = 20  # files of another folder, which usually holds one series, that are opened before those of the next
KEPT_FILES = 20_000  # of which is kept what they are, about 1 kB each
KEPT_NAMES = 300_000  # of files and folders, about 100 bytes each
SETTLED_S = 2.0  # age of a folder's last change from which on a further one is certain to change its time


@dataclass(frozen=True)
class _Listing:
    """A folder: names of files that may be DICOM, names of folders, both sorted, and the number of all names."""

    files: tuple[str, ...]
    folders: tuple[str, ...]
    names: int


_listings: StampedCache[_Listing] = StampedCache(exact_stamp, KEPT_NAMES, lambda listing: listing.names + 1)
_identities: StampedCache[Identity | None] = StampedCache(exact_stamp, KEPT_FILES)


@dataclass
class _Effort:
    """What a search has looked at: names of files and folders, files that were opened, and folders."""

    listed: int = 0
    read: int = 0
    folders: int = 0

    @property
    def is_spent(self) -> bool:
        return self.listed >= MAX_LISTED or self.read >= MAX_READ

    @property
    def text(self) -> str:
        among = f"{format_count(self.read, 'file')} that may be DICOM, in {format_count(self.folders, 'folder')}"
        return f"{among} of {self.listed} names, where the search ends" if self.is_spent else among


def find_images(file: Path, reference: Reference) -> dict[str, Path]:
    """A file of each series that a label map refers to and that lies near it, by UID, in the order of the references.

    Raises
    ------
    VolumeError
        If none is found.
    """
    search = _Search(file.parent.absolute())
    base = search.own
    found: dict[str, Path] = {}
    wanted = {reference.only_series} if reference.only_series else set(reference.series)
    for level in range(LEVELS_UP + 1):
        is_last = level == LEVELS_UP or base.parent.parent == base.parent  # the whole disk is not searched
        reads = MAX_READ if is_last else MAX_READ * (level + 1) // (LEVELS_UP + 1)
        for candidate, identity in itertools.chain(search.first_images(base), search.further_images(reads)):
            if identity.series in reference.series or identity.instance in reference.all_instances:
                found.setdefault(identity.series, candidate)
                if found.keys() >= wanted:
                    break
        if (found and found.keys() >= wanted) or is_last:
            break
        base = base.parent
    if not found:
        named = format_list(sorted(reference.series or reference.instances), 1)
        raise VolumeError(
            f"{file}: expected the images that it belongs to ({named}) in its folder or one near it, found none among "
            f"{search.effort.text}, up to {base}; put their series into its folder, or one beside it"
        )
    if reference.only_series in found:
        return {reference.only_series: found[reference.only_series]}
    order = list(reference.series)
    return dict(sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


class _Search:
    """Looks for files of images, those first that tell most.

    Parameters
    ----------
    own : Path. Folder of the label map.
    """

    def __init__(self, own: Path) -> None:
        self.own = own
        self.effort = _Effort()
        self._seen: dict[Path, list[Path]] = {}
        self._left: deque[Path] = deque()

    def first_images(self, base: Path) -> Iterator[tuple[Path, Identity]]:
        """Files of the label map's own folder, and one of each other folder below a folder."""
        for folder, names in _folders(base, self._seen, self.effort):
            is_own = folder == self.own
            for _ in range(min(OWN_FILES if is_own else TRIED, len(names))):
                image = _image(folder / names.popleft(), self.effort)
                if image is not None:
                    yield image
                    if not is_own:
                        break
            self._left += [folder / name for name in names]

    def further_images(self, reads: int) -> Iterator[tuple[Path, Identity]]:
        """The other files of these folders, until so many have been read."""
        while self._left and self.effort.read < reads:
            image = _image(self._left.popleft(), self.effort)
            if image is not None:
                yield image


def _folders(base: Path, seen: dict[Path, list[Path]], effort: _Effort) -> Iterator[tuple[Path, deque[str]]]:
    """A folder and those below it, the nearest first, each with the files that may be DICOM; hidden ones are left
    out.

    Parameters
    ----------
    seen : dict. Folders that were listed before, which are left out, with those in them; others are added.
    """
    level = [base]
    for _ in range(DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            if folder in seen:
                below += seen[folder]
                continue
            if effort.is_spent:
                return
            listing = _list(folder, MAX_LISTED - effort.listed)
            effort.listed += listing.names
            seen[folder] = [folder / name for name in listing.folders]
            below += seen[folder]
            effort.folders += 1
            yield folder, deque(listing.files)
        level = below


def _list(folder: Path, limit: int) -> _Listing:
    """The names in a folder, no more than a number; all of them are kept until it changes."""
    try:
        listing = _listings.get(lambda: _read_names(folder, limit), folder)
    except OSError:
        return _Listing((), (), 0)
    changed = exact_stamp(folder)
    is_settled = bool(changed) and time.time_ns() - max(changed[1:3]) > SETTLED_S * 1e9
    if listing.names >= limit or not is_settled:
        _listings.forget(folder)
    return listing


def _read_names(folder: Path, limit: int) -> _Listing:
    files, folders, count = list[str](), list[str](), 0
    with os.scandir(folder) as entries:
        for entry in itertools.islice(entries, limit):
            count += 1
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(entry.name)
            elif may_be_dicom(entry.name):
                files.append(entry.name)
    return _Listing(tuple(sorted(files)), tuple(sorted(folders)), count)


def identity_of(file: Path) -> Identity | None:
    """What a file is; ``None`` if it is not DICOM, or damaged."""
    identity = _identities.get(lambda: read_identity(file) if is_dicom_file(file) else None, file)
    if identity is None:
        _identities.forget(file)  # it may be unreadable only now
    return identity


def _image(file: Path, effort: _Effort) -> tuple[Path, Identity] | None:
    """A file of an image, and what it is; ``None`` for another file, or once the search ends."""
    if effort.is_spent:
        return None
    effort.read += 1
    identity = identity_of(file)
    return None if identity is None or identity.is_label else (file, identity)
