"""Options of reading a data set: what its files leave open, or what would otherwise be refused."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from core.config import DataConfig


@dataclass(frozen=True)
class DataOptions:
    """Options of reading a data set; :class:`core.config.DataConfig` has fields of the same names, which describe them.

    Attributes
    ----------
    ignore : str. Label whose voxels are left out of training and scores, by name or by value in the files; "auto": the
        one named ignore, void, unlabelled or the like (:data:`core.labels.IGNORE_NAMES`); "none": no label.
    nan_is_zero : bool. Whether NaN is read as 0: intensities outside the field of view, and background in label maps.
    missing_modalities : str. "refuse": a case without an image of a modality is an error; "leave_out": it is not
        trained on; "zero": its image of that modality is 0 in every voxel.
    needed : tuple of str. Modalities that a case may lack or not; empty for all. No field of its own: ``modalities``.
    """

    ignore: str = "auto"
    nan_is_zero: bool = False
    missing_modalities: str = "refuse"
    needed: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, config: DataConfig) -> DataOptions:
        """The options of a run."""
        return cls(**{name: getattr(config, name) for name in cls.names()}, needed=config.modalities)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the options, which are fields of :class:`core.config.DataConfig`."""
        return tuple(f.name for f in dataclasses.fields(cls) if f.name != "needed")
