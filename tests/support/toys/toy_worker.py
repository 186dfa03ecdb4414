"""A trainer process that trains nothing: it says what training says, quickly, so that tests can watch real processes.

``TOY`` in the environment decides how it goes: "well", "badly" (the user's fault), "buggy" (ours), "deaf" (never asks
whether to stop), "exit" (leaves without a word), "segv" (a fault in native code), "second" (the second of several
trainers meets the user's fault, the first does not); ``TOY_EPOCH_S`` is an epoch's length.
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
from core.runs.processes import worker


def toy_experiment(
    config: TrainConfig, folder: Path, listener: Listener, should_stop: Callable[[], bool], resume: bool, started: float
) -> None:
    mode, epoch_s = os.environ.get("TOY", "well"), float(os.environ.get("TOY_EPOCH_S", "0.05"))
    listener(Preparing("reading subjects", 1, 3))
    leads = os.environ.get("RANK", "0") == "0"
    if mode == "badly" or (mode == "second" and not leads):
        raise DatasetError("expected a label for subject 3,\ngot none; add it")
    if mode == "buggy":
        raise KeyError("a bug")
    if mode == "exit":
        os._exit(7)
    if mode == "segv":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    last = folder / "last.safetensors"
    done = int(last.read_text()) if resume else 0
    listener(Ready({"device": "cpu"}, ("air", "CSF", "GM"), done, done * 10))
    begun, epochs = time.monotonic(), config.run.epochs
    for epoch in range(done + 1, epochs + 1):
        step = epoch * 10
        until = time.monotonic() + epoch_s
        while time.monotonic() < until:
            if should_stop() and mode != "deaf":
                listener(Ended("stopped", epoch - 1, step - 10, time.monotonic() - begun))
                return
            time.sleep(0.01)
        elapsed = time.monotonic() - begun
        listener(Progress(epoch, epochs, step, 10, 10, 1 / epoch, 20.0, elapsed, (epochs - epoch) * epoch_s))
        dice = {"val/dice/CSF": 0.5, "val/dice/GM": float("nan"), "val/dice_mean": 0.5}
        listener(Metrics(epoch, step, elapsed, {"train/loss": 1 / epoch, **dice, "lr": 1e-3}))
        listener(Picture(epoch, step, "val/slice", np.zeros((4, 6, 3), np.uint8)))
        if leads:
            last.write_text(str(epoch))
        listener(Saved("last", str(last), epoch, step, None, None))
        listener(Saved("best", str(folder / "best.safetensors"), epoch, step, epoch / epochs, "sub-volumes"))
    listener(Ended("finished", epochs, epochs * 10, time.monotonic() - begun))


if __name__ == "__main__":
    sys.exit(worker.run(experiment=toy_experiment))
