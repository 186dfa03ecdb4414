"""User interface: the shell, the server, shared parts, and a folder per page."""
