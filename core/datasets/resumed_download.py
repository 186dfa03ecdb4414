"""Fetches a file over HTTP, and goes on where an earlier attempt ended.

What is received lies beside the target as ``<name>.part``; ``<name>.part.json`` says of which version of the file it is
(its entity tag or date), so that parts of two versions are never joined.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from core.datasets.uploaded_sets import PIECE_BYTES, SPARE_BYTES
from core.errors import DatasetError
from core.formatting import format_bytes

TIMEOUT_S = 30.0  # of a connection, and of silence on it
RETRIES = 5  # without a byte in between
BUSY = (408, 425, 429)  # answers below 500 that ask to come again later
RETRY_WAIT_S = 1.0  # before the first one; doubles


class FetchProgress(Protocol):
    """Called with (bytes done, bytes of the file, 0 if unknown) and a text."""

    def __call__(self, done: float, total: int, text: str = "", /) -> None: ...


@dataclass
class _Part:
    """What has been received of a file.

    Attributes
    ----------
    path : Path. The part.
    version : str. Entity tag or date of the version that it is of; empty where the server states neither.
    total : int or None. Bytes of the whole file, if known.
    """

    path: Path
    version: str = ""
    total: int | None = None

    @classmethod
    def found(cls, path: Path) -> _Part:
        """The part of an earlier attempt, or an empty one."""
        try:
            content: dict[str, Any] = json.loads(_facts_file(path).read_text("utf-8"))
            part = cls(path, str(content["version"]), content["total"])
        except (OSError, ValueError, KeyError, TypeError):
            return cls(path)
        return part if part.version else cls(path)  # parts of an unknown version are not continued

    @property
    def received(self) -> int:
        """Bytes that can be continued."""
        if not self.version:
            return 0
        with contextlib.suppress(OSError):
            return self.path.stat().st_size
        return 0

    def begin(self, version: str, total: int | None) -> None:
        """Start anew with another version of the file."""
        self.version, self.total = version, total
        self.path.unlink(missing_ok=True)
        _facts_file(self.path).write_text(json.dumps({"version": version, "total": total}), "utf-8")

    def remove(self) -> None:
        """Remove it."""
        self.path.unlink(missing_ok=True)
        _facts_file(self.path).unlink(missing_ok=True)


def fetch(url: str, target: Path, progress: FetchProgress | None = None, retry_wait_s: float = RETRY_WAIT_S) -> None:
    """Fetch a file; a connection that is cut off is made again, from where it ended.

    Parameters
    ----------
    url : str. Address.
    target : Path. File to write; it appears when it is complete.
    progress : callable, optional. Called with (bytes done, bytes of the file) as it grows.
    retry_wait_s : float. Wait before the first new attempt, in seconds.

    Raises
    ------
    DatasetError
        If the server cannot be reached, refuses, or cuts off too often; if the answer is a web page, or there is no
        room. What was received is kept.
    """
    part = _Part.found(target.with_name(f"{target.name}.part"))
    failures = 0
    while True:
        before = part.received
        try:
            _receive(url, part, progress)
            break
        except (ConnectionError, urllib.error.HTTPError) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500 and error.code not in BUSY:
                raise DatasetError(
                    f"{url}: expected the file, got the answer {error.code} {error.reason}; has its publisher moved "
                    "it? look at the page of the data set"
                ) from None
            failures = 1 if part.received > before else failures + 1
            if failures > RETRIES:
                raise DatasetError(_unreachable(url, target, part.received, error)) from None
            time.sleep(retry_wait_s * 2 ** (failures - 1))
    os.replace(part.path, target)
    part.remove()


def _receive(url: str, part: _Part, progress: FetchProgress | None) -> None:
    """Receive what is missing of a file; ends when all of it is there.

    Raises
    ------
    DatasetError
        If there is no room, or the answer is a web page.
    ConnectionError
        If the connection fails or is cut off.
    HTTPError
        If the server refuses.
    """
    received = part.received
    if part.total is not None and received == part.total and received:
        return
    headers = {"Accept-Encoding": "identity", "User-Agent": "Segmentarium"}
    if received:
        headers |= {"Range": f"bytes={received}-", "If-Range": part.version}
    try:
        with _connection():
            answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.remove()
            part.version = ""
            raise ConnectionError("the part that was there does not fit the file") from None
        raise
    with answer:
        if answer.headers.get_content_type() == "text/html":
            raise DatasetError(
                f"{url}: expected a file, got a web page: does this network ask for a login, or has the file moved?"
            )
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT or not _continues(answer.headers, received):
            length = answer.headers.get("Content-Length")
            part.begin(_version(answer.headers), int(length) if length and length.isdigit() else None)
            received = 0
        _refuse_full_disk(part, received)
        with open(part.path, "ab") as file:
            for piece in _pieces(answer):
                _write(file, piece, part)
                received += len(piece)
                if progress is not None:
                    progress(received, part.total or 0)
    if part.total is not None and received < part.total:
        raise ConnectionError(f"cut off after {format_bytes(received)} of {format_bytes(part.total)}")
    if part.total is not None and received > part.total:
        part.remove()
        raise DatasetError(f"{url}: expected {part.total} bytes, got {received}; begin again")


@contextlib.contextmanager
def _connection() -> Iterator[None]:
    """A context in which each failure of a connection is a ConnectionError: those of routes, names and TLS are other
    OSErrors, as failures of the disk are."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(str(getattr(error, "reason", error)) or type(error).__name__) from error


def _pieces(answer: Any) -> Iterator[bytes]:
    while True:
        with _connection():
            piece = answer.read1(PIECE_BYTES)
        if not piece:
            return
        yield piece


def _write(file: Any, piece: bytes, part: _Part) -> None:
    try:
        file.write(piece)
    except OSError as error:
        raise DatasetError(
            f"{part.path.parent}: what is received cannot be written: {error.strerror or error}; free some space: what "
            "is there is not fetched again"
        ) from error


def _continues(headers: Mapping[str, str], received: int) -> bool:
    """Whether a partial answer begins where the part ends."""
    return received > 0 and (headers.get("Content-Range") or "").startswith(f"bytes {received}-")


def _version(headers: Mapping[str, str]) -> str:
    """Identifier of the version of a file: a strong entity tag, else its date; empty without either."""
    tag = headers.get("ETag") or ""
    return tag if tag.startswith('"') else headers.get("Last-Modified") or ""


def _refuse_full_disk(part: _Part, received: int) -> None:
    missing = (part.total or 0) - received
    if shutil.disk_usage(part.path.parent).free - SPARE_BYTES < missing:
        raise DatasetError(
            f"{part.path.parent}: expected room for {format_bytes(missing)} more, got too little on this disk; free "
            "some space: what is there is not fetched again"
        )


def _facts_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _unreachable(url: str, target: Path, received: int, error: Exception) -> str:
    reason = " ".join(str(error).split())[:120]
    if received:
        return (
            f"{url}: the connection was lost {RETRIES + 1} times in a row ({reason}); {format_bytes(received)} are "
            "kept: begin again later, it goes on from there"
        )
    return (
        f"{url}: cannot be reached ({reason}): this machine may have no connection to the internet. Download the file "
        f"on another machine, copy it to {target}, and begin again: it is verified and unpacked from there"
    )
