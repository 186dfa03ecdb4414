"""Versions of the libraries that are installed, for what depends on them, such as the keys of caches."""

from __future__ import annotations

import functools
from importlib import metadata


@functools.cache
def installed_versions(*libraries: str) -> tuple[str, ...]:
    """The version of each distribution, "none" for one that is not installed."""
    return tuple(map(_version, libraries))


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "none"
