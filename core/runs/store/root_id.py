"""Identity of a checkpoints root: the file ``.root.json`` in it.

Several machines may mount a root at different paths, and several roots may have the same path on different machines:
the id names the root in a shared database.
"""

from __future__ import annotations

import json
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from core.errors import RunError
from core.runs.store.folder import read_json, write_json

FILE = ".root.json"
_WAIT_S = 2.0  # for another process that has created the file and not written it yet


def read_root_id(root: Path) -> str:
    """The id of a root; empty where it has none yet, or cannot be read."""
    try:
        found = read_json(root / FILE)["id"]
    except (RunError, KeyError):
        return ""
    return found if isinstance(found, str) and 8 <= len(found) <= 32 and found.isalnum() else ""


def root_id(root: Path) -> str:
    """The id of a root, which gets one if it has none.

    Raises
    ------
    RunError
        If it has none and the root cannot be written.
    """
    path, deadline = root / FILE, time.monotonic() + _WAIT_S
    while not (found := read_root_id(root)):
        try:
            with path.open("x", encoding="utf-8") as file:
                json.dump(_content(secrets.token_hex(8)), file)
        except FileExistsError:
            if time.monotonic() > deadline:
                with suppress(RunError):
                    write_json(path, _content(secrets.token_hex(8)))
                deadline += _WAIT_S
            time.sleep(0.01)
        except OSError as error:
            raise RunError(
                f"{path}: expected to be able to write the id of this root of runs: {error.strerror or error}"
            ) from error
    return found


def renew_root_id(root: Path) -> str:
    """Give a root a new id: it was copied together with the file, and two roots must not have the same id."""
    new = secrets.token_hex(8)
    write_json(root / FILE, _content(new), durable=True)
    return new


def _content(id: str) -> dict[str, Any]:
    return {"version": 1, "id": id, "created_at": round(time.time(), 3)}
