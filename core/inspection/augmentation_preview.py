"""A process that shows what a network will see: sub-volumes of a subject, plain and augmented as training does it.

It reads a question per line from standard input and writes an answer per line to standard output, both JSON, and ends
at the end of its input or after two minutes without a question. The last subject is kept prepared::

    {"data": "folder", "subject": "case_1", "config": {...}, "spacing_mm": [1, 1, 1], "seed": 0, "versions": 4,
     "plane": "axial", "stamp": "..."}
    {"answer": {"size": [64, 64, 64], "spacing_mm": [...], "start": [10, 3, 8], "modalities": ["T1"],
                "classes": [{"name": "GM", "colour": "#1fa187"}],
                "versions": [{"changes": [], "pictures": ["<PNG in base64>"], "labelled": ["..."]}, ...],
                "remarks": []}}

``config`` is a training configuration with the size of a sub-volume; ``spacing_mm`` is the voxel size that training
resamples to, or null. The first version is the plain one. What the data or the configuration gets wrong is answered as
``{"error": "..."}``.
"""

from __future__ import annotations

import base64
import functools
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.augmentation.augmenter import AugmentationParams, Augmenter
from core.class_positions import measure_positions
from core.config import TrainConfig
from core.datasets import DataOptions, load_subject, open_dataset
from core.datasets.prepare import prepare_loaded
from core.errors import ConfigError, DatasetError
from core.imaging.display import upright_slices
from core.imaging.foreground_statistics import ForegroundIntensities, is_in_hounsfield_units, is_named_ct
from core.imaging.normalise import Normaliser
from core.imaging.overlay import overlay_classes
from core.inspection.questions import serve
from core.labels import LabelSpace
from core.laterality import find_sides, resolve_mirroring
from core.sampling.patches import PatchSampler, ResidentSubjects
from core.training.run_normalisation import measured_normaliser, methods_of
from core.types import SpacingMm, TrainingSubject, triple

PLANES = {"axial": 2, "coronal": 1, "sagittal": 0}  # axis perpendicular to the plane
MAX_VERSIONS = 8
WINDOW_PERCENTILES = (1.0, 99.0)  # of the plain sub-volume, shown as black and white in all versions
PICTURE_SIDE = 224  # pixels of the longer side
LABEL_OPACITY = 0.45
VISIBLE_NOISE = 0.02  # standard deviations, from which on noise is named
SUBJECTS_KEPT = 2
ONE_SUBJECT = "intensities are normalised by this subject alone; training measures all of its subjects"


@dataclass(frozen=True)
class _Prepared:
    """A subject as training has it, and how left and right are treated."""

    subject: TrainingSubject
    modalities: tuple[str, ...]
    labels: LabelSpace
    oriented: bool
    mirroring: dict[str, Any]
    remarks: tuple[str, ...]


def answer(question: dict[str, Any]) -> dict[str, Any]:
    """The answer to a question, in the form of the module's docstring without its envelope.

    Raises
    ------
    UserError
        If the subject cannot be read, or the configuration cannot be used.
    """
    versions, plane = int(question["versions"]), str(question["plane"])
    if not 1 <= versions <= MAX_VERSIONS or plane not in PLANES:
        raise ConfigError(f"expected 1 to {MAX_VERSIONS} versions in one of {list(PLANES)}, got {versions} in {plane}")
    config = TrainConfig.from_json(question["config"])
    spacing_mm: SpacingMm | None = None
    if question["spacing_mm"] is not None:
        di, dj, dk = map(float, question["spacing_mm"])
        spacing_mm = di, dj, dk
    lateral = {"lateral": config.augment.lateral, "lateral_pairs": config.augment.lateral_pairs}
    decisive = TrainConfig(data=config.data).with_values(lateral)
    where = str(question["data"]), str(question["subject"])
    prepared = _prepare(*where, decisive, spacing_mm, str(question.get("stamp", "")))
    resolved = config.with_values({**prepared.mirroring, "classes": prepared.labels.names[1:]})
    drawn = _draw(prepared, resolved, int(question["seed"]), versions)
    return {
        "size": list(drawn.size),
        "spacing_mm": list(prepared.subject.spacing_mm),
        "start": list(drawn.start),
        "modalities": list(prepared.modalities),
        "classes": [{"name": c.name, "colour": c.colour} for c in prepared.labels.foreground],
        "versions": [_version(prepared, drawn, n, PLANES[plane]) for n in range(versions + 1)],
        "remarks": list(prepared.remarks),
    }


