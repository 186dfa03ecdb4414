"""TensorBoard events of a run, scalars and images, written by TensorBoard's own writer without torch."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

FLUSH_S = 5


class TensorBoardLog:
    """Writes TensorBoard event files.

    Parameters
    ----------
    folder : Path. Folder of the event files, created if missing.
    start_step : int. Step at which the run resumes: TensorBoard discards later events of earlier files; 0 for none.
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
        """Write scalars by name; values that are not finite are left out."""
        entries = [self._summary.Value(tag=k, simple_value=v) for k, v in values.items() if math.isfinite(v)]
        if entries:
            self._add(step, entries)

    def picture(self, step: int, name: str, rgb: np.ndarray) -> None:
        """Write an image.

        Parameters
        ----------
        step : int. Optimiser step.
        name : str. TensorBoard tag.
        rgb : ndarray, uint8, shape (height, width, 3). The image.
        """
        from PIL import Image

        png = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(rgb)).save(png, format="PNG")
        image = self._summary.Image(
            height=rgb.shape[0], width=rgb.shape[1], colorspace=3, encoded_image_string=png.getvalue()
        )
        self._add(step, [self._summary.Value(tag=name, image=image)])

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()

    def _add(self, step: int, values: list[object]) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))
