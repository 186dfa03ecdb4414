"""Makes synthetic subjects and writes each as three Analyze pairs, in this process or in several worker processes.

Workers are plain child processes (not ``multiprocessing``, which would import the caller's main script once more); they
report each finished subject on standard output and end when their standard input closes, that is, with their parent.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import DatasetError
from core.files import atomic_replace, remove_temporaries
from core.paths import project_root

SHAPE = (144, 192, 256)
RAW_LABELS = (0, 10, 150, 250)
HEADER_BYTES = 348
DTYPES: dict[str, np.dtype[Any]] = {"T1": np.dtype("<i2"), "T2": np.dtype("<i2"), "label": np.dtype("u1")}
SUBJECT_BYTES = sum(t.itemsize * int(np.prod(SHAPE)) + HEADER_BYTES for t in DTYPES.values())
if TYPE_CHECKING:
    from core.datasets.synthetic.anatomy import Atlas

_WORK = "from core.datasets.synthetic.demo_writer import work; raise SystemExit(work())"


def write_subjects(folder: Path, seed: int, numbers: Sequence[int], workers: int) -> Iterator[int]:
    """Write the subjects with these numbers; yields each number as it is finished, in any order.

    Raises
    ------
    DatasetError
        If a file cannot be written or a worker process ends early.
    """
    if not numbers:
        return
    if min(workers, len(numbers)) > 1:
        yield from _in_processes(folder, seed, numbers, min(workers, len(numbers)))
        return
    from core.datasets.synthetic.anatomy import load_atlas

    atlas = load_atlas()
    for number in numbers:
        write_subject(folder, seed, number, atlas)
        yield number


def write_subject(
    folder: Path, seed: int, number: int, atlas: Atlas | None = None, progress: Callable[[int, int], None] | None = None
) -> None:
    """Make subject ``number`` of ``seed`` and move its six files into place when all of them are complete.

    Parameters
    ----------
    atlas : of :func:`core.datasets.synthetic.anatomy.load_atlas`, read here if not given.
    progress : called with (steps done, steps) at the start and after each step.

    Raises
    ------
    DatasetError
        If a file cannot be written.
    """
    from core.datasets.synthetic.anatomy import draw_anatomy, load_atlas
    from core.datasets.synthetic.contrast import paint

    def show(done: int) -> None:
        if progress is not None:
            progress(done, 4)

    show(0)
    atlas = atlas or load_atlas()
    rng = np.random.default_rng([seed, number])
    show(1)
    anatomy = draw_anatomy(atlas, rng)
    show(2)
    label = np.zeros(anatomy.brain.shape, np.uint8)
    label[anatomy.brain] = np.array(RAW_LABELS, np.uint8)[anatomy.tissue + 1]
    volumes = {"label": label, **paint(anatomy, rng)}
    show(3)
    contents = {f"{kind}.img": _in_full_grid(volumes[kind]).astype(DTYPES[kind]).tobytes("F") for kind in volumes}
    contents |= {f"{kind}.hdr": _header(DTYPES[kind]) for kind in volumes}
    names = {f"subject-{number}-{ending}": data for ending, data in contents.items()}
    with contextlib.ExitStack() as stack:  # all six files appear together, once all are on the disk
        for name, data in names.items():
            _write(stack.enter_context(atomic_replace(folder / name)), data)
    show(4)


def is_written(folder: Path, name: str) -> bool:
    """Whether all six files of a subject are there in their full sizes."""
    for kind, dtype in DTYPES.items():
        for ending, size in (("hdr", HEADER_BYTES), ("img", dtype.itemsize * int(np.prod(SHAPE)))):
            path = folder / f"{name}-{kind}.{ending}"
            if not path.is_file() or path.stat().st_size != size:
                return False
    return True


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that it is there either completely or not at all.

    Raises
    ------
    DatasetError
        If it cannot be written.
    """
    with atomic_replace(path) as temporary:
        _write(temporary, data)


def sweep(folder: Path) -> None:
    """Delete what processes that are no longer alive left half-written."""
    remove_temporaries(folder, of_living=False)
    for old in folder.glob(".making-*"):  # of earlier versions
        old.unlink(missing_ok=True)


def work() -> int:
    """A worker process: ``FOLDER SEED NUMBER...`` in ``sys.argv``; prints the number of each subject when written."""
    folder, seed, *numbers = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        for number in write_subjects(Path(folder), int(seed), [int(n) for n in numbers], 1):
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
    except DatasetError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _end_with_parent() -> None:
    while os.read(0, 1):  # not sys.stdin: its lock would be held when the interpreter ends
        pass
    os._exit(1)


def _in_processes(folder: Path, seed: int, numbers: Sequence[int], workers: int) -> Iterator[int]:
    root = str(project_root())
    search = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    reports: queue.Queue[int | str] = queue.Queue()
    children: list[subprocess.Popen[str]] = []
    try:
        for first in range(workers):
            mine = [str(n) for n in numbers[first::workers]]
            child = subprocess.Popen(
                [sys.executable, "-c", _WORK, str(folder), str(seed), *mine],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
            )  # fmt: skip
            children.append(child)
            threading.Thread(target=_relay, args=(child, reports), daemon=True).start()
        for _ in numbers:
            report = reports.get()
            if isinstance(report, str):
                raise DatasetError(report)
            yield report
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()
        sweep(folder)


def _relay(child: subprocess.Popen[str], reports: queue.Queue[int | str]) -> None:
    """Pass on the numbers that a worker prints and, should it fail, its last line on standard error."""
    assert child.stdout is not None and child.stderr is not None
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.extend(child.stderr or ()), daemon=True)
    reader.start()
    for line in child.stdout:
        reports.put(int(line))
    reader.join()
    status = child.wait()
    if status:
        reason = errors[-1].strip() if errors else "out of memory?"
        reports.put(reason if status == 1 and len(errors) == 1 else f"a worker ended with status {status}: {reason}")


def _write(path: Path, data: bytes) -> None:
    try:
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DatasetError(
            f"cannot write to {path.parent}: {error.strerror}; make room or choose another folder"
        ) from error


def _header(dtype: np.dtype[Any]) -> bytes:
    """Analyze 7.5 header as infant labs write it: no affine, four dimensions of which the last is 1, little-endian."""
    from nibabel.analyze import AnalyzeHeader

    header = AnalyzeHeader(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape((*SHAPE, 1))
    header.set_zooms((1.0, 1.0, 1.0, 1.0))
    header["descrip"] = b"synthetic (Segmentarium demo data)"
    return bytes(header.binaryblock)


def _in_full_grid(volume: np.ndarray) -> np.ndarray:
    """Put the region that was worked on in the middle of the file's grid."""
    whole = np.zeros(SHAPE, volume.dtype)
    whole[tuple(slice((n - w) // 2, (n - w) // 2 + w) for n, w in zip(SHAPE, volume.shape, strict=True))] = volume
    return whole
