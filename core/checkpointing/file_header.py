"""Replaces the metadata in the header of a checkpoint file; the tensors are copied. Works without torch.

The digest of the tensors stays valid, since it does not cover the header.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.checkpointing.metadata import METADATA_KEY, open_safetensors, parse_metadata
from core.errors import CheckpointError
from core.files import atomic_replace
from core.imaging.postprocessing import Postprocessing
from core.strict_json import plain

ALIGNMENT = 8  # bytes, of the tensors in a safetensors file
COPIED_BYTES = 2**22  # at a time


def store_postprocessing(path: Path, postprocessing: Postprocessing, decision: Mapping[str, Any]) -> None:
    """Replace the postprocessing that a checkpoint or ensemble states; atomic and durable.

    The file's modification time changes, so that results made with the model before count as outdated.

    Parameters
    ----------
    path : Path. The file.
    postprocessing : Postprocessing. The rules; without rules the file states none.
    decision : mapping. How they were decided, as plain JSON values.

    Raises
    ------
    ConfigError
        If a rule is for a class that the model does not have.
    CheckpointError
        If the file cannot be read or written; the old file is intact.
    """
    with open_safetensors(path, "numpy") as file:
        metadata = parse_metadata(path, file.metadata())
    postprocessing.check(metadata.label_space.names)
    text = json.dumps(plain(metadata.with_postprocessing(postprocessing, decision)))
    copy_with_metadata(path, path, {METADATA_KEY: text})


def copy_with_metadata(source: Path, target: Path, texts: Mapping[str, str]) -> None:
    """Copy a safetensors file with other metadata, atomically and durably; the target may be the source.

    Parameters
    ----------
    texts : mapping of str. New metadata by key; the others are kept.

    Raises
    ------
    CheckpointError
        If a file cannot be read or written; what was there is intact.
    """
    try:
        with open(source, "rb") as old, atomic_replace(target, durable=True) as temporary:
            header = json.loads(old.read(int.from_bytes(old.read(8), "little")))
            header["__metadata__"] = {**header.get("__metadata__", {}), **texts}
            with open(temporary, "wb") as new:
                new.write(encoded_header(header))
                shutil.copyfileobj(old, new, COPIED_BYTES)
                new.flush()
                os.fsync(new.fileno())
    except OSError as error:
        raise CheckpointError(
            f"{target}: cannot be written: {error.strerror or error}; the file is as before"
        ) from error


def encoded_header(header: Mapping[str, Any]) -> bytes:
    """The first bytes of a safetensors file, up to the tensors.

    Parameters
    ----------
    header : mapping. Type, shape and position of each tensor, and ``__metadata__``.
    """
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
