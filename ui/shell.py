"""The frame around every page: page settings, brand, navigation, footer."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:  # run by its own path (tests): the packages lie beside this folder
    sys.path.insert(0, str(PROJECT))

from ui.server.garbage_collection import set_imports_aside  # noqa: E402
from ui.shared.navigation import all_pages  # noqa: E402

FOOTER = "For research and teaching, not a medical device."
BRAND = PROJECT / "ui" / "brand"

set_imports_aside()
st.set_page_config(
    page_title="Segmentarium", page_icon=BRAND / "icon.svg", layout="wide", initial_sidebar_state="collapsed"
)
st.logo(str(BRAND / "logo.svg"), size="large")
page = st.navigation(all_pages(), position="top")
body = st.container(gap="small")
st.caption(FOOTER)  # before the page runs, so that a page that stops early has it too
with body:
    page.run()
