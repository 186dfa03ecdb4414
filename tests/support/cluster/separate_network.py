"""A network for other machines, apart from that of this machine: a bridge in a network namespace of its own.

No interface appears in the network of this machine, or disappears there: Chromium aborts all requests when one does
(``ERR_NETWORK_CHANGED``), and would so disturb tests that run at the same time."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.support.watching import wait_until

PROGRAMS = ("ip", "unshare", "nsenter")
FORWARDER = Path(__file__).with_name("forwarder.py")
PREFIX = "10.64.0"
BRIDGE = "bridge"
OUTSIDE = 254


class SeparateNetwork:
    """The network ``10.64.0.0/24``, of which one port of one machine is reached from this machine.

    Parameters
    ----------
    number : int. Number of that machine, the last part of its address.
    port : int. Its port.
    """

    def __init__(self, number: int, port: int) -> None:
        self._target = (self.address(number), port)
        self._listener: socket.socket | None = None
        self._forwarder: subprocess.Popen[bytes] | None = None

    @staticmethod
    def address(number: int) -> str:
        """Address of a machine in the network."""
        return f"{PREFIX}.{number}"

    @property
    def forwarded_port(self) -> int:
        """Port of this machine, on 127.0.0.1, that leads into the network."""
        assert self._listener is not None, "the network is not started"
        return int(self._listener.getsockname()[1])

    def start(self) -> None:
        """Make the network, and forward the port."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        listener, (host, port) = self._listener.fileno(), self._target
        # It listens in the network of this machine, in which the socket was made, and connects in the new one.
        command = ["unshare", "--net", sys.executable, str(FORWARDER), str(listener), host, str(port)]
        self._forwarder = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listener])
        wait_until(self._is_apart, 20)
        self._ip("link", "add", BRIDGE, "type", "bridge")
        self._ip("addr", "add", f"{self.address(OUTSIDE)}/24", "dev", BRIDGE)
        self._ip("link", "set", BRIDGE, "up")

    def connect(self, pid: int, link: str) -> None:
        """Give a machine its interface, ``eth0``.

        Parameters
        ----------
        pid : int. PID of a process with the network namespace of the machine.
        link : str. Name of the other end.
        """
        self._ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        self._ip("link", "set", link, "master", BRIDGE)
        self._ip("link", "set", link, "up")

    def disconnect(self, link: str) -> None:
        """Take the interface of a machine away, which may be gone already."""
        self._ip("link", "del", link, check=False)

    def stop(self) -> None:
        """End the network."""
        if self._forwarder is not None:
            self._forwarder.kill()
            self._forwarder.wait()
        if self._listener is not None:
            self._listener.close()

    def _is_apart(self) -> bool:
        assert self._forwarder is not None
        return os.readlink(f"/proc/{self._forwarder.pid}/ns/net") != os.readlink("/proc/self/ns/net")

    def _ip(self, *arguments: str, check: bool = True) -> None:
        """Call ``ip`` in the network."""
        assert self._forwarder is not None
        command = ["nsenter", f"--net=/proc/{self._forwarder.pid}/ns/net", "ip", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.stderr}"
