"""Reads the metadata of a checkpoint without torch: JSON in the header of a safetensors file.

:class:`CheckpointMetadata` describes the network, its training data, and the preprocessing of images, so that a
checkpoint can be used on its own. :mod:`core.checkpointing.checkpoint` writes it and reads the tensors.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from core.checkpointing.training_spacing import TrainingSpacing
from core.config import TrainConfig
from core.errors import CheckpointError, UserError
from core.formatting import format_list
from core.imaging.normalise import Normaliser
from core.imaging.postprocessing import Postprocessing
from core.labels import LabelSpace, is_ignore_name
from core.regions import RegionSpace
from core.types import SpacingMm

FORMAT_VERSION = 1  # of a file with one network
ENSEMBLE_VERSION = 2  # of a file with several (core.checkpointing.ensemble_metadata)
LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"  # in the folder of a run
RUN_FILES = (LAST, PREVIOUS, BEST)
DATA_RECORD = "data.json"  # in the folder of a run: what it was trained on (core.datasets.data_record)
ACCEPT_DATA = "accept-data"  # there, while the run is to resume on changed data (runs resume --force)
METADATA_KEY = "segmentarium"
TRAINING_SPACING = "spacing_mm"  # in the description of the data set
TRAINED_ON = "trained_on"  # there: training subjects of initial networks, and of an ensemble of several data sets
UNKNOWN_FOLDER = ""  # there, for a folder that an exported file does not name
MEMBERS = "members"  # in the inference settings of an ensemble: name and epoch of each network
OWN_NETWORK = "own_network"  # in the inference settings: a user's code as it was in training (core.models.own_source)
REGIONS = "regions"  # in the description of the data set: unions of classes, in the order in which they are painted
POSTPROCESSING = "postprocessing"  # in the inference settings: rules by class, and how they were decided
ZIP_MAGIC = b"PK\x03\x04"
LEGACY_TORCH_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9"  # pickled number at the start of PyTorch files before 1.6
TORCH_SUFFIXES = (".pth", ".pt", ".tar", ".ckpt", ".bin")
FIELD_TYPES = dict(
    config=dict,
    labels=list,
    modalities=list,
    progress=dict,
    inference=dict,
    dataset=dict,
    split=dict,
    normalisation=dict,
)


@dataclass(frozen=True)
class CheckpointMetadata:
    """Everything in a checkpoint but tensors; plain JSON.

    Attributes
    ----------
    config : dict. The run's configuration, including the values derived from the data.
    labels : list of dict. The label space; its order is that of the network's output channels, where those are not
        regions. The ignore label, of which there is none, comes last.
    modalities : tuple of str. Names of the input channels, in order.
    spacing_mm : tuple of float or None. Voxel size to which images are resampled; ``None`` for no resampling.
    progress : dict. Epoch, step, elapsed seconds, best score and the like.
    inference : dict. Chosen mode and tile size, and the postprocessing.
    dataset : dict. Name, whether it is synthetic, licence, voxel sizes of the training subjects, regions.
    split : dict of list of str. Subject ids for train, val and test.
    normalisation : dict. Intensity normalisation, as :meth:`core.imaging.normalise.Normaliser.to_json` gives it; empty
        in checkpoints of version 0.1, whose configuration names the method, z_score by default.
    version : int. Format version.
    """

    config: dict[str, Any]
    labels: list[dict[str, Any]]
    modalities: tuple[str, ...]
    spacing_mm: SpacingMm | None
    progress: dict[str, Any] = field(default_factory=dict)
    inference: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    split: dict[str, list[str]] = field(default_factory=dict)
    normalisation: dict[str, Any] = field(default_factory=dict)
    version: int = FORMAT_VERSION

    @cached_property
    def train_config(self) -> TrainConfig:
        """The run's configuration, in which an ignore label that was chosen by its name is given by its value, which
        other data sets need not list. A network of version 0.1 with a class of such a name has no ignore label."""
        config, labels = TrainConfig.from_json(self.config), self.label_space
        if config.data.ignore == "auto":
            named_so = any(is_ignore_name(c.name) for c in labels.foreground)
            return config.with_values({"ignore": "none"}) if named_so else config
        return config if labels.ignore is None else config.with_values({"ignore": str(labels.ignore.raw)})

    @property
    def normaliser(self) -> Normaliser:
        """Intensity normalisation of the input channels."""
        if self.normalisation:
            return Normaliser.from_json(self.normalisation)
        method = self.train_config.data.normalisation
        return Normaliser.of_images("z_score" if method == "auto" else method, len(self.modalities), version=1)

    @property
    def training_spacing(self) -> TrainingSpacing | None:
        """Voxel sizes of the training subjects; ``None`` in checkpoints of earlier versions."""
        stored = self.dataset.get(TRAINING_SPACING)
        return None if stored is None else TrainingSpacing.from_json(stored)

    @cached_property
    def label_space(self) -> LabelSpace:
        """The label space."""
        return LabelSpace.from_json(self.labels)

    @property
    def regions(self) -> RegionSpace | None:
        """Unions of classes that are scored, and trained where the configuration says so; ``None`` for none."""
        stored = self.dataset.get(REGIONS)
        return RegionSpace.from_json(stored, self.label_space.names) if stored else None

    @property
    def trained_regions(self) -> RegionSpace | None:
        """The regions that are the output channels of the network; ``None`` where the classes are."""
        return self.regions if self.train_config.data.targets == "regions" else None

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the output channels of the network: classes with the background first, or regions."""
        trained = self.trained_regions
        return self.label_space.names if trained is None else trained.names

    @property
    def learned_missing(self) -> bool:
        """Whether training may have had cases without an image of a modality: real ones, or by modality dropout."""
        config = self.train_config
        return config.data.missing_modalities == "zero" or config.augment.modality_dropout > 0

    @property
    def network_code(self) -> dict[str, Any]:
        """Record of the code of a user's own network (:func:`core.models.own_source.describe_code`); empty for others,
        and in checkpoints of earlier versions."""
        stored = self.inference.get(OWN_NETWORK)
        return stored if isinstance(stored, dict) else {}

    def is_training_data(self, data: Path) -> bool:
        """Whether the folder of a data set is that of the training; ``False`` where the checkpoint does not say, and
        for an ensemble of networks that were trained on several data sets."""
        stored = self.dataset.get("path")
        return bool(stored) and Path(str(stored)).resolve() == data.resolve()

    def seen_in_training(self, data: Path, subjects: Sequence[str]) -> list[str]:
        """The subjects that the network, its initial one or one of an ensemble was trained on, on which its scores are
        too good.

        Parameters
        ----------
        data : Path. Folder of the data set of the subjects.
        subjects : sequence of str. Ids.
        """
        trained = {
            id
            for folder, ids in self.training_subjects.items()
            if folder != UNKNOWN_FOLDER and Path(folder).resolve() == data.resolve()
            for id in ids
        }
        return [id for id in subjects if id in trained]

    def may_be_seen_in_training(self, data: Path, subjects: Sequence[str]) -> list[str]:
        """The subjects whose ids are those of subjects of the training in a folder that the checkpoint does not name,
        as an exported one: whether they are the same is not known.

        Parameters
        ----------
        data, subjects : as in :meth:`seen_in_training`, whose subjects are left out.
        """
        named, seen = self.training_subjects.get(UNKNOWN_FOLDER, ()), self.seen_in_training(data, subjects)
        return [id for id in subjects if id in named and id not in seen]

    @property
    def training_subjects(self) -> dict[str, list[str]]:
        """Ids of the subjects that the network, its initial one or one of an ensemble was trained on, by the folder of
        their data set, as far as the checkpoint says; that of an exported one is ``UNKNOWN_FOLDER``."""
        own, others = self.dataset.get("path"), self.dataset.get(TRAINED_ON)
        trained = list(self.split.get("train", ()))
        found: dict[str, list[str]] = {}
        if own:
            found[str(own)] = trained
        elif trained and TRAINED_ON not in self.dataset:
            found[UNKNOWN_FOLDER] = trained
        for folder, ids in others.items() if isinstance(others, dict) else ():
            found[folder] = list(dict.fromkeys([*found.get(folder, ()), *map(str, ids)]))
        return found

    @property
    def inference_settings(self) -> dict[str, Any]:
        """How the model segments whole volumes where nothing else is asked for: ``mode`` ("whole" or "tiles"),
        ``overlap`` of tiles, and ``mirror``."""
        mode, validation = self.inference.get("mode"), self.train_config.validation
        return {
            "mode": "whole" if mode == "whole" else "tiles",
            "overlap": validation.overlap,
            "mirror": validation.mirror,
        }

    @property
    def postprocessing(self) -> Postprocessing:
        """Postprocessing of the label maps; without rules where none was stored with the model."""
        stored = self.inference.get(POSTPROCESSING, {})
        return Postprocessing.from_json(stored.get("rules", {}) if isinstance(stored, dict) else stored)

    def with_postprocessing(
        self, postprocessing: Postprocessing, decision: Mapping[str, Any] | None = None
    ) -> CheckpointMetadata:
        """The same metadata with other rules; without rules nothing is stated.

        Parameters
        ----------
        decision : mapping, optional. How the rules were decided, as plain JSON values.
        """
        inference = {name: value for name, value in self.inference.items() if name != POSTPROCESSING}
        if postprocessing:
            inference[POSTPROCESSING] = {"rules": postprocessing.to_json(), "decision": dict(decision or {})}
        return replace(self, inference=inference)


