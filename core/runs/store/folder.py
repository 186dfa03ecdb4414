"""The run folder: what lies where, and how each file is written so that it survives being killed at any instant.

``checkpoints/<run id>/``

==================  ===================================================================================================
``run.json``        name, notes, tags, and time of creation
``config.json``     the configuration (:meth:`core.config.TrainConfig.to_json`)
``state.json``      where the run is (:class:`core.runs.store.state.RunState`); replaced as a whole, never half written
``metrics.jsonl``   one line per measurement, appended; a line torn by a kill is skipped
``log.txt``         what the run said, and whatever its processes printed
``exit.json``       how the last trainer process ended, written by the process that waited for it
``stop``            present while somebody has asked the run to stop
``*.safetensors``   checkpoints: last, the one before (previous), best
``tensorboard/``    event files
``predictions/``    segmentations made with this run's model
==================  ===================================================================================================
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from core.checkpointing.metadata import BEST as BEST
from core.checkpointing.metadata import LAST as LAST
from core.checkpointing.metadata import PREVIOUS as PREVIOUS
from core.config import TrainConfig
from core.errors import ConfigError, RunError
from core.files import atomic_write
from core.runs.store.process import locked

CONFIG, STATE, RUN, METRICS = "config.json", "state.json", "run.json", "metrics.jsonl"
LOG, EXIT, STOP, LOCK = "log.txt", "exit.json", "stop", ".lock"
TENSORBOARD, PREDICTIONS = "tensorboard", "predictions"
NAME_LENGTH, NOTES_LENGTH, TAG_LENGTH, MOST_TAGS = 80, 10_000, 40, 20
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_TAIL_BYTES = 256 * 1024


@dataclass(frozen=True)
class MetricRow:
    """One measured value; ``id`` grows with time within an index, ``value`` is ``nan`` where it is not defined."""

    id: int
    epoch: int
    step: int
    elapsed_s: float
    name: str
    value: float


def check_name(name: str) -> str:
    """A run's name as people may write it, spaces at the ends removed.

    Raises
    ------
    RunError
        If it is longer than 80 characters or holds control characters.
    """
    name = name.strip()
    if len(name) > NAME_LENGTH or not name.isprintable():
        raise RunError(f"name: expected at most {NAME_LENGTH} printable characters, got {name[:100]!r}")
    return name


def check_notes(notes: str) -> str:
    """Notes about a run as people may write them, over several lines.

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
    """Tags of a run, each once, in the order given; empty ones are left out.

    Raises
    ------
    RunError
        If there are more than 20, or one is longer than 40 characters or holds a comma or control characters.
    """
    cleaned = tuple(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
    for tag in cleaned:
        if len(tag) > TAG_LENGTH or not tag.isprintable() or "," in tag:
            raise RunError(f"tags: expected at most {TAG_LENGTH} printable characters without comma, got {tag[:60]!r}")
    if len(cleaned) > MOST_TAGS:
        raise RunError(f"tags: expected at most {MOST_TAGS}, got {len(cleaned)}")
    return cleaned


def new_run_id(text: str) -> str:
    """A new id from a name: ``my-net-20260131-235959-1a2b`` (UTC)."""
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "run"
    return f"{slug}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def run_folder(root: Path, run_id: str) -> Path:
    """The folder of a run that exists.

    Raises
    ------
    RunError
        If the id could lead out of the root, or there is no such run.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise RunError(f"expected a run id (letters, digits, '-', '_' and '.'), got {run_id!r}")
    folder = root / run_id
    if not (folder / CONFIG).is_file():
        raise RunError(f"expected a run in {root}, found none called {run_id!r}; `runs list` shows all")
    return folder


def run_folders(root: Path) -> list[Path]:
    """The folders of all runs under a root, in no particular order; empty if the root does not exist."""
    try:
        with os.scandir(root) as entries:
            found = [Path(e.path) for e in entries if _RUN_ID.fullmatch(e.name) and e.is_dir()]
    except FileNotFoundError:
        return []
    return [folder for folder in found if (folder / CONFIG).is_file()]


def lock(folder: Path) -> AbstractContextManager[IO[str]]:
    """Hold a run while its state is changed from outside (started, stopped while queued, resumed, renamed, deleted)."""
    return locked(folder / LOCK)


def write_json(path: Path, data: Any, durable: bool = False) -> None:
    """Replace a file by strict JSON as a whole: a reader, or a kill, sees the old or the new one, nothing between.

    Raises
    ------
    RunError
        If it cannot be written (disk full, no permission).
    """
    try:
        atomic_write(path, json.dumps(data, indent=1, allow_nan=False), durable=durable)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    RunError
        If the file is missing, unreadable or no JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
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
        return TrainConfig.from_json(read_json(folder / CONFIG))
    except ConfigError as error:
        raise RunError(f"{folder / CONFIG}: {error}") from error


def readable_config(folder: Path) -> TrainConfig:
    """The configuration of a run; the usual one where it is not understood, which is shown elsewhere."""
    try:
        return read_config(folder)
    except RunError:
        return TrainConfig()


def read_name(folder: Path) -> str:
    """What people call the run; its id where nobody gave it a name."""
    try:
        return str(read_json(folder / RUN).get("name") or folder.name)
    except RunError:
        return folder.name


def read_notes(folder: Path) -> tuple[str, tuple[str, ...]]:
    """What people wrote about the run, and its tags; nothing where they did not."""
    try:
        facts = read_json(folder / RUN)
    except RunError:
        return "", ()
    tags = facts.get("tags")
    return str(facts.get("notes") or ""), tuple(str(t) for t in tags) if isinstance(tags, list) else ()


def finite(value: float | None) -> float | None:
    """The value, or ``None`` (``null`` in JSON) where it is not a finite number."""
    return float(value) if value is not None and math.isfinite(value) else None


def append_metrics(folder: Path, epoch: int, step: int, elapsed_s: float, values: Mapping[str, float]) -> None:
    """Append one measurement as one line, in one write.

    Raises
    ------
    RunError
        If it cannot be written.
    """
    record = dict(
        epoch=epoch, step=step, elapsed_s=round(elapsed_s, 3), values={k: finite(v) for k, v in values.items()}
    )
    path = folder / METRICS
    line = (json.dumps(record, allow_nan=False) + "\n").encode()
    try:
        with path.open("ab+") as handle:
            if handle.seek(0, os.SEEK_END):
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    line = b"\n" + line  # the last writer was killed within a line
            handle.write(line)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from error


def read_metrics(folder: Path) -> Iterator[MetricRow]:
    """All measured values in order, ids counted from 1; torn and foreign lines are skipped."""
    number = 0
    for record, _ in _metric_lines(folder / METRICS):
        for name, value in record["values"].items():
            number += 1
            shown = math.nan if value is None else float(value)
            yield MetricRow(number, record["epoch"], record["step"], record["elapsed_s"], str(name), shown)


def keep_metrics_until(folder: Path, step: int) -> None:
    """Drop the measurements after ``step`` (all of them for step 0): a resumed run makes them again."""
    path = folder / METRICS
    if path.is_file():
        kept = b"".join(line for record, line in _metric_lines(path) if step and record["step"] <= step)
        atomic_write(path, kept)


def append_log(folder: Path, line: str) -> None:
    """Append a line, with the time of day (UTC), to ``log.txt``; a full disk loses the line, not the run."""
    try:
        with (folder / LOG).open("a", encoding="utf-8") as handle:
            handle.write(f"{time.strftime('%H:%M:%S', time.gmtime())}  {line}\n")
    except OSError as error:
        print(f"log.txt: {error}: {line}", flush=True)


def read_log_tail(folder: Path, lines: int) -> str:
    """The last lines of ``log.txt``; empty if there is none yet."""
    try:
        with (folder / LOG).open("rb") as handle:
            size = handle.seek(0, os.SEEK_END)
            handle.seek(max(0, size - _TAIL_BYTES))
            text = handle.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def _metric_lines(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    for line in content.split(b"\n"):
        try:
            record = json.loads(line)
            complete = {"epoch", "step", "elapsed_s", "values"} <= record.keys() and isinstance(record["values"], dict)
        except (ValueError, AttributeError):
            continue  # torn by a kill, or empty after the last newline
        if complete:
            yield record, line + b"\n"
