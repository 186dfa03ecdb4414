"""A throw-away PostgreSQL server on loopback, as the server of a hospital would be, and its faults."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.support.ports import free_port

OPTIONS = "-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off -c full_page_writes=off"


def programs() -> Path | None:
    """Folder of the newest installed server's programs; ``None`` without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return None if on_path is None else Path(on_path).resolve().parent


class PostgresServer:
    """A server with a folder of its own; it runs as user ``postgres`` where the tests run as root.

    Parameters
    ----------
    folder : Path. An empty folder that every user can reach.
    bin : Path. Its programs.
    """

    def __init__(self, folder: Path, bin: Path) -> None:
        self._folder, self._bin = folder, bin
        self._data = folder / "data"
        self.port = free_port()
        self._databases = 0
        if os.getuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        options = ["-A", "trust", "-U", "postgres", "--no-sync", "--no-instructions", "-E", "UTF8", "--locale=C"]
        self._run("initdb", "-D", str(self._data), *options)
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-p {self.port} {OPTIONS}"
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self._folder / "log"), "-w", "-s", "-o", options, "start")

    def stop(self) -> None:
        """End the server at once, as a crash of its machine would."""
        self.thaw()
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "-s", "stop")

    def new_database(self) -> str:
        """The URL of a new empty database."""
        self._databases += 1
        name = f"runs_{os.getpid()}_{self._databases}"
        self.execute(f"create database {name}")
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run a statement; returns its rows."""
        where = f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"
        with psycopg.connect(where, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def freeze(self) -> None:
        """Stop all processes of the server in the middle of what they do."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # a backend that has just ended
                process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have frozen processes go on."""
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # a backend that has just ended
                process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def small_disk(self, megabytes: int) -> Iterator[str]:
        """URL of a new database on a disk of its own; skips the test where nothing can be mounted."""
        place = self._folder / "disk"
        place.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0777", "tmpfs", str(place)],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            pytest.skip("needs the right to mount a file system")
        try:
            os.chmod(place, 0o700)
            if os.getuid() == 0:
                owner = pwd.getpwnam("postgres")
                os.chown(place, owner.pw_uid, owner.pw_gid)
            self.execute(f"create tablespace small location '{place}'")
            self.execute("create database small tablespace small")
            yield f"postgresql://postgres@127.0.0.1:{self.port}/small"
            self.execute("drop database small with (force)")
            self.execute("drop tablespace small")
        finally:
            subprocess.run(["umount", "-l", str(place)], check=False)

    def fill(self, url: str) -> None:
        """Fill the disk of a database."""
        name = url.rpartition("/")[2]
        self.execute("create table filler (text text)", name)
        for size in (1_000_000, 8000, 10):
            with contextlib.suppress(psycopg.errors.DiskFull):
                while True:
                    random = f"select string_agg(md5(random()::text), '') from generate_series(1, {max(1, size // 32)})"
                    self.execute(f"insert into filler {random}", name)

    def _processes(self) -> list[psutil.Process]:
        with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
            postmaster = psutil.Process(int((self._data / "postmaster.pid").read_text().split("\n")[0]))
            return [postmaster, *postmaster.children(recursive=True)]
        return []

    def _run(self, program: str, *arguments: str) -> None:
        as_owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] if os.getuid() == 0 else []
        command = [*as_owner, str(self._bin / program), *arguments]
        # pg_ctl's server inherits the pipes of its output: read a file instead.
        with (self._folder / f"{program}.out").open("w+") as output:
            done = subprocess.run(command, cwd="/", stdout=output, stderr=output, timeout=60, check=False)
            if done.returncode:
                output.seek(0)
                raise RuntimeError(f"{program} ended with {done.returncode}: {output.read()}")


def wait_for_server(server: PostgresServer, timeout_s: float = 20.0) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            server.execute("select 1")
        except psycopg.Error:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
