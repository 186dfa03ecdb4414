"""Groups of runs: a file per group, with its name, its kind and its members.

``checkpoints/groups/<group id>/group.json`` is the only record of a group; the folders of its runs do not mention it.
It is written before the runs are made, so after a kill at any instant the members without a run can be queued again.
A process changes it under its lock (:func:`change_group`).
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from core.config import TrainConfig
from core.errors import ConfigError, RunError, check_version
from core.files import StampedCache
from core.runs.store import folder as files
from core.runs.store.process import locked
from core.runs.store.run_origin import Origin

GROUPS, GROUP = "groups", "group.json"
VERSION = 2  # sweeps; groups of folds are written as version 1, which earlier versions read
LOCK = ".lock"
FOLDS = "folds"  # kind: cross-validation, a run per fold
SWEEP = "sweep"  # kind: search for values of fields, a run per trial

_cache: StampedCache[Group] = StampedCache()


@dataclass(frozen=True)
class Member:
    """A run of a group.

    Attributes
    ----------
    run : str. Its id; the run need not exist yet, or any more.
    values : dict. Fields of the configuration in which it differs from :attr:`Group.config`.
    """

    run: str
    values: dict[str, Any] = field(default_factory=dict)

    def config(self, base: TrainConfig) -> TrainConfig:
        """The configuration of the member."""
        return base.with_values(self.values)


@dataclass(frozen=True)
class Group:
    """Runs that belong together.

    Attributes
    ----------
    id, name : str. Folder name; display name, which is the id where the group has none.
    kind : str. What the members are: :data:`FOLDS` or :data:`SWEEP`.
    config : TrainConfig. Configuration that the members share but for their values.
    members : tuple of Member. In order.
    created_at : float. Seconds since 1970 (UTC).
    settings : dict. Of a sweep, :class:`core.sweeps.settings.SweepSettings` as JSON values; empty for folds.
    origin : Origin. Of a sweep, the host that proposes and prunes its trials, in whose queue they wait; any host for
        sweeps of earlier versions.
    """

    id: str
    name: str
    kind: str
    config: TrainConfig
    members: tuple[Member, ...]
    created_at: float = field(default_factory=time.time)
    settings: dict[str, Any] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)

    @property
    def given_name(self) -> str:
        """The name that a person gave; empty where there is none."""
        return "" if self.name == self.id else self.name

    @property
    def runs(self) -> tuple[str, ...]:
        """Ids of the members' runs."""
        return tuple(member.run for member in self.members)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "version": 1 if self.kind == FOLDS else VERSION,
            "name": self.given_name,
            "kind": self.kind,
            "config": self.config.to_json(),
            "members": [{"run": member.run, "values": member.values} for member in self.members],
            "created_at": self.created_at,
            **({"settings": self.settings} if self.settings else {}),
            **({"origin": dataclasses.asdict(self.origin)} if self.origin != Origin() else {}),
        }

    @classmethod
    def from_json(cls, id: str, data: Mapping[str, Any]) -> Group:
        """Inverse of :meth:`to_json`.

        Raises
        ------
        RunError
            If it is of a newer version, or not understood.
        """
        try:
            check_version(int(data["version"]), VERSION, RunError)
            members = tuple(Member(str(m["run"]), dict(m.get("values") or {})) for m in data["members"])
            config = TrainConfig.from_json(data["config"])
            name, created_at, settings = str(data["name"]) or id, float(data["created_at"]), data.get("settings")
            origin = Origin.from_json(data.get("origin") or {})
            return cls(id, name, str(data["kind"]), config, members, created_at, dict(settings or {}), origin)
        except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
            raise RunError(f"expected a group of runs, got: {error}") from error


def write_group(root: Path, group: Group) -> None:
    """Write the file of a group atomically; an earlier one is replaced.

    Raises
    ------
    RunError
        If it cannot be written.
    """
    path = root / GROUPS / group.id / GROUP
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{path.parent}: cannot be created: {error.strerror or error}") from error
    files.write_json(path, group.to_json(), durable=True)


def change_group(root: Path, group_id: str, change: Callable[[Group], Group]) -> Group:
    """Read a group, change it and write it, under its lock; returns the new group.

    Raises
    ------
    RunError
        If there is no such group, or it cannot be written.
    """
    with lock_group(root, group_id):
        group = change(read_group(root, group_id))
        write_group(root, group)
    return group


def lock_group(root: Path, group_id: str) -> AbstractContextManager[IO[str]]:
    """Lock of a group, held while it is changed.

    Raises
    ------
    RunError
        If there is no such group, or another process holds the lock.
    """
    read_group(root, group_id)
    return locked(root / GROUPS / f".{group_id}{LOCK}")


def read_groups(root: Path) -> list[Group]:
    """All groups of a root, the newest first; those whose file is damaged are left out, as their runs are intact.

    Raises
    ------
    RunError
        If their folder cannot be read.
    """
    groups = []
    try:
        found = list((root / GROUPS).glob(f"*/{GROUP}"))
    except OSError as error:
        reason = f"{error.strerror or error}; is its file system mounted, and may this user read it?"
        raise RunError(f"{root / GROUPS}: the groups of runs cannot be read: {reason}") from error
    for path in found:
        try:
            groups.append(_read(path))
        except RunError:
            continue
    return sorted(groups, key=lambda group: (group.created_at, group.id), reverse=True)


def read_sweeps(root: Path) -> list[Group]:
    """The groups of a root that are sweeps."""
    return [group for group in read_groups(root) if group.kind == SWEEP]


def read_own_sweeps(root: Path) -> list[Group]:
    """The sweeps of a root whose trials this host proposes."""
    return [group for group in read_sweeps(root) if group.origin.is_own]


def read_group(root: Path, group_id: str) -> Group:
    """The group with this full id.

    Raises
    ------
    RunError
        If there is none, or its file is damaged.
    """
    files.check_id(group_id)
    return _read(root / GROUPS / group_id / GROUP)


def remove_group(root: Path, group_id: str) -> None:
    """Remove the record of a group; its runs stay.

    Raises
    ------
    RunError
        If it cannot be removed.
    """
    files.check_id(group_id)
    folder = root / GROUPS / group_id
    doomed = root / GROUPS / f"{files.HIDDEN_DELETED}{group_id}"
    try:
        os.replace(folder, doomed)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{folder}: cannot be deleted: {error.strerror or error}") from error
    shutil.rmtree(doomed, ignore_errors=True)
    (root / GROUPS / f".{group_id}{LOCK}").unlink(missing_ok=True)


def group_of(groups: Sequence[Group], run_id: str) -> Group | None:
    """The group that a run is in."""
    return next((group for group in groups if run_id in group.runs), None)


def _read(path: Path) -> Group:
    """A group, cached: a page lists all of them every two seconds."""
    return _cache.get(lambda: _parse(path), path)


def _parse(path: Path) -> Group:
    try:
        return Group.from_json(path.parent.name, files.read_json(path))
    except RunError as error:
        raise RunError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
