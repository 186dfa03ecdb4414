"""Facts about one subject that the data doctor gathers."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.types import Size3, SpacingMm


@dataclass
class SubjectFacts:
    """Facts about one subject; ``None`` or empty where its files cannot be read.

    Attributes
    ----------
    id : str. Subject id.
    shape : tuple of int. Voxels along canonical i, j, k.
    spacing_mm : tuple of float. Voxel size along canonical i, j, k.
    voxel_ml : float. Volume of a voxel in ml.
    orientation : str. Axis codes of the first image's file, such as "LAS"; "???" where it states none.
    modalities : tuple of str. Modalities with an image.
    labelled : bool. Whether there is a label map.
    label_shares : dict. Share of voxels by class, background included; sums to 1. Ignored voxels are left out.
    ignored_share : float. Share of all voxels with the ignore label.
    intensities : dict. By modality: ``min``, ``max`` and ``mean`` over all voxels.
    medians : dict. By modality: median of the voxels that are not 0; modalities without any are left out.
    nan_share : float. Largest share of the values of one of its files that are NaN and read as 0.
    thumbnail : str. File name of the picture, or empty.
    ok : bool. Whether no error concerns the subject.
    """

    id: str
    shape: Size3 | None = None
    spacing_mm: SpacingMm | None = None
    orientation: str = ""
    modalities: tuple[str, ...] = ()
    labelled: bool = False
    label_shares: dict[str, float] = field(default_factory=dict)
    intensities: dict[str, dict[str, float]] = field(default_factory=dict)
    ignored_share: float = 0.0
    nan_share: float = 0.0
    medians: dict[str, float] = field(default_factory=dict)
    thumbnail: str = ""
    ok: bool = True
    voxel_ml: float | None = None
