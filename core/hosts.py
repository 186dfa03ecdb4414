"""Identity of this machine for other hosts: host name, id of the current boot, and marks that survive a restart.

A PID is valid only within its boot and PID namespace, whatever the host is called: containers of one machine share its
boot and differ in their namespaces. After a restart the boot id is another one; the machine is then recognised by its
name or, where that was changed too, by its marks. Images of machines and of containers are cloned with their ids, so
equal marks alone prove nothing (:mod:`core.runs.store.run_origin`).
"""

from __future__ import annotations

import hashlib
import os
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


@cache
def pid_space() -> str:
    """Id of the boot and PID namespace within which PIDs are valid; empty where the system has none."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return ""
    return f"{boot_id()}:{namespace}" if boot_id() else ""


@cache
def machine_marks() -> tuple[str, ...]:
    """Marks of this machine that outlive a restart and a change of its name: one for each network card, made of its
    permanent address and the id of the installed system. Containers without cards of their own have none."""
    try:
        installed = Path("/etc/machine-id").read_text("ascii").strip()
        cards = [card for card in Path("/sys/class/net").iterdir() if (card / "device").exists()]
    except (OSError, UnicodeDecodeError):
        return ()
    addresses = [_read(card / "address") for card in cards if _read(card / "addr_assign_type") == "0"]
    marks = {hashlib.sha256(f"segmentarium {installed} {address}".encode()).hexdigest()[:16] for address in addresses}
    return tuple(sorted(marks)) if installed else ()


@cache
def booted_at() -> float:
    """Start of the current boot, in seconds since 1970; 0 where it is not known."""
    found = re.search(r"^btime (\d+)$", _read(Path("/proc/stat")), re.MULTILINE)
    return float(found[1]) if found else 0.0


def host_in_file_name() -> str:
    """The host name with letters, digits, "-" and "_" alone, for the names of files."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", host_name())


@cache
def pid_space_in_file_name() -> str:
    """The host name and the boot and PID namespace within which PIDs are valid, as :func:`host_in_file_name`: another
    machine, container or boot of the same name has another one."""
    space = hashlib.sha256(pid_space().encode()).hexdigest()[:8] if pid_space() else ""
    return "-".join(filter(None, (host_in_file_name(), space)))


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""
