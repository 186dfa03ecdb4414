"""Trainer process of a run: reads the run folder, trains, records, and writes how training ended.

``python -m core.runs.processes.worker FOLDER``, started by the trainer parent. Every Python exception ends in
``state.json`` as "failed" with its message; the death of the process itself is recorded by its parent.
"""

from __future__ import annotations

import argparse
import errno
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from core.config import TrainConfig
from core.errors import LostProcessError, RunError, UserError
from core.events import Ended, Event, Listener, Segmented
from core.models.own_source import failure_in_code
from core.runs.processes.kept_predictions import keep_predictions
from core.runs.processes.torchrun_launcher import (
    MAX_RESTARTS,
    TorchrunContext,
    exit_when_run_ends,
    read_failure,
    torchrun_context,
    write_failure,
)
from core.runs.reporting.recorder import Recorder
from core.runs.store import folder as files
from core.runs.store import stop_file
from core.runs.store.process import die_with_parent, process_identity
from core.runs.store.state import RunState, read_state, write_state
from core.training.run_progress import keeping_limit_s

Experiment = Callable[[TrainConfig, Path, Listener, Callable[[], bool], bool], None]
STOP_POLL_S = 0.5


class StopRequest:
    """Whether the run is to stop: its folder holds the file ``stop``, or a signal was received.

    Parameters
    ----------
    folder : Path. The run folder.
    on_request : callable. Called once, at the first check after the request.
    """

    def __init__(self, folder: Path, on_request: Callable[[], None]) -> None:
        self._folder = folder
        self._on_request = on_request
        self._requested = self._signalled = False
        self._checked_at = 0.0

    def __call__(self) -> bool:
        """Check the signal, and the file at most once per ``STOP_POLL_S``."""
        if not self._requested:
            if time.monotonic() - self._checked_at >= STOP_POLL_S:
                self._checked_at = time.monotonic()
                self._requested = stop_file.stop_requested(self._folder)
            self._requested = self._requested or self._signalled
            if self._requested:
                self._on_request()
        return self._requested

    def handle_signals(self) -> None:
        """Take SIGINT, SIGTERM and SIGHUP as stop requests; repeated signals have no effect."""
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        self._signalled = True


def main(folder: Path, experiment: Experiment | None = None, attached_to: int = 0) -> int:
    """Train the run in ``folder``.

    Parameters
    ----------
    folder : Path. The run folder.
    experiment : callable, optional. The training function; default :func:`core.training.experiment.train_run`.
    attached_to : int. PID of the command in a terminal: progress is shown there, and training stops when the command
        dies. 0: detached, output goes to ``log.txt``.

    Returns
    -------
    int
        Exit status: 0 finished or stopped, 1 failed.
    """
    faulthandler.enable()
    context = torchrun_context()
    if context is not None:
        die_with_parent(context.launcher_pid, signal.SIGKILL)
        if context.rank or (context.restarts and not read_state(folder).active):
            return _train_without_recording(folder, experiment, context)
    state = read_state(folder)
    restarted = context is not None and context.restarts > 0 and state.active
    if state.state != "starting" and not restarted:
        raise RunError(f"{folder.name}: expected a run that is starting, it is {state.state}")
    recorder = Recorder(folder, _claim_state(folder, state, context, restarted))
    stop = StopRequest(folder, recorder.stop_requested)
    if context is None:  # with torchrun a stop is requested by the file; signals come from torchrun itself
        stop.handle_signals()
        if attached_to:
            die_with_parent(attached_to)
    listener, close = _listener(recorder, bool(attached_to))
    try:
        if context is not None and (failure := read_failure(folder)):
            raise RunError(failure)
        ended, segmented = _train(folder, experiment, listener, stop)
        if segmented is not None:
            keep_predictions(folder, segmented, keeping_limit_s(ended.elapsed_s), listener, stop)
    except LostProcessError as error:
        close()
        files.append_log(folder, _one_line(error))
        return 1
    except UserError as error:
        close()
        recorder.end("failed", _one_line(error))
        return 1 if context is None else 0  # torchrun restarts a trainer that exits with 1
    except Exception as error:  # noqa: BLE001 - a bug: the run has failed, its log holds the traceback
        close()
        files.append_log(folder, traceback.format_exc())
        network = files.read_config_or_default(folder).model.model
        recorder.end("failed", failure_in_code(network, error) or _describe(error))
        return 1 if context is None else 0
    close()
    if ended.reason == "stopped":
        recorder.end("stopped", ended.detail or stop_file.read_pruned(folder))
    else:
        recorder.end("finished", ended.detail)
    return 0


