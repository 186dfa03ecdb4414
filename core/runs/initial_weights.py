"""The initial weights of a configuration (``init_from``): their file, and the network that they belong to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from core.checkpointing.metadata import is_torch_file, read_metadata, refuse_ensemble
from core.config import ModelConfig
from core.errors import ConfigError, RunError
from core.models import architecture
from core.runs.catalog import find_checkpoint


def initial_checkpoint(root: Path, text: str) -> str:
    """The absolute path of the checkpoint that ``init_from`` names; empty for none.

    Raises
    ------
    RunError
        If there is no such run or file, or the run has no checkpoint yet.
    """
    try:
        return str(find_checkpoint(root, text)) if text else ""
    except RunError as error:
        raise RunError(f"init_from: {error}") from error


def initial_network(root: Path, text: str) -> ModelConfig | None:
    """The network that the initial weights belong to, which has to be trained for them to fit; ``None`` without initial
    weights, and for a file of another program, which does not describe its network.

    Raises
    ------
    UserError
        As :func:`initial_checkpoint` and :func:`network_of`.
    """
    path = initial_checkpoint(root, text)
    return network_of(Path(path)) if path else None


def network_of(path: Path) -> ModelConfig | None:
    """The network of a checkpoint to begin with, under its first name; ``None`` for a file of another program.

    Raises
    ------
    UserError
        If the file cannot be read, holds an ensemble, or its network is one of the user's own that is not known.
    """
    if is_torch_file(path):
        return None
    metadata = read_metadata(path)
    refuse_ensemble(path, metadata)
    model = metadata.train_config.model
    try:
        return replace(model, model=architecture(model.model).name)
    except ConfigError as error:
        raise ConfigError(f"init_from: {path}: {error}") from error
