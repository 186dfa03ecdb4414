"""Heat layers of the viewer: a number per voxel of a scene, shown in colours over the image with a colour bar.

A layer is stored in one byte a voxel, i fastest. It is made, and sent to the browser, when it is first shown.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.errors import VolumeError
from core.imaging.display import encode_label
from core.imaging.volume import read_label
from core.types import Size3
from ui.shared import formatting
from ui.shared.hashes import files_hash
from ui.viewer import volumes


@dataclass(frozen=True)
class HeatScale:
    """What the stored values of a heat layer mean: s is the value ``low + (high - low) * s / levels``.

    Attributes
    ----------
    low, high : float. The values of the least and of the largest stored value; ``low`` has no colour, or 0 where
        values are signed.
    levels : int. Largest stored value, 1 to 255.
    unit : str. Unit behind a value, "%" for example; empty for none.
    digits : int. Decimals of a value at the crosshair.
    bright : float or None. Value from which on the colour is the brightest, the end of the colour bar; ``None`` for
        ``high``.
    signed : bool. Whether the values are of either sign: ``low`` is ``-high``, each sign has colours of its own, the
        bar begins at ``-bright``, and the ends stand for values beyond them.
    """

    low: float = 0.0
    high: float = 1.0
    levels: int = 255
    unit: str = ""
    digits: int = 2
    bright: float | None = None
    signed: bool = False


PERCENT = HeatScale(0, 100, 100, "%", 0)


@dataclass(frozen=True)
class HeatLayer:
    """A number per voxel of a scene.

    Attributes
    ----------
    name : str. What it is, as on its button, beside its colour bar and for screen readers.
    url : str. URL of the stored values, uint8 (:func:`publish`); of a stream in a scene that is streamed.
    scale : HeatScale. What they mean.
    help : str. Meaning of a value, in a sentence.
    group : str. Layers of a group share a button and are chosen beside the colour bar; empty for a layer of its own.
    choice : str. Which of its group it is.
    computed : bool. Whether the values may have to be computed when they are asked for.
    """

    name: str
    url: str
    scale: HeatScale
    help: str = ""
    group: str = ""
    choice: str = ""
    computed: bool = False


@dataclass(frozen=True)
class HeatFile:
    """A file that becomes a heat layer.

    Attributes
    ----------
    file : Path. NIfTI file of stored values, whole numbers, on the grid of the image.
    prepare : callable, optional. Makes the file where it is missing; raises :class:`~ui.viewer.volumes.Pending` while
        that takes, and a :class:`~core.errors.UserError` if it fails.
    version : str. Text that changes with the content of a file with ``prepare``.

    The other attributes are those of :class:`HeatLayer`.
    """

    name: str
    file: Path
    scale: HeatScale
    help: str = ""
    group: str = ""
    choice: str = ""
    prepare: Callable[[], None] | None = None
    version: str = ""

    @property
    def key(self) -> str:
        """Text that changes with the content of the file."""
        return f"heat\n{self.version or files_hash('', [self.file])}\n{self.scale.levels}"

    def layer(self, url: str) -> HeatLayer:
        """The layer whose stored values are at a URL."""
        return HeatLayer(self.name, url, self.scale, self.help, self.group, self.choice, self.prepare is not None)

    def read(self, shape: Size3) -> np.ndarray:
        """The stored values, uint8, shape (i, j, k), canonical order.

        Raises
        ------
        VolumeError
            If the file cannot be read, has another shape, or values beyond its scale.
        Pending
            While the file is made.
        """
        if self.prepare is not None:
            self.prepare()
        values = read_label(self.file).data[0]
        if values.shape != shape:
            raise VolumeError(
                f"{self.file}: expected a map of {formatting.size(shape)} voxels like the image, found "
                f"{formatting.size(values.shape)}; segment the image again"
            )
        return self.checked(values)

    def checked(self, values: np.ndarray) -> np.ndarray:
        """Values of the file as uint8; values beyond its scale raise a :class:`~core.errors.VolumeError`."""
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > self.scale.levels:
            raise VolumeError(
                f"{self.file}: expected a map of whole numbers from 0 to {self.scale.levels}, found {low} to {high}; "
                "segment the image again"
            )
        return values.astype(np.uint8)


def disagreement(file: Path) -> HeatFile:
    """The kept map of the disagreement of the members of an ensemble."""
    return HeatFile("disagreement", file, PERCENT, "share of the pairs of networks whose labels differ here")


def publish(name: str, make: Callable[[], np.ndarray]) -> str:
    """URL of the stored values of a layer, for a scene that is not streamed.

    Parameters
    ----------
    name : str. Key of all parameters that the content depends on.
    make : callable. Returns the stored values, uint8, shape (i, j, k); called at the first request, and its
        :class:`~core.errors.UserError` is the answer.
    """
    return volumes.publish_on_request(name, lambda: encode_label(np.ascontiguousarray(make())))
