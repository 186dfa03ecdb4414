"""Checkpoints: one safetensors file with every tensor of a training run and its description as JSON. No pickle.

Tensors are named ``model/<name>``, ``average/<name>`` (running average of the weights) and
``optimizer/<parameter>/<state>``. Random numbers need no state: every draw is a function of the seed and the step, and
the step is in the description (:mod:`core.checkpointing.metadata`). Writing is atomic, durable and verified: temporary file in
the same folder, fsync, read back, rename, fsync of the folder; ``kill -9`` at any instant leaves the old file or the
new one. A file carries the digest of its tensors, so a disk that forgets is noticed; :func:`load_latest` then takes the
one before.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.checkpointing.metadata import (
    FORMAT_VERSION,
    KEY,
    LAST,
    PREVIOUS,
    Description,
    describe,
    open_tensors,
    read_description,
)
from core.errors import CheckpointError, UserError
from core.files import atomic_replace, remove_temporaries
from core.formatting import format_bytes
from core.models import build_model
from core.strict_json import plain

__all__ = [
    "FORMAT_VERSION", "KEY", "TYPES", "Checkpoint", "Description", "build", "for_sharing", "is_kernel", "load",
    "load_latest", "read_description", "save", "sweep", "transfer", "write_atomically",
]  # fmt: skip

DAMAGED = "damaged.safetensors"
DIGEST = "sha256"  # of everything behind the header
READ_BYTES = 2**22
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


def save(path: Path, checkpoint: Checkpoint, previous: Path | None = None) -> None:
    """Write a checkpoint atomically and durably, and read it back; what is not a number in its description becomes
    ``null``. ``previous``: where the file that is replaced goes on living.

    Raises
    ------
    CheckpointError
        If the disk is full, the folder cannot be written, or what was written is not what is read; what was there
        before is untouched.
    """
    from safetensors.torch import save as to_bytes

    tensors = {f"model/{k}": v for k, v in checkpoint.model.items()}
    tensors |= {f"average/{k}": v for k, v in checkpoint.average.items()}
    for index, state in checkpoint.optimizer.items():
        tensors |= {f"optimizer/{index}/{k}": v for k, v in state.items()}
    ready = {k: v.detach().to("cpu").contiguous().clone() for k, v in tensors.items()}
    text = json.dumps(plain(checkpoint.description))
    write_atomically(path, _with_digest(to_bytes(ready, metadata={KEY: text})), previous)


def load_latest(folder: Path) -> tuple[Checkpoint, str]:
    """The newest checkpoint of a run that can be read, with all that resuming needs.

    A damaged last one is set aside as ``damaged.safetensors``, so that it never takes the place of the one before.

    Returns
    -------
    The checkpoint, and what was wrong with the last one where it is the one before; else nothing.

    Raises
    ------
    CheckpointError
        If neither can be read.
    """
    try:
        return load(folder / LAST, training_state=True), ""
    except CheckpointError as error:
        try:
            found = load(folder / PREVIOUS, training_state=True)
            with contextlib.suppress(FileNotFoundError):
                os.replace(folder / LAST, folder / DAMAGED)
            return found, str(error)
        except CheckpointError as older:
            what = (
                f"and the one before neither: {older}" if (folder / PREVIOUS).exists() else "and there is none before"
            )
            raise CheckpointError(f"the last checkpoint cannot be read: {error}; {what}") from error


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


def write_atomically(path: Path, data: bytes, previous: Path | None = None) -> None:
    """Replace a file so that a crash at any instant leaves the old content or the new; the old goes to ``previous``.

    Raises
    ------
    CheckpointError
        If it cannot be written, or something else is read than was written.
    """
    try:
        with atomic_replace(path, durable=True) as temporary:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _compare(temporary, path, data)
            if previous is not None:
                _keep(path, previous)
    except (OSError, CheckpointError) as error:
        if isinstance(error, CheckpointError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CheckpointError(
                f"no space left to write {path} ({format_bytes(len(data))}); the previous file is intact: "
                "free some space and resume the run"
            ) from error
        raise CheckpointError(f"cannot write {path}: {error.strerror}; the previous file is intact") from error


def _compare(temporary: Path, path: Path, data: bytes) -> None:
    """Read back what was written, from the disk where the system can be told to forget its copy."""
    with open(temporary, "rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        same = all(file.read(READ_BYTES) == data[at : at + READ_BYTES] for at in range(0, len(data), READ_BYTES))
        same = same and not file.read(1)
    if not same:
        raise CheckpointError(
            f"{path}: the disk gives back something else than was written; the previous file is intact: look after the "
            "disk, then resume the run, on another disk if need be"
        )


def _keep(path: Path, previous: Path) -> None:
    """A second name for a file that is about to be replaced; there is a file called ``path`` at every instant."""
    if not path.exists():
        return
    with atomic_replace(previous) as name:
        try:
            os.link(path, name)
        except OSError:  # a file system without hard links
            name.write_bytes(path.read_bytes())


def _with_digest(data: bytes) -> bytes:
    """A safetensors file with the digest of its tensors in its metadata."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"][DIGEST] = hashlib.sha256(memoryview(data)[start:]).hexdigest()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, memoryview(data)[start:]))


def _check_digest(path: Path, expected: str | None) -> None:
    """Compare the tensors with the digest that was stored with them; older files have none."""
    if expected is None:
        return
    with open(path, "rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        found = hashlib.file_digest(file, DIGEST).hexdigest()
    if found != expected:
        raise CheckpointError(f"{path} is damaged: its tensors are not those that were written (their digest differs)")


def sweep(folder: Path) -> None:
    """Remove temporary files that a killed process left behind."""
    remove_temporaries(folder, "*.safetensors")


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
        metadata = file.metadata()
        description = describe(path, metadata)
        _check_digest(path, (metadata or {}).get(DIGEST))
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
    if not any(is_kernel(k, v.shape) for k, v in fitting.items()):
        raise CheckpointError(
            "init_from: none of the checkpoint's kernels fits the network; choose the same model and channels"
        )
    own.update({k: v.to(own[k]) for k, v in fitting.items()})
    model.load_state_dict(own)
    return len(fitting), len(own)


def is_kernel(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor that fits says that the networks are alike: biases and batch norm's counters may fit by chance,
    and so may the classifier's kernel."""
    return len(shape) > 1 and not name.startswith("classifier.")


def _tensor(path: Path, file: Any, name: str, shapes: Collection[tuple[int, ...]], dtype: torch.dtype) -> Tensor:
    """Read a tensor after comparing its shape and type with what is allowed."""
    stored = file.get_slice(name)
    shape, kind = tuple(stored.get_shape()), stored.get_dtype()
    if shape not in shapes or kind != TYPES[dtype]:
        allowed = " or ".join(str(s) for s in sorted(shapes))
        raise CheckpointError(f"{path}: expected {name} of shape {allowed}, {TYPES[dtype]}; found {shape}, {kind}")
    return file.get_tensor(name)
