"""The initial weights of a configuration (``init_from``): their file, and the network that they belong to."""

from __future__ import annotations

from pathlib import Path

from core.checkpointing.metadata import is_torch_file, read_metadata
from core.config import ModelConfig
from core.errors import RunError
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
        As :func:`initial_checkpoint`, or if the checkpoint cannot be read.
    """
    path = initial_checkpoint(root, text)
    if not path or is_torch_file(Path(path)):
        return None
    return read_metadata(Path(path)).train_config.model