def _claim_state(folder: Path, state: RunState, context: TorchrunContext | None, restarted: bool) -> RunState:
    """Write this trainer, or its launcher, into the state."""
    pid, activity = os.getpid() if context is None else context.launcher_pid, state.what
    if context is not None and restarted:
        activity = "a trainer died: restarting from the last checkpoint"
        files.append_log(
            folder, f"a trainer died: all were restarted ({context.restarts} of at most {MAX_RESTARTS} times)"
        )
    return write_state(folder, replace(state, pid=pid, pid_start=process_identity(pid), what=activity))


def _train_without_recording(folder: Path, experiment: Experiment | None, context: TorchrunContext) -> int:
    """Train as a rank other than 0; only rank 0 records and checks for a stop. Exit status 1 has torchrun restart all
    trainers."""
    if not read_state(folder).active or read_failure(folder):
        return 0
    threading.Thread(target=exit_when_run_ends, args=(folder,), daemon=True).start()
    try:
        _train(folder, experiment, lambda event: None, lambda: False)
    except LostProcessError:
        return int(read_state(folder).active)
    except Exception as error:  # noqa: BLE001 - rank 0 ends the run with it, unless it raised the same error
        if not isinstance(error, UserError):
            files.append_log(folder, traceback.format_exc())
        write_failure(folder, context.rank, _one_line(error) if isinstance(error, UserError) else _describe(error))
        return int(read_state(folder).active)
    return 0


def _train(
    folder: Path, experiment: Experiment | None, listener: Listener, stop: Callable[[], bool]
) -> tuple[Ended, Segmented | None]:
    """Train to the end; returns the last event, and the segmentations of held-out subjects if there are any."""
    config = files.read_config(folder)
    if experiment is None:
        from core.training.experiment import train_run

        experiment = train_run
    ended: list[Ended] = []
    segmented: list[Segmented] = []

    def listen(event: Event) -> None:
        if isinstance(event, Ended):
            ended.append(event)
        elif isinstance(event, Segmented):
            segmented.append(event)
        listener(event)

    resume = files.has_training_state(folder)
    experiment(config, folder, listen, stop, resume)
    if not ended:
        raise RuntimeError("training returned without the event Ended")
    return ended[-1], segmented[-1] if segmented else None


def _listener(recorder: Recorder, attached: bool) -> tuple[Listener, Callable[[], None]]:
    if not attached:
        return recorder, lambda: None
    from core.runs.reporting.terminal import TerminalProgress

    progress = TerminalProgress()

    def listener(event: Event) -> None:
        recorder(event)
        progress(event)

    return listener, progress.close


def _describe(error: Exception) -> str:
    """One line about an exception that is not a :class:`UserError`; the log holds its traceback."""
    text = _one_line(error)
    lowered = text.lower()
    if isinstance(error, MemoryError) or "out of memory" in lowered or "can't allocate memory" in lowered:
        return f"not enough memory: try a smaller --sub-volume, --batch-size or --channels ({text[:200]})"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {text}; make room and resume the run"
    return f"{type(error).__name__}: {text}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m core.runs.processes.worker", description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--attached", type=int, default=0, metavar="PID", help="PID of the command in the terminal")
    return parser.parse_args(arguments)


def run(arguments: Sequence[str] | None = None, experiment: Experiment | None = None) -> int:
    """Entry point: ``FOLDER [--attached PID]``; returns the exit status."""
    args = _parse(arguments)
    return main(args.folder, experiment, args.attached)


if __name__ == "__main__":
    sys.exit(run())
