"""Work that takes a while, done by child processes of the web server: the data doctor and the demo data.

A job is known by its folder, where its output, progress and result lie, so a page opened later - or after the server
was started again - finds what is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.compute.allocator import with_fewer_holes
from core.datasets.synthetic.demo import has_subject
from ui.shared.state import PROJECT, cache_root, data_root, demo_folder

REPORT = "report.json"
MANIFEST = "manifest.json"
PLACES = "places.json"
DEMO_SUBJECTS = 10
_PROGRESS = re.compile(r"progress (\d+)/(\d+)")
_running: dict[Path, subprocess.Popen[bytes]] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class Job:
    """Where a piece of work is. ``state``: "none", "running", "done" or "failed"; ``message`` says why it failed."""

    state: str
    done: int = 0
    total: int = 0
    message: str = ""


def doctor_folder(path: Path) -> Path:
    """Where the report on a data set lies; another place as soon as a file of the data set changes."""
    stamp = hashlib.sha256()
    for folder, folders, names in os.walk(path, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(names):
            try:
                facts = os.stat(os.path.join(folder, name))
            except OSError:
                continue  # a broken link: the doctor says so
            stamp.update(f"{folder}/{name}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return _doctor_home(path) / stamp.hexdigest()[:16]


def start_doctor(path: Path, folder: Path) -> None:
    """Start the data doctor on a data set, unless it is at work; older reports on the data set are removed."""
    home = _doctor_home(path)
    if home.is_dir():
        for old in home.iterdir():
            if old != folder and old not in _running:
                shutil.rmtree(old, ignore_errors=True)
    _start(folder, ["check", str(path), "--json", "--progress", "--thumbnails", str(folder)])


def doctor(folder: Path) -> Job:
    """Where the data doctor is."""
    return _observe(folder, (folder / REPORT).is_file())


def report(folder: Path) -> dict[str, Any]:
    """The finished report of the data doctor."""
    found: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    return found


def forget(folder: Path) -> None:
    """Remove a report, so that the data set can be checked again; work in progress goes on."""
    with _lock:
        process = _running.get(folder)
        if process is None or process.poll() is not None:
            _running.pop(folder, None)
            shutil.rmtree(folder, ignore_errors=True)


def start_demo(path: Path) -> None:
    """Start making the demo data set, unless it is being made."""
    data_root().mkdir(parents=True, exist_ok=True)
    _start(_demo_folder(), ["demo", str(path), "--subjects", str(DEMO_SUBJECTS)])


def demo(complete: bool) -> Job:
    """Where the making of the demo data is; ``complete`` says whether the data set is there."""
    job = _observe(_demo_folder(), complete)
    if job.state != "running":
        return job
    return replace(job, done=len(list(demo_folder().glob("subject-*-label.img"))), total=DEMO_SUBJECTS)


def start_demo_subject(subject: str) -> None:
    """Start making one subject of the demo data, unless it is being made."""
    data_root().mkdir(parents=True, exist_ok=True)
    _start(_demo_subject_folder(subject), ["demo", str(demo_folder()), f"--only={subject}", "--progress"])


def demo_subject(subject: str) -> Job:
    """Where the making of one subject of the demo data is."""
    return _observe(_demo_subject_folder(subject), has_subject(demo_folder(), subject))


def start_segmenting(checkpoint: Path, data: Path, subjects: Sequence[str]) -> None:
    """Start to segment and score subjects of a data set with a checkpoint, unless that pair is at work; the results are
    kept (:mod:`core.runs.predictions`)."""
    chosen = [f"--subject={subject}" for subject in subjects]
    _start(_segment_folder(checkpoint, data), ["evaluate", str(checkpoint), str(data), *chosen, "--keep", "--progress"])


def segmenting(checkpoint: Path, data: Path, complete: bool) -> Job:
    """Where the segmenting of a data set with a checkpoint is; ``complete``: what was asked for is there."""
    return _observe(_segment_folder(checkpoint, data), complete)


def _segment_folder(checkpoint: Path, data: Path) -> Path:
    return cache_root() / "segment" / _short(f"{checkpoint}\0{data}")


def features_folder(checkpoint: Path, images: Sequence[Path], options: Sequence[str] = ()) -> Path:
    """Where the feature maps of a checkpoint for a subject lie; another place as soon as a file changes."""
    files, what = [checkpoint, *images], "\0".join(("features 1", *options))
    return cache_root() / "features" / _stamp("names", files, False) / _stamp(what, files)


def start_features(checkpoint: Path, images: Sequence[Path], options: Sequence[str], folder: Path) -> None:
    """Start to compute feature maps, unless that is being done; those of older files are removed."""
    if folder.parent.is_dir():
        for old in folder.parent.iterdir():
            if old != folder and old not in _running:
                shutil.rmtree(old, ignore_errors=True)
    files = [str(path) for path in (checkpoint, *images)]
    _start(folder, ["features", *files, *options, "--out", str(folder), "--device", "cpu", "--progress"])


def features(folder: Path) -> Job:
    """Where the feature maps are."""
    return _observe(folder, (folder / MANIFEST).is_file())


def places_folder(label: Path, options: Sequence[str]) -> Path:
    """Where drawn sub-volumes of a subject with this label file lie."""
    return cache_root() / "places" / _stamp("\0".join(("places 1", *options)), [label])


def start_places(data: Path, subject: str, options: Sequence[str], folder: Path) -> None:
    """Start to draw sub-volumes as training would, unless that is being done."""
    out = ["--out", str(folder / PLACES), "--progress"]
    _start(folder, ["places", str(data), "--subject", subject, *options, *out])


def places(folder: Path) -> Job:
    """Where the drawing of sub-volumes is."""
    return _observe(folder, (folder / PLACES).is_file())


def drawn(folder: Path) -> dict[str, Any]:
    """The finished report of drawn sub-volumes."""
    found: dict[str, Any] = json.loads((folder / PLACES).read_text(encoding="utf-8"))
    return found


def _stamp(what: str, files: Sequence[Path], times: bool = True) -> str:
    """Names of files, and their sizes and times; of an Analyze header those of its data file too."""
    stamp = hashlib.sha256(what.encode("utf-8", "surrogateescape"))
    for path in files:
        for part in (path, path.with_suffix(".img")) if path.suffix == ".hdr" else (path,):
            facts = part.stat() if times and part.is_file() else None
            size, time = (facts.st_size, facts.st_mtime_ns) if facts else (0, 0)
            stamp.update(f"{part}\0{size}\0{time}\n".encode("utf-8", "surrogateescape"))
    return stamp.hexdigest()[:16]


def _doctor_home(path: Path) -> Path:
    return cache_root() / "doctor" / hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _demo_folder() -> Path:
    return cache_root() / "demo"


def start_predicting(
    folder: Path, checkpoint: Path, images: Sequence[Path], channels: Sequence[int], out: Path
) -> None:
    """Start to segment images, one per modality of the network, into ``out``.

    Parameters
    ----------
    channels : to take of each image, counted from 1; empty where every image has one.
    """
    which = ["--channels", ",".join(map(str, channels))] if channels else []
    _start(folder, ["predict", str(checkpoint), *map(str, images), *which, "--out", str(out), "--json", "--progress"])


def predicting(folder: Path, out: Path) -> Job:
    """Where the segmenting of images is."""
    return _observe(folder, out.is_file())


def said(folder: Path) -> dict[str, Any]:
    """What a child that is done reported as JSON."""
    found: dict[str, Any] = json.loads((folder / "stdout.txt").read_text(encoding="utf-8"))
    return found


def cancel(folder: Path, patience_s: float = 5.0) -> None:
    """End a child process; one that is not at work is left alone."""
    with _lock:
        process = _running.pop(folder, None)
    if process is not None and process.poll() is None:
        process.terminate()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def working(folder: Path) -> bool:
    """Whether a child process of this server works in a folder."""
    with _lock:
        process = _running.get(folder)
        return process is not None and process.poll() is None


def _demo_subject_folder(subject: str) -> Path:
    return cache_root() / "demo-subject" / _short(subject)


def _short(text: str) -> str:
    """A folder's name for any text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _start(folder: Path, arguments: Sequence[str]) -> None:
    with _lock:
        process = _running.get(folder)
        if process is not None and process.poll() is None:
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with (folder / "stdout.txt").open("wb") as out, (folder / "stderr.txt").open("wb") as err:
            _running[folder] = subprocess.Popen(
                [sys.executable, "-m", "core", *arguments],
                cwd=PROJECT,
                env=with_fewer_holes(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )


def _observe(folder: Path, complete: bool) -> Job:
    with _lock:
        process = _running.get(folder)
        status = process.poll() if process is not None else None
    said = _tail(folder / "stderr.txt")
    if process is not None and status is None:
        steps = _PROGRESS.findall(said)
        done, total = map(int, steps[-1]) if steps else (0, 0)
        return Job("running", done, total)
    if complete:
        return Job("done")
    if process is None:
        return Job("none")
    lines = [line for line in said.splitlines() if line.strip() and not _PROGRESS.search(line)]
    if status is not None and status < 0:  # ended by a signal: what it said before is not the reason
        likely = "; most likely the memory ran out" if status == -9 else ""
        return Job("failed", message=f"the system ended it with signal {-status}{likely}")
    return Job("failed", message=lines[-1].removeprefix("error: ") if lines else f"it ended with status {status}")


def _tail(path: Path, nbytes: int = 8192) -> str:
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - nbytes))
            return handle.read().decode("utf-8", "replace").replace("\r", "\n")
    except FileNotFoundError:
        return ""
