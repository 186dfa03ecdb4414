"""A stream of a file that is computed first."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from core.imaging.mapped_volume import Box
from core.types import Size3
from ui.viewer.streams import LabelStream, Stream
from ui.viewer.volumes import Pending

ASK_AGAIN_S = 0.5
COMPUTED_SHARE = 0.95  # of the preparation; then the file is converted


class ComputedStream(Stream):
    """Stored values of a heat layer, whose file is made when they are first asked for.

    Parameters
    ----------
    shape : tuple of int. Voxels along i, j, k, canonical order.
    compute : callable. Makes the file; raises :class:`~ui.viewer.volumes.Pending` while that takes.
    open_file : callable. The stream of the file.
    """

    def __init__(self, shape: Size3, compute: Callable[[], None], open_file: Callable[[], LabelStream]) -> None:
        super().__init__(shape, 1)
        self._compute, self._open_file = compute, open_file
        self._opened: LabelStream | None = None

    def prepare(self) -> dict[str, Any]:
        """Wait until the file is made, then convert it."""
        while not self._is_computed():
            time.sleep(ASK_AGAIN_S)
        self._opened = self._open_file()
        facts = self._opened.prepare()
        self.cached = self._opened.cached
        return facts

    def slab(self, channel: int, box: Box) -> bytes:
        """The stored values of a box, uint8."""
        assert self._opened is not None, "read after its preparation only"
        return self._opened.slab(channel, box)

    def _is_computed(self) -> bool:
        try:
            self._compute()
        except Pending as pending:
            self.progress = COMPUTED_SHARE * pending.progress
            return False
        return True
