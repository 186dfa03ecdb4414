"""The files of a folder and its subfolders by one walk, as layouts match them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from core.datasets.layouts.files import is_image_name
from core.errors import DatasetError
from core.formatting import format_count, format_list
from core.imaging.image_files import DICOM_SUFFIXES, is_dicom_file, is_second_half

MAX_FILES = 400_000
MAX_DEPTH = 8  # folders below the data set's own
TRIED = 3  # files without a suffix, of a folder, whose content is looked at


@dataclass(frozen=True)
class Listing:
    """Files of a folder.

    Attributes
    ----------
    folder : Path. The folder.
    files : tuple of str. Paths relative to it, with forward slashes, sorted; hidden ones, such as macOS's ``._`` files,
        are left out.
    hidden : int. Number of hidden files that are named like images.
    unreadable, deeper : tuple of str. Folders whose files are not listed: those that may not be read, and those below
        :data:`MAX_DEPTH` others.
    """

    folder: Path
    files: tuple[str, ...]
    hidden: int = 0
    unreadable: tuple[str, ...] = ()
    deeper: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is missing in the listing, for a person."""
        found = []
        if self.unreadable:
            folders = format_count(len(self.unreadable), "folder")
            found.append(f"{folders} cannot be read, their files are left out: {format_list(self.unreadable, 4)}")
        if self.deeper:
            folders = format_count(len(self.deeper), "folder")
            found.append(
                f"{folders} below {MAX_DEPTH} others, whose files are left out: {format_list(self.deeper, 4)}; open a "
                "folder nearer to them"
            )
        return tuple(found)

    @cached_property
    def by_depth(self) -> dict[int, list[str]]:
        """Files by the number of folders that they lie in; of an image of two files only the header."""
        names = set(self.files)
        found: dict[int, list[str]] = {}
        for file in self.files:
            if not is_second_half(file, names):
                found.setdefault(file.count("/"), []).append(file)
        return found

    @cached_property
    def images(self) -> tuple[str, ...]:
        """Files that are named like images; of an image of two files only the header."""
        return tuple(f for files in self.by_depth.values() for f in files if is_image_name(f.rpartition("/")[2]))

    @cached_property
    def dicom_folders(self) -> tuple[str, ...]:
        """Folders that hold DICOM files, by their suffix, or by the content of some that have none."""
        found: dict[str, list[str]] = {}
        for file in self.files:
            folder, _, name = file.rpartition("/")
            if name.lower().endswith(DICOM_SUFFIXES):
                found[folder] = [name]
            elif "." not in name or name.rpartition(".")[2].isdigit():
                found.setdefault(folder, []).append(name)
        return tuple(f for f, names in found.items() if any(is_dicom_file(self.folder / f / n) for n in names[:TRIED]))

    def below(self, name: str) -> Listing:
        """The listing of a subfolder."""
        start = f"{name}/"
        return Listing(self.folder / name, tuple(f[len(start) :] for f in self.files if f.startswith(start)))

    def at_depths(self, depths: tuple[int, int]) -> Iterator[str]:
        """Files in a range of numbers of folders."""
        for depth, files in self.by_depth.items():
            if depths[0] <= depth <= depths[1]:
                yield from files


def list_folder(folder: Path, max_files: int = MAX_FILES) -> Listing:
    """List a folder and its subfolders.

    Links to folders elsewhere are followed once; one to a folder inside, which is listed where it lies, is not.

    Raises
    ------
    OSError
        If the folder itself cannot be listed; unreadable subfolders are left out, and named.
    DatasetError
        If it holds too many files.
    """
    files: list[str] = []
    unreadable: list[str] = []
    deeper: list[str] = []
    hidden = 0
    root = os.path.realpath(folder)
    followed: set[str] = set()
    waiting: list[tuple[str, str, int]] = [(str(folder), "", 0)]
    while waiting:
        path, prefix, depth = waiting.pop()
        try:
            entries = list(os.scandir(path))
        except OSError:
            if not prefix:
                raise
            unreadable.append(prefix[:-1])
            continue
        for entry in entries:
            if entry.name.startswith("."):
                hidden += is_image_name(entry.name.lstrip("._"))
            elif not _is_folder(entry):
                files.append(prefix + entry.name)
            elif depth == MAX_DEPTH:
                deeper.append(prefix + entry.name)
            elif not entry.is_symlink() or _is_new(entry, root, followed):
                waiting.append((entry.path, f"{prefix}{entry.name}/", depth + 1))
        if len(files) > max_files:
            raise DatasetError(
                f"{folder}: expected at most {max_files} files, got more; name the data set's own folder"
            )
    return Listing(folder, tuple(sorted(files)), hidden, tuple(sorted(unreadable)), tuple(sorted(deeper)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_new(entry: os.DirEntry[str], root: str, followed: set[str]) -> bool:
    """Whether a link leads to a folder outside the root that no other link has led to."""
    target = os.path.realpath(entry.path)
    if target in followed or Path(target).is_relative_to(root) or Path(root).is_relative_to(target):
        return False
    followed.add(target)
    return True