@functools.lru_cache(SUBJECTS_KEPT)
def _prepare(data: str, subject: str, config: TrainConfig, spacing_mm: SpacingMm | None, stamp: str) -> _Prepared:
    """Read and prepare a subject; ``stamp`` changes with its files."""
    dataset = open_dataset(Path(data), config.data.layout, DataOptions.from_config(config.data))
    modalities = config.data.modalities or dataset.modalities
    labels = dataset.labels.subset(config.data.classes) if config.data.classes else dataset.labels
    loaded = load_subject(dataset, subject, modalities, config.data.classes)
    if loaded.label is None:
        raise DatasetError(f"{subject}: expected a label map, found none; choose a labelled subject")
    normaliser = _normaliser(config, modalities, loaded.image, loaded.label)
    ready = prepare_loaded(loaded, normaliser, spacing_mm)
    oriented = loaded.geometry.oriented
    position = measure_positions(subject, ready.label, len(labels), ready.spacing_mm)
    sides = find_sides(labels.names, dataset.labels.names, [position], config.augment.stated_pairs)
    mirroring = resolve_mirroring(config.augment, sides, () if oriented else (subject,))
    remarks = [mirroring.reason] if mirroring.reason else []
    remarks += [ONE_SUBJECT] if "ct" in normaliser.methods else []
    return _Prepared(ready, tuple(modalities), labels, oriented, mirroring.values(), tuple(remarks))


def _normaliser(config: TrainConfig, modalities: tuple[str, ...], image: np.ndarray, label: np.ndarray) -> Normaliser:
    """The normalisation of training, measured in one subject."""
    requested = config.data.normalisation
    methods = methods_of(
        requested,
        lambda: [is_named_ct(m) or is_in_hounsfield_units(c) for m, c in zip(modalities, image, strict=True)],
        len(modalities),
    )
    if "ct" not in methods:
        return Normaliser(methods)
    intensities = ForegroundIntensities(len(modalities))
    intensities.add(image, label)
    return measured_normaliser(requested, methods, intensities)


@dataclass(frozen=True)
class _Drawn:
    """A sub-volume in several versions, the plain one first; arrays (version, channel, i, j, k) and (version, ...)."""

    start: tuple[int, int, int]
    size: tuple[int, int, int]
    image: np.ndarray
    label: np.ndarray
    params: AugmentationParams


def _draw(prepared: _Prepared, config: TrainConfig, seed: int, versions: int) -> _Drawn:
    """Draw a place as training does, and augment it several times.

    The place depends on the seed and the sampling alone, so that it stays while the augmentation changes.
    """
    size = triple(config.sampling.sub_volume)
    sampler = PatchSampler([prepared.subject], size, config.sampling, len(prepared.labels))
    (location,) = sampler.draw(1, torch.Generator().manual_seed(seed))
    subjects = ResidentSubjects([prepared.subject], torch.device("cpu"))
    augmenter = Augmenter(config.augment, size, config.swapped_classes)
    params = augmenter.draw_for(subjects, [location] * versions, torch.Generator().manual_seed(seed + 1))
    plain_image, plain_label = subjects.crop([location], size)
    image, label = augmenter.apply(*subjects.crop(params.locations, params.region), params)
    return _Drawn(
        location.start,
        size,
        torch.cat([plain_image, image]).numpy(),
        torch.cat([plain_label, label]).numpy(),
        params,
    )


