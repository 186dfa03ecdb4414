"""Keeps subjects that do not fit on the training device in a memory-mapped file, and streams sub-volumes to the device.

The sub-volumes equal those of :class:`core.sampling.patches.ResidentSubjects`. Where the system allows it the file is
unlinked as soon as it is open, so no file remains when the process ends, even if it is killed.
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
from core.imaging.content import present_channels
from core.imaging.normalise import to_float16
from core.sampling.patches import Batch, PatchLocation, ResidentSubjects, Subjects, crop_patches
from core.types import Size3, TrainingSubject

Item = TypeVar("Item")
Result = TypeVar("Result")


class SubjectStore:
    """A memory-mapped file to which subjects are moved one by one, so that at most one is in memory.

    Parameters
    ----------
    folder : Path. Where the file is created.

    Attributes
    ----------
    nbytes : int. Bytes written so far.

    Raises
    ------
    DeviceError
        If the file cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nbytes = 0
        try:
            handle, name = tempfile.mkstemp(prefix=".subjects.", suffix=".tmp", dir=folder)
        except OSError as error:
            raise DeviceError(f"cannot keep the subjects on disk, in {folder}: {error.strerror}") from error
        self._file = os.fdopen(handle, "r+b")
        self._path: Path | None = Path(name)
        with contextlib.suppress(OSError):  # Windows cannot remove an open file; close() does
            os.unlink(name)
            self._path = None

    def add(self, subject: TrainingSubject) -> TrainingSubject:
        """Move a subject to the file.

        Returns
        -------
        TrainingSubject. The subject with memory-mapped arrays, image float16 and label uint8.

        Raises
        ------
        DeviceError
            If the disk is full or cannot be written.
        """
        image, label = (self._append(a) for a in (to_float16(subject.image), np.ascontiguousarray(subject.label)))
        return TrainingSubject(subject.id, image, label, subject.spacing_mm)

    def close(self) -> None:
        """Remove the file; arrays of its subjects stay readable as long as there are references to them."""
        if not self._file.closed:
            self._file.close()
            if self._path is not None:
                with contextlib.suppress(OSError):
                    self._path.unlink()

    def _append(self, array: np.ndarray) -> np.ndarray:
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
    """Subjects in a :class:`SubjectStore`; sub-volumes are copied to the device, through pinned memory to a GPU.

    Parameters
    ----------
    subjects : sequence of TrainingSubject. Those that are not in a store yet are moved to one.
    device : torch.device. The training device.
    folder : Path. Where the file of the store is created.

    Attributes
    ----------
    stored_bytes : int. Bytes of images and labels on disk.
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
            images.append(_as_tensor(stored.image))
            labels.append(_as_tensor(stored.label))
        self._images, self._labels = images, labels
        self._present: dict[int, tuple[bool, ...]] = {}  # of the subjects that were asked for
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
        return self._to_device(self._images[index]).float()

    def label(self, index: int) -> Tensor:
        return self._to_device(self._labels[index])

    def present(self, index: int) -> tuple[bool, ...]:
        if index not in self._present:
            self._present[index] = present_channels(self._images[index])
        return self._present[index]

    def crop(self, locations: Sequence[PatchLocation], size: Size3) -> Batch:
        copies = self.device.type != "cpu"
        pinned = self.device.type == "cuda"
        images = crop_patches(self._images, locations, size, torch.float16 if copies else torch.float32, pinned)
        labels = crop_patches(self._labels, locations, size, torch.uint8, pinned)
        # From other than pinned memory an asynchronous copy may read what has been freed or written to since.
        return images.to(self.device, non_blocking=pinned).float(), labels.to(self.device, non_blocking=pinned)

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return tensor.contiguous().pin_memory().to(self.device, non_blocking=True)
        return tensor.clone().to(self.device)


def resident_or_streamed(
    subjects: Sequence[TrainingSubject], device: torch.device, limit_bytes: int, folder: Path
) -> Subjects:
    """Keep subjects on the device if they fit, else stream them from disk.

    Parameters
    ----------
    subjects : sequence of TrainingSubject. Those in a :class:`SubjectStore` stay there.
    device : torch.device. The training device.
    limit_bytes : int. Most bytes on the device: two per voxel and channel of an image, one per voxel of a label map.
    folder : Path. Where the file of streamed subjects is created.

    Raises
    ------
    DeviceError
        If the disk is full or the folder cannot be written.
    """
    needed = sum(2 * s.image.size + s.label.size for s in subjects)
    stored = any(_is_stored(s) for s in subjects)
    if needed <= limit_bytes and not stored:
        return ResidentSubjects(subjects, device)
    return StreamedSubjects(subjects, device, folder)


def prefetch(items: Iterable[Item], load: Callable[[Item], Result], depth: int) -> Generator[Result, None, None]:
    """The results of ``load`` in the order of the items, up to ``depth`` of them computed ahead in a thread.

    What ``load`` raises is raised in place of its result. Closing the generator ends the thread.
    """
    pool = single_threaded_pool(1, "prefetch")
    pending: deque[Future[Result]] = deque()
    stopped = threading.Event()

    def load_unless_stopped(item: Item) -> Result:
        if stopped.is_set():
            raise RuntimeError("prefetching was stopped")
        return load(item)

    try:
        for item in items:
            pending.append(pool.submit(load_unless_stopped, item))
            if len(pending) > depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        stopped.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _is_stored(subject: TrainingSubject) -> bool:
    """Whether the arrays are those of a :class:`SubjectStore`."""
    return (
        all(isinstance(array, np.memmap) for array in (subject.image, subject.label))
        and subject.image.dtype == np.float16
    )


def _as_tensor(array: np.ndarray) -> Tensor:
    """A tensor over a read-only map; torch's warning about writes to it is suppressed, as the program only reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.asarray(array))
