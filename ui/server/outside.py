"""How the server is reached from outside: origins that browsers show, and proxies whose headers are believed."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from starlette.types import Scope

from core.errors import UserError

ORIGINS_VARIABLE = "SEGMENTARIUM_ORIGINS"
PROXIES_VARIABLE = "SEGMENTARIUM_TRUSTED_PROXIES"
UVICORN_PROXIES_VARIABLE = "FORWARDED_ALLOW_IPS"
DEFAULT_PORTS = {"http": 80, "https": 443}
PROXY_HEADERS = frozenset({"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"})

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressSettingError(UserError):
    """A setting of how the server is reached cannot be understood."""


@dataclass(frozen=True)
class Outside:
    """How the server is reached from outside.

    Attributes
    ----------
    origins : tuple of str. Origins at which browsers show the app, as ``https://host`` or ``https://host:port``.
    proxies : tuple of networks. Addresses of proxies whose ``X-Forwarded-Host`` and ``X-Forwarded-Proto`` are believed.
    """

    origins: tuple[str, ...] = ()
    proxies: tuple[Network, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Outside:
        """The settings in ``SEGMENTARIUM_ORIGINS`` and ``SEGMENTARIUM_TRUSTED_PROXIES``, lists separated by commas.

        Raises
        ------
        AddressSettingError
            If an entry is no origin, or no address or network.
        """
        return cls(
            tuple(_origin(entry) for entry in _entries(environment, ORIGINS_VARIABLE)),
            tuple(_network(entry) for entry in _entries(environment, PROXIES_VARIABLE)),
        )

    @property
    def expects_proxy(self) -> bool:
        """Whether the server is set up to be reached through a proxy."""
        return bool(self.origins or self.proxies)

    def as_sent(self, scope: Scope) -> Scope:
        """A request as the browser sent it: with the host and scheme that a trusted proxy reports."""
        headers = header_values(scope)
        if not self._is_trusted((scope.get("client") or ("",))[0]):
            return scope
        host, scheme = (_last(headers, f"x-forwarded-{name}") for name in ("host", "proto"))
        if host:
            scope = with_host(scope, host)
        if scheme in ("http", "https", "ws", "wss"):
            secure, is_websocket = scheme in ("https", "wss"), scope["type"] == "websocket"
            scope = {**scope, "scheme": ("ws" if is_websocket else "http") + ("s" if secure else "")}
        return scope

    def is_own_origin(self, origin: str, host: str) -> bool:
        """Whether an ``Origin`` is the host that the request was sent to, or one of the origins."""
        parts = split_address(origin)
        return parts is not None and (parts.netloc.lower() == host.lower() or _normalised(origin) in self.origins)

    def _is_trusted(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.proxies)


def split_address(address: str) -> SplitResult | None:
    """The parts of an address; ``None`` for one that is malformed, such as ``http://[``."""
    try:
        return urlsplit(address)
    except ValueError:
        return None


def header_values(scope: Scope) -> dict[str, str]:
    """The headers of a request, names in lower case; of several with one name, the last."""
    return {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope.get("headers", [])}


def came_through_proxy(headers: Mapping[str, str]) -> bool:
    """Whether a proxy says that it passed the request on."""
    return not PROXY_HEADERS.isdisjoint(headers)


def with_host(scope: Scope, host: str) -> Scope:
    """The request with another ``Host``."""
    others = [(k, v) for k, v in scope.get("headers", []) if k.lower() != b"host"]
    return {**scope, "headers": [*others, (b"host", host.encode("latin-1", "replace"))]}


def _entries(environment: Mapping[str, str], variable: str) -> list[str]:
    return [entry for entry in (part.strip() for part in environment.get(variable, "").split(",")) if entry]


def _origin(entry: str) -> str:
    normalised = _normalised(entry)
    parts = split_address(entry)
    if not normalised or parts is None or parts.path.strip("/") or parts.query or parts.fragment or parts.username:
        raise AddressSettingError(
            f"{ORIGINS_VARIABLE}: expected addresses as https://host or https://host:port, got {entry!r}; "
            "a path prefix belongs into --server.baseUrlPath"
        )
    return normalised


def _normalised(origin: str) -> str:
    """An origin in lower case without default port; empty if it is not an origin."""
    parts = split_address(origin.strip().lower())
    try:
        port = parts.port if parts is not None else None
    except ValueError:
        return ""
    if parts is None or parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in (None, DEFAULT_PORTS[parts.scheme]) else "")


def _network(entry: str) -> Network:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError as error:
        raise AddressSettingError(
            f"{PROXIES_VARIABLE}: expected IP addresses or networks as 10.0.0.5 or 10.0.0.0/24, got {entry!r}"
        ) from error


def _last(headers: Mapping[str, str], name: str) -> str:
    """The last of several values, which the nearest proxy has added."""
    return headers.get(name, "").rpartition(",")[2].strip().lower()
