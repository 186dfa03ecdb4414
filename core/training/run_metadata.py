"""Describes a run: metadata of its checkpoints, and facts for the log and the page."""

from __future__ import annotations

from pathlib import Path

from core.checkpointing.metadata import LAST, CheckpointMetadata
from core.datasets.splits import Split
from core.errors import CheckpointError
from core.training.plan import TrainingPlan
from core.training.run_data import RunData


def checkpoint_metadata(data: RunData, plan: TrainingPlan) -> CheckpointMetadata:
    """Metadata of the run's checkpoints."""
    dataset, split = data.dataset, data.split
    return CheckpointMetadata(
        config=plan.config.to_json(),
        labels=data.labels.to_json(),
        modalities=data.modalities,
        spacing_mm=plan.spacing_mm,
        dataset={
            "name": dataset.name,
            "path": str(dataset.path.resolve()),
            "layout": dataset.layout,
            "synthetic": dataset.synthetic,
            "licence": dataset.licence,
        },
        split={"train": list(split.train), "val": list(split.val), "test": list(split.test)},
    )


def check_unchanged(before: CheckpointMetadata, now: CheckpointMetadata, folder: Path) -> None:
    """Refuse to resume a run whose data set now gives another network."""
    for name, old, new in (
        ("classes", before.label_space.names, now.label_space.names),
        ("modalities", before.modalities, now.modalities),
        ("sub-volume", before.train_config.sampling.sub_volume, now.train_config.sampling.sub_volume),
        ("network", before.train_config.model, now.train_config.model),
    ):
        if old != new:
            raise CheckpointError(
                f"{folder / LAST}: expected the {name} that the run began with ({old}), got {new} from the data set "
                "as it is now; restore the earlier data, or start a new run with --init-from"
            )


def run_facts(plan: TrainingPlan, split: Split, device_name: str) -> dict[str, str]:
    """Facts about the run for the log and the page, by name."""
    config = plan.config
    network = f"{config.model.model} {'-'.join(map(str, config.model.channels))}"
    facts = {
        "device": device_name,
        "precision": config.run.precision,
        "network": f"{network}, {plan.parameters:,} parameters",
        "subjects": f"{len(split.train)} train, {len(split.val)} validate, {len(split.test)} test",
        "sub-volume": "x".join(map(str, config.sampling.sub_volume)) + " voxels",
    }
    if plan.spacing_mm is not None:
        facts["voxel size"] = "x".join(f"{s:.3g}" for s in plan.spacing_mm) + " mm"
    return facts
