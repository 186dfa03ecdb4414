"""Feature maps of stages of a network that are kept beside a stored prediction, a byte a voxel.

In the folder of its other maps (:mod:`core.runs.kept_maps`), with which they share the limit on size:

=========================================  =========================================================================
``features/<stage>/mean.nii.gz``           mean of the absolute activations of all channels, in the geometry of the
                                           subject's image: stored value 0 is the least one, 250 the largest
``features/<stage>/channel-<n>.nii.gz``    activations of channel n, counted from 0
``features/<stage>/maps.json``             ranges, and of which prediction they are; written last
=========================================  =========================================================================

They are removed with their prediction. Works without torch.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.datasets import LoadedSubject
from core.errors import RunError
from core.imaging.volume import write_label
from core.inference.stage_maps import MAX_CHANNELS, StageMaps, StageRequest
from core.runs.kept_maps import LEVELS, RECORD, empty_folder, is_kept, maps_folder, prune, stored_values
from core.runs.predictions import safe_file_name
from core.runs.store import folder as files
from core.runs.store.process import locked
from core.strict_json import plain
from core.types import SpacingMm

FOLDER, MEAN = "features", "mean"
VERSION = 1
BRIGHT_SHARE = 0.995  # of the activations other than 0; from there on the colour is the brightest


@dataclass(frozen=True)
class KeptStageMap:
    """One feature map of a stage.

    Attributes
    ----------
    key : str. Name of its file without ending.
    channel : int or None. Its channel, counted from 0; ``None`` for the mean over all.
    low, high : float. Values of the least and the largest stored value: ``high`` is the largest magnitude of this map,
        ``low`` is 0, or ``-high`` where there are negative values.
    bright : float. Magnitude that 99.5 % of the values other than 0 do not exceed.
    """

    key: str
    channel: int | None
    low: float
    high: float
    bright: float


@dataclass(frozen=True)
class KeptStage:
    """The kept feature maps of a stage.

    Attributes
    ----------
    stage : str. Its name.
    channel_count : int. Number of its channels.
    voxel_mm : tuple of float. Size of its voxels.
    strongest : bool. Whether the strongest channels are among the maps.
    maps : tuple of KeptStageMap. The mean first, then by channel.
    """

    stage: str
    channel_count: int
    voxel_mm: SpacingMm
    strongest: bool
    maps: tuple[KeptStageMap, ...]

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels that are kept."""
        return tuple(one.channel for one in self.maps if one.channel is not None)


def stage_map_file(label_map: Path, stage: str, key: str) -> Path:
    """The file of a feature map of the prediction whose label map is given; it need not exist."""
    return _folder(label_map, stage) / f"{key}.nii.gz"


def read_kept_stage(label_map: Path, made_at: float, stage: str) -> KeptStage | None:
    """The feature maps of a stage; ``None`` where there are none, or those of an earlier prediction.

    Parameters
    ----------
    label_map : Path. Label map of the prediction.
    made_at : float. Its time, in seconds since 1970.
    stage : str. Name of the stage.
    """
    try:
        record = json.loads((_folder(label_map, stage) / RECORD).read_text(encoding="utf-8"))
        if record["version"] != VERSION or record["made_at"] != made_at or record["stage"] != stage:
            return None
        i, j, k = (float(mm) for mm in record["voxel_mm"])
        maps = tuple(
            KeptStageMap(m["key"], m["channel"], float(m["low"]), float(m["high"]), float(m["bright"]))
            for m in record["maps"]
        )
        return KeptStage(stage, int(record["channel_count"]), (i, j, k), bool(record["strongest"]), maps)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def suffices(kept: KeptStage | None, request: StageRequest) -> bool:
    """Whether kept maps have what is asked for."""
    return kept is not None and (kept.strongest or not request.strongest) and set(request.channels) <= {*kept.channels}


def with_kept(request: StageRequest, kept: KeptStage | None) -> StageRequest:
    """A request together with the maps that are kept, unless these are too many channels."""
    channels = {*request.channels, *(kept.channels if kept is not None else ())}
    if kept is None or len(channels) > MAX_CHANNELS:
        return request
    return StageRequest(request.stage, tuple(sorted(channels)), request.strongest or kept.strongest)


def add_stage_maps(
    label_map: Path, made_at: float, subject: LoadedSubject, maps: StageMaps, strongest: bool
) -> KeptStage:
    """Keep feature maps of a stored prediction; those of the same stage are replaced.

    Parameters
    ----------
    label_map, made_at : as in :func:`read_kept_stage`.
    subject : LoadedSubject. The subject as read.
    maps : StageMaps. On the grid of the subject.
    strongest : bool. Whether the strongest channels are among them.

    Raises
    ------
    RunError, VolumeError
        If a file cannot be written, then there are no maps; or if the prediction has been replaced meanwhile.
    """
    named = [(MEAN, None, maps.mean), *((f"channel-{n}", n, values) for n, values in maps.channels.items())]
    with locked(label_map.parent / files.LOCK, timeout_s=60):
        if not is_kept(label_map, made_at):
            raise RunError(f"{label_map}: this segmentation was replaced while its maps were made; make them again")
        folder = empty_folder(_folder(label_map, maps.stage))
        kept = []
        for key, channel, values in named:
            one = KeptStageMap(key, channel, *_range(values))
            kept.append(one)
            stored = stored_values(values, one.high, one.low)
            write_label(stage_map_file(label_map, maps.stage, key), stored, subject.stored, subject.first_image)
        stage = KeptStage(maps.stage, maps.channel_count, maps.voxel_mm, strongest, tuple(kept))
        content = {"version": VERSION, "made_at": made_at, "levels": LEVELS, **plain(dataclasses.asdict(stage))}
        files.write_json(folder / RECORD, content)
        prune(label_map, folder)
    return stage


def _range(values: np.ndarray) -> tuple[float, float, float]:
    """``low``, ``high`` and ``bright`` of a map (:class:`KeptStageMap`); 0 to 1 where all is 0."""
    magnitudes = np.abs(values[values != 0])
    if not len(magnitudes):
        return 0.0, 1.0, 1.0
    high = float(magnitudes.max())
    return (-high if values.min() < 0 else 0.0), high, float(np.quantile(magnitudes, BRIGHT_SHARE))


def _folder(label_map: Path, stage: str) -> Path:
    return maps_folder(label_map) / FOLDER / safe_file_name(stage)
