"""The web server: the Streamlit app, the data routes beside it, and the access check in front of both."""

from __future__ import annotations

import streamlit as st

from ui.server.memory import return_freed_memory
from ui.server.message_queue import send_all_messages
from ui.server.middleware import middleware
from ui.server.routes import routes
from ui.server.script_runs import run_in_order

return_freed_memory()
run_in_order()
send_all_messages()
app = st.App("ui/shell.py", routes=routes(), middleware=middleware())
