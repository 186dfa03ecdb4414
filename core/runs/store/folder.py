"""The run folder: its files, and functions to read and write them that survive a kill at any instant.

``checkpoints/<run id>/``

==================  ===================================================================================================
``run.json``        name, notes, tags, creation time
``config.json``     configuration (:meth:`core.config.TrainConfig.to_json`)
``state.json``      state (:class:`core.runs.store.state.RunState`), replaced atomically
``metrics.jsonl``   one measurement per line (:mod:`core.runs.store.metrics_file`)
``log.txt``         log, and the output of the run's processes
``data.json``       geometry and digest of the files of the training and validation subjects, as the run began
``exit.json``       exit status of the last trainer process, written by its parent
``heartbeat.json``  host, PID and time, written every second where it trains (:mod:`core.runs.store.heartbeat`)
``engine.json``     engine and job of a run that another engine trains (:mod:`core.runs.store.engine_records`)
``stop``            present while a stop is requested (:mod:`core.runs.store.stop_file`)
``pruned``          present where a sweep asked the run to end early; content: the reason
``accept-data``     present while the run is to resume on data that has changed
``*.safetensors``   checkpoints: last, previous (the one before last), best, and epochs that are kept (``epoch-0010``)
``pictures/``       a slice per validation, truth beside prediction (:mod:`core.runs.store.pictures`)
``tensorboard/``    TensorBoard event files
``predictions/``    label maps predicted with this run's checkpoints
==================  ===================================================================================================
"""

from __future__ import annotations

import json
import os
import re
import secrets
import string
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, NamedTuple

from core.checkpointing.metadata import BEST as BEST
from core.checkpointing.metadata import LAST as LAST
from core.checkpointing.metadata import PREVIOUS as PREVIOUS
from core.config import TrainConfig
from core.errors import ConfigError, RunError
from core.files import atomic_write, is_present, may_be_present, read_replaced, read_tail
from core.runs.store.process import LOCK_WAIT_S, locked

CONFIG, STATE, RUN = "config.json", "state.json", "run.json"
LOG, EXIT, LOCK = "log.txt", "exit.json", ".lock"
TENSORBOARD, PREDICTIONS = "tensorboard", "predictions"
HIDDEN_NEW, HIDDEN_DELETED = ".new-", ".deleted-"  # starts of names of folders that are being made, and removed
NAME_LENGTH, NOTES_LENGTH, TAG_LENGTH, MAX_TAGS = 80, 10_000, 40, 20
_RANDOM = string.ascii_lowercase + string.digits
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_name(name: str) -> str:
    """Validate a run's name; returns it stripped.

    Raises
    ------
    RunError
        If it is longer than 80 characters or holds control characters.
    """
    name = name.strip()
    if len(name) > NAME_LENGTH or not name.isprintable():
        raise RunError(f"name: expected at most {NAME_LENGTH} printable characters, got {name[:100]!r}")
    return name


def name_with(name: str, addition: str) -> str:
    """A name with an addition after it, cut so that both together are not too long; empty for an empty name."""
    return f"{name[: max(0, NAME_LENGTH - len(addition) - 1)]} {addition}"[:NAME_LENGTH] if name else ""


def check_notes(notes: str) -> str:
    """Validate the notes of a run, which may have several lines; returns them stripped, with ``\\n`` line ends.

    Raises
    ------
    RunError
        If they are longer than 10,000 characters or hold control characters.
    """
    notes = notes.strip().replace("\r\n", "\n")
    if len(notes) > NOTES_LENGTH or not all(c.isprintable() or c in "\n\t" for c in notes):
        raise RunError(f"notes: expected at most {NOTES_LENGTH} printable characters, got {len(notes)}")
    return notes


def check_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Validate the tags of a run; returns them stripped, without empty and repeated ones.

    Raises
    ------
    RunError
        If there are more than 20, or one is longer than 40 characters or holds a comma or control characters.
    """
    cleaned = tuple(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
    for tag in cleaned:
        if len(tag) > TAG_LENGTH or not tag.isprintable() or "," in tag:
            raise RunError(f"tags: expected at most {TAG_LENGTH} printable characters without comma, got {tag[:60]!r}")
    if len(cleaned) > MAX_TAGS:
        raise RunError(f"tags: expected at most {MAX_TAGS}, got {len(cleaned)}")
    return cleaned


def new_run_id(text: str) -> str:
    """A new run id from a name: ``my-net-20260131-235959-k3x9`` (UTC)."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "run"
    random = "".join(secrets.choice(_RANDOM) for _ in range(4))
    return f"{slug}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{random}"


def run_folder(root: Path, run_id: str) -> Path:
    """The folder of an existing run.

    Raises
    ------
    RunError
        If the id is not a plain folder name, there is no such run, or its file system does not answer.
    """
    check_id(run_id)
    folder = root / run_id
    if not _has(folder / CONFIG):
        raise RunError(f"expected a run in {root}, found none called {run_id!r}; `runs list` shows all")
    return folder


