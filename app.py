"""The web server: the Streamlit app, the data routes beside it, and the access check in front of both."""

from __future__ import annotations

import streamlit as st

from ui.server.memory import return_freed_memory
from ui.server.middleware import middleware
from ui.server.routes import routes

return_freed_memory()
app = st.App("ui/shell.py", routes=routes(), middleware=middleware())
