"""Segments images with an ensemble: the probabilities of its networks, of classes or of regions, are averaged, voxel by
voxel.

Each member prepares the image in its own way (voxel size, normalisation, sub-volume, mirroring), and its probabilities
are brought to the grid of the image before they are added up in float32. The members are loaded and used one after
another: in memory are one network, its probabilities, their sum, and the votes. Postprocessing of single members is not
applied, that of the ensemble is.

The disagreement of a voxel is the share of the pairs of members whose labels differ there (mean pairwise disagreement):
0 where all agree, 1 where no two do; of two members 0 or 1, of five 0, 0.4, 0.6, 0.7 and so on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.checkpointing.ensemble import check_ensemble, load_member
from core.checkpointing.ensemble_metadata import Member, combine
from core.checkpointing.metadata import CheckpointMetadata, read_metadata
from core.compute.device import free_bytes
from core.datasets import LoadedSubject
from core.errors import DeviceError
from core.formatting import format_bytes
from core.imaging.postprocessing import Postprocessing
from core.inference.overflow import NonFiniteLogitsError
from core.inference.predictor import OUT_OF_MEMORY_ADVICE, InferenceOverrides, Predictor, Segmentation
from core.inference.subject_image import SubjectImage
from core.inference.uncertainty import PassUncertainty
from core.types import ProgressCallback

AS_STORED = InferenceOverrides()
PROGRESS_STEPS = 100  # per member


class EnsemblePredictor(Predictor):
    """Several networks that segment as one.

    Parameters
    ----------
    path : Path. The file of the ensemble, or that of the first network.
    members : sequence of Member. The networks, at least two.
    metadata : CheckpointMetadata. Metadata of the ensemble.
    overrides : InferenceOverrides. Settings that replace those of the members.

    Attributes
    ----------
    members : tuple of Member. The networks.

    The other attributes and the errors are those of :class:`~core.inference.predictor.Predictor`, but there is no
    ``model``; ``options``, ``expected`` and ``target_mm`` are those of the first network.
    """

    def __init__(
        self,
        path: Path,
        members: Sequence[Member],
        metadata: CheckpointMetadata,
        overrides: InferenceOverrides = AS_STORED,
    ) -> None:
        self.members = tuple(members)
        self._overrides = overrides
        self._predictors = [_MemberPredictor(member, overrides) for member in members]
        first = self._predictors[0]
        self.path, self.device, self._maps = path, first.device, overrides.maps
        self.metadata = metadata if overrides.postprocess else metadata.with_postprocessing(Postprocessing())
        self.postprocessing = self.metadata.postprocessing
        self.outputs, self.options = first.outputs, first.options
        self.expected, self.target_mm, self.crop = first.expected, first.target_mm, first.crop

    @property
    def learned_missing(self) -> bool:
        """Whether all members may have been trained with cases without an image of a modality."""
        return all(member.metadata.learned_missing for member in self.members)

    def passes_of(self, image: SubjectImage) -> int:
        """Number of passes of an image: the members."""
        return len(self.members)

    def segment_unprocessed(self, image: SubjectImage, progress: ProgressCallback | None = None) -> np.ndarray:
        """The class of the largest mean probability; as :meth:`Predictor.segment_unprocessed`."""
        return self.segment_in_detail(image, progress).labels

    def segment_in_detail(self, image: SubjectImage, progress: ProgressCallback | None = None) -> Segmentation:
        """Segment one volume with all members, each of which is a pass of the maps; as
        :meth:`Predictor.segment_in_detail`."""
        with self.explained_errors():
            votes = np.zeros((len(self.labels), *image.shape), np.uint8)
            passes = PassUncertainty(self.outputs.regions is not None) if self._maps else None
            total = self._sum_of_probabilities(image, progress, votes, passes)
            disagreement = pairwise_disagreement(votes, len(self.members))
            mean = total if self.outputs.regions is None and passes is None else total / np.float32(len(self.members))
            # The largest of a sum is that of the mean, but 0.5 is of a mean.
            labels = self.outputs.label_map_of(total if self.outputs.regions is None else mean)
            return Segmentation(labels, disagreement, None if passes is None else passes.of_mean(mean, mean))

    def probabilities(self, image: SubjectImage, progress: ProgressCallback | None = None) -> np.ndarray:
        """Mean class probabilities; as :meth:`Predictor.probabilities`."""
        return self._sum_of_probabilities(image, progress) / np.float32(len(self.members))

    def _sum_of_probabilities(
        self,
        image: SubjectImage,
        progress: ProgressCallback | None,
        votes: np.ndarray | None = None,
        passes: PassUncertainty | None = None,
    ) -> np.ndarray:
        """Class probabilities summed over the members; those of each are added to ``passes``, its label to ``votes``
        (class, i, j, k)."""
        self._check_memory(image)
        total: np.ndarray | None = None
        for number, (member, predictor) in enumerate(zip(self.members, self._predictors, strict=True)):
            part = None if progress is None else _PartOfProgress(progress, number, len(self._predictors))
            try:
                with predictor.loaded():
                    probabilities = predictor.probabilities(image, part)
            except NonFiniteLogitsError as error:
                raise NonFiniteLogitsError(f"{member.name}: {error}") from error
            if votes is not None:
                labels = self.outputs.label_map_of(probabilities)
                for index, count in enumerate(votes):
                    count += labels == index
            if passes is not None:
                passes.add(probabilities)
            total = probabilities if total is None else np.add(total, probabilities, out=total)
        assert total is not None
        return total

    def _check_memory(self, image: SubjectImage) -> None:
        """Refuse an image whose probabilities do not fit into the memory, before the kernel ends the process."""
        copies = 3 if self._maps else 2
        needed_bytes = (copies * 4 * len(self.outputs.names) + len(self.labels)) * math.prod(image.shape)
        free = free_bytes(torch.device("cpu"))
        if needed_bytes > free:
            raise DeviceError(
                f"not enough memory: the probabilities of {len(self.outputs.names)} {self.outputs.kind} take "
                f"{format_bytes(needed_bytes)}, {format_bytes(free)} are free; {OUT_OF_MEMORY_ADVICE}"
            )

    def held_out(self, subject: str) -> Predictor | None:
        """The members that were not trained on a subject, as one model; ``None`` if there are none."""
        unseen = [member for member in self.members if subject not in member.seen]
        if len(unseen) == len(self.members):
            return self
        if len(unseen) > 1:
            return EnsemblePredictor(self.path, unseen, combine(unseen, distinct=False), self._overrides)
        return _MemberPredictor(unseen[0], self._overrides).load() if unseen else None

    def warnings(self, subject: LoadedSubject) -> tuple[str, ...]:
        """Reasons why a subject may be segmented wrongly by a member."""
        return tuple(dict.fromkeys(text for predictor in self._predictors for text in predictor.warnings(subject)))

    def settings(self) -> dict[str, Any]:
        """Device and inference options as plain JSON values: what the members share, and what they do not by member."""
        settings = [predictor.settings() for predictor in self._predictors]
        shared = {k: v for k, v in settings[0].items() if all(k in own and own[k] == v for own in settings)}
        own = [{k: v for k, v in values.items() if k not in shared} for values in settings]
        members = [{"name": member.name, **values} for member, values in zip(self.members, own, strict=True)]
        joined = {name: " and ".join(dict.fromkeys(str(v[name]) for v in settings)) for name in ("mode", "precision")}
        return {**shared, **joined, "members": members, "postprocessing": self.postprocessing.to_json()}


class _MemberPredictor(Predictor):
    """A network of an ensemble, whose weights are in memory while they are needed."""

    def __init__(self, member: Member, overrides: InferenceOverrides) -> None:
        self._member = member
        self._set_up(member.path, member.metadata.with_postprocessing(Postprocessing()), overrides)

    def load(self) -> _MemberPredictor:
        """Read the weights; returns the predictor."""
        self._set_weights(load_member(self._member))
        return self

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """The weights are in memory during the block."""
        self.load()
        try:
            yield
        finally:
            del self.model


class _PartOfProgress:
    """Progress of one member as part of that of all."""

    def __init__(self, progress: ProgressCallback, number: int, count: int) -> None:
        self._progress, self._number, self._count = progress, number, count

    def __call__(self, done: int, total: int) -> None:
        self._progress(PROGRESS_STEPS * self._number + PROGRESS_STEPS * done // total, PROGRESS_STEPS * self._count)


def pairwise_disagreement(votes: np.ndarray, members: int) -> np.ndarray:
    """Share of the pairs of members whose labels differ, float32, shape (i, j, k).

    Parameters
    ----------
    votes : ndarray, uint8, shape (class, i, j, k). Number of members with each class.
    members : int. Number of members, at least two.
    """
    agreeing = np.zeros(votes.shape[1:], np.float32)
    for count in votes:
        agreeing += count.astype(np.float32) * (count.astype(np.float32) - 1)
    return 1 - agreeing / np.float32(members * (members - 1))


def open_predictor(paths: Sequence[Path], overrides: InferenceOverrides = AS_STORED) -> Predictor | EnsemblePredictor:
    """The model of one or several files.

    Parameters
    ----------
    paths : sequence of Path. A checkpoint or an ensemble; or several of them, which act as one ensemble.
    overrides : InferenceOverrides. Settings that replace those of the files.

    Raises
    ------
    CheckpointError
        If a file is missing or damaged, or networks do not fit together.
    DeviceError, ConfigError
        As :class:`~core.inference.predictor.Predictor`.
    """
    members = [member for path in paths for member in check_ensemble(path)]
    if len(members) == 1:
        return Predictor(paths[0], overrides)
    metadata = read_metadata(paths[0]) if len(paths) == 1 else combine(members)
    return EnsemblePredictor(paths[0], members, metadata, overrides)
