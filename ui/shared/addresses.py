"""Addresses of the app: the prefix under which it is served, those of routes, and lists in the query of a page."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st

BROWSER_COOKIE = "segmentarium-browser"  # a random value for each browser
API = "api/"  # begin of the routes of pages; browsers resolve it beside the page, so it holds behind any path prefix
SEPARATOR = "~"  # of a list in a query; stands in an address as it is


def join_values(values: Iterable[str]) -> str:
    """Texts as the value of one query parameter."""
    return SEPARATOR.join(value.replace("%", "%25").replace(SEPARATOR, "%7E") for value in values)


def split_values(text: str) -> list[str]:
    """The inverse of :func:`join_values`; empty for an empty text."""
    return [part.replace("%7E", SEPARATOR).replace("%25", "%") for part in text.split(SEPARATOR)] if text else []


def base_path() -> str:
    """The path prefix of the server (``--server.baseUrlPath``) as ``/prefix``; empty without one."""
    prefix = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{prefix}" if prefix else ""
