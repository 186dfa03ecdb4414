"""Digests of the content of files, computed once for each state of a file.

A state is given by size, modification time, change time and inode number: the change time is set by the system with
every write and rename, so a file that was replaced by one of equal size and modification time is read again. Files that
were changed within the last seconds are read every time, since a further change might not show in their times. Where
the system has no change time (Windows), files are read every time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from core.files import append_line, atomic_write, parse_line

SETTLED_S = 3.0  # after a change of a file, from which on its times show the next one
MAX_BYTES = 64 * 2**20  # of the file of digests, above which only the newer half is kept


class ContentDigests:
    """Digests that are kept in a file, to which several processes may append.

    Parameters
    ----------
    path : Path. The file; its folder is made when it is needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, tuple[list[int], str]] | None = None

    def digest(self, file: Path) -> str:
        """Digest of the content of a file.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        state, changed_s = _state(file)
        name = str(file.absolute())
        known = self._load().get(name)
        if known is not None and known[0] == state and os.name != "nt":
            return known[1]
        with open(file, "rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        if _state(file)[0] == state and time.time() - changed_s > SETTLED_S:
            self._keep(name, state, found)
        return found

    def _load(self) -> dict[str, tuple[list[int], str]]:
        if self._known is None:
            lines: list[bytes] = []
            with contextlib.suppress(OSError):
                lines = self.path.read_bytes().splitlines(keepends=True)
                if sum(map(len, lines)) > MAX_BYTES:
                    lines = lines[len(lines) // 2 :]
                    atomic_write(self.path, b"".join(lines))
            self._known = {}
            for line in lines:
                values = parse_line(line)
                if values is not None and {"file", "state", "digest"} <= values.keys():
                    self._known[values["file"]] = (values["state"], values["digest"])
        return self._known

    def _keep(self, name: str, state: list[int], digest: str) -> None:
        self._load()[name] = (state, digest)
        line = json.dumps({"file": name, "state": state, "digest": digest}) + "\n"
        with contextlib.suppress(OSError):  # it is read again next time
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "ab+") as stream:
                append_line(stream, line.encode("utf-8", "backslashreplace"))


def _state(file: Path) -> tuple[list[int], float]:
    """Values that differ after a change of a file, and when it was changed last, in seconds since 1970."""
    status = os.stat(file)
    newest = max(status.st_mtime, status.st_ctime)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino], newest
