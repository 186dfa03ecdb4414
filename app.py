"""The web server: the Streamlit app, the data routes beside it, and the access check in front of both."""

from __future__ import annotations

import streamlit as st

from ui.server.access import middleware
from ui.server.routes import ROUTES

app = st.App("ui/shell.py", routes=ROUTES, middleware=middleware())
