"""Writes synthetic subjects as NIfTI files, in this process or in several worker processes.

Workers are plain child processes, because ``multiprocessing`` would import the caller's main script again. They print
the number of each finished subject on standard output, and exit when their standard input closes, that is, with their
parent.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.datasets.layouts.iseg import LABELS
from core.errors import DatasetError
from core.files import atomic_replace, remove_temporaries
from core.paths import demo_example_folder
from core.processes import module_environment
from core.types import ProgressCallback, Size3

if TYPE_CHECKING:
    from core.datasets.synthetic.anatomy import Atlas

SHAPE: Size3 = (144, 192, 256)  # of every subject, in voxels of 1 mm
SPACING_MM = (1.0, 1.0, 1.0)
DTYPES: dict[str, np.dtype[Any]] = {"T1": np.dtype("<i2"), "T2": np.dtype("<i2"), "label": np.dtype("u1")}
HEADER_BYTES = 352  # of a NIfTI file, with the mark that no extension follows
SUBJECT_BYTES = 4_000_000  # on disk, at most
SHIPPED = (0, 1)  # seed and number of the subject that is shipped with the program
STEPS = 4  # of making one subject, for its progress

_WORKER = "from core.datasets.synthetic.demo_writer import run_worker; raise SystemExit(run_worker())"


def write_subjects(folder: Path, seed: int, numbers: Sequence[int], workers: int) -> Iterator[int]:
    """Write subjects; yields the number of each when it is finished, in any order.

    Parameters
    ----------
    folder : Path. Existing folder.
    seed : int. Seed of the data.
    numbers : sequence of int. Subject numbers, from 1.
    workers : int. Maximum number of processes; with 1 the subjects are made in this process.

    Raises
    ------
    DatasetError
        If a file cannot be written or a worker fails.
    """
    if not numbers:
        return
    if min(workers, len(numbers)) > 1:
        yield from _write_in_workers(folder, seed, numbers, min(workers, len(numbers)))
        return
    from core.datasets.synthetic.anatomy import load_atlas

    atlas = load_atlas()
    for number in numbers:
        write_subject(folder, seed, number, atlas)
        yield number


def write_subject(
    folder: Path, seed: int, number: int, atlas: Atlas | None = None, progress: ProgressCallback | None = None
) -> None:
    """Make one subject and write its three files, which appear together when all of them are complete.

    The subject that is shipped with the program is copied.

    Parameters
    ----------
    folder : Path. Existing folder.
    seed, number : int. Seed of the data and number of the subject; the files depend only on these.
    atlas : Atlas, optional. Result of :func:`core.datasets.synthetic.anatomy.load_atlas`, loaded here if absent.
    progress : callable, optional. Called with (steps done, steps) at the start and after each step.

    Raises
    ------
    DatasetError
        If a file cannot be written.
    """

    def report(done: int) -> None:
        if progress is not None:
            progress(done, STEPS)

    report(0)
    example = demo_example_folder()
    if (seed, number) == SHIPPED and is_written(example, f"subject-{number}"):
        files = {name: (example / name).read_bytes() for name in _file_names(f"subject-{number}").values()}
    else:
        files = _make_files(seed, number, atlas, report)
    with write_errors_as_dataset_errors(folder), contextlib.ExitStack() as stack:
        for old in _analyze_files(folder, f"subject-{number}"):  # damaged, or the subject would not be written anew
            old.unlink(missing_ok=True)
        for name, data in files.items():
            _write_durably(stack.enter_context(atomic_replace(folder / name)), data)
    report(STEPS)


def is_written(folder: Path, subject: str) -> bool:
    """Whether all files of a subject exist in their full sizes: NIfTI files, or the Analyze pairs of version 0.1."""
    sizes = {kind: dtype.itemsize * int(np.prod(SHAPE)) for kind, dtype in DTYPES.items()}
    if all(_unpacked_bytes(folder / name) == HEADER_BYTES + sizes[k] for k, name in _file_names(subject).items()):
        return True
    pairs = _analyze_files(folder, subject)
    expected = [size for kind in DTYPES for size in (348, sizes[kind])]
    return [path.stat().st_size if path.is_file() else -1 for path in pairs] == expected


def remove_stale_temporaries(folder: Path) -> None:
    """Remove temporary files of processes that no longer run."""
    remove_temporaries(folder, of_living=False)
    for old in folder.glob(".making-*"):  # of versions before 0.2
        old.unlink(missing_ok=True)


@contextlib.contextmanager
def write_errors_as_dataset_errors(folder: Path) -> Iterator[None]:
    """Context manager that turns an OSError on writing into a DatasetError that names the folder."""
    try:
        yield
    except OSError as error:
        raise DatasetError(f"cannot write to {folder}: {error.strerror}; make room or choose another folder") from error


def run_worker() -> int:
    """Entry point of a worker process: ``sys.argv`` holds folder, seed and subject numbers; returns the exit status."""
    folder, seed, *numbers = sys.argv[1:]
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        for number in write_subjects(Path(folder), int(seed), [int(n) for n in numbers], 1):
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
    except DatasetError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _exit_with_parent() -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock would be held at the interpreter's exit
        pass
    os._exit(1)


def _write_in_workers(folder: Path, seed: int, numbers: Sequence[int], workers: int) -> Iterator[int]:
    environment = {**module_environment(), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    results: queue.Queue[int | str] = queue.Queue()
    processes: list[subprocess.Popen[str]] = []
    try:
        for first in range(workers):
            share = [str(n) for n in numbers[first::workers]]
            process = subprocess.Popen(
                [sys.executable, "-c", _WORKER, str(folder), str(seed), *share],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            processes.append(process)
            threading.Thread(target=_forward_results, args=(process, results), daemon=True).start()
        for _ in numbers:
            result = results.get()
            if isinstance(result, str):
                raise DatasetError(result)
            yield result
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
        remove_stale_temporaries(folder)


def _forward_results(process: subprocess.Popen[str], results: queue.Queue[int | str]) -> None:
    """Forward the numbers that a worker prints and, if it fails, its last line on standard error."""
    assert process.stdout is not None and process.stderr is not None
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    reader.start()
    for line in process.stdout:
        results.put(int(line))
    reader.join()
    status = process.wait()
    if status:
        reason = errors[-1].strip() if errors else "out of memory?"
        results.put(reason if status == 1 and len(errors) == 1 else f"a worker ended with status {status}: {reason}")


def _write_durably(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _make_files(seed: int, number: int, atlas: Atlas | None, report: Callable[[int], None]) -> dict[str, bytes]:
    """The contents of a subject's files by name; ``report`` is called with the number of steps done."""
    from core.datasets.synthetic.anatomy import draw_anatomy, load_atlas
    from core.datasets.synthetic.contrast import simulate_images

    atlas = atlas or load_atlas()
    rng = np.random.default_rng([seed, number])
    report(1)
    anatomy = draw_anatomy(atlas, rng)
    report(2)
    label = np.zeros(anatomy.brain.shape, np.uint8)
    label[anatomy.brain] = np.array(list(LABELS), np.uint8)[anatomy.tissue + 1]
    volumes = {"label": label, **simulate_images(anatomy, rng)}
    report(3)
    names = _file_names(f"subject-{number}")
    return {names[kind]: _nifti_file(volume, DTYPES[kind]) for kind, volume in volumes.items()}


