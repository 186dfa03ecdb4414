"""Options of reading a data set: what its files leave open, or what would otherwise be refused."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace

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
    layout : str. How the folder is organised, where nothing else is named: "auto", or a name as in
        :func:`core.datasets.recognition.named_layout`. None of :meth:`names`.
    """

    ignore: str = "auto"
    nan_is_zero: bool = False
    missing_modalities: str = "refuse"
    needed: tuple[str, ...] = ()
    layout: str = "auto"

    @classmethod
    def from_config(cls, config: DataConfig) -> DataOptions:
        """The options of a run, for any folder: without its layout."""
        return cls(**{name: getattr(config, name) for name in cls.names()}, needed=config.modalities)

    @classmethod
    def of_own_data(cls, config: DataConfig) -> DataOptions:
        """The options of a run for the folder that it was trained on, with its layout: another one may have other
        classes or files."""
        return replace(cls.from_config(config), layout=config.layout)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the options, which are fields of :class:`core.config.DataConfig`."""
        return tuple(f.name for f in dataclasses.fields(cls) if f.name not in ("needed", "layout"))
