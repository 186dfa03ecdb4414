"""Subjects that do not fit on the training device: kept in a memory-mapped file, cut there, and streamed.

The sub-volumes are the same as those of subjects that live on the device. The file has no name once it is open (where
the system allows that), so nothing is left behind, however the process ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from core.compute.threads import single_threaded_pool
from core.errors import DeviceError
from core.formatting import format_bytes
from core.sampling.patches import DeviceSubjects, Place, Subjects, boxes, half
from core.types import Size3, TrainingSubject

Job = TypeVar("Job")
Result = TypeVar("Result")


class SubjectStore:
    """A file in a folder that subjects are moved into one by one, so that no more than one is ever in memory.

    Raises
    ------
    DeviceError
        If the file cannot be made, or later if the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nbytes = 0
        try:
            handle, name = tempfile.mkstemp(prefix=".subjects.", suffix=".tmp", dir=folder)
        except OSError as error:
            raise DeviceError(f"cannot keep the subjects on disk, in {folder}: {error.strerror}") from error
        self._file = os.fdopen(handle, "r+b")
        self._name: Path | None = Path(name)
        with contextlib.suppress(OSError):  # Windows cannot remove what is open: close() does
            os.unlink(name)
            self._name = None

    def add(self, subject: TrainingSubject) -> TrainingSubject:
        """Move a subject to the file; returns one whose arrays, float16 and uint8, lie there."""
        image, label = (self._put(a) for a in (half(subject.image), np.ascontiguousarray(subject.label)))
        return TrainingSubject(subject.id, image, label, subject.spacing_mm)

    def close(self) -> None:
        """Remove the file; the arrays of its subjects stay readable as long as they are held."""
        if not self._file.closed:
            self._file.close()
            if self._name is not None:
                with contextlib.suppress(OSError):
                    self._name.unlink()

    def _put(self, array: np.ndarray) -> np.ndarray:
        start = self.nbytes
        try:
            self._file.seek(start)
            self._file.write(array.tobytes() if not array.flags.c_contiguous else array.data.cast("B"))
            self._file.flush()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise DeviceError(f"cannot keep the subjects on disk, in {self.folder}: {error.strerror}") from error
            raise DeviceError(
                f"no space left for the subjects, which do not fit on the training device, in {self.folder}: "
                f"{format_bytes(start + array.nbytes)} were needed so far; free some space, or raise resident_gb"
            ) from error
        self.nbytes = start + array.nbytes
        return np.memmap(self._file, array.dtype, "r", start, array.shape)


class StreamedSubjects:
    """Subjects in a :class:`SubjectStore`; what is cut goes to the device, through pinned memory where it is a GPU.

    Parameters
    ----------
    subjects : those that are not in a store already are moved into one in ``folder``.
    device : that trains.
    folder : for the file.

    Attributes
    ----------
    stored_bytes : of images and labels on disk.
    """

    def __init__(self, subjects: Sequence[TrainingSubject], device: torch.device, folder: Path) -> None:
        self.device = device
        self.ids = [s.id for s in subjects]
        self._store: SubjectStore | None = None
        images, labels = [], []
        for subject in subjects:
            stored = subject
            if not _is_stored(subject):
                self._store = self._store or SubjectStore(folder)
                stored = self._store.add(subject)
            images.append(_tensor(stored.image))
            labels.append(_tensor(stored.label))
        self._images, self._labels = images, labels
        self.stored_bytes = sum(t.numel() * t.element_size() for t in (*images, *labels))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def channels(self) -> int:
        return self._images[0].shape[0] if self._images else 0

    @property
    def nbytes(self) -> int:
        return 0

    def image(self, index: int) -> Tensor:
        return self._send(self._images[index]).float()

    def label(self, index: int) -> Tensor:
        return self._send(self._labels[index])

    def crop(self, places: Sequence[Place], size: Size3) -> tuple[Tensor, Tensor]:
        away = self.device.type != "cpu"
        pinned = self.device.type == "cuda"
        images = boxes(self._images, places, size, torch.float16 if away else torch.float32, pinned)
        labels = boxes(self._labels, places, size, torch.uint8, pinned)
        return images.to(self.device, non_blocking=True).float(), labels.to(self.device, non_blocking=True)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def _send(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return tensor.contiguous().pin_memory().to(self.device, non_blocking=True)
        return tensor.clone()


def hold(subjects: Sequence[TrainingSubject], device: torch.device, limit_bytes: int, folder: Path) -> Subjects:
    """Keep subjects on the device if they take at most ``limit_bytes`` there, else on disk, in ``folder``.

    On the device an image takes two bytes per voxel and channel, a label one per voxel. Subjects that lie in a
    :class:`SubjectStore` already stay there.

    Raises
    ------
    DeviceError
        If the disk is full or the folder cannot be written.
    """
    needed = sum(2 * s.image.size + s.label.size for s in subjects)
    stored = any(_is_stored(s) for s in subjects)
    if needed <= limit_bytes and not stored:
        return DeviceSubjects(subjects, device)
    return StreamedSubjects(subjects, device, folder)


def ahead(jobs: Iterable[Job], work: Callable[[Job], Result], depth: int) -> Generator[Result, None, None]:
    """The results of ``work`` in the order of the jobs, up to ``depth`` of them made in a thread before they are asked
    for. What ``work`` raises is raised where its result would have come. Close it to stop early; the thread ends."""
    todo = iter(jobs)
    pool = single_threaded_pool(1, "ahead")
    waiting: deque[Future[Result]] = deque()
    stopped = threading.Event()

    def unless_stopped(job: Job) -> Result:
        if stopped.is_set():
            raise RuntimeError("nobody wants it any more")
        return work(job)

    try:
        for job in todo:
            waiting.append(pool.submit(unless_stopped, job))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        stopped.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _is_stored(subject: TrainingSubject) -> bool:
    """Whether the arrays are those of a :class:`SubjectStore`."""
    return (
        all(isinstance(array, np.memmap) for array in (subject.image, subject.label))
        and subject.image.dtype == np.float16
    )


def _tensor(array: np.ndarray) -> Tensor:
    """A tensor over a read-only map; torch warns that it could be written to, which it never is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.asarray(array))
