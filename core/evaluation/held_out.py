"""Segments the held-out subjects of a model, each with networks that were not trained on it (cross-validation)."""

from __future__ import annotations

from collections.abc import Collection

from core.datasets import Dataset, load_subject
from core.datasets.loading import class_mapping
from core.errors import DatasetError
from core.evaluation.postprocessing_choice import HeldOutCase
from core.inference.ensemble_predictor import EnsemblePredictor
from core.inference.predictor import Predictor
from core.inference.subject_image import SubjectImage
from core.packed_labels import PackedLabels
from core.types import TextProgressCallback


def held_out_subjects(predictor: Predictor) -> tuple[str, ...]:
    """Ids of the validation subjects of the networks, in their order; those of an ensemble may have been trained on by
    some of its members, but not by all. Test subjects are left out: decisions made by them would make their scores
    worthless."""
    if not isinstance(predictor, EnsemblePredictor):
        return tuple(predictor.metadata.split.get("val", ()))
    splits = [member.metadata.split for member in predictor.members]
    tested = {id for split in splits for id in split.get("test", ())}
    return tuple(dict.fromkeys(id for split in splits for id in split.get("val", ()) if id not in tested))


def held_out_cases(
    predictor: Predictor,
    dataset: Dataset,
    progress: TextProgressCallback | None = None,
    left_out: Collection[str] = (),
) -> list[HeldOutCase]:
    """Predictions without postprocessing and references of the labelled held-out subjects.

    Parameters
    ----------
    predictor : Predictor. One network, or an ensemble.
    dataset : Dataset. The data set that the networks were trained on.
    progress : callable, optional. As of :func:`core.evaluation.evaluate.evaluate`.
    left_out : collection of str. Ids of subjects that are left out, as test subjects of the model that is decided for.

    Raises
    ------
    DatasetError
        If no subject was held out, or none of them is in the data set with a label.
    UserError
        If a subject cannot be read or segmented.
    """
    wanted = [id for id in held_out_subjects(predictor) if id not in left_out]
    ids = [id for id in wanted if id in dataset.labelled_ids]
    if not ids:
        found = f"found none of {len(wanted)} held-out ones" if wanted else "the model holds out none"
        raise DatasetError(
            f"{dataset.path}: expected labelled subjects that the model was not trained on, {found}; decide by the "
            "runs of a cross-validation (--decide-by)"
        )
    names = predictor.labels.names
    missing = [name for name in names[1:] if name not in dataset.labels.names]
    if missing:
        raise DatasetError(f"{dataset.path}: expected labels of the network's classes, found no {', '.join(missing)}")
    to_network = class_mapping(dataset.labels.names, names)
    cases = []
    for number, id in enumerate(ids):
        model = predictor.held_out(id) if isinstance(predictor, EnsemblePredictor) else predictor
        loaded = load_subject(dataset, id, predictor.modalities)
        assert model is not None and loaded.label is not None

        def show(done: int, total: int, number: int = number, id: str = id) -> None:
            if progress is not None:
                progress(number + done / total, len(ids), id)

        image = SubjectImage.of(loaded)
        prediction = model.segment_unprocessed(image, show)
        truth = to_network[loaded.label]
        cases.append(HeldOutCase(PackedLabels.pack(prediction), PackedLabels.pack(truth), loaded.geometry.voxel_ml))
    if progress is not None:
        progress(len(ids), len(ids), "")
    return cases
