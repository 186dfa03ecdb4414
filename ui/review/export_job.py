"""Background jobs that write a file of a case (``review export``): its prediction, its errors, or a contact sheet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.errors import VolumeError
from ui.shared import hashes, jobs
from ui.shared.paths import cache_root, runs_root

ATTEMPTS = 3  # another visitor who downloads the same file may have removed it


@dataclass(frozen=True)
class CaseExport:
    """A file of a case.

    Attributes
    ----------
    checkpoint : Path. The model.
    data : Path. Folder of the data set.
    subject : str. Id of the case.
    option : str. What is written, an option of ``review export``: "prediction", "errors" or "sheet".
    suffix : str. Suffix of the file, such as ".nii.gz".
    arguments : tuple of str. Further arguments of ``review export``.
    """

    checkpoint: Path
    data: Path
    subject: str
    option: str
    suffix: str
    arguments: tuple[str, ...] = ()

    def make(self) -> bytes:
        """The content of the file, written now, and removed afterwards.

        Raises
        ------
        VolumeError
            If it cannot be written.
        """
        case = (str(self.checkpoint), str(self.data), self.subject)
        options = (f"--{self.option}={self._file}", *self.arguments, f"--checkpoints={runs_root()}")
        for _ in range(ATTEMPTS):
            # Behind "--", as the ID of a subject may begin with "-".
            jobs.start(self._folder, ["review", "export", *options, "--", *case])
            reason = jobs.wait(self._folder)
            if reason:
                raise VolumeError(f"{self.subject}: cannot be exported: {reason}")
            try:
                content = self._file.read_bytes()
            except FileNotFoundError:
                continue
            jobs.discard(self._folder)
            return content
        raise VolumeError(f"{self.subject}: cannot be exported: the file was removed while it was read; try again")

    def failure(self) -> str:
        """Why it could not be written when it was last asked for; empty where it could, or was not asked for."""
        return jobs.observe(self._folder, complete=False).message

    @property
    def _folder(self) -> Path:
        parts = (self.checkpoint, self.data, self.subject, self.option, self.suffix, *self.arguments)
        return cache_root() / "export" / hashes.short_hash("\0".join(map(str, parts)))

    @property
    def _file(self) -> Path:
        return self._folder / f"file{self.suffix}"
