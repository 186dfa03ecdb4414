"""Background jobs that segment images of one subject each with a checkpoint: one at once, or several in turn."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ui.shared import jobs
from ui.shared.jobs import Job

_lock = threading.Lock()
_waiting: list[Path] = []  # folders of the jobs that start in turn


def start(
    folder: Path,
    checkpoint: Path,
    images: Sequence[Path],
    channels: Sequence[int],
    out: Path,
    options: Sequence[str] = (),
) -> None:
    """Start to segment images, one per modality of the network.

    Parameters
    ----------
    folder : Path. Folder of the job.
    checkpoint : Path. File of the network.
    images : sequence of Path. Image files, one per modality.
    channels : sequence of int. Channel of each image, counted from 1; empty if every file has one channel.
    out : Path. Label map to write.
    options : sequence of str. Further options of ``predict``.
    """
    channel_option = ["--channels", ",".join(map(str, channels))] if channels else []
    files = [str(checkpoint), *map(str, images)]
    jobs.start(folder, ["predict", *files, *channel_option, *options, "--out", str(out), "--json", "--progress"])


def start_in_turn(starts: Mapping[Path, Callable[[], None]]) -> None:
    """Start jobs one after another, each when the one before has ended.

    Parameters
    ----------
    starts : mapping. Starts the job, by its folder.
    """
    with _lock:
        _waiting.extend(folder for folder in starts if folder not in _waiting)
    threading.Thread(target=_work, args=(dict(starts),), daemon=True).start()


def cancel(folder: Path) -> None:
    """End the job of a folder, or keep it from starting."""
    with _lock:
        if folder in _waiting:
            _waiting.remove(folder)
    jobs.cancel(folder)


def observe(folder: Path, out: Path) -> Job:
    """The state of the job; a waiting one is running, with what it waits for as its message."""
    return Job("running", message="after others") if is_waiting(folder) else jobs.observe(folder, out.is_file())


def is_waiting(folder: Path) -> bool:
    """Whether the job will start in its turn."""
    with _lock:
        return folder in _waiting


def _work(starts: Mapping[Path, Callable[[], None]]) -> None:
    for folder, start_job in starts.items():
        with _lock:
            if folder not in _waiting:
                continue  # cancelled
            with contextlib.suppress(OSError):  # then there is no job, and the page offers to try again
                start_job()
            _waiting.remove(folder)
        jobs.wait(folder)
