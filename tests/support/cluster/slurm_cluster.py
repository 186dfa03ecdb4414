"""A real Slurm cluster on this machine, whose nodes look like other machines: own PIDs, host name, boot id, two GPUs
that are files. It needs root, Linux and the packages ``slurm-wlm`` and ``munge``."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path

from tests.support.cluster.network_folder import NetworkFolder
from tests.support.watching import wait_until

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "munged", "unshare")
PORT = 17_400
CONF = """ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthInfo=socket={dir}/run/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/state/%n
SlurmctldPidFile={dir}/run/ctld.pid
SlurmdPidFile={dir}/state/%n.pid
SlurmctldLogFile={dir}/log/ctld.log
SlurmdLogFile={dir}/log/%n.log
SlurmdTimeout=10
KillWait=5
MinJobAge=300
SchedulerParameters=batch_sched_delay=0,sched_interval=1
NodeName=DEFAULT CPUs=4 Gres=gpu:2
NodeName=n1 NodeAddr=127.0.0.1 Port={first}
NodeName=n2 NodeAddr=127.0.0.1 Port={last} Feature=big
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=ci Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=10
"""
NODE = """hostname "$1"; cat /proc/sys/kernel/random/uuid >"$2/run/$1.boot"
mount --bind "$2/run/$1.boot" /proc/sys/kernel/random/boot_id; mount --bind "$2/hosts" /etc/hosts
[ $# = 2 ] || mount --bind "$3" "$4"
slurmd -N "$1"; while :; do sleep 3600 & wait $!; done"""


def missing_for_slurm() -> str:
    """Which programs are missing for a cluster; empty if none."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)} (apt-get install slurm-wlm munge)" if absent else ""


class SlurmCluster:
    """Two nodes, ``n1`` and ``n2`` (of the feature "big"), and their controller.

    Parameters
    ----------
    folder : Path. An empty folder for its files; its path has to be short, as it holds a socket.
    shared : NetworkFolder, optional. A network file system: nodes see its second mount under the path of the first.
    """

    def __init__(self, folder: Path, shared: NetworkFolder | None = None) -> None:
        self.folder = folder
        self._mounts = [] if shared is None else [str(shared.there), str(shared.here)]
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        """Start munge, the controller and both nodes; returns when a job has run on them."""
        self.folder.chmod(0o755)  # munge looks at the folder of its socket
        for name in ("run", "state", "log"):
            (self.folder / name).mkdir()
        (self.folder / "munge.key").touch(mode=0o600)
        (self.folder / "munge.key").write_bytes(secrets.token_bytes(1024))
        for gpu in ("gpu0", "gpu1"):
            (self.folder / gpu).symlink_to("/dev/null")
        (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-1]\n")
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost {os.uname().nodename} n1 n2\n")
        port = PORT + 10 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))  # one of each worker
        conf = CONF.format(dir=self.folder, port=port, first=port + 1, last=port + 2)
        (self.folder / "slurm.conf").write_text(conf)
        run = self.folder / "run"
        munge = ["munged", f"--key-file={self.folder}/munge.key", f"--socket={run}/munge.socket"]
        munge += [f"--pid-file={run}/munge.pid", f"--log-file={self.folder}/log/munge.log"]
        self._call(*munge, f"--seed-file={self.folder}/munge.seed")
        self.start_controller()
        for name in ("n1", "n2"):
            self.boot(name)
        job = self.client("sbatch", "--parsable", "-N", "2", "-o", "/dev/null", "--wrap", "true").strip()
        wait_until(lambda: "COMPLETED" in self.client("squeue", "-h", "-t", "all", "-j", job, "-o", "%T"), 60, 0.1)

    def boot(self, name: str) -> None:
        """Start a node: its init is a process whose death takes everything on it with it, as a power cut does."""
        apart = ["unshare", "--pid", "--mount", "--uts", "--fork", "--mount-proc", "--kill-child"]
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self._nodes[name] = subprocess.Popen(
                [*apart, "bash", "-c", NODE, "_", name, str(self.folder), *self._mounts],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def power_cut(self, name: str) -> None:
        """End a node and everything on it at once."""
        node = self._nodes.pop(name)
        node.kill()
        node.wait()

    def start_controller(self) -> None:
        self._call("slurmctld")

    def stop_controller(self) -> None:
        """End the controller; what runs on the nodes goes on."""
        _end(self.folder / "run" / "ctld.pid")

    def client(self, *command: str) -> str:
        """Standard output of a client."""
        return self._call("timeout", "30", *command)

    def stop(self) -> None:
        """End everything."""
        for name in list(self._nodes):
            self.power_cut(name)
        for name in ("ctld", "munge"):
            _end(self.folder / "run" / f"{name}.pid")

    def _call(self, *command: str) -> str:
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout


def _end(pid_file: Path) -> None:
    """Terminate the daemon with this PID file and wait for its end."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), 20, 0.1)
