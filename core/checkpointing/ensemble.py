"""Writes an ensemble as one safetensors file, and reads the weights of its members, one member at a time.

The file is described in :mod:`core.checkpointing.ensemble_metadata`. It holds the weights for inference only, integers
before floating-point numbers, so that each tensor is aligned to its type. Writing is atomic, durable and verified like
that of a checkpoint, and no more than one member is in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.checkpointing.checkpoint import (
    DIGEST,
    SAFETENSORS_DTYPES,
    Checkpoint,
    build_network,
    check_digest,
    code_errors,
    disk_errors,
    load,
    read_weights,
    shared_metadata,
)
from core.checkpointing.ensemble_metadata import MEMBERS_KEY, Member, combine, read_members
from core.checkpointing.file_header import copy_with_metadata, encoded_header
from core.checkpointing.metadata import METADATA_KEY, CheckpointMetadata, open_safetensors, read_metadata
from core.errors import CheckpointError
from core.files import atomic_replace
from core.strict_json import plain

GROUP = "member"
NO_DIGEST = "0" * 64


def load_member(member: Member) -> Checkpoint:
    """The weights of a member, for inference, on the CPU.

    Raises
    ------
    CheckpointError
        If its file is missing or damaged, or the tensors are not those of the described network. The digest of an
        ensemble is compared by :func:`check_ensemble` only, once for all members.
    """
    if member.index is None:
        checkpoint = load(member.path)
        return Checkpoint(checkpoint.metadata, checkpoint.weights)
    with open_safetensors(member.path, "pt") as file:
        group = f"{GROUP}/{member.index}"
        names = [name.removeprefix(f"{group}/") for name in file.keys() if name.startswith(f"{group}/")]  # noqa: SIM118
        expected = _expected_tensors(member.path, member.metadata)
        with code_errors(member.path, member.metadata):
            return Checkpoint(member.metadata, read_weights(member.path, file, group, names, expected))


def check_ensemble(path: Path) -> tuple[Member, ...]:
    """The networks of a file (:func:`~core.checkpointing.ensemble_metadata.read_members`), after comparing the tensors
    of an ensemble with its digest and its members.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or holds a tensor of no member.
    """
    members = read_members(path)
    if members[0].index is None:
        return members
    with open_safetensors(path, "pt") as file:
        check_digest(path, (file.metadata() or {}).get(DIGEST))
        numbers = {str(member.index) for member in members}
        for name in file.keys():  # noqa: SIM118 - not a mapping
            group, _, rest = name.partition("/")
            if group != GROUP or rest.partition("/")[0] not in numbers:
                raise CheckpointError(f"{path}: expected tensors of {len(members)} members, found {name}")
    return members


def save_ensemble(path: Path, members: Sequence[Member]) -> CheckpointMetadata:
    """Write the networks as one file; members of ensembles among them are taken one by one.

    Parameters
    ----------
    path : Path. The file; its folder must exist.
    members : sequence of Member. The networks.

    Returns
    -------
    CheckpointMetadata
        Metadata of the ensemble.

    Raises
    ------
    CheckpointError
        If the networks do not fit together, one cannot be read, or the file cannot be written or reads back
        differently; an earlier file is intact.
    """
    metadata = combine(members)
    if any(os.path.exists(path) and os.path.samefile(path, member.path) for member in members):
        raise CheckpointError(f"{path}: expected another file to write to than a member's")
    expected = [_expected_tensors(member.path, member.metadata) for member in members]
    order = [
        (index, [name for name, like in tensors.items() if like.dtype == dtype])
        for dtype in (torch.int64, torch.float32)
        for index, tensors in enumerate(expected)
    ]
    plan = _Layout()
    for index, names in order:
        for name in names:
            plan.add(f"{GROUP}/{index}/{name}", expected[index][name])
    texts = {
        METADATA_KEY: json.dumps(plain(metadata)),
        MEMBERS_KEY: json.dumps([plain(member.metadata) for member in members]),
    }
    size_bytes = plan.end + len(plan.header(texts, NO_DIGEST))
    with disk_errors(path, size_bytes), atomic_replace(path, durable=True) as temporary:
        with open(temporary, "wb") as file:
            file.write(plan.header(texts, NO_DIGEST))
            digest = hashlib.new(DIGEST)
            for index, names in order:
                weights = load_member(members[index]).model if names else {}
                for name in names:
                    content = weights[name].contiguous().numpy().tobytes()
                    digest.update(content)
                    file.write(content)
            file.seek(0)
            file.write(plan.header(texts, digest.hexdigest()))
            file.flush()
            os.fsync(file.fileno())
        check_ensemble(temporary)
    return metadata


def share_ensemble(source: Path, target: Path) -> tuple[CheckpointMetadata, int]:
    """Copy an ensemble without the folders of this machine that its metadata name.

    Returns
    -------
    metadata : CheckpointMetadata. Metadata of the copy.
    parameters : int. Number of values of all members.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or no ensemble, or the copy cannot be written; then there is none.
    """
    members = check_ensemble(source)
    metadata = shared_metadata(read_metadata(source))
    tensors = [_expected_tensors(source, member.metadata).values() for member in members]  # builds each network
    texts = {
        METADATA_KEY: json.dumps(plain(metadata)),
        MEMBERS_KEY: json.dumps([plain(shared_metadata(member.metadata)) for member in members]),
    }
    copy_with_metadata(source, target, texts)
    return metadata, sum(tensor.numel() for of_member in tensors for tensor in of_member)


@dataclass
class _Layout:
    """Positions of the tensors in a safetensors file."""

    end: int = 0

    def __post_init__(self) -> None:
        self._tensors: dict[str, Any] = {}

    def add(self, name: str, like: Tensor) -> None:
        start, self.end = self.end, self.end + like.numel() * like.element_size()
        self._tensors[name] = {
            "dtype": SAFETENSORS_DTYPES[like.dtype],
            "shape": list(like.shape),
            "data_offsets": [start, self.end],
        }

    def header(self, texts: dict[str, str], digest: str) -> bytes:
        """The header with metadata; its length does not depend on the digest."""
        return encoded_header({"__metadata__": {**texts, DIGEST: digest}, **self._tensors})


def _expected_tensors(path: Path, metadata: CheckpointMetadata) -> dict[str, Tensor]:
    """The tensors of the described network, without memory, by name."""
    with code_errors(path, metadata), torch.device("meta"):
        return dict(build_network(metadata).state_dict())
