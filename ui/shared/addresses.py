"""Addresses of the app: the prefix under which it is served, and those of routes."""

from __future__ import annotations

import streamlit as st

BROWSER_COOKIE = "segmentarium-browser"  # a random value for each browser
API = "api/"  # begin of the routes of pages; browsers resolve it beside the page, so it holds behind any path prefix


def base_path() -> str:
    """The path prefix of the server (``--server.baseUrlPath``) as ``/prefix``; empty without one."""
    prefix = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{prefix}" if prefix else ""
