"""This machine as others see it: its host name and the id of its current boot.

Both together tell where a PID means anything. Containers of one machine share its boot id and differ in their host
names; a machine that was restarted keeps its name and has another boot id.
"""

from __future__ import annotations

import re
import socket
from functools import cache
from pathlib import Path


@cache
def host_name() -> str:
    """Host name of this machine."""
    return socket.gethostname() or "localhost"


@cache
def boot_id() -> str:
    """Id of this machine's current boot; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def host_in_file_name() -> str:
    """The host name with letters, digits, "-" and "_" alone, for the names of files."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", host_name())
