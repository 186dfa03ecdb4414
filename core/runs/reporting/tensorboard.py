"""TensorBoard events of a run, scalars and images, written by TensorBoard's own writer without torch."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

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

    def picture(self, step: int, name: str, png: bytes, shape: Sequence[int]) -> None:
        """Write an image.

        Parameters
        ----------
        step : int. Optimiser step.
        name : str. TensorBoard tag.
        png : bytes. The colour image as PNG.
        shape : sequence of int. Height and width in pixels.
        """
        image = self._summary.Image(height=shape[0], width=shape[1], colorspace=3, encoded_image_string=png)
        self._add(step, [self._summary.Value(tag=name, image=image)])

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()

    def _add(self, step: int, values: list[object]) -> None:
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))
