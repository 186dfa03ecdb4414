"""Metadata of an ensemble: several trained networks with the same classes and modalities that act as one model.

An ensemble is one safetensors file with the weights of all members, named ``member/<n>/<name>``, the metadata of each
member, and metadata of the whole that read like those of a checkpoint. Works without torch;
:mod:`core.checkpointing.ensemble` writes the file and reads the tensors.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.checkpointing.metadata import (
    ENSEMBLE_VERSION,
    FORMAT_VERSION,
    MEMBERS,
    METADATA_KEY,
    RUN_FILES,
    TRAINED_ON,
    TRAINING_SPACING,
    CheckpointMetadata,
    open_safetensors,
    parse_metadata,
)
from core.checkpointing.training_spacing import TrainingSpacing
from core.errors import CheckpointError
from core.formatting import format_list
from core.imaging.postprocessing import Postprocessing

MEMBERS_KEY = "segmentarium_members"  # in the header of the file: metadata of each member
MAX_MEMBERS = 100
LISTED = 8  # classes that an error names


@dataclass(frozen=True)
class Member:
    """A network of an ensemble, without its weights.

    Attributes
    ----------
    path : Path. File with the weights.
    name : str. Id of its run, else the name of its file.
    metadata : CheckpointMetadata. Metadata of the network.
    index : int or None. Number of the member in the file; ``None`` for a checkpoint with one network.
    """

    path: Path
    name: str
    metadata: CheckpointMetadata
    index: int | None = None

    @property
    def seen(self) -> frozenset[str]:
        """Ids of the subjects that it was trained on."""
        return frozenset(self.metadata.split.get("train", ()))


def is_ensemble(metadata: CheckpointMetadata) -> bool:
    """Whether the metadata are those of an ensemble."""
    return metadata.version == ENSEMBLE_VERSION


def read_members(path: Path) -> tuple[Member, ...]:
    """The networks of a file: the members of an ensemble, or the one of a checkpoint.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, or neither.
    """
    with open_safetensors(path, "numpy") as file:
        header = file.metadata()
    metadata = parse_metadata(path, header)
    if not is_ensemble(metadata):
        name = path.absolute().parent.name if path.name in RUN_FILES else path.stem
        return (Member(path, name, metadata),)
    return _parse_members(path, metadata, header)


def combine(members: Sequence[Member], *, distinct: bool = True) -> CheckpointMetadata:
    """Metadata of an ensemble, after comparing its members.

    Its training subjects are those of any member. Held out are subjects that no member was trained on: the test
    subjects of a member are of the test split, unless another one chose its checkpoint by them; the others are of the
    validation split. The postprocessing is that of the members, if all of them have the same.

    Parameters
    ----------
    members : sequence of Member. At least two.
    distinct : bool. Whether one that is there twice is refused; ensembles of earlier versions may have one.

    Raises
    ------
    CheckpointError
        If there are fewer than two or more than 100, one is named twice, or their classes, ignore labels, modalities,
        or left and right classes differ.
    """
    _check(members)
    if distinct:
        _check_distinct(members)
    all_metadata = [member.metadata for member in members]
    first = all_metadata[0]
    rules = first.postprocessing if all(m.postprocessing == first.postprocessing for m in all_metadata) else None
    spacings = {m.spacing_mm for m in all_metadata}
    named = [{"name": member.name, "epoch": member.metadata.progress.get("epoch")} for member in members]
    combined = replace(
        first,
        spacing_mm=None if None in spacings else first.spacing_mm,
        progress={"elapsed_s": sum(float(m.progress.get("elapsed_s") or 0) for m in all_metadata)},
        inference={MEMBERS: named},
        dataset=_dataset(all_metadata),
        split=_split(all_metadata),
        version=ENSEMBLE_VERSION,
    )
    return combined.with_postprocessing(rules or Postprocessing(), {"by": "members"})


def _check(members: Sequence[Member]) -> None:
    if not 2 <= len(members) <= MAX_MEMBERS:
        raise CheckpointError(f"ensemble: expected 2 to {MAX_MEMBERS} networks, got {len(members)}")
    first, *others = members
    sided = [member for member in members if _exchanged(member) is not None]
    for other in others:
        for what, texts_of, remedy in _COMPARED:
            expected, found = texts_of(first), texts_of(other)
            if expected != found:
                equal = sum(
                    1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(expected, found, strict=False))
                )
                shown, instead = (_from_difference(texts, equal) for texts in (expected, found))
                raise CheckpointError(
                    f"ensemble: expected the {what} of {first.name} ({shown}) in all networks, got {instead} in "
                    f"{other.name}; {remedy}"
                )
    for other in sided[1:]:
        if _exchanged(other) != _exchanged(sided[0]):
            raise CheckpointError(
                f"ensemble: expected networks that treat left and right alike; {sided[0].name} exchanges "
                f"{_pairs_text(sided[0])} in mirrored images, {other.name} {_pairs_text(other)}; leave one of them out"
            )


def _check_distinct(members: Sequence[Member]) -> None:
    for first, second in itertools.combinations(members, 2):
        if _is_same_network(first, second):
            where = "" if first.path == second.path else f" ({first.path} and {second.path})"
            raise CheckpointError(
                f"ensemble: expected different networks, got {first.name} twice{where}; name each once"
            )


def _is_same_network(one: Member, other: Member) -> bool:
    """Whether two members are the same file, or the same state of the same training, as a run and an export of it."""
    if (one.path.resolve(), one.index) == (other.path.resolve(), other.index):
        return True
    a, b = one.metadata, other.metadata
    trained = a.progress.get("elapsed_s") is not None
    return trained and (a.progress, a.split, a.train_config.model) == (b.progress, b.split, b.train_config.model)


def _from_difference(texts: Sequence[str], equal: int) -> str:
    """Texts from the first that differs from those of another network on; all of them where they are few."""
    return format_list(texts if equal < LISTED else ["...", *texts[equal:]], LISTED) or "none"


def _classes_texts(member: Member) -> list[str]:
    return [f"{c.name} = {c.raw}" for c in member.metadata.label_space.classes]


def _outputs_texts(member: Member) -> list[str]:
    regions = member.metadata.trained_regions
    if regions is None:
        return ["classes"]
    return [f"{r.name} = {'+'.join(r.classes)}, painted as {r.painted}" for r in regions.regions]


def _ignore_texts(member: Member) -> list[str]:
    ignore = member.metadata.label_space.ignore
    return ["none" if ignore is None else str(ignore.raw)]


_COMPARED: tuple[tuple[str, Callable[[Member], Sequence[str]], str], ...] = (
    ("modalities", lambda member: member.metadata.modalities, "train with the same ones in the same order"),
    ("classes", _classes_texts, "only networks for the same classes can be averaged"),
    ("outputs", _outputs_texts, "only networks for the same classes or regions can be averaged"),
    ("ignore label", _ignore_texts, "train with the same --ignore"),
)


def _exchanged(member: Member) -> frozenset[tuple[int, int]] | None:
    """Pairs of classes that are exchanged in mirrored images; ``None`` where images are not mirrored."""
    config = member.metadata.train_config
    if config.augment.lateral == "off":
        return None
    return frozenset((min(pair), max(pair)) for pair in config.swapped_classes)


def _pairs_text(member: Member) -> str:
    names = member.metadata.label_space.names
    return format_list([f"{names[a]} and {names[b]}" for a, b in sorted(_exchanged(member) or ())]) or "no classes"


def _split(members: Sequence[CheckpointMetadata]) -> dict[str, list[str]]:
    def ids(role: str) -> dict[str, None]:
        return dict.fromkeys(id for metadata in members for id in metadata.split.get(role, ()))

    train, val = ids("train"), ids("val")
    return {
        "train": list(train),
        "val": [id for id in val if id not in train],
        "test": [id for id in ids("test") if id not in train and id not in val],
    }


def _dataset(members: Sequence[CheckpointMetadata]) -> dict[str, Any]:
    """Description of the training data: what all members share, the names of all, synthetic if one is."""
    first = members[0].dataset
    shared = {k: v for k, v in first.items() if all(m.dataset.get(k) == v for m in members)}
    for name in ("name", "licence"):
        values = dict.fromkeys(str(m.dataset[name]) for m in members if m.dataset.get(name))
        if values:
            shared[name] = ", ".join(values)
    if "path" not in shared or any(TRAINED_ON in member.dataset for member in members):
        trained: dict[str, dict[str, None]] = {}
        for member in members:
            for folder, ids in member.training_subjects.items():
                trained.setdefault(folder, {}).update(dict.fromkeys(ids))
        shared[TRAINED_ON] = {folder: list(ids) for folder, ids in trained.items()}
    shared["synthetic"] = any(bool(m.dataset.get("synthetic")) for m in members)
    spacings = [m.training_spacing for m in members if m.spacing_mm is None]
    known = [spacing for spacing in spacings if spacing is not None]
    if spacings and len(known) == len(spacings):
        shared[TRAINING_SPACING] = _joined_spacing(known).to_json()
    return shared


def _joined_spacing(spacings: Sequence[TrainingSpacing]) -> TrainingSpacing:
    """Median of the medians and the joint range."""
    medians = TrainingSpacing.of([spacing.median_mm for spacing in spacings])
    ends = TrainingSpacing.of([size for spacing in spacings for size in (spacing.min_mm, spacing.max_mm)])
    return TrainingSpacing(medians.median_mm, ends.min_mm, ends.max_mm)


def _parse_members(path: Path, whole: CheckpointMetadata, header: Mapping[str, str]) -> tuple[Member, ...]:
    try:
        texts = [json.dumps(content) for content in json.loads(header[MEMBERS_KEY])]
        names = [str(named["name"]) for named in whole.inference[MEMBERS]]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: the metadata of its members are damaged ({error!r})") from error
    if not 2 <= len(texts) <= MAX_MEMBERS or len(names) != len(texts):
        raise CheckpointError(f"{path}: expected 2 to {MAX_MEMBERS} members with names, found {len(texts)}")
    members = tuple(
        Member(path, name, parse_metadata(path, {METADATA_KEY: text}), index)
        for index, (name, text) in enumerate(zip(names, texts, strict=True))
    )
    if any(member.metadata.version != FORMAT_VERSION for member in members):
        raise CheckpointError(f"{path}: expected single networks as members, found an ensemble")
    _check(members)
    wholes = whole.label_space.names, whole.modalities
    if wholes != (members[0].metadata.label_space.names, members[0].metadata.modalities):
        raise CheckpointError(f"{path}: its classes and modalities are not those of its members")
    return members