def check_id(text: str) -> None:
    """Refuse an id that is no plain folder name.

    Raises
    ------
    RunError
        If it is not a run id.
    """
    if not _RUN_ID.fullmatch(text):
        raise RunError(f"expected a run id (letters, digits, '-', '_' and '.'), got {text!r}")


def has_training_state(folder: Path) -> bool:
    """Whether a run has a checkpoint from which it resumes; otherwise it begins anew.

    Raises
    ------
    RunError
        If its file system does not answer.
    """
    return any(_has(folder / name) for name in (LAST, PREVIOUS))


def run_folders(root: Path) -> list[Path]:
    """The folders of all runs under a root, in no particular order; empty if the root does not exist. One whose files
    cannot be looked at now is among them.

    Raises
    ------
    RunError
        If the root cannot be read, as where its network file system is away.
    """
    try:
        with os.scandir(root) as entries:
            found = [Path(e.path) for e in entries if _RUN_ID.fullmatch(e.name) and e.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(
            f"{root}: the folder of runs cannot be read: {error.strerror or error}; is its file system mounted, and "
            "may this user read it?"
        ) from error
    return [folder for folder in found if may_be_present(folder / CONFIG)]


def lock(folder: Path, timeout_s: float = LOCK_WAIT_S) -> AbstractContextManager[IO[str]]:
    """Lock of a run, held for a moment while another process than its trainer changes it (start, stop in the queue,
    resume, rename, delete); never while an engine is asked.

    Raises
    ------
    LockHeldError
        If another process holds it for longer than ``timeout_s``.
    """
    return locked(folder / LOCK, timeout_s)


def write_json(path: Path, data: Any, durable: bool = False) -> None:
    """Write strict JSON atomically.

    Raises
    ------
    RunError
        If it cannot be written (disk full, no permission).
    """
    try:
        atomic_write(path, json.dumps(data, indent=1, allow_nan=False), durable=durable)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_json(path: Path, *, exists: bool = False) -> dict[str, Any]:
    """Read a JSON object, also while another host replaces the file.

    Parameters
    ----------
    path : Path. The file.
    exists : bool. Whether it is known to exist: it is read again if it is missing for a moment.

    Raises
    ------
    RunError
        If the file is missing, unreadable or no JSON object.
    """
    try:
        data = json.loads(read_replaced(lambda: path.read_text(encoding="utf-8"), exists=exists))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: expected a JSON file of a run, got: {error}") from error
    if not isinstance(data, dict):
        raise RunError(f"{path}: expected a JSON object, got {type(data).__name__}")
    return data


def read_config(folder: Path) -> TrainConfig:
    """The configuration of a run.

    Raises
    ------
    RunError
        If ``config.json`` is damaged or not understood.
    """
    try:
        return TrainConfig.from_json(read_json(folder / CONFIG, exists=True))
    except ConfigError as error:
        raise RunError(f"{folder / CONFIG}: {error}") from error


def read_config_or_default(folder: Path) -> TrainConfig:
    """The configuration of a run, or the default one where ``config.json`` is damaged (:func:`read_config` reports
    that)."""
    try:
        return read_config(folder)
    except RunError:
        return TrainConfig()


def read_name(folder: Path) -> str:
    """The name of a run; its id where it has none."""
    return read_annotations(folder).name


class Annotations(NamedTuple):
    """What a person gave a run: its name, which is its id where it has none; notes and tags, empty without any."""

    name: str
    notes: str
    tags: tuple[str, ...]


def read_annotations(folder: Path) -> Annotations:
    """Name, notes and tags of a run."""
    try:
        facts = read_json(folder / RUN)
    except RunError:
        return Annotations(folder.name, "", ())
    tags = facts.get("tags")
    found = tuple(str(t) for t in tags) if isinstance(tags, list) else ()
    return Annotations(str(facts.get("name") or folder.name), str(facts.get("notes") or ""), found)


def _has(path: Path) -> bool:
    """Whether a file of a run exists.

    Raises
    ------
    RunError
        If its file system does not say.
    """
    try:
        return is_present(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}; is its file system mounted?") from error


def append_log(folder: Path, line: str) -> None:
    """Append a line with the time of day (UTC) to ``log.txt``. A write error is printed, not raised."""
    try:
        with (folder / LOG).open("a", encoding="utf-8") as handle:
            handle.write(f"{time.strftime('%H:%M:%S', time.gmtime())}  {line}\n")
    except OSError as error:
        print(f"log.txt: {error}: {line}", flush=True)


def read_log_tail(folder: Path, lines: int) -> str:
    """The last lines of ``log.txt``; empty where it does not exist."""
    return read_tail(folder / LOG, lines)