def may_be_training_subjects(model: str, ids: Sequence[str]) -> str:
    """What :meth:`CheckpointMetadata.may_be_seen_in_training` found, as a sentence about a model."""
    return (
        f"{model} was trained on subjects of the names {format_list(ids)}, in a folder that its file does not name; if "
        "they are the same, their scores are too good"
    )


def read_metadata(path: Path) -> CheckpointMetadata:
    """Read only the metadata (a few kilobytes), no tensor.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or not a checkpoint of Segmentarium.
    """
    with open_safetensors(path, "numpy") as file:
        return parse_metadata(path, file.metadata())


def refuse_ensemble(path: Path, metadata: CheckpointMetadata) -> None:
    """Refuse a file of several networks where one is expected.

    Raises
    ------
    CheckpointError
        If the metadata of the file is that of an ensemble.
    """
    if metadata.version == ENSEMBLE_VERSION:
        raise CheckpointError(
            f"{path}: expected one network, found an ensemble of several; it can predict, be evaluated and "
            "reviewed; for anything else use the run of one of its members"
        )


def open_safetensors(path: Path, framework: str) -> Any:
    """Open a safetensors file; its header is checked, no tensor is read.

    Parameters
    ----------
    path : Path. The file.
    framework : str. "pt" or "numpy": what its tensors are read as.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        is_there = path.is_file()
    except OSError:  # a file system that does not answer; opening the file says why
        is_there = True
    if not is_there:
        raise CheckpointError(f"expected a checkpoint, found no file {path}")
    try:
        return safe_open(str(path), framework=framework, device="cpu")
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        if is_torch_file(path):
            raise CheckpointError(
                f"{path} is not a checkpoint of Segmentarium but a PyTorch file, which does not state its modalities, "
                f"classes and voxel size; train from its weights: python -m core train DATA --init-from {path}"
            ) from error
        raise CheckpointError(
            f"{path} is not a checkpoint (expected safetensors), or it is damaged: {error}"
        ) from error


def is_torch_file(path: Path) -> bool:
    """Whether a file is a checkpoint of another program, written by PyTorch: by its first bytes, else by its name."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        start = b""
    if start[8:9] == b"{":  # the header of a safetensors file
        return False
    return start.startswith((ZIP_MAGIC, LEGACY_TORCH_MAGIC)) or path.name.lower().endswith(TORCH_SUFFIXES)


