"""TensorBoard events of a run - metrics by name, and pictures - with TensorBoard's own writer, without torch."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

FLUSH_S = 5


class TensorBoardLog:
    """Writes event files into a folder.

    After a resume (``start_step`` above 0) TensorBoard is told to forget what was written after that step.
    """

    def __init__(self, folder: Path, start_step: int = 0) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder), flush_secs=FLUSH_S)
        if start_step:
            session = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(wall_time=time.time(), step=start_step + 1, session_log=session))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write numbers by name; those that are not defined are left out."""
        entries = [self._summary.Value(tag=k, simple_value=v) for k, v in values.items() if math.isfinite(v)]
        if entries:
            self._add(step, entries)

    def picture(self, step: int, name: str, rgb: np.ndarray) -> None:
        """Write a picture: uint8, shape (height, width, 3)."""
        from PIL import Image

        png = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(rgb)).save(png, format="PNG")
        image = self._summary.Image(
            height=rgb.shape[0], width=rgb.shape[1], colorspace=3, encoded_image_string=png.getvalue()
        )
        self._add(step, [self._summary.Value(tag=name, image=image)])

    def close(self) -> None:
        """Write out what is still in memory."""
        self._writer.close()

    def _add(self, step: int, values: list[object]) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))
