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
    """

    ignore: str = "auto"
    nan_is_zero: bool = False

    @classmethod
    def from_config(cls, config: DataConfig) -> DataOptions:
        """The options of a run."""
        return cls(**{name: getattr(config, name) for name in cls.names()})

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the options, which are fields of :class:`core.config.DataConfig`."""
        return tuple(f.name for f in dataclasses.fields(cls))
