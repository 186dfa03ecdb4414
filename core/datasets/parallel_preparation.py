"""Prepares the subjects of a run: opens those that are kept, prepares the others on all cores, and keeps them.

What does not fit into the cache, or cannot be written there, is prepared in this process every time.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from core import errors
from core.datasets.layouts.base import Dataset
from core.datasets.preparation_process import question
from core.datasets.prepared_cache import (
    FACTS_BYTES,
    Preparation,
    PreparedCache,
    PreparedFiles,
    PreparedSubject,
    limit_bytes,
)
from core.errors import DatasetError, UserError
from core.formatting import format_bytes
from core.processes import JsonLinesChild, start_json_lines_module

POLL_S = 0.1  # between looks at a request to stop
MIN_PARALLEL_BYTES = 32 * 2**20  # of prepared voxels, below which processes take longer to start than they save
SPARE_BYTES = 10**9  # of the disk that the cache leaves free
PROCESS_BYTES = 200 * 2**20  # of a process without a subject
WORKING_COPIES = 8  # float32 images that reading and preparing one takes at a time, measured with BraTS


@dataclass(frozen=True)
class Resources:
    """What preparing may take.

    Attributes
    ----------
    workers : int. Processes at a time.
    memory_bytes : int. Memory of all of them.
    first : float. Share of the subjects in front of which this process begins, so that the processes of one run, each
        of which prepares all subjects, do not prepare the same ones at the same time.
    """

    workers: int = 1
    memory_bytes: int = 2**62
    first: float = 0.0


class SubjectPreparation:
    """Subjects of a data set that are prepared or opened.

    Parameters
    ----------
    dataset : Dataset. Data set.
    preparation : Preparation. Settings.
    cache : PreparedCache. Where prepared subjects are kept.
    resources : Resources. Processes and memory.

    Attributes
    ----------
    opened : int. Subjects that were kept before.
    not_kept : str. Why some subjects are not kept; empty if all are.
    """

    def __init__(
        self, dataset: Dataset, preparation: Preparation, cache: PreparedCache, resources: Resources = Resources()
    ) -> None:
        self.dataset, self.preparation, self.cache, self.resources = dataset, preparation, cache, resources
        self.opened = 0
        self.not_kept = ""
        self._kept_bytes = self._untidy_bytes = 0
        self._limit_bytes = limit_bytes()

    def subjects(
        self, sizes: dict[str, int], should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[str, PreparedSubject]]:
        """All subjects as they become ready, those that are kept first; fewer if a stop is requested.

        Parameters
        ----------
        sizes : dict. Bytes of the prepared voxels by subject id.
        should_stop : callable. Asked between subjects; work that has begun is completed.

        Raises
        ------
        UserError
            If a subject cannot be prepared; of several the first.
        """
        first = int(self.resources.first * len(sizes))
        ids = [*list(sizes)[first:], *list(sizes)[:first]]
        workers = self._workers(sizes)
        waiting: list[tuple[str, PreparedFiles | None]] = []
        try:
            for id in ids:
                if should_stop():
                    return
                files = self.cache.identify(self.dataset, id, self.preparation) if self._limit_bytes else None
                opened = self.cache.open(files.key, id) if files is not None else None
                if opened is not None and files is not None:
                    self.opened += 1
                    self._kept_bytes += self.cache.size(files.key)
                    yield id, opened
                elif workers == 1:
                    yield id, self._prepare_here(id, files, sizes[id])
                else:
                    waiting.append((id, files))
            if waiting:
                yield from self._prepared(min(workers, len(waiting)), waiting, sizes, should_stop)
        finally:
            if self._untidy_bytes:
                with contextlib.suppress(OSError):
                    self.cache.tidy()

    def _workers(self, sizes: dict[str, int]) -> int:
        """Processes that prepare at a time; 1 for this process alone."""
        if sum(sizes.values()) < MIN_PARALLEL_BYTES:
            return 1
        of_one = PROCESS_BYTES + max(sizes.values()) * 2 * WORKING_COPIES
        return max(1, min(self.resources.workers, self.resources.memory_bytes // of_one))

    def _prepared(
        self,
        workers: int,
        waiting: Sequence[tuple[str, PreparedFiles | None]],
        sizes: dict[str, int],
        should_stop: Callable[[], bool],
    ) -> Iterator[tuple[str, PreparedSubject]]:
        """Subjects that other processes prepare."""
        children: queue.SimpleQueue[JsonLinesChild] = queue.SimpleQueue()
        started = [JsonLinesChild(_start_child) for _ in range(workers)]
        for child in started:
            children.put(child)
        pool = ThreadPoolExecutor(workers, "preparing")
        try:
            yield from self._collected(pool, children, waiting, sizes, should_stop)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            for child in started:
                child.close()

    def _collected(
        self,
        pool: ThreadPoolExecutor,
        children: queue.SimpleQueue[JsonLinesChild],
        waiting: Sequence[tuple[str, PreparedFiles | None]],
        sizes: dict[str, int],
        should_stop: Callable[[], bool],
    ) -> Iterator[tuple[str, PreparedSubject]]:
        """Subjects as their processes are done; those that are not kept are prepared here."""
        left = list(waiting)[::-1]
        order = list(sizes)
        failed: dict[int, UserError] = {}
        running: dict[Future[dict[str, str] | None], tuple[str, PreparedFiles]] = {}
        while left or running:
            if should_stop():
                return
            while left and len(running) < self.resources.workers + 1:
                id, files = left.pop()
                if files is None or not self._has_room(sizes[id] * (len(running) + 1)):
                    yield id, self._prepare_here(id, None, sizes[id])
                    break
                running[pool.submit(self._ask, children, id, files)] = id, files
            done, _ = wait(running, POLL_S if running else 0.0, "FIRST_COMPLETED")
            for future in done:
                id, files = running.pop(future)
                try:
                    answered = self._answered(id, files, future.result(), sizes[id])
                except UserError as error:
                    failed[order.index(id)] = error
                    left.clear()  # the first of those that have begun is named
                    continue
                yield id, answered
        if failed:
            raise failed[min(failed)]

    def _ask(self, children: queue.SimpleQueue[JsonLinesChild], id: str, files: PreparedFiles) -> dict[str, str] | None:
        child = children.get()
        try:
            one = replace(self.dataset, subjects=(self.dataset.subject(id),))
            return child.ask(question(self.cache.folder, one, files.key, self.preparation))
        finally:
            children.put(child)

    def _answered(self, id: str, files: PreparedFiles, answer: dict[str, str] | None, nbytes: int) -> PreparedSubject:
        """The subject that a process was asked for; prepared here where it crashed or did not keep it."""
        if answer is not None and "error" in answer:
            kind = getattr(errors, answer["kind"], DatasetError)
            raise kind(answer["error"])
        if answer is not None and "unwritable" in answer:
            self._keep_no_more(answer["unwritable"])
        opened = self.cache.open(files.key, id) if answer == {} else None
        if opened is None:
            return self._prepare_here(id, None, nbytes)
        self._count(files.key)
        return opened

    def _prepare_here(self, id: str, files: PreparedFiles | None, nbytes: int) -> PreparedSubject:
        """A subject that is prepared in this process, and kept where it is known which files it is of."""
        prepared = self.preparation.prepare(self.dataset, id)
        if files is None or not self._has_room(nbytes):
            return prepared
        try:
            if self.cache.identify(self.dataset, id, self.preparation) == files:
                self.cache.add(files.key, prepared)
                self._count(files.key)
        except OSError as error:
            self._keep_no_more(error.strerror or str(error))
            return prepared
        return self.cache.open(files.key, id) or prepared

    def _count(self, key: str) -> None:
        """Count a new entry; entries used longest ago make room for it once in a while."""
        nbytes = self.cache.size(key)
        self._kept_bytes += nbytes
        self._untidy_bytes += nbytes
        if self._untidy_bytes > self._limit_bytes / 20:
            self._untidy_bytes = 0
            self.cache.tidy()

    def _has_room(self, nbytes: int) -> bool:
        """Whether a further subject may be kept: within the limit for those of this run alone, and on the disk."""
        if self.not_kept or not self._limit_bytes:
            return False
        if self._kept_bytes + nbytes + FACTS_BYTES > self._limit_bytes:
            self.not_kept = (
                f"prepared data is kept up to {format_bytes(self._limit_bytes)} (SEGMENTARIUM_CACHE_GB); the rest is "
                "prepared for every run"
            )
            return False
        with contextlib.suppress(OSError):
            folder = next(f for f in (self.cache.folder, *self.cache.folder.parents) if f.is_dir())
            if shutil.disk_usage(folder).free < nbytes + SPARE_BYTES:
                self._keep_no_more(f"less than {format_bytes(SPARE_BYTES)} would be left on the disk")
        return not self.not_kept

    def _keep_no_more(self, reason: str) -> None:
        self.not_kept = f"prepared data is not kept in {self.cache.folder}: {reason}; it is prepared for every run"


def _start_child() -> subprocess.Popen[str]:
    """A process that prepares, with one thread: there are as many of them as cores to use."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = {**threads, "PYTHONUNBUFFERED": "1", **_same_folders()}
    return start_json_lines_module("core.datasets.preparation_process", environment, stderr=subprocess.DEVNULL)


def _same_folders() -> dict[str, str]:
    """Relative folders in variables of the environment, which another working directory would change."""
    names = [name for name in os.environ if name.startswith("SEGMENTARIUM_")]
    return {name: os.path.abspath(os.environ[name]) for name in names if os.path.isdir(os.environ[name])}
