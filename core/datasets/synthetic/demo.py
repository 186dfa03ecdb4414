"""The demo data: synthetic subjects in the folder layout of iSEG-2017, written once and for good.

Subject n depends on the seed and on n alone, so the same seed gives the same bytes whatever the number of subjects or
worker processes (same library versions, same machine). A folder is finished when ``segmentarium-demo.json`` is in it;
until then ``segmentarium-demo.unfinished.json`` is, and the next call goes on where the last one ended.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from core.datasets.synthetic.demo_writer import (
    SUBJECT_BYTES,
    is_written,
    sweep,
    write_atomically,
    write_subject,
    write_subjects,
)
from core.errors import DatasetError
from core.formatting import format_bytes

DEMO_MARKER = "segmentarium-demo.json"
UNFINISHED_MARKER = "segmentarium-demo.unfinished.json"
DEMO_VERSION = 1
"""Raised whenever the same seed would give other bytes."""

MOST_SUBJECTS = 1000
MOST_WORKERS = 4
README = "README.txt"

NOTICE = """\
SYNTHETIC DATA - no patient, no volunteer: computed by Segmentarium for learning and for tests.

The folder layout is that of iSEG-2017 (https://iseg2017.web.unc.edu): subject-N-T1, -T2 and -label as Analyze pairs,
144 x 192 x 256 voxels of 1 mm, labels 0 air, 10 CSF, 150 grey matter, 250 white matter. Nothing in here comes from that
data set. The axes run left to right, back to front, bottom to top, which an Analyze header cannot state.

The anatomy is derived from the ICBM 2009 nonlinear symmetric MNI152 maps that nilearn carries, under this notice:

Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological Institute, McGill
University. Permission to use, copy, modify, and distribute this software and its documentation for any purpose and
without fee is hereby granted, provided that the above copyright notice appear in all copies. The authors and McGill
University make no representations about the suitability of this software for any purpose. It is provided "as is"
without express or implied warranty. The authors are not responsible for any data loss, equipment damage, property loss,
or injury to subjects or patients resulting from the use or misuse of this software package.
"""

Progress = Callable[[int, int], None]


def make_demo(
    out: Path | str,
    subjects: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Path:
    """Write the demo data into ``out`` (made if missing) and return that folder.

    Parameters
    ----------
    subjects : how many, 1 to 1000; 35 MB and about 4 s of one core each.
    seed : 0 or more; same seed, same bytes.
    progress : called with (subjects done, subjects) at the start and after each subject, from this thread.
    workers : processes; by default as many as there are cores, at most 4.

    An unfinished folder of the same seed is completed, a finished one extended if it has fewer subjects; a finished one
    with the same subjects is left as it is.

    Raises
    ------
    DatasetError
        If a parameter is out of range, the folder holds something else (another seed's demo included), cannot be
        written to or has too little room, or a worker fails.
    """
    folder = Path(out).expanduser().absolute()
    _check_numbers(subjects, seed, workers)
    marker = _claim(folder, subjects, seed)
    names = [f"subject-{n}" for n in range(1, subjects + 1)]
    missing = [n for n, name in enumerate(names, start=1) if not is_written(folder, name)]
    done = subjects - len(missing)
    if progress:
        progress(done, subjects)
    if not missing and marker is not None and marker["subjects"] == names:
        return folder
    _check_room(folder, len(missing))
    for _ in write_subjects(folder, seed, missing, workers or min(_cores(), MOST_WORKERS)):
        done += 1
        if progress:
            progress(done, subjects)
    write_atomically(folder / README, NOTICE.encode())
    _write_json(folder / DEMO_MARKER, _marker(seed, names))
    (folder / UNFINISHED_MARKER).unlink(missing_ok=True)
    sweep(folder)
    return folder


def ensure_demo(
    path: Path | str,
    subjects: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Path:
    """Return ``path`` at once if it holds finished demo data, whatever its seed and size; else make or complete it.

    Raises
    ------
    DatasetError
        As :func:`make_demo`.
    """
    folder = Path(path).expanduser().absolute()
    marker = read_marker(folder)
    if marker is None:
        return make_demo(folder, subjects, seed, progress, workers)
    if all(is_written(folder, name) for name in marker["subjects"]):
        return folder
    return make_demo(folder, len(marker["subjects"]), marker["seed"], progress, workers)


def ensure_subject(
    path: Path | str, subject: str = "subject-1", seed: int = 0, progress: Progress | None = None
) -> Path:
    """Make one subject of the demo data, unless it is there; :func:`make_demo` makes the others later.

    Parameters
    ----------
    subject : ``subject-1`` to ``subject-1000``; about 5 s of one core.
    progress : called with (steps done, steps) at the start and after each step.

    Returns
    -------
    The folder.

    Raises
    ------
    DatasetError
        As :func:`make_demo`; and if the folder is finished without this subject.
    """
    number = _number(subject)
    folder = Path(path).expanduser().absolute()
    _check_numbers(number, seed, None)
    marker = _claim(folder, number, seed, alone=True)
    if has_subject(folder, subject):
        return folder
    if marker is not None and subject not in marker["subjects"]:
        raise DatasetError(
            f"{folder} holds finished demo data with {len(marker['subjects'])} subjects and no {subject}; "
            f"make more with --subjects {number}"
        )
    _check_room(folder, 1)
    write_subject(folder, seed, number, progress=progress)
    return folder


def has_subject(path: Path, subject: str) -> bool:
    """Whether a subject of the demo data is complete, whatever the others are."""
    return is_written(path, subject)


def is_demo(path: Path) -> bool:
    """Whether a folder holds demo data, finished or not."""
    return any((path / name).is_file() for name in (DEMO_MARKER, UNFINISHED_MARKER))


def read_marker(folder: Path) -> dict[str, Any] | None:
    """What the marker of a finished demo folder says (``version``, ``seed``, ``subjects``), or None without one.

    Raises
    ------
    DatasetError
        If the marker is there but cannot be read.
    """
    return _read_json(folder / DEMO_MARKER)


def _check_numbers(subjects: int, seed: int, workers: int | None) -> None:
    for name, value, low, high in (
        ("subjects", subjects, 1, MOST_SUBJECTS),
        ("seed", seed, 0, 2**63 - 1),
        ("workers", 1 if workers is None else workers, 1, 256),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise DatasetError(f"{name} must be a whole number from {low} to {high}, got {value!r}")


def _number(subject: str) -> int:
    match = re.fullmatch(r"subject-([1-9][0-9]{0,3})", subject)
    if match is None:
        raise DatasetError(
            f"expected a subject of the demo data, subject-1 to subject-{MOST_SUBJECTS}, got {subject!r}"
        )
    return int(match[1])


def _claim(folder: Path, subjects: int, seed: int, alone: bool = False) -> dict[str, Any] | None:
    """Make sure that the folder is ours to write to; returns the marker if it is finished. ``alone``: one subject is
    asked for, however many there are."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = sorted(p.name for p in folder.iterdir() if p.name != ".DS_Store")
    except (FileExistsError, NotADirectoryError) as error:
        raise DatasetError(f"expected a folder to write the demo data to, but {error.filename} is a file") from error
    except OSError as error:
        raise DatasetError(f"cannot make or read the folder {folder}: {error.strerror}; choose another one") from error
    finished = read_marker(folder)
    begun = finished or _read_json(folder / UNFINISHED_MARKER)
    if begun is None:
        if found:
            raise DatasetError(
                f"expected an empty or new folder, but {folder} holds {len(found)} other files, such as {found[0]!r}; "
                "choose another folder"
            )
        _write_json(folder / UNFINISHED_MARKER, _marker(seed, []))
        return None
    if (begun["version"], begun["seed"]) != (DEMO_VERSION, seed):
        raise DatasetError(
            f"{folder} holds demo data of seed {begun['seed']} (version {begun['version']}), not of seed {seed} "
            f"(version {DEMO_VERSION}); choose another folder or delete this one"
        )
    if finished and len(finished["subjects"]) > subjects and not alone:
        raise DatasetError(
            f"{folder} already holds demo data with {len(finished['subjects'])} subjects, more than the {subjects} "
            "asked for; choose another folder or delete this one"
        )
    return finished


def _check_room(folder: Path, missing: int) -> None:
    free, needed = shutil.disk_usage(folder).free, missing * SUBJECT_BYTES + 2**20
    if free < needed:
        raise DatasetError(
            f"{missing} subjects need {format_bytes(needed)}, but only {format_bytes(free)} are free at {folder}; "
            "make room, choose another folder or ask for fewer subjects"
        )


def _marker(seed: int, names: Sequence[str]) -> dict[str, Any]:
    return {
        "name": "Synthetic demo data (iSEG-2017 layout)",
        "description": "synthetic brain MRI made by Segmentarium; not patient data",
        "synthetic": True,
        "version": DEMO_VERSION,
        "seed": int(seed),
        "layout": "iSEG-2017",
        "subjects": list(names),
        "licence": f"derived from the MNI152 maps, (C) 1993-2009 Louis Collins, McGill University; see {README}",
    }


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(path.read_text("utf-8"))
        names = data["subjects"]
        valid = isinstance(names, list) and all(isinstance(n, str) for n in names)
        if not (valid and isinstance(data["seed"], int) and isinstance(data["version"], int)):
            raise TypeError("wrong types")
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is damaged; delete the folder it is in and make the demo data again") from error
    return dict(data)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(data, indent=1) + "\n").encode())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
