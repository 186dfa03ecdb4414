"""The Medical Segmentation Decathlon layout: ``dataset.json`` lists images and labels; 4-D images hold the modalities.

Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 2022; http://medicaldecathlon.com.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.datasets.layouts.base import Dataset, ImageRef, Layout, Subject, natural_key, shortened
from core.errors import DatasetError
from core.labels import LabelSpace

FILE = "dataset.json"
MAX_JSON_BYTES = 64 * 2**20
_SUFFIXES = (".nii.gz", ".nii", ".hdr", ".img", ".hdr.gz", ".img.gz")


def recognises(path: Path) -> bool:
    """Whether there is a ``dataset.json``."""
    return (path / FILE).exists()


def open_decathlon(path: Path) -> Dataset:
    """Read ``dataset.json``; no image is read, and listed files need not exist.

    Raises
    ------
    DatasetError
        If it is missing, no valid JSON, lacks ``modality``, ``labels`` or ``training``, or lists an image twice.
    """
    file = path / FILE
    content = _content(file)
    if "training" not in content and "channel_names" in content:
        raise DatasetError(
            f"{file}: expected the Decathlon's dataset.json, got nnU-Net's; list the cases under 'training'"
        )
    modalities = _modalities(file, content.get("modality"))
    labels = _labels(file, content.get("labels"))
    entries = content.get("training")
    if not isinstance(entries, list):
        raise DatasetError(f"{file}: expected a list under 'training', got {_kind(entries)}")
    notes: list[str] = []
    subjects: list[Subject] = []
    hidden = 0
    for number, entry in enumerate(entries, start=1):
        image, label = _entry(file, number, entry)
        if Path(image).name.startswith("._"):
            hidden += 1
            continue
        refs = {name: ImageRef(path / image, channel) for channel, name in enumerate(modalities)}
        subjects.append(Subject(_id(image), refs, path / label if label is not None else None))
    if not subjects:
        raise DatasetError(f"{file}: expected at least one case under 'training', got none")
    _check_labels_differ(file, subjects)
    if hidden:
        notes.append(f"{hidden} entries of macOS's own '._' files are ignored")
    stated = content.get("numTraining")
    if isinstance(stated, int) and stated != len(subjects):
        notes.append(f"{FILE} states {stated} training cases (numTraining) but lists {len(subjects)}")
    unlisted = _unlisted(path, subjects)
    if unlisted:
        notes.append(f"imagesTr holds images that {FILE} does not list: {shortened(unlisted, 4)}")
    return Dataset(
        path=path,
        layout=LAYOUT.name,
        name=str(content.get("name") or path.absolute().name),
        modalities=modalities,
        labels=labels,
        subjects=tuple(subjects),
        description=str(content.get("description") or ""),
        licence=str(content.get("licence") or content.get("license") or ""),
        notes=tuple(notes),
    )


def _content(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_JSON_BYTES:
            raise DatasetError(f"{file}: expected at most {MAX_JSON_BYTES} bytes, got {file.stat().st_size}")
        content = json.loads(file.read_text("utf-8-sig"), object_pairs_hook=_no_repeats)
    except FileNotFoundError:
        raise DatasetError(f"{file.parent}: expected {LAYOUT.expects}; found no {FILE}") from None
    except OSError as error:
        raise DatasetError(
            f"{file}: cannot be read: {error.strerror or error}; check that it is a file you may read"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file}: expected valid JSON, got an error: {error}") from None
    if not isinstance(content, dict):
        raise DatasetError(f"{file}: expected an object with modality, labels and training; got {_kind(content)}")
    return content


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse objects that name a key twice; JSON readers would silently keep the last."""
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [k for k, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} appears twice")
    return content


def _modalities(file: Path, value: Any) -> tuple[str, ...]:
    names = _by_number(file, "modality", '{"0": "T1", "1": "T2"}', value)
    if [number for number, _ in names] != list(range(len(names))):
        raise DatasetError(
            f"{file}: expected the keys of 'modality' to count 0, 1, 2 ...; got {[str(n) for n, _ in names]}"
        )
    modalities = tuple(name for _, name in names)
    if len(set(modalities)) != len(modalities):
        raise DatasetError(f"{file}: expected different names under 'modality', got {list(modalities)}")
    return modalities


def _labels(file: Path, value: Any) -> LabelSpace:
    names = _by_number(file, "labels", '{"0": "background", "1": "tumour"}', value)
    if names[0][0] != 0:
        raise DatasetError(
            f"{file}: expected the smallest value under 'labels' to be 0, the background; got {names[0][0]}"
        )
    if names[-1][0] >= 2**31:
        raise DatasetError(f"{file}: expected label values below 2147483648, got {names[-1][0]}")
    try:
        return LabelSpace.from_raw(names)
    except DatasetError as error:
        raise DatasetError(f"{file}: 'labels': {error}") from None


def _by_number(file: Path, field: str, example: str, value: Any) -> list[tuple[int, str]]:
    """A dictionary of numbers (as text) to names, in the order of the numbers."""
    if not isinstance(value, Mapping) or not value:
        raise DatasetError(f"{file}: expected '{field}' like {example}, got {_kind(value)}")
    names = []
    for key, name in value.items():
        if not str(key).strip().isdecimal() or not isinstance(name, str) or not name.strip():
            raise DatasetError(f"{file}: expected '{field}' like {example}, got {key!r}: {name!r}")
        names.append((int(key), name.strip()))
    return sorted(names)


def _entry(file: Path, number: int, entry: Any) -> tuple[str, str | None]:
    """Image and label path of one training entry, as written."""
    image, label = (entry.get("image"), entry.get("label")) if isinstance(entry, Mapping) else (None, None)
    if (
        not isinstance(image, str)
        or not image.strip()
        or not (label is None or isinstance(label, str))
        or "\0" in image
    ):
        raise DatasetError(
            f'{file}: expected entry {number} of \'training\' like {{"image": "./imagesTr/a.nii.gz", "label": '
            f'"./labelsTr/a.nii.gz"}}, got {json.dumps(entry)[:120]}'
        )
    return image, label or None


def _id(image: str) -> str:
    name = Path(image).name
    suffix = next((s for s in _SUFFIXES if name.lower().endswith(s)), "")
    return name[: len(name) - len(suffix)]


def _check_labels_differ(file: Path, subjects: list[Subject]) -> None:
    """One label file for two images is a slip of copy and paste."""
    owner: dict[Path, str] = {}
    for subject in subjects:
        if subject.label is not None and owner.setdefault(subject.label, subject.id) != subject.id:
            raise DatasetError(
                f"{file}: expected a label file of its own for each image, got {subject.label.name} for both "
                f"{owner[subject.label]} and {subject.id}"
            )


def _unlisted(path: Path, subjects: list[Subject]) -> list[str]:
    """Images in imagesTr that are no training case."""
    folder = path / "imagesTr"
    listed = {ref.path.name for s in subjects for ref in s.images.values()}
    try:
        present = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    except OSError:
        return []  # unreadable: opening the listed images will say so
    images = [n for n in present if n.lower().endswith(_SUFFIXES) and not n.startswith(".") and n not in listed]
    return sorted(images, key=natural_key)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {json.dumps(value)[:80]}"


LAYOUT = Layout(
    name="decathlon",
    title="Medical Segmentation Decathlon",
    expects="a dataset.json that lists modality, labels and training, with imagesTr and labelsTr beside it",
    recognises=recognises,
    open=open_decathlon,
)
