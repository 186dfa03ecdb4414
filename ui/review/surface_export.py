"""Surfaces of a case as STL or PLY to download: a ZIP file that a child process (``review surfaces``) makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from core.datasets import Dataset
from core.errors import VolumeError
from core.evaluation.surface_file import VERSION
from core.runs.predictions import Prediction
from ui.review.surfaces_job import stamp_of
from ui.shared import formatting, hashes, jobs
from ui.shared.errors import error_box
from ui.shared.jobs import Job
from ui.shared.paths import cache_root, runs_root
from ui.shared.progress import progress

MAX_KEPT = 20  # archives; the oldest are removed
KINDS = {
    ".stl": "a ZIP file of the surface of each class of the reference and of the prediction, in RAS mm",
    ".ply": "the same with the colours of the classes, and the signed distance at each vertex",
}


@dataclass(frozen=True)
class SurfaceExport:
    """The surfaces of a case as an archive.

    Attributes
    ----------
    checkpoint : Path. The model.
    dataset : Dataset. The data set of the case.
    prediction : Prediction. The kept prediction.
    ending : str. ".stl" or ".ply".
    """

    checkpoint: Path
    dataset: Dataset
    prediction: Prediction
    ending: str

    def start(self) -> None:
        """Make the archive; no effect while that is going on."""
        folder = self._folder
        jobs.remove_oldest(folder.parent, MAX_KEPT - 1)
        case = (str(self.checkpoint), str(self.dataset.path), self.prediction.subject)
        option = f"--{self.ending[1:]}={folder / self._name}"
        # Behind "--", as the ID of a subject may begin with "-".
        jobs.start(folder, ["review", "surfaces", option, "--progress", f"--checkpoints={runs_root()}", "--", *case])

    def observe(self) -> Job:
        """The state of the job; "none" again once reference, prediction or classes are others."""
        folder = self._folder
        return jobs.observe(folder, (folder / self._name).is_file())

    def content(self) -> bytes:
        """The archive.

        Raises
        ------
        VolumeError
            If it is gone.
        """
        try:
            return (self._folder / self._name).read_bytes()
        except OSError as error:
            subject = self.prediction.subject
            raise VolumeError(
                f"{subject}: its surfaces are no longer kept; load the page and make them again"
            ) from error

    @property
    def _name(self) -> str:
        return f"surfaces{self.ending}.zip"

    @property
    def _folder(self) -> Path:
        stamp = stamp_of(self.dataset, self.prediction)
        parts = (VERSION, self.checkpoint, self.dataset.path, self.prediction.subject, stamp, self.ending)
        return cache_root() / "surface-export" / hashes.short_hash("\0".join(map(str, parts)))


def surface_downloads(
    checkpoint: Path, dataset: Dataset, prediction: Prediction, file_name: Callable[[str], str]
) -> None:
    """Render a button for each format that makes the archive, its progress, then its download.

    Parameters
    ----------
    checkpoint, dataset, prediction : as for :class:`SurfaceExport`.
    file_name : callable. File name of a download by its last part.
    """
    with st.container(horizontal=True):
        for ending, help in KINDS.items():
            _download(SurfaceExport(checkpoint, dataset, prediction, ending), file_name, help)


def _download(export: SurfaceExport, file_name: Callable[[str], str], help: str) -> None:
    title, job = export.ending[1:].upper(), export.observe()
    if job.state == "running":
        progress(f"Making the surfaces ({title})", export.observe)
        return
    if job.state == "done":
        name, key = file_name(f"surfaces{export.ending}.zip"), f"export-surfaces{export.ending}"
        label = f"Surfaces ({title})"
        st.download_button(label, export.content, name, on_click="ignore", help=help, key=key)
        return
    if job.state == "failed":
        error_box(
            job.message, context=f"The surfaces of {formatting.plain(export.prediction.subject)} cannot be written"
        )
    st.button(f"Make surfaces ({title})", on_click=export.start, help=help, key=f"make-surfaces{export.ending}")
