"""The trainer process of one run: reads its folder, trains, records, and says how it ended.

``python -m core.runs.processes.worker FOLDER``, started by a shim or by the command ``train``. Whatever happens inside Python
ends in ``state.json``: finished, stopped, or failed with the message. What kills the process is noticed by its shim.
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
from core.events import Ended, Event, Listener
from core.runs.processes.torchrun_launcher import RESTARTS, Member, exit_when_run_ends, leave_note, member, read_note
from core.runs.reporting.recorder import Recorder
from core.runs.store import folder as files
from core.runs.store.process import die_with_parent, identity
from core.runs.store.state import read_state, write_state

Experiment = Callable[[TrainConfig, Path, Listener, Callable[[], bool], bool, float], None]
STOP_POLL_S = 0.5


class StopRequest:
    """Whether the run should stop: somebody left the file ``stop`` in its folder, or a signal asked."""

    def __init__(self, folder: Path, noticed: Callable[[], None]) -> None:
        self._file = folder / files.STOP
        self._noticed = noticed
        self._asked = self._signalled = False
        self._looked_at = 0.0

    def __call__(self) -> bool:
        """Cheap: looks at the disk twice a second at most."""
        if not self._asked:
            if time.monotonic() - self._looked_at >= STOP_POLL_S:
                self._looked_at = time.monotonic()
                self._asked = self._file.exists()
            self._asked = self._asked or self._signalled
            if self._asked:
                self._noticed()
        return self._asked

    def listen(self) -> None:
        """Take Ctrl-C, termination and a closed terminal as requests; asking again changes nothing."""
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        self._signalled = True


def main(folder: Path, experiment: Experiment | None = None, attached_to: int = 0) -> int:
    """Train the run in ``folder``; returns the exit status: 0 finished or stopped, 1 failed.

    Parameters
    ----------
    experiment : what trains; :func:`core.training.experiment.train_run` unless given.
    attached_to : pid of the command in whose terminal this runs: progress is drawn there, and the run stops with it.
        0: nobody watches, output goes to ``log.txt``.
    """
    faulthandler.enable()
    crew = member()
    if crew is not None:
        die_with_parent(crew.launcher, signal.SIGKILL)
        if crew.rank or (crew.restarts and not read_state(folder).active):
            return _follow(folder, experiment, crew)
    state = read_state(folder)
    again = crew is not None and crew.restarts > 0 and state.active
    if state.state != "starting" and not again:
        raise RunError(f"{folder.name}: expected a run that is starting, it is {state.state}")
    begun = time.monotonic() - (0.0 if again else max(0.0, time.time() - (state.started_at or time.time())))
    pid = os.getpid() if crew is None else crew.launcher
    what = "a trainer died: starting again from the last checkpoint" if again else state.what
    recorder = Recorder(folder, write_state(folder, replace(state, pid=pid, pid_start=identity(pid), what=what)))
    stop = StopRequest(folder, recorder.stopping)
    if crew is None:  # a crew is asked by the file; signals come from who replaces a trainer
        stop.listen()
        if attached_to:
            die_with_parent(attached_to)
    elif again:
        files.append_log(folder, f"a trainer died: all were started anew ({crew.restarts} of at most {RESTARTS} times)")
    listener, close = _listener(recorder, bool(attached_to))
    try:
        if crew is not None and (said := read_note(folder)):
            raise RunError(said)
        ended = _train(folder, experiment, listener, stop, begun)
    except LostProcessError as error:
        close()
        files.append_log(folder, _one_line(error))
        return 1
    except UserError as error:
        close()
        recorder.end("failed", _one_line(error))
        return 1 if crew is None else 0  # a crew that failed is not to be started anew
    except Exception as error:  # noqa: BLE001 - a bug of ours: the run has failed, its log keeps the traceback
        close()
        files.append_log(folder, traceback.format_exc())
        recorder.end("failed", _explained(error))
        return 1 if crew is None else 0
    close()
    recorder.end("stopped" if ended.reason == "stopped" else "finished", ended.why)
    return 0


def _follow(folder: Path, experiment: Experiment | None, crew: Member) -> int:
    """Train beside the leader, who alone writes and is asked to stop. The exit status is 1 where the crew is to be
    started anew."""
    if not read_state(folder).active or read_note(folder):
        return 0
    threading.Thread(target=exit_when_run_ends, args=(folder,), daemon=True).start()
    try:
        _train(folder, experiment, lambda event: None, lambda: False, time.monotonic())
    except LostProcessError:
        return int(read_state(folder).active)
    except Exception as error:  # noqa: BLE001 - the leader ends the run with it, unless it met the same itself
        if not isinstance(error, UserError):
            files.append_log(folder, traceback.format_exc())
        leave_note(folder, crew.rank, _one_line(error) if isinstance(error, UserError) else _explained(error))
        return int(read_state(folder).active)
    return 0


def _train(
    folder: Path, experiment: Experiment | None, listener: Listener, stop: Callable[[], bool], begun: float
) -> Ended:
    """Train to the end; returns what training said at its end."""
    config = files.read_config(folder)
    if experiment is None:
        from core.training.experiment import train_run

        experiment = train_run
    reasons: list[Ended] = []

    def listen(event: Event) -> None:
        if isinstance(event, Ended):
            reasons.append(event)
        listener(event)

    resume = any((folder / name).exists() for name in (files.LAST, files.PREVIOUS))
    experiment(config, folder, listen, stop, resume, begun)
    if not reasons:
        raise RuntimeError("training returned without saying that it ended")
    return reasons[-1]


def _listener(recorder: Recorder, attached: bool) -> tuple[Listener, Callable[[], None]]:
    if not attached:
        return recorder, lambda: None
    from core.runs.reporting.terminal import TerminalProgress

    screen = TerminalProgress()

    def both(event: Event) -> None:
        recorder(event)
        screen(event)

    return both, screen.close


def _explained(error: Exception) -> str:
    """One line about an exception that no part of the program translated; the log has its traceback."""
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
    parser.add_argument("--attached", type=int, default=0, metavar="PID", help="pid of the command that watches")
    return parser.parse_args(arguments)


def run(arguments: Sequence[str] | None = None, experiment: Experiment | None = None) -> int:
    """The process: ``FOLDER [--attached PID]``."""
    args = _parse(arguments)
    return main(args.folder, experiment, args.attached)


if __name__ == "__main__":
    sys.exit(run())
