"""Results of the Predict page: per segmentation a folder in the cache with request, uploaded files and label map.

The folder's name is the id of the result; it is part of the URL, so a result can be opened as long as it is kept.
Segmentations that were asked for together (:mod:`ui.predict.batches`) have a further folder that lists them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from core.datasets import ImageRef
from core.errors import RunError
from core.files import file_stamp
from core.imaging.dicom_output import SUFFIX, SegmentedSeries, write_dicom_segmentation
from core.imaging.headers import SUFFIXES
from core.imaging.image_files import DICOM_SUFFIXES, files_of, partner_of
from core.imaging.volume import read_label
from core.labels import LabelSpace
from ui.predict import jobs as predict_jobs
from ui.shared import jobs, uploads
from ui.shared.hashes import short_hash
from ui.shared.paths import cache_root

MAX_AGE_S = 30 * 24 * 3600.0
MAX_AGE_OF_UPLOADS_S = 24 * 3600.0
MAX_RESULTS = 300  # the oldest are removed
REQUEST = "request.json"
BATCH = "batch.json"
NAN_IS_ZERO = "--nan-is-zero"  # option of ``predict``, which its refusal of NaN names
_ID = re.compile(r"[0-9a-f]{16}")
_IMAGE_SUFFIXES = (*sorted(SUFFIXES, key=len, reverse=True), *DICOM_SUFFIXES, "")


@dataclass(frozen=True)
class Request:
    """A segmentation to make.

    Attributes
    ----------
    model : str. The network as argument of a command: a run's id, "demo-model", or a file.
    title : str. Name of the network on screen.
    checkpoint : Path. File of the network.
    labels : list of dict. Classes of the network, as JSON.
    modalities : tuple of str. Modalities of the images, in the network's order.
    images : tuple of ImageRef. One per modality.
    channels : tuple of int. Channel of each image, counted from 1; empty if every file has one channel.
    uploaded : bool. Whether images or checkpoint are uploads, which are copied to the result.
    resample : bool. Whether images are resampled to the voxel size of training.
    nan_is_zero : bool. Whether NaN is read as 0, also where training did not.
    postprocess : bool. Whether the postprocessing that is stored with the network is applied.
    without : tuple of str. Modalities of the network of which there is no image.
    """

    model: str
    title: str
    checkpoint: Path
    labels: list[dict[str, Any]]
    modalities: tuple[str, ...]
    images: tuple[ImageRef, ...]
    channels: tuple[int, ...]
    uploaded: bool
    resample: bool = False
    nan_is_zero: bool = False
    postprocess: bool = True
    without: tuple[str, ...] = ()

    @property
    def options(self) -> list[str]:
        """Options of the command ``predict``."""
        chosen = {
            "--resample": self.resample,
            NAN_IS_ZERO: self.nan_is_zero,
            "--no-postprocessing": not self.postprocess,
        }
        without = ["--without", *self.without] if self.without else []
        return [*without, *(option for option, wanted in chosen.items() if wanted)]

    @property
    def label_space(self) -> LabelSpace:
        """Classes of the network."""
        return LabelSpace.from_json(self.labels)

    @property
    def paths(self) -> list[Path]:
        """Files of the images, one per modality."""
        return [ref.path for ref in self.images]

    @property
    def download_name(self) -> str:
        """File name of the saved result."""
        name = self.images[0].path.name
        suffix = next(s for s in _IMAGE_SUFFIXES if name.lower().endswith(s))
        return f"{name[: len(name) - len(suffix)]}-segmentation.nii.gz"

    @property
    def command(self) -> str:
        """The command that makes the same file; uploaded files by name, without folders."""
        files = [path.name if self.uploaded else str(path) for path in self.paths]
        channels = ["--channels", ",".join(map(str, self.channels))] if self.channels else []
        return shlex.join(
            [
                "python",
                "-m",
                "core",
                "predict",
                self.model,
                *files,
                *channels,
                *self.options,
                "--out",
                self.download_name,
            ]
        )


def id_of(request: Request) -> str:
    """Id of the result of a request; it changes with any of the files."""
    others = [file for path in request.paths for file in files_of(path)[1:]]
    stamps = [(str(path), *file_stamp(path)) for path in (request.checkpoint, *request.paths, *others)]
    return short_hash(json.dumps([request.model, request.channels, request.modalities, *request.options, *stamps]))


def start(request: Request) -> str:
    """Start a segmentation, unless the same one is running or done.

    Returns
    -------
    str. Id of the result.

    Raises
    ------
    RunError
        If the result's folder cannot be written.
    """
    return start_all([request])[0]


def start_all(requests: Sequence[Request]) -> list[str]:
    """Start segmentations, one after another, but for those that are running or done.

    Returns
    -------
    list of str. Ids of the results.

    Raises
    ------
    RunError
        If a result's folder cannot be written.
    """
    ids = [id_of(request) for request in requests]
    starts: dict[Path, Callable[[], None]] = {}
    for id, request in zip(ids, requests, strict=True):
        folder = _root() / id
        if is_running(id) or (read(id) is not None and observe(id).state == "done"):
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            output(id).unlink(missing_ok=True)
            stored = _with_copied_uploads(request, folder) if request.uploaded else request
            (folder / REQUEST).write_text(json.dumps(_to_json(stored)), encoding="utf-8")
            starts[_job_folder(id)] = partial(_start_job, id, stored)
            if len(requests) == 1:
                starts.popitem()[1]()
        except OSError as error:
            raise _not_writable(folder, error) from error
    if starts:
        predict_jobs.start_in_turn(starts)
    return ids


def is_running(id: str) -> bool:
    """Whether the job runs, or waits for its turn."""
    return predict_jobs.is_waiting(_job_folder(id)) or jobs.is_running(_job_folder(id))


def restart(id: str, nan_is_zero: bool = False) -> None:
    """Start a failed or interrupted segmentation again, with the files of its request.

    Parameters
    ----------
    nan_is_zero : bool. Whether NaN is read as 0 from now on.

    Raises
    ------
    RunError
        If the request is no longer in the cache, or its folder cannot be written.
    """
    request = read(id)
    if request is None:
        raise RunError("expected the request in the cache, found none; choose the images again")
    try:
        if nan_is_zero:
            request = replace(request, nan_is_zero=True)
            (_root() / id / REQUEST).write_text(json.dumps(_to_json(request)), encoding="utf-8")
        _start_job(id, request)
    except OSError as error:
        raise _not_writable(_root() / id, error) from error


def read(id: str) -> Request | None:
    """The request of a result; ``None`` if the id is invalid or the cache does not have it."""
    if not is_id(id):
        return None
    try:
        data = json.loads((_root() / id / REQUEST).read_text(encoding="utf-8"))
        return Request(
            model=data["model"],
            title=data["title"],
            checkpoint=Path(data["checkpoint"]),
            labels=data["labels"],
            modalities=tuple(data["modalities"]),
            images=tuple(ImageRef(Path(path), int(channel)) for path, channel in data["images"]),
            channels=tuple(data["channels"]),
            uploaded=bool(data["uploaded"]),
            resample=bool(data.get("resample", False)),
            nan_is_zero=bool(data.get("nan_is_zero", False)),
            postprocess=bool(data.get("postprocess", True)),
            without=tuple(data.get("without", ())),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def observe(id: str) -> jobs.Job:
    """The state of the job; "none" if it was interrupted."""
    return predict_jobs.observe(_job_folder(id), output(id))


def report(id: str) -> dict[str, Any]:
    """Volumes, settings and time of a finished segmentation, as reported by ``predict``."""
    return jobs.standard_output(_job_folder(id))


def output(id: str) -> Path:
    """The label map of a result."""
    return _root() / id / "segmentation.nii.gz"


def dicom_segmentation(id: str, request: Request) -> Path:
    """The result as DICOM SEG, which is written once.

    Raises
    ------
    VolumeError
        If the image is no DICOM series, is gone, or cannot be referred to.
    """
    file, labels = output(id), request.label_space
    result = file.with_name(f"{file.name.partition('.')[0]}{SUFFIX}")
    if not result.is_file() or result.stat().st_mtime_ns < file.stat().st_mtime_ns:
        image, volume = request.images[0], read_label(file)
        series = SegmentedSeries(image.path, image.channel, volume.stored, labels, request.title)
        write_dicom_segmentation(result, labels.to_index(volume.data[0]), series)
    return result


def remove(id: str) -> None:
    """Cancel the job, and remove the result with the files that were uploaded for it."""
    if is_id(id):
        predict_jobs.cancel(_job_folder(id))
        shutil.rmtree(_root() / id, ignore_errors=True)


def remove_stale() -> None:
    """Remove results that are too old or too many; those with uploads after a day."""
    try:
        folders = sorted((folder.stat().st_mtime, folder) for folder in _root().iterdir())
    except OSError:
        return
    for index, (modified_s, folder) in enumerate(folders):
        request = read(folder.name)
        short_lived = request.uploaded if request is not None else not (folder / BATCH).is_file()
        max_age_s = MAX_AGE_OF_UPLOADS_S if short_lived else MAX_AGE_S
        expired = time.time() - modified_s > max_age_s or index < len(folders) - MAX_RESULTS
        if expired and not is_running(folder.name):
            remove(folder.name)


def _start_job(id: str, request: Request) -> None:
    predict_jobs.start(
        _job_folder(id), request.checkpoint, request.paths, request.channels, output(id), request.options
    )


def _with_copied_uploads(request: Request, folder: Path) -> Request:
    """The request with copies of its uploads beside the result, because uploads are removed with their session."""
    copies = folder / "files"
    shutil.rmtree(copies, ignore_errors=True)
    copies.mkdir()
    folders: dict[Path, Path] = {}  # a numbered one for each upload: two may have one name, also in an archive

    def copy(path: Path) -> Path:
        if not uploads.is_uploaded(path):
            return path
        own = folders.setdefault(path, copies / str(len(folders) + 1))
        own.mkdir(exist_ok=True)
        for part in filter(None, (path, partner_of(path))):
            if part.is_dir():
                shutil.copytree(part, own / part.name, copy_function=_link_or_copy, dirs_exist_ok=True)
            elif not (own / part.name).exists():
                _link_or_copy(part, own / part.name)
        return own / path.name

    images = tuple(ImageRef(copy(ref.path), ref.channel) for ref in request.images)
    return replace(request, images=images, checkpoint=copy(request.checkpoint))


def _link_or_copy(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def _to_json(request: Request) -> dict[str, Any]:
    images = [[str(ref.path), ref.channel] for ref in request.images]
    return {**request.__dict__, "images": images, "checkpoint": str(request.checkpoint)}


def _not_writable(folder: Path, error: OSError) -> RunError:
    return RunError(f"{folder}: expected a writable folder, got: {error.strerror or error}; check its permissions")


def folder_of(id: str) -> Path:
    """The folder of a result or a batch."""
    return _root() / id


def is_id(text: str) -> bool:
    """Whether a text can be the id of a result or a batch."""
    return _ID.fullmatch(text) is not None


def _root() -> Path:
    return cache_root() / "predict"


def _job_folder(id: str) -> Path:
    return _root() / id / "job"
