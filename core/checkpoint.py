"""Checkpoints: one safetensors file with every tensor of a training run and its description as JSON. No pickle.

Tensors are named ``model/<name>``, ``average/<name>`` (running average of the weights) and
``optimizer/<parameter>/<state>``. Random numbers need no state: every draw is a function of the seed and the step, and
the step is in the description (:mod:`core.description`). Writing is atomic and durable: temporary file in the same
folder, fsync, rename, fsync of the folder; ``kill -9`` at any instant leaves the old file or the new one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.description import FORMAT_VERSION, KEY, Description, describe, open_tensors, read_description
from core.errors import CheckpointError, UserError
from core.models import build_model
from core.strict_json import plain

__all__ = [
    "FORMAT_VERSION", "KEY", "Checkpoint", "Description", "build", "for_sharing", "load", "read_description", "save",
    "sweep", "transfer", "write_atomically",
]  # fmt: skip

GROUPS = ("model", "average", "optimizer")
TYPES = {torch.float32: "F32", torch.int64: "I64"}  # as safetensors calls them


@dataclass
class Checkpoint:
    """The tensors of a checkpoint, by group, and its description."""

    description: Description
    model: dict[str, Tensor]
    average: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights to predict with: the running average where there is one."""
        return self.average or self.model


def build(description: Description) -> nn.Module:
    """An untrained network of the described kind."""
    return build_model(description.train_config.model, len(description.modalities), len(description.labels))


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically and durably; what is not a number in its description becomes ``null``.

    Raises
    ------
    CheckpointError
        If the disk is full or the folder cannot be written; what was there before is untouched.
    """
    from safetensors.torch import save as to_bytes

    tensors = {f"model/{k}": v for k, v in checkpoint.model.items()}
    tensors |= {f"average/{k}": v for k, v in checkpoint.average.items()}
    for index, state in checkpoint.optimizer.items():
        tensors |= {f"optimizer/{index}/{k}": v for k, v in state.items()}
    ready = {k: v.detach().to("cpu").contiguous().clone() for k, v in tensors.items()}
    text = json.dumps(plain(checkpoint.description))
    write_atomically(path, to_bytes(ready, metadata={KEY: text}))


def for_sharing(checkpoint: Checkpoint) -> Checkpoint:
    """What others need to predict with, and no more: the weights to predict with alone, and the description without
    folders of this machine."""
    about = checkpoint.description
    config = {name: dict(section) if isinstance(section, dict) else section for name, section in about.config.items()}
    for section, name in (("data", "path"), ("run", "init_from")):
        if section in config and config[section].get(name):
            config[section][name] = Path(str(config[section][name])).name
    dataset = {name: value for name, value in about.dataset.items() if name != "path"}
    return Checkpoint(replace(about, config=config, dataset=dataset), checkpoint.weights)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file so that a crash at any instant leaves the old content or the new.

    Raises
    ------
    CheckpointError
        If it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CheckpointError(
                f"no space left to write {path} ({len(data) / 1e6:.0f} MB); the previous file is intact: "
                "free some space and resume the run"
            ) from error
        raise CheckpointError(f"cannot write {path}: {error.strerror}; the previous file is intact") from error


def sweep(folder: Path) -> None:
    """Remove temporary files that a killed process left behind."""
    for stale in folder.glob(".*.safetensors.*.tmp"):
        stale.unlink(missing_ok=True)


def load(path: Path, *, training_state: bool = False) -> Checkpoint:
    """Read a checkpoint onto the CPU, after comparing names, shapes and types with what its configuration implies.

    Parameters
    ----------
    path : the file.
    training_state : read the optimizer too (for resuming), not only the weights.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, from a newer version, or its tensors are not those of the network it describes.
    """
    with open_tensors(path, "pt") as file:
        description = describe(path, file.metadata())
        try:
            with torch.device("meta"):
                network = build(description)
        except UserError as error:
            raise CheckpointError(f"{path}: {error}") from error
        names: dict[str, list[str]] = {group: [] for group in GROUPS}
        for name in file.keys():  # noqa: SIM118 - it is no dictionary
            group, _, rest = name.partition("/")
            if group not in names:
                raise CheckpointError(f"{path}: expected tensors named {', '.join(GROUPS)}/..., found {name}")
            names[group].append(rest)
        expected = network.state_dict()
        weights: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}}
        for group, found in weights.items():
            if group == "average" and not names[group]:
                continue
            odd = sorted(set(names[group]) ^ set(expected))[:3]
            if odd:
                raise CheckpointError(f"{path}: expected the tensors of its {group}, but {', '.join(odd)} do not match")
            for name, like in expected.items():
                found[name] = _tensor(path, file, f"{group}/{name}", {tuple(like.shape)}, like.dtype)
        checkpoint = Checkpoint(description, weights["model"], weights["average"])
        if training_state:
            sizes = {str(index): tuple(p.shape) for index, p in enumerate(network.parameters())}
            for name in names["optimizer"]:
                index, _, key = name.partition("/")
                if index not in sizes:
                    raise CheckpointError(f"{path}: optimizer/{name} belongs to none of the network's parameters")
                state = _tensor(path, file, f"optimizer/{name}", {(), (1,), sizes[index]}, torch.float32)
                checkpoint.optimizer.setdefault(int(index), {})[key] = state
    return checkpoint


def transfer(weights: Mapping[str, Tensor], model: nn.Module) -> tuple[int, int]:
    """Copy the weights that fit into a model (fine-tuning); returns how many tensors were copied, of how many.

    Raises
    ------
    CheckpointError
        If no kernel but the classifier's fits: another architecture or other channels.
    """
    own = model.state_dict()
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    # Biases and batch norm's counters may fit by chance, and so may the classifier's kernel.
    if not any(v.ndim > 1 and not k.startswith("classifier.") for k, v in fitting.items()):
        raise CheckpointError(
            "init_from: none of the checkpoint's kernels fits the network; choose the same model and channels"
        )
    own.update({k: v.to(own[k]) for k, v in fitting.items()})
    model.load_state_dict(own)
    return len(fitting), len(own)


def _tensor(path: Path, file: Any, name: str, shapes: Collection[tuple[int, ...]], dtype: torch.dtype) -> Tensor:
    """Read a tensor after comparing its shape and type with what is allowed."""
    stored = file.get_slice(name)
    shape, kind = tuple(stored.get_shape()), stored.get_dtype()
    if shape not in shapes or kind != TYPES[dtype]:
        allowed = " or ".join(str(s) for s in sorted(shapes))
        raise CheckpointError(f"{path}: expected {name} of shape {allowed}, {TYPES[dtype]}; found {shape}, {kind}")
    return file.get_tensor(name)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open folders; its rename is durable with the file
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
