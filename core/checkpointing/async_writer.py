"""Writes checkpoints in a background thread.

The tensors are copied at once, on a GPU asynchronously to pinned memory, which the thread waits for. Completed writes
and errors are reported in the trainer's own thread, at its next call.
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
class _WriteJob:
    """A checkpoint to write; ``copied`` is the event after which its tensors are complete."""

    path: Path
    checkpoint: Checkpoint
    previous: Path | None
    copied: torch.cuda.Event | None
    on_written: Callable[[], None]


class CheckpointWriter:
    """Writes checkpoints one after the other, in the order in which they are submitted.

    At most one waits while another is written, so a disk that is slower than training slows training instead of filling
    the memory. A context manager; leaving it waits for all writes.
    """

    def __init__(self) -> None:
        self._jobs: queue.Queue[_WriteJob | None] = queue.Queue(maxsize=1)
        self._written: queue.Queue[_WriteJob] = queue.Queue()
        self._error: BaseException | None = None
        self._executor: ThreadPoolExecutor | None = None

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for the thread; its error is raised unless another one already is."""
        self._shutdown()
        if kind is None:
            self.poll()

    def write(
        self, path: Path, checkpoint: Checkpoint, on_written: Callable[[], None], previous: Path | None = None
    ) -> None:
        """Copy the tensors, and write them to ``path`` in the background.

        Parameters
        ----------
        path : Path. The file, replaced atomically.
        checkpoint : Checkpoint. May change after the call.
        on_written : callable. Called in this thread, by a later call of this object, once the file is safe.
        previous : Path, optional. New name of the file that is replaced.

        Raises
        ------
        CheckpointError
            If an earlier checkpoint could not be written.
        """
        self.poll()
        if self._executor is None:
            self._executor = single_threaded_pool(1, "checkpoints")
            self._executor.submit(self._run)
        copy, copied = _copy_to_host(checkpoint)
        self._jobs.put(_WriteJob(path, copy, previous, copied, on_written))

    def flush(self) -> None:
        """Wait for all writes; raises as :meth:`write` does."""
        self._jobs.join()
        self.poll()

    def poll(self) -> None:
        """Report the writes completed since the last call; raises as :meth:`write` does."""
        while not self._written.empty():
            self._written.get().on_written()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run(self) -> None:
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

    def _shutdown(self) -> None:
        if self._executor is not None:
            self._jobs.put(None)
            self._executor.shutdown()
            self._executor = None


def _copy_to_host(checkpoint: Checkpoint) -> tuple[Checkpoint, torch.cuda.Event | None]:
    """A copy in host memory, and for tensors on a GPU the event after which it is complete."""
    on_cuda = False

    def copy(tensor: Tensor) -> Tensor:
        nonlocal on_cuda
        value = tensor.detach()
        if not value.is_cuda:  # .cpu() copies what is on another GPU
            return value.clone(memory_format=torch.contiguous_format).cpu()
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
    copied = torch.cuda.Event(blocking=True)  # synchronize() sleeps instead of spinning
    copied.record()
    return result, copied
