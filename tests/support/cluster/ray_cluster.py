"""A real Ray cluster on this machine, whose two nodes look like other machines: own PIDs, host name, boot id, network,
and two GPUs that exist by number alone. It needs root, Linux, ``ip`` and the packages of ``requirements-ray.txt``."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.cluster import separate_network
from tests.support.cluster.separate_network import SeparateNetwork
from tests.support.watching import wait_until

ENVIRONMENT = Path(sys.prefix) / "ray"  # Ray's packages stay apart from those of the project
PROGRAMS = (*separate_network.PROGRAMS, "mount")
PORT = 8265
OBJECT_STORE_BYTES = 80_000_000
ADDRESSES = {"r1": 1, "r2": 2}
# The network interface is moved in from outside, with its address.
NODE = """hostname "$1"; cat /proc/sys/kernel/random/uuid >"$2/$1.boot"
mount --bind "$2/$1.boot" /proc/sys/kernel/random/boot_id
mount --bind "$2/hosts" /etc/hosts
ip link set lo up
until ip link show eth0 >/dev/null 2>&1; do sleep 0.05; done
ip addr add "$3/24" dev eth0; ip link set eth0 up
shift 3; "$@" || exit 1
while :; do sleep 3600 & wait $!; done"""


def ray_program() -> Path | None:
    """The program ``ray``, in the folder that the variable ``RAY`` names or in :data:`ENVIRONMENT`; else ``None``."""
    folder = os.environ.get("RAY", "")
    path = (Path(folder) if folder else ENVIRONMENT / "bin") / "ray"
    return path if path.is_file() else None


def missing_for_ray() -> str:
    """What is missing for a cluster; empty if nothing."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (apt-get install iproute2 util-linux)"
    return "" if ray_program() else f"no Ray in {ENVIRONMENT}: make .venv/ray/installed"


class RayCluster:
    """A head, ``r1``, and one more node, ``r2``.

    Parameters
    ----------
    folder : Path. An empty folder for its files; its path has to be short, as it holds sockets.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = folder / "token"
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._network = SeparateNetwork(ADDRESSES["r1"], PORT)

    @property
    def address(self) -> str:
        """Address of the dashboard, as this machine reaches it."""
        return f"http://127.0.0.1:{self._network.forwarded_port}"

    def start(self) -> None:
        """Start both nodes; returns when the head knows them."""
        self.token.touch(mode=0o600)
        self.token.write_text(secrets.token_hex(16))
        names = "".join(f"{self._network.address(number)} {name}\n" for name, number in ADDRESSES.items())
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost {os.uname().nodename}\n{names}")
        self._network.start()
        self.boot("r1")
        self.boot("r2")

    def boot(self, name: str) -> None:
        """Start a node; returns when the head knows it. A new head, ``r1``, knows nothing of earlier jobs and nodes.

        Ray gives up a start that takes 30 s, as it may on a loaded machine: it is tried again.
        """
        for _ in range(3):
            node = self._start_node(name)
            wait_until(lambda node=node: node.poll() is not None or self._is_known(name), 180, 0.2)  # type: ignore[misc]
            if node.poll() is None:
                return
            self.power_cut(name)
        raise AssertionError((self.folder / f"{name}.log").read_text()[-3000:])

    def power_cut(self, name: str) -> None:
        """End a node and everything on it at once."""
        node = self._nodes.pop(name)
        node.kill()
        node.wait()
        self._network.disconnect(name)

    def get(self, path: str) -> Any:
        """What the dashboard answers to a request."""
        return self._ask(path, "GET")

    def post(self, path: str) -> Any:
        """What the dashboard answers to a request to do something."""
        return self._ask(path, "POST")

    def stop(self) -> None:
        """End everything."""
        for name in list(self._nodes):
            self.power_cut(name)
        self._network.stop()

    def _start_node(self, name: str) -> subprocess.Popen[bytes]:
        """The init of a new node, whose Ray begins to start."""
        head, own = (self._network.address(ADDRESSES[node]) for node in ("r1", name))
        arguments = [f"--address={head}:6379"]
        if name == "r1":
            arguments = ["--head", "--port=6379", f"--dashboard-host={own}", f"--dashboard-port={PORT}"]
            arguments.append(f"--temp-dir={self.folder}/t")
        sizes = [
            f'--resources={{"place_{name}": 1}}',
            "--num-cpus=2",
            "--num-gpus=2",
            "--include-log-monitor=false",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
        ]
        ray = [str(ray_program()), "start", f"--node-ip-address={own}", *sizes, *arguments]
        apart = ["unshare", "--pid", "--mount", "--uts", "--net", "--fork", "--mount-proc", "--kill-child"]
        with (self.folder / f"{name}.log").open("ab") as log:
            node = subprocess.Popen(
                [*apart, "bash", "-c", NODE, "_", name, str(self.folder), own, *ray],
                env={**os.environ, **self._environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._nodes[name] = node
        self._network.connect(wait_until(lambda: _child_in_another_network(node.pid), 20), name)
        return node

    def _ask(self, path: str, method: str) -> Any:
        headers = {"Authorization": f"Bearer {self.token.read_text()}"}
        request = urllib.request.Request(self.address + path, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def _environment(self) -> dict[str, str]:
        """Environment of the nodes, which their jobs inherit."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DISABLE_DOCKER_CPU_WARNING": "1",
            "RAY_JOB_STOP_WAIT_TIME_S": "20",
        }

    def _is_known(self, name: str) -> bool:
        try:
            nodes = self.get("/nodes?view=summary")["data"]["summary"]
        except (OSError, ValueError):
            return False
        return any(node.get("hostname") == name and node["raylet"].get("state") == "ALIVE" for node in nodes)


def _child_in_another_network(pid: int) -> int | None:
    """PID of the init of a node: a child whose network is not that of this process."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = os.readlink("/proc/self/ns/net")
    return next((int(child) for child in children if os.readlink(f"/proc/{child}/ns/net") != own), None)