def parse_metadata(path: Path, header: Mapping[str, str] | None) -> CheckpointMetadata:
    """Parse and validate the metadata in the header of a safetensors file.

    Parameters
    ----------
    path : Path. Named in errors.
    header : mapping of str or None. The header's own metadata.

    Raises
    ------
    CheckpointError
        If there is none, or it is damaged or of a newer version.
    """
    text = (header or {}).get(METADATA_KEY)
    if text is None:
        raise CheckpointError(
            f"{path} is a safetensors file, but not one of Segmentarium's: it has no metadata of this program"
        )
    try:
        content = json.loads(text)
        version = int(content["version"])
        if version > ENSEMBLE_VERSION:
            raise CheckpointError(f"it has format {version}, this program reads up to {ENSEMBLE_VERSION}: update it")
        metadata = CheckpointMetadata(**content)
        for name, expected_type in FIELD_TYPES.items():
            if not isinstance(getattr(metadata, name), expected_type):
                raise TypeError(f"{name} is not a {expected_type.__name__}")
        modalities, spacing = tuple(str(m) for m in content["modalities"]), content["spacing_mm"]
        if not modalities:
            raise ValueError("no modalities")
        if spacing is not None:
            i, j, k = (float(v) for v in spacing)
            spacing = (i, j, k)
            if not all(math.isfinite(v) and v > 0 for v in spacing):
                raise ValueError(f"spacing_mm is {spacing}")
        metadata = replace(metadata, modalities=modalities, spacing_mm=spacing)
        metadata.training_spacing  # noqa: B018 - validates
        metadata.postprocessing.check(metadata.label_space.names)
        if metadata.train_config.data.targets == "regions" and not (metadata.regions and metadata.regions.painted):
            raise ValueError("no regions that its output channels would be")
        if not isinstance(metadata.inference.get(MEMBERS, []), list):
            raise TypeError(f"{MEMBERS} is not a list")
        if len(metadata.normaliser.methods) != len(modalities):
            raise ValueError(f"{len(metadata.normaliser.methods)} normalised channels for {len(modalities)} modalities")
        swapped, classes = metadata.train_config.swapped_classes, metadata.label_space.names
        if max(itertools.chain(*swapped), default=0) >= len(classes):
            raise ValueError(f"left and right classes beyond {len(classes)} classes")
    except UserError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: its metadata are damaged ({error})") from error
    return metadata
