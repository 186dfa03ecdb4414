"""Requests to a run as files in its folder, which its trainer sees on whichever host it trains: ``stop``, whose content
says how it is to end, and ``pruned``, the reason for which a sweep has it end early."""

from __future__ import annotations

from pathlib import Path

from core.errors import RunError
from core.files import atomic_write, is_present, read_replaced

STOP, PRUNED = "stop", "pruned"
# Contents of the stop file; an empty one asks for a checkpoint and the end.
AT_ONCE = "now"  # the trainer is killed
SIGNALLED = "signal"  # as an empty one, written by the process of a job that was signalled


def write_stop(folder: Path, content: str = "") -> None:
    """Write the stop file, in place of an earlier one.

    Parameters
    ----------
    folder : Path. The run folder.
    content : str. How the run is to end: empty, ``AT_ONCE`` or ``SIGNALLED``.

    Raises
    ------
    RunError
        If it cannot be written.
    """
    path = folder / STOP
    try:
        atomic_write(path, content)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error


def stop_requested(folder: Path) -> bool:
    """Whether a stop is requested, as far as is known: where the file system does not say, it is asked again later."""
    try:
        return is_present(folder / STOP)
    except OSError:
        return False


def read_stop(folder: Path) -> str | None:
    """Content of the stop file; ``None`` without one."""
    return _read(folder / STOP)


def read_pruned(folder: Path) -> str:
    """Why a sweep asked a run to end early; empty where it did not."""
    return (_read(folder / PRUNED) or "").strip()


def _read(path: Path) -> str | None:
    try:
        return read_replaced(lambda: path.read_text(encoding="utf-8"))
    except OSError:
        return None
