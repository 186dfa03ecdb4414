"""Background jobs of the Learn page: feature maps of a network, and sub-volumes drawn as training draws them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ui.shared import hashes, jobs
from ui.shared.jobs import Job
from ui.shared.paths import cache_root

MANIFEST = "manifest.json"


def features_folder(checkpoint: Path, images: Sequence[Path], options: Sequence[str] = ()) -> Path:
    """The folder of the feature maps of a checkpoint for a subject; it changes with any of the files."""
    files, prefix = [checkpoint, *images], "\0".join(("features 1", *options))
    return cache_root() / "features" / hashes.files_hash("names", files, False) / hashes.files_hash(prefix, files)


def start_features(checkpoint: Path, images: Sequence[Path], options: Sequence[str], folder: Path) -> None:
    """Start to compute feature maps, unless a job of the folder is running; results of older files are removed."""
    jobs.remove_others(folder)
    files = [str(path) for path in (checkpoint, *images)]
    jobs.start(folder, ["features", *files, *options, "--out", str(folder), "--device", "cpu", "--progress"])


def observe_features(folder: Path) -> Job:
    """The state of the job that computes feature maps."""
    return jobs.observe(folder, (folder / MANIFEST).is_file())


def sub_volumes_folder(label: Path, options: Sequence[str]) -> Path:
    """The folder of the sub-volumes drawn from the subject with this label file."""
    return cache_root() / "places" / hashes.files_hash("\0".join(("places 1", *options)), [label])


def start_sub_volumes(data: Path, subject: str, options: Sequence[str], folder: Path) -> None:
    """Start to draw sub-volumes, unless a job of the folder is running."""
    out = ["--out", str(folder / jobs.REPORT), "--progress"]
    jobs.start(folder, ["places", str(data), f"--subject={subject}", *options, *out])
