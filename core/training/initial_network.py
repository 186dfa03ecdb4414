"""Builds the network of a run: with fresh weights, or with those of a checkpoint to fine-tune."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from core.checkpointing.checkpoint import Checkpoint, copy_matching_weights, load
from core.checkpointing.foreign_weights import read_foreign_weights
from core.checkpointing.input_kernels import fit_input_kernels
from core.checkpointing.metadata import CheckpointMetadata, is_torch_file
from core.checkpointing.output_channels import fit_output_channels
from core.checkpointing.training_spacing import TrainingSpacing
from core.errors import CheckpointError, ConfigError
from core.formatting import format_list
from core.models.blocks import SegmentationNetwork
from core.models.build import build_model
from core.training.plan import TrainingPlan
from core.training.run_data import RunData
from core.training.run_metadata import training_spacing


def build_network(plan: TrainingPlan, data: RunData, resumed: bool) -> tuple[nn.Module, str]:
    """The network with its initial weights, and where they come from if not from the seed.

    A configured checkpoint to fine-tune, of this or another program, is not read for a resumed run, whose weights are
    in its own checkpoint.

    Raises
    ------
    ConfigError
        If the checkpoint is of a network of the same modalities in another order.
    CheckpointError
        If it cannot be read, does not fit, or holds values that are not finite.
    """
    config = plan.config
    torch.manual_seed(config.run.seed)
    model = build_model(config.model, plan.in_channels, len(data.output_names))
    if resumed or not config.run.init_from:
        return model, ""
    path = Path(config.run.init_from)
    if is_torch_file(path):
        with torch.device("meta"):  # other programs have no indicator
            like = build_model(config.model, plan.modalities, len(data.output_names))
        foreign = read_foreign_weights(path, like)
        weights, remark = fit_input_kernels(foreign.weights, model, plan.modalities)
        name, remark = path.name, foreign.how + remark
    else:
        name = f"{path.parent.name}/{path.name}"
        weights, remark = _fit_weights(load(path), name, model, plan, data)
    _check_finite(path, weights)
    copied, total = copy_matching_weights(weights, model)
    return model, f"{copied} of {total} tensors from {name}{remark}{_mostly_fresh(copied, total)}"


def _fit_weights(
    source: Checkpoint, name: str, model: SegmentationNetwork, plan: TrainingPlan, data: RunData
) -> tuple[dict[str, Tensor], str]:
    """Weights of a checkpoint for the input and output channels of a network, and remarks on how they fit."""
    weights, remark, metadata = dict(source.weights), "", source.metadata
    if metadata.train_config.data.modality_indicator != plan.config.data.modality_indicator:
        if len(metadata.modalities) != plan.modalities:
            raise ConfigError(
                f"init_from: expected a network of the modalities {', '.join(data.modalities)}, since only one of the "
                f"two has modality_indicator; {name} has those of {', '.join(metadata.modalities)}; choose another "
                "one, or the same modality_indicator"
            )
        weights, remark = fit_input_kernels(weights, model, plan.modalities)
    remark += _other_voxel_size(metadata, data, plan)
    if len(metadata.output_names) == len(data.output_names):
        with torch.device("meta"):
            wider = build_model(plan.config.model, plan.in_channels, len(data.output_names) + 1)
        before, now = metadata.output_names, data.output_names
        weights, of_classes = fit_output_channels(weights, model, wider, before, now)
        remark += of_classes
    return weights, remark + _other_modalities(metadata, data.modalities)


def _other_modalities(source: CheckpointMetadata, modalities: tuple[str, ...]) -> str:
    """Remark on initial weights of other modalities, whose kernels are taken in their order; empty without others.

    Raises
    ------
    ConfigError
        If they are the same in another order.
    """
    before, now = ([name.casefold() for name in names] for names in (source.modalities, modalities))
    if before == now:
        return ""
    if sorted(before) == sorted(now):
        spelled = dict(zip(now, modalities, strict=True))
        order = [spelled[name] for name in before]
        raise ConfigError(
            f"init_from: expected the modalities in the order of the initial network, {', '.join(order)}; found "
            f"{', '.join(modalities)}; choose that order: --modalities {','.join(order)}"
        )
    others = f"{format_list(source.modalities)} are taken for {format_list(modalities)} in this order"
    if len(before) != len(now):
        others = f"are {format_list(source.modalities)}, not {format_list(modalities)}"
    return f"; warning: its modalities {others}"


def _other_voxel_size(source: CheckpointMetadata, data: RunData, plan: TrainingPlan) -> str:
    """Remark on initial weights that were trained at another voxel size than this run's; empty if they were not."""
    before = source.training_spacing
    if source.spacing_mm is not None:
        before = TrainingSpacing.of([source.spacing_mm])
    now_mm = plan.spacing_mm or training_spacing(data).median_mm
    return f", trained at voxels of {before.text}" if before is not None and before.difference(now_mm) else ""


def _check_finite(path: Path, weights: Mapping[str, Tensor]) -> None:
    wrong = [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]
    if wrong:
        raise CheckpointError(
            f"init_from: {path}: expected finite weights, found NaN or infinity in {format_list(wrong[:5])}; choose "
            "another checkpoint"
        )


def _mostly_fresh(copied: int, total: int) -> str:
    """A warning where less than half of a network has initial weights; empty otherwise."""
    if 2 * copied >= total:
        return ""
    return "; warning: the rest begins untrained; choose the network and channels of the initial weights to use all"
