"""The frame of every page: page settings, logo, navigation and footer."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

PROJECT = Path(__file__).resolve().parents[1]
if str(PROJECT) not in sys.path:  # when this file is run by its path, as tests do, only its own folder is in sys.path
    sys.path.insert(0, str(PROJECT))

from core.errors import UserError  # noqa: E402
from ui.server.garbage_collection import freeze_imports  # noqa: E402
from ui.shared.errors import error_box  # noqa: E402
from ui.shared.navigation import all_pages, arrive, tab_title  # noqa: E402
from ui.shared.state import is_new_page, report_unknown_values  # noqa: E402

FOOTER = "For research and teaching, not a medical device."
BRAND = PROJECT / "ui" / "brand"

freeze_imports()
st.set_page_config(page_icon=BRAND / "icon.svg", layout="wide", initial_sidebar_state="collapsed")
st.logo(str(BRAND / "logo.svg"), size="large")
page = st.navigation(all_pages(), position="top")
arrive()
title = getattr(page, "title", "")  # without a session, as when this file is imported, the page is an empty one
if is_new_page(title):
    tab_title(title)  # a page that has more to say sets it again
reports = st.container(gap="small")
body = st.container(gap="small")
st.caption(FOOTER)  # before the page runs: a page that calls st.stop has a footer too
try:
    with body:
        page.run()
except UserError as error:  # one that ends the page: the folder of runs cannot be read
    with body:
        error_box(error)
finally:
    with reports:
        report_unknown_values()
