"""The demo data set: synthetic subjects in the folder layout of iSEG-2017.

Subject n depends only on the seed and on n: the same seed gives the same bytes for any number of subjects or worker
processes (on the same machine with the same library versions). An unfinished folder is completed by the next call.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.datasets.synthetic.demo_marker import (
    DEMO_VERSION,
    README,
    SAME_VOXELS,
    DemoMarker,
    is_demo,
    mark_finished,
    mark_unfinished,
    read_marker,
    read_unfinished_marker,
)
from core.datasets.synthetic.demo_writer import (
    DTYPES,
    SHAPE,
    SPACING_MM,
    SUBJECT_BYTES,
    is_written,
    remove_stale_temporaries,
    write_errors_as_dataset_errors,
    write_subject,
    write_subjects,
)
from core.errors import DatasetError
from core.files import atomic_write
from core.formatting import format_bytes
from core.labels import TISSUE_COLOURS
from core.paths import DEMO, absolute_path, dataset_folder
from core.types import ProgressCallback, Size3, SpacingMm

__all__ = [
    "ensure_demo",
    "ensure_first_subjects",
    "ensure_subject",
    "has_subject",
    "is_demo",
    "make_demo",
    "planned_demo",
    "planned_unless_made",
    "read_marker",
]

DEFAULT_SUBJECTS, MAX_SUBJECTS = 10, 1000
MAX_WORKERS = 4

NOTICE = """\
SYNTHETIC DATA - no patient, no volunteer: computed by Segmentarium for learning and for tests.

