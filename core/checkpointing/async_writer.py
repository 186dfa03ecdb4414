"""Writes checkpoints beside training: the tensors are copied at once, a thread does the rest.

On a GPU the copy goes to pinned memory and is not waited for; the thread waits. What was written, and what could not
be, is told in the trainer's own thread, at its next call.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from core.checkpointing.checkpoint import Checkpoint, save
from core.compute.threads import single_threaded_pool


@dataclass(frozen=True)
class _Job:
    path: Path
    checkpoint: Checkpoint
    previous: Path | None
    copied: torch.cuda.Event | None
    told: Callable[[], None]


class CheckpointWriter:
    """Writes one checkpoint after the other, in the order in which they were given.

    At most one waits while another is written: a disk that is slower than training slows training, it does not fill the
    memory. Use as a context manager; leaving it waits for what is still to be written.
    """

    def __init__(self) -> None:
        self._jobs: queue.Queue[_Job | None] = queue.Queue(maxsize=1)
        self._written: queue.Queue[_Job] = queue.Queue()
        self._error: BaseException | None = None
        self._thread: ThreadPoolExecutor | None = None

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for the thread; what it met is raised unless something else already is."""
        self._end()
        if kind is None:
            self.poll()

    def write(self, path: Path, checkpoint: Checkpoint, told: Callable[[], None], previous: Path | None = None) -> None:
        """Copy the tensors and have them written to ``path``.

        Parameters
        ----------
        path : of the file, replaced atomically.
        checkpoint : may change as soon as this returns.
        told : called once the file is safe, from a later call of ours in the caller's thread.
        previous : where the file that it replaces goes on living.

        Raises
        ------
        CheckpointError
            If an earlier one could not be written.
        """
        self.poll()
        if self._thread is None:
            self._thread = single_threaded_pool(1, "checkpoints")
            self._thread.submit(self._work)
        copy, copied = _snapshot(checkpoint)
        self._jobs.put(_Job(path, copy, previous, copied, told))

    def flush(self) -> None:
        """Wait until everything is written; raises as :meth:`write` does."""
        self._jobs.join()
        self.poll()

    def poll(self) -> None:
        """Tell what was written since the last call; raises as :meth:`write` does."""
        while not self._written.empty():
            self._written.get().told()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if self._error is None:
                    if job.copied is not None:
                        job.copied.synchronize()
                    save(job.path, job.checkpoint, job.previous)
                    self._written.put(job)
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                self._error = error
            finally:
                self._jobs.task_done()
        self._jobs.task_done()

    def _end(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.shutdown()
            self._thread = None


def _snapshot(checkpoint: Checkpoint) -> tuple[Checkpoint, torch.cuda.Event | None]:
    """A copy in the host's memory, and what to wait for before it is complete."""
    on_cuda = False

    def copy(tensor: Tensor) -> Tensor:
        nonlocal on_cuda
        value = tensor.detach()
        if not value.is_cuda:
            return value.clone(memory_format=torch.contiguous_format)
        on_cuda = True
        host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        return host.copy_(value, non_blocking=True)

    result = replace(
        checkpoint,
        model={k: copy(v) for k, v in checkpoint.model.items()},
        average={k: copy(v) for k, v in checkpoint.average.items()},
        optimizer={n: {k: copy(v) for k, v in state.items()} for n, state in checkpoint.optimizer.items()},
    )
    if not on_cuda:
        return result, None
    copied = torch.cuda.Event(blocking=True)  # who waits sleeps
    copied.record()
    return result, copied
