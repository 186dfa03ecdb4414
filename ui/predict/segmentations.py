"""Segmentations made on the Predict page: each a folder in the cache with what was asked, uploaded images, and the
result. Its name stands in the address, so a result can be opened again while the cache holds it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.datasets import ImageRef
from core.errors import RunError
from core.labels import LabelSpace
from ui.predict import jobs as predict_jobs
from ui.predict import uploads
from ui.shared import jobs
from ui.shared.state import cache_root

UPLOADED_KEPT_S = 24 * 3600.0
KEPT_S = 30 * 24 * 3600.0
MOST = 100  # results that are kept; the oldest go first
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Request:
    """What somebody asked to segment.

    Attributes
    ----------
    model : the network as a command names it: a run's id, "demo-model", or a file.
    title : of the network, for people.
    checkpoint : its file.
    labels : its classes, as JSON.
    modalities : in its order.
    images : one per modality.
    uploaded : images, or the checkpoint, are somebody's own and kept with the result.
    """

    model: str
    title: str
    checkpoint: Path
    labels: list[dict[str, Any]]
    modalities: tuple[str, ...]
    images: tuple[ImageRef, ...]
    channels: tuple[int, ...]
    uploaded: bool

    @property
    def label_space(self) -> LabelSpace:
        return LabelSpace.from_json(self.labels)

    @property
    def paths(self) -> list[Path]:
        return [ref.path for ref in self.images]

    @property
    def download_name(self) -> str:
        """What the result is called when it is saved."""
        name = self.images[0].path.name.lower()
        suffix = next(s for s in (".nii.gz", ".nii", ".hdr", ".img", "") if name.endswith(s))
        return f"{self.images[0].path.name[: len(name) - len(suffix)]}-segmentation.nii.gz"

    @property
    def command(self) -> str:
        """The same in a terminal; uploaded files by their names alone."""
        files = [path.name if self.uploaded else str(path) for path in self.paths]
        which = ["--channels", ",".join(map(str, self.channels))] if self.channels else []
        return shlex.join(["python", "-m", "core", "predict", self.model, *files, *which, "--out", self.download_name])


def start(request: Request) -> str:
    """Start to segment unless that is done or being done; the result's name.

    Raises
    ------
    RunError
        If the request cannot be written down.
    """
    stamps = [_stamp(path) for path in (request.checkpoint, *request.paths, *filter(None, map(_other, request.paths)))]
    asked = [request.model, request.channels, request.modalities, *stamps]
    id = hashlib.sha256(json.dumps(asked, default=str).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    folder = _root() / id
    if jobs.is_running(_job(folder)) or (read(id) is not None and observe(id).state == "done"):
        return id
    try:
        folder.mkdir(parents=True, exist_ok=True)
        output(id).unlink(missing_ok=True)
        if request.uploaded:
            request = _with_own_copies(request, folder)
        (folder / "request.json").write_text(json.dumps(_to_json(request)), encoding="utf-8")
        predict_jobs.start(_job(folder), request.checkpoint, request.paths, request.channels, output(id))
    except OSError as error:
        raise RunError(f"{folder}: expected to be able to write there, got: {error.strerror or error}") from error
    return id


def again(id: str) -> None:
    """Start work that failed or was broken off once more, with the files that it was asked for with.

    Raises
    ------
    RunError
        If it is no longer here, or its folder cannot be written.
    """
    request = read(id)
    if request is None:
        raise RunError("expected what was asked for in the cache, found it gone; choose the images again")
    try:
        predict_jobs.start(_job(_root() / id), request.checkpoint, request.paths, request.channels, output(id))
    except OSError as error:
        raise RunError(f"{_root() / id}: cannot be written: {error.strerror or error}") from error


def read(id: str) -> Request | None:
    """What was asked for under a name; ``None`` where there is nothing (any more)."""
    if not _ID.fullmatch(id):
        return None
    try:
        data = json.loads((_root() / id / "request.json").read_text(encoding="utf-8"))
        return Request(
            model=data["model"],
            title=data["title"],
            checkpoint=Path(data["checkpoint"]),
            labels=data["labels"],
            modalities=tuple(data["modalities"]),
            images=tuple(ImageRef(Path(path), int(channel)) for path, channel in data["images"]),
            channels=tuple(data["channels"]),
            uploaded=bool(data["uploaded"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def observe(id: str) -> jobs.Job:
    """Where the work is; "none" means that it was broken off."""
    return predict_jobs.observe(_job(_root() / id), output(id))


def report(id: str) -> dict[str, Any]:
    """What ``predict`` reported of a result that is done: volumes, settings, time."""
    return jobs.standard_output(_job(_root() / id))


def output(id: str) -> Path:
    """The label map of a result."""
    return _root() / id / "segmentation.nii.gz"


def remove(id: str) -> None:
    """Break off what is at work, and remove the result with the images that were uploaded for it."""
    if _ID.fullmatch(id):
        jobs.cancel(_job(_root() / id))
        shutil.rmtree(_root() / id, ignore_errors=True)


def sweep() -> None:
    """Remove results that are too old or too many; those of uploaded images go after a day."""
    try:
        folders = sorted((folder.stat().st_mtime, folder) for folder in _root().iterdir())
    except OSError:
        return
    for place, (changed, folder) in enumerate(folders):
        request = read(folder.name)
        keep_s = UPLOADED_KEPT_S if request is None or request.uploaded else KEPT_S
        if (time.time() - changed > keep_s or place < len(folders) - MOST) and not jobs.is_running(_job(folder)):
            remove(folder.name)


def _with_own_copies(request: Request, folder: Path) -> Request:
    """The request with its files beside the result: what the session uploaded goes with the session."""
    own = folder / "files"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()

    def copy(path: Path) -> Path:
        if not uploads.is_uploaded(path):
            return path
        for part in filter(None, (path, _other(path))):
            if not (own / part.name).exists():
                _link(part, own / part.name)
        return own / path.name

    images = tuple(ImageRef(copy(ref.path), ref.channel) for ref in request.images)
    return replace(request, images=images, checkpoint=copy(request.checkpoint))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def _other(path: Path) -> Path | None:
    other = uploads.partner(path)
    return other if other is not None and other.is_file() else None


def _to_json(request: Request) -> dict[str, Any]:
    images: Sequence[Any] = [[str(ref.path), ref.channel] for ref in request.images]
    return {**request.__dict__, "images": images, "checkpoint": str(request.checkpoint)}


def _stamp(path: Path) -> tuple[str, int, int]:
    with contextlib.suppress(OSError):
        facts = path.stat()
        return str(path), facts.st_size, facts.st_mtime_ns
    return str(path), 0, 0


def _root() -> Path:
    return cache_root() / "predict"


def _job(folder: Path) -> Path:
    return folder / "job"
