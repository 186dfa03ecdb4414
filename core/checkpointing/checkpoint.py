"""Saves and loads checkpoints: one safetensors file with every tensor of a training run, and metadata as JSON.

Tensors are named ``model/<name>``, ``average/<name>`` (EMA of the weights) and ``optimizer/<parameter>/<state>``.
Random generators need no state: every draw is a function of the seed and the step, and the step is in the metadata
(:mod:`core.checkpointing.metadata`). Writing is atomic, durable and verified: temporary file in the same folder, fsync,
read back, rename, fsync of the folder; ``kill -9`` at any instant leaves the old file or the new one. A file contains
the digest of its tensors, so later damage is detected, and :func:`load_latest` then falls back to the previous file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from core.checkpointing.metadata import (
    LAST,
    METADATA_KEY,
    PREVIOUS,
    TRAINED_ON,
    UNKNOWN_FOLDER,
    CheckpointMetadata,
    open_safetensors,
    parse_metadata,
    refuse_ensemble,
)
from core.errors import CheckpointError, UserError
from core.files import atomic_replace, is_present, may_be_present, remove_temporaries
from core.formatting import format_bytes
from core.models import input_channels
from core.models.build import build_model
from core.models.own_source import with_code_change
from core.strict_json import plain

if TYPE_CHECKING:
    from core.models.blocks import SegmentationNetwork

DAMAGED = "damaged.safetensors"
DIGEST = "sha256"  # of all bytes after the header
READ_BYTES = 2**22
GROUPS = ("model", "average", "optimizer")
SAFETENSORS_DTYPES = {torch.float32: "F32", torch.int64: "I64"}


@dataclass
class Checkpoint:
    """A checkpoint in memory.

    Attributes
    ----------
    metadata : CheckpointMetadata
    model, average : dict of Tensor. Weights, and their EMA (empty without one), by name.
    optimizer : dict of dict of Tensor. State by index of the parameter and name.
    """

    metadata: CheckpointMetadata
    model: dict[str, Tensor]
    average: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights for inference: the EMA where there is one."""
        return self.average or self.model


def build_network(metadata: CheckpointMetadata) -> SegmentationNetwork:
    """The described network with fresh weights."""
    config = metadata.train_config
    return build_model(config.model, input_channels(config, len(metadata.modalities)), len(metadata.output_names))


@contextlib.contextmanager
def code_errors(path: Path, metadata: CheckpointMetadata) -> Iterator[None]:
    """Turns errors of a network into :class:`CheckpointError` with the file of the checkpoint and, of a user's own
    network, what has become of its code."""
    try:
        yield
    except UserError as error:
        text = str(error) if str(error).startswith(str(path)) else f"{path}: {error}"
        name, code = metadata.train_config.model.model, metadata.network_code
        raise CheckpointError(with_code_change(text, name, code)) from error


def save(path: Path, checkpoint: Checkpoint, previous: Path | None = None) -> None:
    """Write a checkpoint atomically and durably, and verify it. NaN and infinity in the metadata become ``null``.

    Parameters
    ----------
    path : Path. The file; its folder must exist.
    checkpoint : Checkpoint
    previous : Path, optional. New name of the file that is replaced.

    Raises
    ------
    CheckpointError
        If the disk is full, the folder cannot be written, or the file reads back differently; the old file is intact.
    """
    from safetensors.torch import save as to_bytes

    tensors = {f"model/{k}": v for k, v in checkpoint.model.items()}
    tensors |= {f"average/{k}": v for k, v in checkpoint.average.items()}
    for index, state in checkpoint.optimizer.items():
        tensors |= {f"optimizer/{index}/{k}": v for k, v in state.items()}
    host_tensors = {k: v.detach().to("cpu").contiguous().clone() for k, v in tensors.items()}
    text = json.dumps(plain(checkpoint.metadata))
    write_verified(path, _with_digest(to_bytes(host_tensors, metadata={METADATA_KEY: text})), previous)


