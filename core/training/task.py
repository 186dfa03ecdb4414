"""Inputs of the training loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from core.checkpointing.metadata import CheckpointMetadata
from core.compute.distributed import SINGLE_PROCESS, DistributedContext
from core.config import TrainConfig
from core.inference.outputs import NetworkOutputs
from core.losses.build import LossFacts
from core.regions import RegionSpace
from core.types import TrainingSubject


@dataclass(frozen=True)
class TrainingTask:
    """A network, its data and its resolved configuration.

    Attributes
    ----------
    config : TrainConfig. With sub-volume size, channels and precision ("fp32", "bf16" or "fp16") resolved.
    model : Module. On the training device.
    train, held_out : sequence of TrainingSubject. Normalised, with equal spacing and the channels of the model.
    classes : tuple of str. Class names, background first.
    colours : tuple of str. Display colour ``#rrggbb`` of each class.
    ignore : bool. Whether label maps may have the ignore label (:data:`core.labels.IGNORE_INDEX`).
    folder : Path. Run folder; checkpoints are written here.
    metadata : CheckpointMetadata. Metadata of the checkpoints, without progress and inference.
    facts : dict of str. Facts about the run for the log and the page.
    resident_bytes : int. Device memory for subjects; those that do not fit are streamed from disk.
    distributed : DistributedContext. Processes that train together; rank 0 writes files and emits events.
    loss_facts : LossFacts. What the loss takes from the training data.
    regions : RegionSpace or None. Regions that are scored; the output channels too where the loss is one of regions.
    """

    config: TrainConfig
    model: nn.Module
    train: Sequence[TrainingSubject]
    held_out: Sequence[TrainingSubject]
    classes: tuple[str, ...]
    colours: tuple[str, ...]
    folder: Path
    metadata: CheckpointMetadata
    facts: dict[str, str] = field(default_factory=dict)
    resident_bytes: int = 2**62
    distributed: DistributedContext = SINGLE_PROCESS
    ignore: bool = False
    loss_facts: LossFacts = field(default_factory=LossFacts)
    regions: RegionSpace | None = None

    @property
    def outputs(self) -> NetworkOutputs:
        """What the output channels of the network are."""
        return NetworkOutputs(self.classes, self.regions if self.loss_facts.regions else None)
