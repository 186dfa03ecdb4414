"""A folder on a network file system that is mounted twice, as two machines mount it, and processes of the second one.

The file system is GlusterFS on loopback: the kernel of a test machine has no server of NFS. It needs root, Linux, FUSE
and the packages ``glusterfs-server`` and ``glusterfs-client``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.processes import PROJECT
from tests.support.ports import free_port
from tests.support.watching import wait_until

PROGRAMS = ("glusterfsd", "glusterfs", "unshare", "mount", "umount")
SERVER = """volume disk
  type storage/posix
  option directory {dir}/brick
end-volume
volume locks
  type features/locks
  subvolumes disk
end-volume
volume server
  type protocol/server
  option transport-type tcp
  option transport.socket.bind-address 127.0.0.1
  option transport.socket.listen-port {port}
  option auth.addr.locks.allow 127.0.0.1
  subvolumes locks
end-volume
"""
CLIENT = """volume remote
  type protocol/client
  option transport-type tcp
  option remote-host 127.0.0.1
  option remote-port {port}
  option remote-subvolume locks
end-volume
volume cache
  type performance/md-cache
  subvolumes remote
end-volume
"""
OTHER = (
    """hostname "$1"; mount --bind "$2" /proc/sys/kernel/random/boot_id; mount --bind "$3" "$4"; shift 4; exec "$@" """
)


def missing_for_network_folder() -> str:
    """What is missing for a network file system; empty if nothing."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (apt-get install glusterfs-server glusterfs-client)"
    return "" if os.access("/dev/fuse", os.R_OK | os.W_OK) else "/dev/fuse cannot be opened: nothing can be mounted"


class NetworkFolder:
    """A folder on a server, mounted at ``here`` for the tests and at ``there`` for another machine, which sees it under
    the path of ``here`` too.

    Parameters
    ----------
    folder : Path. An empty folder for the files of the server and the two mounts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.here, self.there = folder / "here", folder / "there"
        self._port = free_port()
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the server and mount the folder twice; returns when one mount shows what the other one wrote."""
        for name in ("brick", "here", "there"):
            (self.folder / name).mkdir()
        (self.folder / "server.vol").write_text(SERVER.format(dir=self.folder, port=self._port))
        (self.folder / "client.vol").write_text(CLIENT.format(port=self._port))
        self._daemon("glusterfsd", "server")
        for mount in (self.here, self.there):
            self._daemon("glusterfs", "client", str(mount))
        wait_until(self._is_shared, 30, 0.1)

    def stop(self) -> None:
        """Unmount both and end the server."""
        for mount in (self.here, self.there):
            subprocess.run(["umount", "--lazy", str(mount)], check=False, capture_output=True)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            daemon.wait(30)

    def _daemon(self, program: str, volume: str, *arguments: str) -> None:
        number = len(self._daemons)
        command = [program, "--no-daemon", "-f", f"{self.folder}/{volume}.vol", "-l", f"{self.folder}/{number}.log"]
        self._daemons.append(subprocess.Popen([*command, "-p", f"{self.folder}/{number}.pid", *arguments]))

    def _is_shared(self) -> bool:
        for number, daemon in enumerate(self._daemons):
            assert daemon.poll() is None, (self.folder / f"{number}.log").read_text()[-2000:]
        if not (os.path.ismount(self.here) and os.path.ismount(self.there)):
            return False
        (self.here / ".written").write_text("x")
        return (self.there / ".written").is_file()


class OtherMachine:
    """Processes with host name, boot id and PIDs of their own, which see the second mount under the path of the first.

    Parameters
    ----------
    shared : NetworkFolder.
    name : str. Host name.
    """

    def __init__(self, shared: NetworkFolder, name: str) -> None:
        self._shared, self.name = shared, name
        self._boot = shared.folder / f"{name}.boot"
        self._boot.write_text(f"{time.time_ns():032x}\n")

    def start(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command; killing the process is a power cut for everything that it started."""
        apart = ["unshare", "--pid", "--mount", "--uts", "--fork", "--mount-proc", "--kill-child", "bash", "-c", OTHER]
        mounts = [self.name, str(self._boot), str(self._shared.there), str(self._shared.here)]
        return subprocess.Popen(
            [*apart, "_", *mounts, *command],
            cwd=PROJECT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
