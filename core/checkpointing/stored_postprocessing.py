"""Stores the postprocessing of a model in its checkpoint file: the header is replaced, the tensors are copied.

Works without torch. The digest of the tensors stays valid, since it does not cover the header; the file's modification
time changes, so whatever was made with the model before is known to be of an earlier state.
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


def store_postprocessing(path: Path, postprocessing: Postprocessing, decision: Mapping[str, Any]) -> None:
    """Replace the postprocessing that a checkpoint or ensemble states; atomic and durable.

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
    try:
        with open(path, "rb") as source, atomic_replace(path, durable=True) as temporary:
            header = json.loads(source.read(int.from_bytes(source.read(8), "little")))
            header["__metadata__"][METADATA_KEY] = text
            encoded = json.dumps(header).encode()
            encoded += b" " * (-len(encoded) % ALIGNMENT)
            with open(temporary, "wb") as target:
                target.write(len(encoded).to_bytes(8, "little") + encoded)
                shutil.copyfileobj(source, target, 2**22)
                target.flush()
                os.fsync(target.fileno())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}; the file is as before") from error
