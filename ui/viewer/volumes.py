"""Carries volumes to the browser: addresses with tokens that nobody can guess, behind the access check.

``publish`` is for what never changes under its name: it travels once, compressed, and the browser keeps it.
``publish_once`` is for the quiz: what is sent says nothing about what is in it. Equal lengths stay equal (nothing is
compressed), tokens are random, headers are always the same, and nothing is kept anywhere.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import hmac
import json
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from core.errors import UserError
from core.files import atomic_write
from ui.shared.state import cache_root

PREFIX = "/api/volumes/"
MOST_BYTES = 2 * 2**30  # of kept volumes; the longest unused go first
MOST_ONCE = 4096  # volumes of open quizzes; the oldest go first
LEVEL = 1  # of compression: 5 MB in a fifth of a second

_secret = secrets.token_bytes(32)
_published: dict[str, Path] = {}
_once: OrderedDict[str, bytes] = OrderedDict()
_lock = threading.Lock()


class Unkept(UserError):
    """There is no room for what the browser is to be shown."""


def publish(name: str, make: Callable[[], tuple[dict[str, Any], bytes]]) -> tuple[dict[str, Any], str]:
    """Facts about a volume and the address of its bytes, made now unless they are kept from before.

    Parameters
    ----------
    name : everything that the content depends on, as text; the same name always means the same content.
    make : gives plain JSON facts and the bytes.

    Raises
    ------
    Unkept
        If it cannot be written; and what ``make`` raises.
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    content, facts = (_folder() / f"{digest}{suffix}" for suffix in (".gz", ".json"))
    known = _kept(content, facts)
    if known is None:
        known, data = make()
        try:
            content.parent.mkdir(parents=True, exist_ok=True)
            _prune(content.parent)
            atomic_write(content, gzip.compress(data, LEVEL, mtime=0))
            atomic_write(facts, json.dumps(known).encode())
        except OSError as error:
            raise Unkept(
                f"{content.parent}: expected room to keep what is shown, it cannot be written: "
                f"{error.strerror or error}; make room there"
            ) from error
    token = hmac.new(_secret, digest.encode(), hashlib.sha256).hexdigest()[:32]
    with _lock:
        _published[token] = content
    return known, PREFIX + token


def publish_once(data: bytes) -> str:
    """An address under which these bytes can be fetched until they are withdrawn; another one at every call."""
    token = secrets.token_hex(16)
    with _lock:
        _once[token] = data
        while len(_once) > MOST_ONCE:
            _once.popitem(last=False)
    return PREFIX + token


def withdraw(url: str) -> None:
    """Forget what :func:`publish_once` gave; asking twice changes nothing."""
    with _lock:
        _once.pop(url.removeprefix(PREFIX), None)


def volume(request: Request) -> Response:
    """``GET /api/volumes/<token>``: the bytes of a volume; 404 for a token that is not known (any more)."""
    token = request.path_params["token"]
    with _lock:
        once, kept = _once.get(token), _published.get(token)
    if once is not None:
        headers = {"cache-control": "no-store", "content-encoding": "identity"}  # nobody compresses it on the way
        return Response(once, media_type="application/octet-stream", headers=headers)
    if kept is None or not kept.is_file():
        return Response("this volume is no longer here: load the page again\n", 404, media_type="text/plain")
    headers = {"content-encoding": "gzip", "cache-control": "private, max-age=31536000, immutable"}
    return FileResponse(kept, media_type="application/octet-stream", headers=headers)


ROUTE = Route(PREFIX + "{token}", volume, methods=["GET"])


def _folder() -> Path:
    return cache_root() / "volumes"


def _kept(content: Path, facts: Path) -> dict[str, Any] | None:
    """The facts of a volume that is kept, marked as used now; ``None`` where there is none."""
    try:
        found: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8"))
        os.utime(content)
    except (OSError, ValueError):
        return None
    return found


def _prune(folder: Path) -> None:
    """Make room: remove the volumes that were not used for the longest time."""
    found = []
    for path in folder.glob("*.gz"):
        with contextlib.suppress(OSError):
            facts = path.stat()
            found.append((facts.st_mtime, facts.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= MOST_BYTES:
            break
        for doomed in (path.with_suffix(".json"), path):
            with contextlib.suppress(OSError):
                doomed.unlink()
        total -= size
