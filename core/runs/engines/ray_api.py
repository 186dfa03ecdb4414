"""The HTTP interface of a Ray cluster's dashboard: requests with its token, and failures in a sentence each.

Ray's own client is not needed: the interface is plain REST, and the client would have to be of the cluster's version.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from core.paths import absolute_path
from core.runs.engines.engine import EngineError, UnansweredError, UnsentError
from core.runs.engines.settings import RaySettings

MAX_BYTES = 256 * 1024**2  # longest answer
TOKEN, TOKEN_PATH = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
DEFAULT_TOKEN = Path(".ray") / "auth_token"  # in the home folder
_UNKNOWN = "does not exist"  # Ray of a job
_BUSY = (429, 502, 503, 504)  # of a server in front of the dashboard, which did not answer it in time


class NotFoundError(EngineError):
    """Ray does not know what it was asked about."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token goes to no other server than the one that is named."""

    def redirect_request(self, *args: Any, **named: Any) -> None:
        return None


class RayApi:
    """The dashboard of a Ray cluster.

    Parameters
    ----------
    name : str. Name of the engine, for messages.
    settings : RaySettings. Address, token and time-out.
    """

    def __init__(self, name: str, settings: RaySettings) -> None:
        self._name = name
        self._settings = settings
        self._opener = urllib.request.build_opener(_NoRedirects)

    def get(self, path: str, expected: type = dict) -> Any:
        """The answer to a GET request, an object or, if ``expected``, a list.

        Raises
        ------
        NotFoundError
            If what is asked for does not exist.
        EngineError
            If the dashboard does not answer, or refuses.
        """
        answer = self._ask("GET", path, None)
        if not isinstance(answer, expected):
            raise self._not_ray()
        return answer

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer to a POST request; raises as :meth:`get`."""
        return self._ask("POST", path, body or {})

    def token_source(self) -> tuple[str, str]:
        """The token, and where it was found; both empty if there is none.

        Raises
        ------
        EngineError
            If the file that is named cannot be read, or there is no token in it.
        """
        named = self._settings.token_file
        if named:
            return self._read_token(absolute_path(named), "token_file"), named
        if token := os.environ.get(TOKEN, "").strip():
            return self._checked(token, TOKEN), TOKEN
        if path := os.environ.get(TOKEN_PATH, ""):
            return self._read_token(absolute_path(path), TOKEN_PATH), path
        default = Path.home() / DEFAULT_TOKEN
        return (self._read_token(default, "token"), str(default)) if default.is_file() else ("", "")

    def _read_token(self, path: Path, what: str) -> str:
        try:
            token = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise EngineError(
                f"{self._name}: {what}: {path}: expected a file with Ray's token, got: {error}"
            ) from error
        return self._checked(token, f"{what}: {path}")

    def _checked(self, token: str, where: str) -> str:
        if not token.isascii() or not token.isprintable() or not token:
            raise EngineError(f"{self._name}: {where}: expected a token of one line, found none")
        return token

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        address, (token, source) = self._settings.address.rstrip("/"), self.token_source()
        request = urllib.request.Request(address + path, method=method)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with self._opener.open(request, timeout=self._settings.timeout_s) as answer:
                content = answer.read(MAX_BYTES + 1)
        except urllib.error.HTTPError as error:
            raise self._refusal(error, source) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._no_answer(error) from error
        if len(content) > MAX_BYTES:
            raise EngineError(
                f"{self._name}: {path}: expected an answer of {MAX_BYTES} bytes at most, got a longer one"
            )
        try:
            return json.loads(content)
        except ValueError as error:
            raise self._not_ray() from error

    def _not_ray(self) -> EngineError:
        return EngineError(
            f"{self._name}: {self._settings.address} answers, but not as Ray's dashboard does: is `address` that of "
            "the dashboard?"
        )

    def _refusal(self, error: urllib.error.HTTPError, source: str) -> EngineError:
        """What a status other than success means, and what to do."""
        said = _response_text(error)
        if error.code in (401, 403):
            why = (
                f"it refuses the token of {source}: is it that of this cluster?"
                if source
                else "it asks for a token: name its file as `token_file`"
            )
            return EngineError(f"{self._name}: {why} ({error.code})")
        if error.code == 404 and _UNKNOWN in said:
            return NotFoundError(f"{self._name}: {said}")
        if error.code == 404:
            where = f"there is no job interface of Ray at {self._settings.address} ({said})"
            return EngineError(
                f"{self._name}: {where}: is `address` that of the dashboard, and ray[default] installed on its head?"
            )
        if 300 <= error.code < 400:
            target = error.headers.get("Location", "elsewhere")
            return EngineError(f"{self._name}: it is redirected to {target}: give the final address as `address`")
        if error.code in _BUSY:
            return UnansweredError(f"{self._name}: its dashboard does not answer: {said} ({error.code})")
        return EngineError(f"{self._name}: Ray refuses: {said} ({error.code})")

    def _no_answer(self, error: Exception) -> EngineError:
        """Why there was no answer, and what to do."""
        reason = getattr(error, "reason", error)
        why = (
            f"did not answer within {self._settings.timeout_s:g} s"
            if isinstance(reason, TimeoutError)
            else f"does not answer ({getattr(reason, 'strerror', None) or reason})"
        )
        unsent = isinstance(reason, ConnectionRefusedError | socket.gaierror)
        failure = UnsentError if unsent else UnansweredError
        return failure(
            f"{self._name}: its dashboard at {self._settings.address} {why}: is its head up, and `address` right?"
        )


def _response_text(error: urllib.error.HTTPError) -> str:
    """The text of a refusal; of a traceback, the exception."""
    try:
        text = error.read(100_000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        text = ""
    lines = [line.strip() for line in text.splitlines() if len(line.strip()) > 1]
    exceptions = [line for line in lines if "Error: " in line]
    return (exceptions or lines or [str(error.reason)])[-1][:300]
