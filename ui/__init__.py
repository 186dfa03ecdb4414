"""Everything that pages show and run: the shell, the server, shared parts, and a folder per page."""
