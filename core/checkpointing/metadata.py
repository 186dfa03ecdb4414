"""Reads the metadata of a checkpoint without torch: JSON in the header of a safetensors file.

:class:`CheckpointMetadata` describes the network, its training data, and the preprocessing of images, so that a
checkpoint can be used on its own. :mod:`core.checkpointing.checkpoint` writes it and reads the tensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core.config import TrainConfig
from core.errors import CheckpointError, UserError
from core.labels import LabelSpace
from core.types import SpacingMm

FORMAT_VERSION = 1
LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"  # in the folder of a run
METADATA_KEY = "segmentarium"
ZIP_MAGIC = b"PK\x03\x04"
LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9"  # pickled number at the start of PyTorch files before 1.6
TORCH_SUFFIXES = (".pth", ".pt", ".tar", ".ckpt", ".bin")
FIELD_TYPES = dict(config=dict, labels=list, modalities=list, progress=dict, inference=dict, dataset=dict, split=dict)


@dataclass(frozen=True)
class CheckpointMetadata:
    """Everything in a checkpoint but tensors; plain JSON.

    Attributes
    ----------
    config : dict. The run's configuration, including the values derived from the data.
    labels : list of dict. The label space; its order is that of the network's output channels.
    modalities : tuple of str. Names of the input channels, in order.
    spacing_mm : tuple of float or None. Voxel size to which images are resampled; ``None`` for no resampling.
    progress : dict. Epoch, step, elapsed seconds, best score and the like.
    inference : dict. Chosen mode and tile size.
    dataset : dict. Name, whether it is synthetic, licence.
    split : dict of list of str. Subject ids for train, val and test.
    version : int. Format version.
    """

    config: dict[str, Any]
    labels: list[dict[str, Any]]
    modalities: tuple[str, ...]
    spacing_mm: SpacingMm | None
    progress: dict[str, Any] = field(default_factory=dict)
    inference: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    split: dict[str, list[str]] = field(default_factory=dict)
    version: int = FORMAT_VERSION

    @property
    def train_config(self) -> TrainConfig:
        """The run's configuration."""
        return TrainConfig.from_json(self.config)

    @property
    def label_space(self) -> LabelSpace:
        """The label space."""
        return LabelSpace.from_json(self.labels)


def read_metadata(path: Path) -> CheckpointMetadata:
    """Read only the metadata (a few kilobytes), no tensor.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or not a checkpoint of Segmentarium.
    """
    with open_safetensors(path, "numpy") as file:
        return parse_metadata(path, file.metadata())


def open_safetensors(path: Path, framework: str) -> Any:
    """Open a safetensors file; its header is checked, no tensor is read.

    Parameters
    ----------
    path : Path. The file.
    framework : str. "pt" or "numpy": what its tensors are read as.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"expected a checkpoint, found no file {path}")
    try:
        return safe_open(str(path), framework=framework, device="cpu")
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        if is_torch_file(path):
            raise CheckpointError(
                f"{path} is not a checkpoint of Segmentarium but a PyTorch file, which does not state its modalities, "
                f"classes and voxel size; train from its weights: python -m core train DATA --init-from {path}"
            ) from error
        raise CheckpointError(
            f"{path} is not a checkpoint (expected safetensors), or it is damaged: {error}"
        ) from error


def is_torch_file(path: Path) -> bool:
    """Whether a file is a checkpoint of another program, written by PyTorch: by its first bytes, else by its name."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        start = b""
    if start[8:9] == b"{":  # the header of a safetensors file
        return False
    return start.startswith((ZIP_MAGIC, LEGACY_TORCH_MAGIC)) or path.name.lower().endswith(TORCH_SUFFIXES)


def parse_metadata(path: Path, header: Mapping[str, str] | None) -> CheckpointMetadata:
    """Parse and validate the metadata in the header of a safetensors file.

    Parameters
    ----------
    path : Path. Named in errors.
    header : mapping of str or None. The header's own metadata.

    Raises
    ------
    CheckpointError
        If there is none, or it is damaged or of a newer version.
    """
    text = (header or {}).get(METADATA_KEY)
    if text is None:
        raise CheckpointError(
            f"{path} is a safetensors file, but not one of Segmentarium's: it has no metadata of this program"
        )
    try:
        content = json.loads(text)
        version = int(content["version"])
        if version > FORMAT_VERSION:
            raise CheckpointError(f"it has format {version}, this program reads up to {FORMAT_VERSION}: update it")
        metadata = CheckpointMetadata(**content)
        for name, expected_type in FIELD_TYPES.items():
            if not isinstance(getattr(metadata, name), expected_type):
                raise TypeError(f"{name} is not a {expected_type.__name__}")
        modalities, spacing = tuple(str(m) for m in content["modalities"]), content["spacing_mm"]
        if not modalities:
            raise ValueError("no modalities")
        if spacing is not None:
            i, j, k = (float(v) for v in spacing)
            spacing = (i, j, k)
            if not all(math.isfinite(v) and v > 0 for v in spacing):
                raise ValueError(f"spacing_mm is {spacing}")
        metadata = replace(metadata, modalities=modalities, spacing_mm=spacing)
        metadata.train_config, metadata.label_space  # noqa: B018 - both validate
    except UserError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: its metadata are damaged ({error})") from error
    return metadata
