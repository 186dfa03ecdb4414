"""Compares the code of a user's own network with that of a run's last checkpoint, before the run is resumed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from core.checkpointing.metadata import LAST, PREVIOUS, read_metadata
from core.config import TrainConfig
from core.errors import CheckpointError
from core.models import architecture
from core.models.own_source import code_change


def check_recorded_code(folder: Path, config: TrainConfig) -> None:
    """Refuse to resume a run with other code than it began with.

    Parameters
    ----------
    folder : Path. Run folder.
    config : TrainConfig. Its configuration.

    Raises
    ------
    ChangedCodeError
        If the code differs.
    ConfigError
        If it is gone.
    """
    from core.datasets.data_record import ChangedCodeError

    if not architecture(config.model.model).own:
        return
    recorded: dict[str, Any] = {}
    for name in (LAST, PREVIOUS):
        with suppress(CheckpointError):  # a damaged one: the trainer takes the other
            recorded = read_metadata(folder / name).network_code
            break
    if change := code_change(config.model.model, recorded):
        raise ChangedCodeError([change])