def load(path: Path, *, training_state: bool = False) -> Checkpoint:
    """Read a checkpoint onto the CPU, after comparing names, shapes and dtypes with those the configuration implies.

    Parameters
    ----------
    path : Path. The file.
    training_state : bool. Whether the optimizer's state is read too, for resuming.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, of a newer version, or its tensors are not those of the described network.
    """
    with open_safetensors(path, "pt") as file:
        header = file.metadata()
        metadata = parse_metadata(path, header)
        refuse_ensemble(path, metadata)
        check_digest(path, (header or {}).get(DIGEST))
        with code_errors(path, metadata), torch.device("meta"):
            network = build_network(metadata)
        names = _names_by_group(path, file)
        expected = network.state_dict()
        with code_errors(path, metadata):
            model = read_weights(path, file, "model", names["model"], expected)
            average = read_weights(path, file, "average", names["average"], expected) if names["average"] else {}
            checkpoint = Checkpoint(metadata, model, average)
            if training_state:
                checkpoint.optimizer = _read_optimizer(path, file, names["optimizer"], network)
    return checkpoint


def load_latest(folder: Path) -> tuple[Checkpoint, str]:
    """The newest readable checkpoint of a run, with the optimizer's state.

    A damaged last checkpoint is renamed to ``damaged.safetensors``, so that it never replaces the previous one.

    Returns
    -------
    checkpoint : Checkpoint
    damage : str. Error of the last checkpoint if the previous one was read instead, else empty.

    Raises
    ------
    CheckpointError
        If neither can be read.
    """
    try:
        return load(folder / LAST, training_state=True), ""
    except CheckpointError as error:
        try:
            checkpoint = load(folder / PREVIOUS, training_state=True)
            with contextlib.suppress(FileNotFoundError):
                os.replace(folder / LAST, folder / DAMAGED)
            return checkpoint, str(error)
        except CheckpointError as previous_error:
            exists = may_be_present(folder / PREVIOUS)
            reason = f"nor can the previous one: {previous_error}" if exists else "and there is no previous one"
            raise CheckpointError(f"the last checkpoint cannot be read: {error}; {reason}") from error


def strip_for_sharing(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint for inference only: the weights for inference, and metadata without folders of this machine."""
    return Checkpoint(shared_metadata(checkpoint.metadata), checkpoint.weights)


def shared_metadata(metadata: CheckpointMetadata) -> CheckpointMetadata:
    """Metadata without folders of this machine; the ids of all training subjects stay known."""
    config = {
        name: dict(section) if isinstance(section, dict) else section for name, section in metadata.config.items()
    }
    for section, name in (("data", "path"), ("run", "init_from")):
        if section in config and config[section].get(name):
            config[section][name] = Path(str(config[section][name])).name
    dataset = {name: value for name, value in metadata.dataset.items() if name not in ("path", TRAINED_ON)}
    trained = list(dict.fromkeys(id for ids in metadata.training_subjects.values() for id in ids))
    if trained != metadata.split.get("train", []):  # initial networks, too
        dataset[TRAINED_ON] = {UNKNOWN_FOLDER: trained}
    return replace(metadata, config=config, dataset=dataset)


def remove_temporary_checkpoints(folder: Path) -> None:
    """Remove temporary files that a killed process left behind."""
    remove_temporaries(folder, "*.safetensors")


def copy_matching_weights(weights: Mapping[str, Tensor], model: nn.Module) -> tuple[int, int]:
    """Copy the weights whose name and shape match into a model (fine-tuning).

    Returns
    -------
    copied, total : int. Number of tensors copied, and of the model's tensors.

    Raises
    ------
    CheckpointError
        If no kernel but the classifier's matches: another architecture, or other channels.
    """
    own = model.state_dict()
    matching = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    if not any(is_hidden_kernel(k, v.shape) for k, v in matching.items()):
        raise CheckpointError(
            "init_from: none of the checkpoint's kernels fits the network; choose the same model and channels, or "
            "--preset auto, which takes them from the checkpoint"
        )
    own.update({k: v.to(own[k]) for k, v in matching.items()})
    model.load_state_dict(own)
    return len(matching), len(own)


def is_hidden_kernel(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor is the kernel of a layer before the classifier. Only these prove that two networks are alike:
    biases, counters of batch norm and the classifier may match by chance."""
    return len(shape) > 1 and not name.startswith("classifier.")


def write_verified(path: Path, data: bytes, previous: Path | None = None) -> None:
    """Replace a file atomically and durably, and verify the written bytes before the replacement.

    Parameters
    ----------
    path : Path. The file; its folder must exist.
    data : bytes. Its new content.
    previous : Path, optional. New name of the file that is replaced.

    Raises
    ------
    CheckpointError
        If the file cannot be written or reads back differently; the old file is intact.
    """
    with disk_errors(path, len(data)), atomic_replace(path, durable=True) as temporary:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _verify(temporary, path, data)
        if previous is not None:
            _link_previous(path, previous)


@contextlib.contextmanager
def disk_errors(path: Path, size_bytes: int) -> Iterator[None]:
    """Raises :class:`CheckpointError` where a file of this size cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CheckpointError(
                f"no space left to write {path} ({format_bytes(size_bytes)}); the previous file is intact: "
                "free some space and resume the run"
            ) from error
        raise CheckpointError(f"cannot write {path}: {error.strerror}; the previous file is intact") from error


def _verify(temporary: Path, path: Path, data: bytes) -> None:
    """Read a file back and compare, from the disk where the page cache can be dropped."""
    with open(temporary, "rb") as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        same = all(file.read(READ_BYTES) == data[at : at + READ_BYTES] for at in range(0, len(data), READ_BYTES))
        same = same and not file.read(1)
    if not same:
        raise CheckpointError(
            f"{path}: the disk returned other bytes than were written; the previous file is intact: check the disk, "
            "then resume the run, on another disk if need be"
        )


def _link_previous(path: Path, previous: Path) -> None:
    """Give a file that is about to be replaced a second name; ``path`` exists at every instant."""
    if not is_present(path):
        return
    with atomic_replace(previous) as temporary:
        try:
            os.link(path, temporary)
        except OSError:  # a file system without hard links
            temporary.write_bytes(path.read_bytes())


def _with_digest(data: bytes) -> bytes:
    """A safetensors file with the digest of its tensors added to the header."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"][DIGEST] = hashlib.sha256(memoryview(data)[start:]).hexdigest()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, memoryview(data)[start:]))


