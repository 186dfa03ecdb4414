"""Background jobs of the Learn page: feature maps of a network, and sub-volumes drawn as training draws them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ui.shared import jobs
from ui.shared.jobs import Job
from ui.shared.state import cache_root

MANIFEST = "manifest.json"
PLACES = "places.json"


def features_folder(checkpoint: Path, images: Sequence[Path], options: Sequence[str] = ()) -> Path:
    """The folder of the feature maps of a checkpoint for a subject; it changes with any of the files."""
    files, prefix = [checkpoint, *images], "\0".join(("features 1", *options))
    return cache_root() / "features" / jobs.files_hash("names", files, False) / jobs.files_hash(prefix, files)


def start_features(checkpoint: Path, images: Sequence[Path], options: Sequence[str], folder: Path) -> None:
    """Start to compute feature maps, unless that is running; results of older files are removed."""
    jobs.remove_others(folder)
    files = [str(path) for path in (checkpoint, *images)]
    jobs.start(folder, ["features", *files, *options, "--out", str(folder), "--device", "cpu", "--progress"])


def features(folder: Path) -> Job:
    """The state of the feature maps."""
    return jobs.observe(folder, (folder / MANIFEST).is_file())


def places_folder(label: Path, options: Sequence[str]) -> Path:
    """The folder of the sub-volumes drawn from the subject with this label file."""
    return cache_root() / "places" / jobs.files_hash("\0".join(("places 1", *options)), [label])


def start_places(data: Path, subject: str, options: Sequence[str], folder: Path) -> None:
    """Start to draw sub-volumes, unless that is running."""
    out = ["--out", str(folder / PLACES), "--progress"]
    jobs.start(folder, ["places", str(data), "--subject", subject, *options, *out])


def places(folder: Path) -> Job:
    """The state of the drawn sub-volumes."""
    return jobs.observe(folder, (folder / PLACES).is_file())


def drawn_places(folder: Path) -> dict[str, Any]:
    """The finished report of the drawn sub-volumes."""
    return jobs.read_json(folder / PLACES)
