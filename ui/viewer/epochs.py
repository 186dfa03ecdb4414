"""Segmentations of a case by the epochs that a run has kept, as layers of a scene that the viewer fetches singly."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from core.datasets import Dataset
from core.labels import LabelSpace
from ui.shared.hashes import files_hash
from ui.viewer import volumes
from ui.viewer.scenes import EpochLayer, Scene, encode_prediction, subject_hash
from ui.viewer.streamed_scenes import StreamedSubject


@dataclass(frozen=True)
class EpochFile:
    """The segmentation of a case by an epoch.

    Attributes
    ----------
    name : str. Which epoch it is, on screen.
    file : Path. Label map on the grid of the image, with the raw values of the classes.
    dice : float. Mean Dice; NaN where there is none.
    """

    name: str
    file: Path
    dice: float = math.nan


def with_epochs(scene: Scene, dataset: Dataset, subject: str, labels: LabelSpace, epochs: Sequence[EpochFile]) -> Scene:
    """The scene of a subject with the segmentations by kept epochs, each read when it is first shown.

    Parameters
    ----------
    scene : Scene. Scene of the subject.
    labels : LabelSpace. Classes of the segmentations and of the scene.
    epochs : sequence of EpochFile. In the order of training.
    """
    files = subject_hash(dataset, subject)
    large = StreamedSubject.of(dataset, subject, files) if scene.streamed and epochs else None
    key, layers = f"{files}\n{json.dumps(labels.to_json())}", []
    for epoch in epochs:
        if large is not None:
            url = large.publish_prediction(epoch.file, labels, on_request=True)
        else:
            name = f"epoch\n{files_hash('', [epoch.file])}\n{key}"
            url = volumes.publish_on_request(name, partial(encode_prediction, epoch.file, labels, scene.grid))
        layers.append(EpochLayer(epoch.name, url, None if math.isnan(epoch.dice) else epoch.dice))
    return replace(scene, epochs=tuple(layers))
