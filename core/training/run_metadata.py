"""Describes a run: metadata of its checkpoints, and facts for the log and the page."""

from __future__ import annotations

from pathlib import Path

from core.checkpointing.metadata import (
    LAST,
    OWN_NETWORK,
    REGIONS,
    TRAINED_ON,
    TRAINING_SPACING,
    CheckpointMetadata,
    is_torch_file,
    may_be_training_subjects,
    read_metadata,
)
from core.checkpointing.training_spacing import TrainingSpacing
from core.config import TrainConfig
from core.datasets.splits import Split, adapted_folds
from core.errors import CheckpointError
from core.events import FORECAST_FACT
from core.formatting import format_count, format_list, format_size
from core.models.own_source import describe_code
from core.training.plan import StepCost, TrainingPlan, kept_epochs_in_words
from core.training.run_data import RunData

NOTHING_HELD_OUT = "no subject: no Dice is measured, and the weights at the end of training are the result"


def checkpoint_metadata(
    data: RunData, plan: TrainingPlan, before: CheckpointMetadata | None = None
) -> CheckpointMetadata:
    """Metadata of the run's checkpoints.

    Parameters
    ----------
    before : CheckpointMetadata, optional. Of the checkpoint that the run is resumed from.
    """
    dataset, split = data.dataset, data.split
    code = describe_code(plan.config.model.model)
    trained_on = _trained_on_before(plan.config) if before is None else before.dataset.get(TRAINED_ON)
    return CheckpointMetadata(
        config=plan.config.to_json(),
        labels=data.labels.to_json(),
        modalities=data.modalities,
        spacing_mm=plan.spacing_mm,
        dataset={
            **({} if data.regions is None else {REGIONS: data.regions.to_json()}),
            **({TRAINED_ON: trained_on} if trained_on else {}),
            "name": dataset.name,
            "path": str(dataset.path.resolve()),
            "layout": dataset.layout,
            "synthetic": dataset.synthetic,
            "licence": dataset.licence,
            TRAINING_SPACING: training_spacing(data).to_json(),
        },
        split={"train": list(split.train), "val": list(split.val), "test": list(split.test)},
        normalisation=plan.normaliser.to_json(),
        inference={OWN_NETWORK: code} if code else {},
    )


def _trained_on_before(config: TrainConfig) -> dict[str, list[str]]:
    """Training subjects of the initial network, by the folder of their data set; empty without one, and where it is
    one of another program."""
    path = Path(config.run.init_from)
    return {} if not config.run.init_from or is_torch_file(path) else read_metadata(path).training_subjects


def seen_before_notes(metadata: CheckpointMetadata) -> list[str]:
    """Notes on held-out subjects that the initial network was trained on, or may have been."""
    held_out = [*metadata.split["val"], *metadata.split["test"]]
    folder = Path(metadata.dataset["path"])
    seen, perhaps = metadata.seen_in_training(folder, held_out), metadata.may_be_seen_in_training(folder, held_out)
    some = f"{len(seen)} of the {format_count(len(held_out), 'held-out subject')} ({format_list(seen)})"
    text = f"warning: the initial network (init_from) was trained on {some}: their scores will be too good"
    possible = f"note: {may_be_training_subjects('the initial network (init_from)', perhaps)}"
    return [*([text] if seen else []), *([possible] if perhaps else [])]


def check_unchanged(before: CheckpointMetadata, data: RunData, plan: TrainingPlan, folder: Path) -> None:
    """Refuse to resume a run whose data set now gives another network."""
    for name, old, new in (
        ("classes", before.label_space.names, data.labels.names),
        ("regions", before.trained_regions, data.trained_regions),
        ("modalities", before.modalities, data.modalities),
        ("sub-volume", before.train_config.sampling.sub_volume, plan.config.sampling.sub_volume),
        ("network", before.train_config.model, plan.config.model),
    ):
        if old != new:
            raise CheckpointError(
                f"{folder / LAST}: expected the {name} that the run began with ({old}), got {new} from the data set "
                "as it is now; restore the earlier data, or start a new run with --init-from"
            )


def run_facts(plan: TrainingPlan, cost: StepCost, split: Split, device_name: str) -> dict[str, str]:
    """Facts about the run for the log and the page, by name."""
    config = plan.config
    network = " ".join([config.model.model, "-".join(map(str, config.model.channels))]).strip()
    facts = {
        "device": device_name,
        "precision": config.run.precision,
        "network": f"{network}, {cost.parameters:,} parameters",
        "subjects": f"{len(split.train)} train, {len(split.val)} validate, {len(split.test)} test",
        "sub-volume": format_size(config.sampling.sub_volume) + " voxels",
        FORECAST_FACT: f"{plan.sub_volumes_per_s(cost):.3g} sub-volumes/s",
    }
    if kept := kept_epochs_in_words(config, cost.parameters):
        facts["kept epochs"] = kept
    if not split.val:
        facts["held out"] = NOTHING_HELD_OUT
        if config.validation.patience:
            facts["held out"] += "; early stopping has nothing to go by and is off"
    if folds := adapted_folds(split, config.split):
        facts["folds"] = f"{folds}, one per {'group' if split.groups else 'subject'}, instead of {config.split.folds}"
    if split.groups:
        groups = format_count(len(set(split.groups.values())), "group")
        facts["kept together"] = f"{groups} of {len(split.groups)} subjects (group_by {config.split.group_by})"
    if plan.spacing_mm is not None:
        facts["voxel size"] = format_size(plan.spacing_mm) + " mm"
    return facts


def region_facts(data: RunData) -> dict[str, str]:
    """Facts about regions for the log and the page, by name; empty for a data set without regions."""
    if data.regions is None or data.regions.unions is None:
        return {}
    if data.trained_regions is None:
        return {"regions": f"{', '.join(data.regions.unions.names)}: scored, the network learns the classes"}
    facts = {"regions": f"{', '.join(data.regions.names)}: the network learns them; the mean Dice is theirs"}
    if lost := data.regions.lost_classes:
        facts["not painted"] = f"{', '.join(lost)}, which regions_class_order paints over or leaves out"
    return facts


def training_spacing(data: RunData) -> TrainingSpacing:
    """Voxel sizes of the training subjects, before resampling."""
    return TrainingSpacing.of([data.spacings_mm[id] for id in data.split.train])


def indicator_notes(data: RunData, config: TrainConfig) -> list[str]:
    """Notes on what the network learns of the channels of ``modality_indicator``; none without them."""
    if not config.data.modality_indicator:
        return []
    lacking = [id for id in data.split.train if data.dataset.absent(data.dataset.subject(id), data.modalities)]
    if lacking:
        return [f"training subjects that lack a modality: {len(lacking)} of {len(data.split.train)}"]
    if config.augment.modality_dropout and len(data.modalities) > 1:
        return []
    warning = (
        "warning: no training subject lacks a modality, and none is left out (modality_dropout): the network does not "
        "learn what modality_indicator means"
    )
    return [warning]


def spacing_notes(data: RunData, plan: TrainingPlan) -> list[str]:
    """Notes on held-out subjects that a network without resampling gets at another voxel size than in training."""
    if plan.spacing_mm is not None:
        return []
    trained_on = training_spacing(data)
    differing = [id for id in data.split.val if trained_on.difference(data.spacings_mm[id])]
    if not differing:
        return []
    note = (
        f"warning: the voxels of the held-out {format_list(differing)} differ by more than 15 % from those of "
        f"training, {trained_on.text}, and nothing is resampled: their scores are unreliable; --resample median"
    )
    return [note]