def check_digest(path: Path, expected: str | None) -> None:
    """Compare the tensors with the stored digest; files of early versions have none."""
    if expected is None:
        return
    with open(path, "rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        digest = hashlib.file_digest(file, DIGEST).hexdigest()
    if digest != expected:
        raise CheckpointError(f"{path} is damaged: its tensors are not those that were written (their digest differs)")


def _names_by_group(path: Path, file: Any) -> dict[str, list[str]]:
    """The names of the tensors by group, without the group."""
    names: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name in file.keys():  # noqa: SIM118 - not a mapping
        group, _, rest = name.partition("/")
        if group not in names:
            raise CheckpointError(f"{path}: expected tensors named {', '.join(GROUPS)}/..., found {name}")
        names[group].append(rest)
    return names


def read_weights(
    path: Path, file: Any, group: str, names: Sequence[str], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Read the weights of a group, such as "model", after comparing them with those expected, by name."""
    different = sorted(set(names) ^ set(expected))[:3]
    if different:
        raise CheckpointError(f"{path}: expected the tensors of its {group}, but {', '.join(different)} do not match")
    return {
        name: _read_tensor(path, file, f"{group}/{name}", {tuple(like.shape)}, like.dtype)
        for name, like in expected.items()
    }


def _read_optimizer(path: Path, file: Any, names: Sequence[str], network: nn.Module) -> dict[int, dict[str, Tensor]]:
    shapes = {str(index): tuple(p.shape) for index, p in enumerate(network.parameters())}
    optimizer: dict[int, dict[str, Tensor]] = {}
    for name in names:
        index, _, key = name.partition("/")
        if index not in shapes:
            raise CheckpointError(f"{path}: optimizer/{name} belongs to none of the network's parameters")
        state = _read_tensor(path, file, f"optimizer/{name}", {(), (1,), shapes[index]}, torch.float32)
        optimizer.setdefault(int(index), {})[key] = state
    return optimizer


def _read_tensor(path: Path, file: Any, name: str, shapes: Collection[tuple[int, ...]], dtype: torch.dtype) -> Tensor:
    """Read a tensor after comparing its shape and dtype with the allowed ones."""
    stored = file.get_slice(name)
    shape, stored_dtype = tuple(stored.get_shape()), stored.get_dtype()
    if shape not in shapes or stored_dtype != SAFETENSORS_DTYPES[dtype]:
        allowed = " or ".join(str(s) for s in sorted(shapes))
        raise CheckpointError(
            f"{path}: expected {name} of shape {allowed}, {SAFETENSORS_DTYPES[dtype]}; found {shape}, {stored_dtype}"
        )
    return file.get_tensor(name)
