"""Trainer process that emits the events of a training run quickly and trains nothing, for tests of real processes.

``TOY`` in the environment selects its behaviour: "normal"; "user_error" (a ``UserError``); "bug" (another exception);
"unstoppable" (never checks for a stop); "exit" (exits without an event); "segv" (a segmentation fault);
"user_error_in_rank_1" (of several trainers, only rank 1 raises). ``TOY_EPOCH_S`` is the duration of an epoch.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from core.config import TrainConfig
from core.errors import DatasetError
from core.events import Ended, Listener, Metrics, Picture, Preparing, Progress, Ready, Saved
from core.files import atomic_write
from core.runs.processes import torchrun_launcher, worker
from core.runs.reporting import recorder


def toy_experiment(
    config: TrainConfig, folder: Path, listener: Listener, should_stop: Callable[[], bool], resume: bool
) -> None:
    mode, epoch_s = os.environ.get("TOY", "normal"), float(os.environ.get("TOY_EPOCH_S", "0.05"))
    listener(Preparing("reading subjects", 1, 3))
    while not Path(os.environ.get("TOY_PREPARES_UNTIL", __file__)).exists():
        time.sleep(0.02)
    is_main = os.environ.get("RANK", "0") == "0"
    if mode == "user_error" or (mode == "user_error_in_rank_1" and not is_main):
        raise DatasetError("expected a label for subject 3,\ngot none; add it")
    if mode == "bug":
        raise KeyError("a bug")
    if mode == "exit":
        os._exit(7)
    if mode == "segv":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    checkpoint = folder / "last.safetensors"
    done = int(checkpoint.read_text()) if resume else 0
    listener(Ready({"device": "cpu"}, ("air", "CSF", "GM"), done, done * 10))
    started_at, epochs = time.monotonic(), config.run.epochs
    for epoch in range(done + 1, epochs + 1):
        step = epoch * 10
        epoch_end = time.monotonic() + epoch_s
        while time.monotonic() < epoch_end:
            if should_stop() and mode != "unstoppable":
                listener(Ended("stopped", epoch - 1, step - 10, time.monotonic() - started_at))
                return
            time.sleep(0.01)
        elapsed = time.monotonic() - started_at
        listener(Progress(epoch, epochs, step, 10, 1 / epoch, 20.0, elapsed, (epochs - epoch) * epoch_s))
        dice = {"val/dice/CSF": 0.5, "val/dice/GM": float("nan"), "val/dice_mean": 0.5}
        listener(Metrics(epoch, step, elapsed, {"train/loss": 1 / epoch, **dice, "lr": 1e-3}))
        listener(Picture(epoch, step, "val/slice", np.zeros((4, 6, 3), np.uint8)))
        if is_main:
            atomic_write(checkpoint, str(epoch))  # it is killed at any time
        listener(Saved("last", str(checkpoint), epoch, step, None, None))
        listener(Saved("best", str(folder / "best.safetensors"), epoch, step, epoch / epochs, "sub-volumes"))
    listener(Ended("finished", epochs, epochs * 10, time.monotonic() - started_at))


if __name__ == "__main__":
    torchrun_launcher.WAIT_S = 0.5  # short delays, since tests wait for them
    recorder.STATE_EVERY_S = 0.1
    sys.exit(worker.run(experiment=toy_experiment))
