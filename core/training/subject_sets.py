"""Training and held-out subjects of a run: on the device within a memory limit, else streamed from disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import torch

from core.formatting import format_bytes
from core.sampling.patches import Subjects
from core.sampling.streaming import StreamedSubjects, resident_or_streamed
from core.types import TrainingSubject


class SubjectSets:
    """A context manager; leaving it removes the file that subjects are streamed from.

    Parameters
    ----------
    train, held_out : sequence of TrainingSubject. Normalised, with the same channels.
    device : torch.device. The training device.
    resident_bytes : int. Device memory for subjects; training subjects take precedence.
    folder : Path. Folder of the file for streamed subjects.

    Attributes
    ----------
    train, held_out : Subjects.
    """

    def __init__(
        self,
        train: Sequence[TrainingSubject],
        held_out: Sequence[TrainingSubject],
        device: torch.device,
        resident_bytes: int,
        folder: Path,
    ) -> None:
        self.device = device
        self.train: Subjects = resident_or_streamed(train, device, resident_bytes, folder)
        self.held_out: Subjects = resident_or_streamed(held_out, device, resident_bytes - self.train.nbytes, folder)

    def __enter__(self) -> SubjectSets:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.train.close()
        self.held_out.close()

    @property
    def memory_summary(self) -> str:
        """Bytes on the device and bytes streamed from disk, for the log."""
        streamed = [subjects for subjects in (self.train, self.held_out) if isinstance(subjects, StreamedSubjects)]
        resident_bytes = self.train.nbytes + self.held_out.nbytes
        parts = []
        if resident_bytes or not streamed:
            parts.append(f"{format_bytes(resident_bytes)} on the {self.device.type}")
        if streamed:
            parts.append(f"{format_bytes(sum(subjects.stored_bytes for subjects in streamed))} streamed from disk")
        return ", ".join(parts)