def _version(prepared: _Prepared, drawn: _Drawn, number: int, axis: int) -> dict[str, Any]:
    """The middle slices of a version, one for each modality, without and with labels, and its changes in words."""
    middle = drawn.size[axis] // 2
    label = upright_slices(drawn.label[number].take(middle, axis), prepared.oriented)
    spacing_mm = [mm for n, mm in enumerate(prepared.subject.spacing_mm) if n != axis]
    colours = [c.colour for c in prepared.labels.classes]
    pictures, labelled = [], []
    for channel, plain in zip(drawn.image[number], drawn.image[0], strict=True):
        low, high = (float(v) for v in np.percentile(plain, WINDOW_PERCENTILES))
        grey = np.clip((channel.take(middle, axis) - low) / ((high - low) or 1.0), 0, 1) * 255
        rows = upright_slices(grey, prepared.oriented)[..., None].repeat(3, axis=2)
        pictures.append(_png(rows, spacing_mm))
        labelled.append(_png(overlay_classes(rows, label, colours, LABEL_OPACITY), spacing_mm))
    changes = [] if number == 0 else describe_changes(drawn.params, number - 1, prepared.modalities)
    return {"changes": changes, "pictures": pictures, "labelled": labelled}


def describe_changes(params: AugmentationParams, number: int, modalities: tuple[str, ...]) -> list[str]:
    """What was drawn for a sub-volume, in words; empty if it is unchanged.

    Parameters
    ----------
    params : AugmentationParams. Random parameters of a batch.
    number : int. Index of the sub-volume.
    modalities : tuple of str. Names of the channels.
    """
    words = ["mirrored left-right"] if params.flips[number] else []
    if params.warp is not None:
        matrix = params.warp.matrix[number].double()
        scales = matrix.norm(dim=0)
        rotation = matrix / scales
        angle = math.degrees(math.acos(max(-1.0, min(1.0, (float(rotation.trace()) - 1) / 2))))
        words += [f"rotated by {angle:.0f}°"] if angle >= 0.5 else []
        if float((scales - 1).abs().max()) >= 0.005:
            sizes = " × ".join(f"{100 / float(scale):.0f}" for scale in scales)
            words.append(f"size {sizes} %")
        words += ["deformed elastically"] if params.warp.is_elastic(number) else []
    channels = len(modalities)
    changes = params.intensity[number * channels : (number + 1) * channels]
    for name, is_changed in (
        ("brightness", lambda c: c.brightness != 0),
        ("contrast", lambda c: c.contrast != 1),
        ("gamma", lambda c: c.gamma != 1),
        ("bias field", lambda c: c.bias_field is not None),
        ("blur or low resolution", lambda c: c.smoothing is not None),
        ("noise", lambda c: c.noise_std >= VISIBLE_NOISE),
    ):
        changed = [m for m, change in zip(modalities, changes, strict=True) if is_changed(change)]
        if changed:
            words.append(name if len(changed) == channels else f"{name} ({', '.join(changed)})")
    kept = params.kept[number] if params.kept is not None else [True] * channels
    return words + [f"without {m}" for m, is_kept in zip(modalities, kept, strict=True) if not is_kept]


def _png(rows: np.ndarray, spacing_mm: list[float]) -> str:
    """A picture in the true proportions of its voxels, as PNG in base64."""
    from PIL import Image

    picture = Image.fromarray(np.clip(np.rint(rows), 0, 255).astype(np.uint8))
    width_mm, height_mm = picture.width * spacing_mm[0], picture.height * spacing_mm[1]
    scale = PICTURE_SIDE / max(width_mm, height_mm)
    size = max(1, round(width_mm * scale)), max(1, round(height_mm * scale))
    file = io.BytesIO()
    picture.resize(size, Image.Resampling.NEAREST).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def main() -> None:
    """Answer questions until the end of the input, or until none has come for two minutes."""
    torch.set_num_threads(1)
    serve(answer, "the sub-volumes cannot be made")


if __name__ == "__main__":
    main()