The folder layout is that of iSEG-2017 (https://iseg2017.web.unc.edu): subject-N-T1, -T2 and -label, here as
NIfTI files, 144 x 192 x 256 voxels of 1 mm, labels 0 air, 10 CSF, 150 grey matter, 250 white matter. Nothing in here
comes from that data set. The axes run left to right, back to front, bottom to top, as the affine states: that of the
template, placed so that the centres of the brains coincide.

The anatomy is derived from the ICBM 2009 nonlinear symmetric MNI152 maps that nilearn carries, under this notice:

Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
University. Permission to use, copy, modify, and distribute this software and its documentation for any purpose and
without fee is hereby granted, provided that the above copyright notice appear in all copies. The authors and McGill
University make no representations about the suitability of this software for any purpose. It is provided "as is"
without express or implied warranty. The authors are not responsible for any data loss, equipment damage, property loss,
or injury to subjects or patients resulting from the use or misuse of this software package.
"""


@dataclass(frozen=True)
class PlannedDemo:
    """The demo data before it is made, as :func:`make_demo` makes it by default.

    Attributes
    ----------
    ids, modalities : tuple of str. Ids of the subjects, all of them labelled; names of the modalities.
    colours : dict. Colour (#rrggbb) by class name, without the background.
    shapes, spacings_mm : tuple of tuple. Voxels and voxel size of each subject along i, j, k.
    """

    ids: tuple[str, ...]
    modalities: tuple[str, ...]
    colours: dict[str, str]
    shapes: tuple[Size3, ...]
    spacings_mm: tuple[SpacingMm, ...]

    @property
    def labelled(self) -> dict[str, Mapping[str, str]]:
        """As :attr:`core.datasets.Dataset.labelled`."""
        return {id: {} for id in self.ids}


def planned_demo() -> PlannedDemo:
    """The demo data before it is made."""
    ids = _first_ids(DEFAULT_SUBJECTS)
    modalities = tuple(kind for kind in DTYPES if kind != "label")
    return PlannedDemo(ids, modalities, dict(TISSUE_COLOURS), (SHAPE,) * len(ids), (SPACING_MM,) * len(ids))


def planned_unless_made(data: str) -> PlannedDemo | None:
    """The demo data where it is meant and training would make it first; ``None`` for any other data set.

    Parameters
    ----------
    data : str. Folder of a data set, or "demo".
    """
    return planned_demo() if data == DEMO and read_marker(dataset_folder(data)) is None else None


def make_demo(
    out: Path | str,
    subjects: int = DEFAULT_SUBJECTS,
    seed: int = 0,
    progress: ProgressCallback | None = None,
    workers: int | None = None,
) -> Path:
    """Write the demo data into a folder.

    An unfinished folder of the same seed is completed, and a finished one with fewer subjects is extended. A finished
    one with the same subjects is left unchanged.

    Parameters
    ----------
    out : Path or str. Folder, created if missing.
    subjects : int. Number of subjects, 1 to 1000; 3 MB and about 4 s of one core each.
    seed : int. Seed of the data, 0 or more.
    progress : callable, optional. Called with (subjects done, subjects) at the start and after each subject, in this
        thread.
    workers : int, optional. Number of processes; by default one per core, at most 4.

    Returns
    -------
    Path. The folder.

    Raises
    ------
    DatasetError
        If a parameter is out of range, the folder holds other files (demo data of another seed included), cannot be
        written or has too little room, or a worker fails.
    """
    folder = absolute_path(out)
    _check_numbers(subjects, seed, workers)
    marker = _claim_folder(folder, seed)
    if marker is not None and len(marker.subjects) > subjects:
        raise DatasetError(
            f"{folder} already holds demo data with {len(marker.subjects)} subjects, more than the {subjects} "
            "requested; choose another folder or delete this one"
        )
    names = _first_ids(subjects)
    missing = [n for n, name in enumerate(names, start=1) if not is_written(folder, name)]
    done = subjects - len(missing)
    if progress is not None:
        progress(done, subjects)
    if not missing and marker is not None and marker.subjects == names:
        return folder
    _write_missing(folder, seed, missing, workers, lambda made: progress and progress(done + made, subjects))
    with write_errors_as_dataset_errors(folder):
        atomic_write(folder / README, NOTICE, durable=True)
    mark_finished(folder, DemoMarker(seed, names))
    remove_stale_temporaries(folder)
    return folder


def ensure_demo(
    path: Path | str,
    subjects: int = DEFAULT_SUBJECTS,
    seed: int = 0,
    progress: ProgressCallback | None = None,
    workers: int | None = None,
) -> Path:
    """Return a folder of finished demo data of any seed and size unchanged; otherwise make or complete it.

    Parameters and errors are those of :func:`make_demo`.
    """
    folder = absolute_path(path)
    marker = read_marker(folder)
    if marker is None:
        return make_demo(folder, subjects, seed, progress, workers)
    if all(is_written(folder, name) for name in marker.subjects):
        return folder
    return make_demo(folder, len(marker.subjects), marker.seed, progress, workers)


def ensure_first_subjects(
    path: Path | str, count: int, seed: int = 0, progress: ProgressCallback | None = None, workers: int | None = None
) -> Path:
    """Make the first subjects of the demo data unless they exist; a finished folder is left unchanged.

    Parameters
    ----------
    count : int. Number of subjects. With fewer than those of the whole demo data the folder remains unfinished, so that
        :func:`ensure_demo` adds the others later.
    path, seed, progress, workers, and errors : as for :func:`make_demo`.

    Returns
    -------
    Path. The folder.
    """
    folder = absolute_path(path)
    if count >= DEFAULT_SUBJECTS or read_marker(folder) is not None:
        return ensure_demo(folder, seed=seed, progress=progress, workers=workers)
    _check_numbers(count, seed, workers)
    _claim_folder(folder, seed)
    missing = [n for n, name in enumerate(_first_ids(count), start=1) if not is_written(folder, name)]
    done = count - len(missing)
    if progress is not None:
        progress(done, count)
    _write_missing(folder, seed, missing, workers, lambda made: progress and progress(done + made, count))
    return folder


def ensure_subject(
    path: Path | str, subject: str = "subject-1", seed: int = 0, progress: ProgressCallback | None = None
) -> Path:
    """Make one subject of the demo data unless it exists; :func:`make_demo` makes the others later.

    The subject that is shipped with the program is copied.

    Parameters
    ----------
    path : Path or str. Folder, created if missing.
    subject : str. "subject-1" to "subject-1000"; about 5 s of one core.
    seed : int. Seed of the data, 0 or more.
    progress : callable, optional. Called with (steps done, steps) at the start and after each step.

    Returns
    -------
    Path. The folder.

    Raises
    ------
    DatasetError
        As :func:`make_demo`, and if the folder is finished without this subject.
    """
    number = _subject_number(subject)
    folder = absolute_path(path)
    _check_numbers(number, seed, None)
    marker = _claim_folder(folder, seed)
    if has_subject(folder, subject):
        return folder
    if marker is not None and subject not in marker.subjects:
        raise DatasetError(
            f"{folder} holds finished demo data with {len(marker.subjects)} subjects and no {subject}; "
            f"make more with --subjects {number}"
        )
    _check_room(folder, 1)
    write_subject(folder, seed, number, progress=progress)
    return folder


def has_subject(path: Path, subject: str) -> bool:
    """Whether one subject of the demo data is complete."""
    return is_written(path, subject)


def _first_ids(subjects: int) -> tuple[str, ...]:
    return tuple(f"subject-{n}" for n in range(1, subjects + 1))


def _check_numbers(subjects: int, seed: int, workers: int | None) -> None:
    for name, value, low, high in (
        ("subjects", subjects, 1, MAX_SUBJECTS),
        ("seed", seed, 0, 2**63 - 1),
        ("workers", 1 if workers is None else workers, 1, 256),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise DatasetError(f"{name} must be a whole number from {low} to {high}, got {value!r}")


def _subject_number(subject: str) -> int:
    match = re.fullmatch(r"subject-([1-9][0-9]{0,3})", subject)
    if match is None:
        raise DatasetError(f"expected a subject of the demo data, subject-1 to subject-{MAX_SUBJECTS}, got {subject!r}")
    return int(match[1])


def _claim_folder(folder: Path, seed: int) -> DemoMarker | None:
    """Create or check the folder of demo data of this seed.

    Returns
    -------
    DemoMarker or None. The marker of a finished folder.

    Raises
    ------
    DatasetError
        If the folder cannot be used, or holds other files or demo data of another seed or version.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = sorted(p.name for p in folder.iterdir() if p.name != ".DS_Store")
    except (FileExistsError, NotADirectoryError) as error:
        raise DatasetError(f"expected a folder to write the demo data to, but {error.filename} is a file") from error
    except OSError as error:
        raise DatasetError(f"cannot make or read the folder {folder}: {error.strerror}; choose another one") from error
    finished = read_marker(folder)
    marker = finished or read_unfinished_marker(folder)
    if marker is None:
        if content:
            raise DatasetError(
                f"expected an empty or new folder, but {folder} holds {len(content)} other files, such as "
                f"{content[0]!r}; choose another folder"
            )
        mark_unfinished(folder, seed)
        return None
    if marker.version not in SAME_VOXELS or marker.seed != seed:
        raise DatasetError(
            f"{folder} holds demo data of seed {marker.seed} (version {marker.version}), not of seed {seed} "
            f"(version {DEMO_VERSION}); choose another folder or delete this one"
        )
    return finished


def _write_missing(
    folder: Path, seed: int, numbers: Sequence[int], workers: int | None, on_made: Callable[[int], object]
) -> None:
    """Write subjects; ``on_made`` is called with the number of subjects made after each of them."""
    _check_room(folder, len(numbers))
    processes = workers or min(_available_cores(), MAX_WORKERS)
    for made, _ in enumerate(write_subjects(folder, seed, numbers, processes), start=1):
        on_made(made)


def _check_room(folder: Path, subjects: int) -> None:
    free, needed = shutil.disk_usage(folder).free, subjects * SUBJECT_BYTES + 2**20
    if free < needed:
        raise DatasetError(
            f"{subjects} subjects need {format_bytes(needed)}, but only {format_bytes(free)} are free at {folder}; "
            "make room, choose another folder or ask for fewer subjects"
        )


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
