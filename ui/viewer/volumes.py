"""Serves volumes to the browser under URLs with unguessable tokens, behind the access check.

``publish`` serves content that never changes under its name: compressed, cached on disk and by the browser; of
``publish_on_request`` it is made when a browser asks for it.
``publish_in_memory`` serves the quiz, where a response must not reveal its content: no compression (equal sizes stay
equal), random tokens, identical headers, and no cache.
Intensities that an image holds rounded are served one by one, as ``<URL>?at=<number>,<number>``: the URL is that of
``publish_intensities``, or of ``publish_in_memory`` for the quiz.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import hmac
import io
import json
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from core.errors import UserError
from core.files import atomic_write
from ui.shared.addresses import API
from ui.shared.heavy_work import heavy_work, one_at_a_time
from ui.shared.paths import cache_root

PREFIX = f"{API}volumes/"
MAX_CACHE_BYTES = 2 * 2**30  # of volumes on disk; the least recently used are removed first
MAX_IN_MEMORY = 4096  # volumes of open quizzes; the oldest are removed first
COMPRESSION_LEVEL = 1  # 5 MB in a fifth of a second
COMPRESSED, INTENSITIES = ".gz", ".f32"  # endings of the files in the cache
RAW_IMAGE, RAW_LABELS = ".raw", ".u8"  # endings of those of large volumes (ui.viewer.streams)
INTENSITY_BYTES = 4
MAX_ASKED = 64  # intensities of one request
MAX_MAKERS = 256  # volumes that are made on request and known at a time; the page that needs one publishes it again


class _VolumeResponse(FileResponse):
    """A file in pieces of a mebibyte: each piece is a turn of the event loop and of a thread."""

    chunk_size = 2**20


Turn: TypeAlias = Callable[[], contextlib.AbstractContextManager[object]]
_Maker: TypeAlias = tuple[Callable[[], bytes], Turn, Callable[[], None] | None]

_secret = secrets.token_bytes(32)
_published: dict[str, Path] = {}
_writers: dict[str, threading.Thread] = {}  # of intensities, by token
_makers: OrderedDict[str, _Maker] = OrderedDict()  # of what is made on request, by token
_in_memory: OrderedDict[str, bytes] = OrderedDict()
_lock = threading.Lock()


class Pending(Exception):
    """What is asked for is being computed.

    Attributes
    ----------
    progress : float. Share that is done.
    """

    def __init__(self, progress: float) -> None:
        super().__init__(f"{progress:.0%} done")
        self.progress = progress


class CacheWriteError(UserError):
    """A volume cannot be written to the cache on disk."""


def publish(name: str, make: Callable[[], tuple[dict[str, Any], bytes]]) -> tuple[dict[str, Any], str]:
    """Publish a volume from the cache, or make it if it is not cached.

    Parameters
    ----------
    name : str. Key of all parameters that the content depends on; the same name always means the same content.
    make : callable. Returns facts about the volume, as plain JSON, and its bytes; its errors are passed on.

    Returns
    -------
    tuple of dict and str. The facts and the URL of the bytes.

    Raises
    ------
    CacheWriteError
        If the volume cannot be written.
    """
    content, token = place(name, COMPRESSED)
    facts = content.with_suffix(".json")
    known = _cached(content, facts)
    if known is None:
        with one_at_a_time(content):
            known = _cached(content, facts)
            if known is None:
                known = _make(content, facts, make)
    with _lock:
        _published[token] = content
    return known, PREFIX + token


def publish_intensities(name: str, make: Callable[[], bytes]) -> str:
    """Publish intensities, little-endian float32, of which a request reads a few.

    They are written while the page goes on; a request waits for that. Without room for them it gets 404.

    Parameters
    ----------
    name, make : as for :func:`publish`; only the bytes are made.

    Returns
    -------
    str. The URL, to which ``?at=`` and the numbers of intensities, from 0, are added.
    """
    content, token = place(name, INTENSITIES)
    try:
        os.utime(content)
    except OSError:
        writer = threading.Thread(target=_write_intensities, args=(content, make()), daemon=True)
        writer.start()
        with _lock:
            _writers[token] = writer
    with _lock:
        _published[token] = content
    return PREFIX + token


def publish_on_request(
    name: str, make: Callable[[], bytes], turn: Turn = heavy_work, stop: Callable[[], None] | None = None
) -> str:
    """Publish a volume that is made when it is asked for, and cached then.

    Parameters
    ----------
    name : as for :func:`publish`.
    make : callable. Returns its bytes; an error that a user can cause is the answer to the request, and so is
        :class:`Pending`, after which it is asked for again.
    turn : callable. Returns the context in which it is made, which limits how much is made at a time.
    stop : callable, optional. Ends what computes it, after :class:`Pending`, when a browser asks for that.

    Returns
    -------
    str. The URL of the bytes.
    """
    content, token = place(name, COMPRESSED)
    with _lock:
        _published[token] = content
        _makers[token] = make, turn, stop
        _makers.move_to_end(token)
        while len(_makers) > MAX_MAKERS:
            _makers.popitem(last=False)
    return PREFIX + token


def publish_in_memory(data: bytes) -> str:
    """A new URL that serves the bytes until they are withdrawn."""
    token = secrets.token_hex(16)
    with _lock:
        _in_memory[token] = data
        while len(_in_memory) > MAX_IN_MEMORY:
            _in_memory.popitem(last=False)
    return PREFIX + token


def withdraw(url: str) -> None:
    """Stop serving a URL of :func:`publish_in_memory`; a URL that is not served is ignored."""
    with _lock:
        _in_memory.pop(url.removeprefix(PREFIX), None)


def volume(request: Request) -> Response:
    """``GET /api/volumes/<token>``: the bytes of a volume; 404 for an unknown token.

    With ``?at=<number>,<number>``: the intensities of these numbers, little-endian float32; 400 for a number that
    does not exist. 422 with the reason where a volume of :func:`publish_on_request` cannot be made, and 202 with
    ``{"progress": share}`` while it is computed; with ``?state``, ``{"progress": 1}`` instead of its bytes.

    ``DELETE /api/volumes/<token>``: end what computes it; 204 whether or not anything does.
    """
    if request.method == "DELETE":
        return _stop(request.path_params["token"])
    token, asked = request.path_params["token"], request.query_params.get("at")
    with _lock:
        data, file = _in_memory.get(token), _published.get(token)
    if data is not None and asked is not None:
        return _intensities(io.BytesIO(data), len(data), asked)
    if data is not None:
        headers = {"cache-control": "no-store", "content-encoding": "identity"}  # no proxy may compress it
        return Response(data, media_type="application/octet-stream", headers=headers)
    with _lock:
        writer = _writers.get(token)
    if writer is not None:
        writer.join()
        with _lock:
            _writers.pop(token, None)
    try:
        if file is not None:
            _make_requested(token, file)
    except Pending as pending:
        return _state(pending.progress, 202)
    except UserError as error:
        return Response(f"{error}\n", 422, media_type="text/plain")
    if file is None or not file.is_file():
        return Response("this volume is no longer available: load the page again\n", 404, media_type="text/plain")
    if "state" in request.query_params:
        return _state(1, 200)
    if file.suffix == INTENSITIES:
        with open(file, "rb") as stream:
            return _intensities(stream, file.stat().st_size, asked or "")
    headers = {"content-encoding": "gzip", "cache-control": "private, max-age=31536000, immutable"}
    return _VolumeResponse(file, media_type="application/octet-stream", headers=headers)


ROUTE = Route("/" + PREFIX + "{token}", volume, methods=["GET", "DELETE"])


def _stop(token: str) -> Response:
    with _lock:
        maker = _makers.get(token)
    stop = maker[2] if maker is not None else None
    if stop is not None:
        stop()
    return Response(status_code=204)


def _state(progress: float, status: int) -> Response:
    return JSONResponse({"progress": progress}, status, headers={"cache-control": "no-store"})


def _intensities(stream: BinaryIO, size: int, asked: str) -> Response:
    """The intensities whose numbers are asked for, of a stream of ``size`` bytes."""
    numbers = asked.split(",")
    if len(numbers) > MAX_ASKED or not all(n.isdecimal() and int(n) < size // INTENSITY_BYTES for n in numbers):
        return Response(f"expected up to {MAX_ASKED} numbers of intensities\n", 400, media_type="text/plain")
    read = []
    for number in numbers:
        stream.seek(int(number) * INTENSITY_BYTES)
        read.append(stream.read(INTENSITY_BYTES))
    return Response(b"".join(read), media_type="application/octet-stream", headers={"cache-control": "no-store"})


def _make(
    content: Path, facts: Path, make: Callable[[], tuple[dict[str, Any], bytes]], turn: Turn = heavy_work
) -> dict[str, Any]:
    """Make a volume and write it to the cache; returns its facts."""
    with turn():
        known, data = make()
        compressed = gzip.compress(data, COMPRESSION_LEVEL, mtime=0)
    try:
        content.parent.mkdir(parents=True, exist_ok=True)
        prune(content.parent)
        atomic_write(content, compressed)
        atomic_write(facts, json.dumps(known).encode())
    except OSError as error:
        raise CacheWriteError(
            f"{content.parent}: expected a folder with room for volumes, cannot write: "
            f"{error.strerror or error}; make room there"
        ) from error
    return known


def _make_requested(token: str, content: Path) -> None:
    """Make a volume of :func:`publish_on_request` that is not cached; does nothing for any other."""
    with _lock:
        maker = _makers.get(token)
    if maker is None:
        return
    make, turn, _ = maker
    facts = content.with_suffix(".json")
    if _cached(content, facts) is None:
        with one_at_a_time(content):
            if _cached(content, facts) is None:
                _make(content, facts, lambda: ({}, make()), turn)


def _write_intensities(content: Path, data: bytes) -> None:
    with contextlib.suppress(OSError):
        content.parent.mkdir(parents=True, exist_ok=True)
        prune(content.parent)
        atomic_write(content, data)


def place(name: str, ending: str) -> tuple[Path, str]:
    """File and token of what is published under a name."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return _folder() / f"{digest}{ending}", hmac.new(_secret, digest.encode(), hashlib.sha256).hexdigest()[:32]


def _folder() -> Path:
    return cache_root() / "volumes"


def _cached(content: Path, facts: Path) -> dict[str, Any] | None:
    """The facts of a cached volume, whose modification time is set to now; ``None`` if it is not cached."""
    try:
        known: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8"))
        os.utime(content)
    except (OSError, ValueError):
        return None
    return known


def prune(folder: Path) -> None:
    """Remove the least recently used volumes until the cache is within its limit."""
    volumes = []
    for path in folder.iterdir():
        if path.suffix not in (COMPRESSED, INTENSITIES, RAW_IMAGE, RAW_LABELS):
            continue
        with contextlib.suppress(OSError):
            stat = path.stat()
            volumes.append((stat.st_mtime, stat.st_size, path))
    total = sum(size for _, size, _ in volumes)
    for _, size, path in sorted(volumes):
        if total <= MAX_CACHE_BYTES:
            break
        for part in (path.with_suffix(".json"), path):
            with contextlib.suppress(OSError):
                part.unlink()
        total -= size