def _file_names(subject: str) -> dict[str, str]:
    """The file names of a subject by kind: "T1", "T2", "label"."""
    return {kind: f"{subject}-{kind}.nii.gz" for kind in DTYPES}


def _analyze_files(folder: Path, subject: str) -> list[Path]:
    """The files of a subject in demo data of version 0.1: header and voxels of each kind."""
    return [folder / f"{subject}-{kind}.{suffix}" for kind in DTYPES for suffix in ("hdr", "img")]


def _unpacked_bytes(path: Path) -> int:
    """The size that a gzipped file states at its end for its content; -1 for a missing or shorter file."""
    try:
        with open(path, "rb") as file:
            file.seek(-4, os.SEEK_END)
            return int.from_bytes(file.read(4), "little")
    except OSError:
        return -1


def _nifti_file(volume: np.ndarray, dtype: np.dtype[Any]) -> bytes:
    """A gzipped NIfTI file with the axes and, at the centre of the grid, the position of the MNI152 template."""
    from nibabel.nifti1 import Nifti1Header

    from core.datasets.synthetic.anatomy import ATLAS_CENTRE_MM

    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = ATLAS_CENTRE_MM - (np.array(SHAPE) - 1) / 2 * SPACING_MM
    header = Nifti1Header(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape(SHAPE)
    header.set_xyzt_units("mm")
    header.set_qform(affine, "scanner")
    header.set_sform(affine, "scanner")
    header["descrip"] = b"synthetic (Segmentarium demo data)"
    header["magic"], header["vox_offset"] = b"n+1", HEADER_BYTES
    voxels = _pad_to_file_grid(volume).astype(dtype).tobytes("F")
    return gzip.compress(header.binaryblock + bytes(4) + voxels, 6, mtime=0)


def _pad_to_file_grid(volume: np.ndarray) -> np.ndarray:
    """Centre a volume of the work grid in the grid of the file."""
    padded = np.zeros(SHAPE, volume.dtype)
    padded[tuple(slice((n - w) // 2, (n - w) // 2 + w) for n, w in zip(SHAPE, volume.shape, strict=True))] = volume
    return padded
