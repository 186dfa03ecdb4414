"""Where a run would train, as far as it is known before it starts: the kind of device, and how fast it was."""

from __future__ import annotations

from pathlib import Path

from core.compute.expected_device import expected_device
from core.runs.engines.registry import get_engine
from core.runs.measured_speed import duration_factors, last_device
from core.runs.store.engine_records import LOCAL
from core.training_place import TrainingPlace


def expected_place(root: Path, engine: str = LOCAL, device: str = "auto") -> TrainingPlace:
    """The place of a run on this machine or on another engine.

    On another engine a device of "auto" is that of the last run that trained there; before there is one, a GPU is
    expected where the engine requests GPUs for a run, else a CPU.

    Parameters
    ----------
    root : Path. Checkpoints root.
    engine : str. Name of the engine; empty for this machine.
    device : str. Device of the configuration.

    Raises
    ------
    ConfigError
        If there is no such engine.
    """
    capabilities = get_engine(root, engine).capabilities
    if not capabilities.jobs:
        kind = expected_device(device)
        return TrainingPlace(kind, duration_factors(root, kind))
    seen = last_device(root, engine)
    kind = device if device != "auto" else seen or ("cuda" if capabilities.requests_gpus else "cpu")
    if seen == kind:
        known = ""
    elif device != "auto":
        known = f"no run has trained on a device of this kind on {engine} yet"
    elif capabilities.requests_gpus:
        known = f"{engine} requests a GPU for a run; which one is not known before a run has trained there"
    else:
        known = f"{engine} requests no GPU for a run; its processors are not known before a run has trained there"
    return TrainingPlace(kind, duration_factors(root, kind, engine), engine, known)
