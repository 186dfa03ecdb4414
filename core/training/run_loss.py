"""What the loss of a run takes from its training data. The class weights are computed once and kept in the checkpoints,
so that a resumed run has the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from core.checkpointing.checkpoint import Checkpoint
from core.checkpointing.metadata import CheckpointMetadata
from core.losses.build import LossFacts
from core.losses.class_weights import class_weights
from core.training.plan import TrainingPlan
from core.training.run_data import RunData
from core.training.run_metadata import training_spacing
from core.types import TrainingSubject

CLASS_WEIGHTS = "class_weights"  # in the description of the data set


def loss_facts(
    plan: TrainingPlan, data: RunData, subjects: Mapping[str, TrainingSubject], last: Checkpoint | None
) -> LossFacts:
    """The facts of a run.

    Parameters
    ----------
    subjects : mapping. Prepared subjects by id; those of training count.
    last : Checkpoint or None. The checkpoint to resume from.
    """
    weights: tuple[float, ...] = ()
    config = plan.config.loss
    if config.loss == "weighted_ce":
        stored = last.metadata.dataset.get(CLASS_WEIGHTS) if last is not None else None
        if stored is not None:
            weights = tuple(float(weight) for weight in stored)
        else:
            label_maps = (subjects[id].label for id in data.split.train)
            weights = class_weights(label_maps, len(data.labels), config.class_weight_power)
    regions = () if data.trained_regions is None else data.trained_regions.members
    return LossFacts(weights, plan.spacing_mm or training_spacing(data).median_mm, regions)


def with_loss_facts(metadata: CheckpointMetadata, facts: LossFacts) -> CheckpointMetadata:
    """The metadata with the class weights, if the loss has any."""
    if not facts.class_weights:
        return metadata
    return replace(metadata, dataset={**metadata.dataset, CLASS_WEIGHTS: list(facts.class_weights)})


def describe_loss_facts(facts: LossFacts, classes: tuple[str, ...]) -> dict[str, str]:
    """Facts for the log and the page, by name."""
    if not facts.class_weights:
        return {}
    pairs = zip(classes, facts.class_weights, strict=True)
    return {"class weights": ", ".join(f"{name} {weight:.3g}" for name, weight in pairs)}
