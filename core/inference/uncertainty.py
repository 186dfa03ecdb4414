"""Uncertainty of a segmentation voxel by voxel, in bits: entropies of the probabilities of one or several passes.

Several passes are those of an image and its mirrored image, or of the members of an ensemble. With the mean p of their
probabilities p_m, the total uncertainty H(p) is the mean entropy of the passes plus their mutual information
H(p) - mean H(p_m) >= 0, a measure of their disagreement (Depeweg et al. 2018, eq. 1; Houlsby et al.
2011). H is the entropy of the softmax, 0 to log2(classes); of regions, which may overlap, the mean of the binary
entropies of their sigmoids, 0 to 1. Works without torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PredictionMaps:
    """Maps of a prediction beside its label map, on the grid of the image.

    Attributes
    ----------
    probabilities : ndarray, float32, shape (channel, i, j, k). Of the classes or regions, of which the label map is
        made.
    uncertainty : ndarray, float32, shape (i, j, k). Total uncertainty in bits.
    mutual_information : ndarray or None. That of several passes in bits, float32, shape (i, j, k); ``None`` for one.
    passes : int. Number of passes.
    logits : ndarray or None. Pre-activations of the last layer, averaged over tiles and mirrored passes, float32, shape
        (channel, i, j, k): those of which the probabilities are the softmax or the sigmoid. ``None`` where they are
        not asked for.
    """

    probabilities: np.ndarray
    uncertainty: np.ndarray
    mutual_information: np.ndarray | None
    passes: int
    logits: np.ndarray | None = None


@dataclass(frozen=True)
class MapKind:
    """A map of one number per voxel that a prediction may have.

    Attributes
    ----------
    key : str. Short name, as in names of files.
    name : str. What it is, on screen.
    group : str. Maps of a group differ in ``choice`` only.
    choice : str. Which of its group it is.
    high : float. Largest value; of logits, which have no bounds, the largest that is stored.
    shown_high : float. Value from which on a picture of the map has its brightest colour: the same for all cases and
        models with these outputs, so that pictures compare.
    unit : str. "bit", "%" or "logit".
    channel : int or None. Output channel whose probability or logit it is.
    low : float. Least value: 0, or ``-high`` of a map of signed values.
    """

    key: str
    name: str
    group: str
    choice: str
    high: float
    shown_high: float
    unit: str
    channel: int | None = None
    low: float = 0

    def values(self, maps: PredictionMaps) -> np.ndarray | None:
        """The map in its unit, shape (i, j, k); ``None`` where a prediction has none."""
        if self.group == LOGIT:
            return None if maps.logits is None or self.channel is None else maps.logits[self.channel]
        if self.channel is not None:
            return maps.probabilities[self.channel] * np.float32(self.high)
        return maps.mutual_information if self.key == MUTUAL_INFORMATION else maps.uncertainty


UNCERTAINTY, MUTUAL_INFORMATION, PROBABILITY, LOGIT = "uncertainty", "mutual-information", "probability", "logit"
MUTUAL_INFORMATION_SHOWN_BIT = 0.25  # its colours end here: few wrong voxels have more (benchmarks/RESULTS.md)
LOGIT_STORED, LOGIT_SHOWN = 20.0, 10.0  # of either sign; 10 apart, one class has 99.995 % beside another one


def map_kinds(channels: tuple[str, ...], overlapping: bool, passes: int, logits: bool) -> tuple[MapKind, ...]:
    """The maps that a network gives.

    Parameters
    ----------
    channels : tuple of str. Names of its output channels: classes, background first, or regions.
    overlapping : bool. Whether they are regions.
    passes : int. Number of passes; one has no mutual information.
    logits : bool. Whether there are logits: an ensemble has none, since it averages probabilities.
    """
    high = largest_entropy(len(channels), overlapping)
    kinds = [MapKind(UNCERTAINTY, "uncertainty", UNCERTAINTY, "total", high, high, "bit")]
    if passes > 1:
        between = min(high, math.log2(passes))
        name, shown = "mutual information", min(between, MUTUAL_INFORMATION_SHOWN_BIT)
        kinds.append(MapKind(MUTUAL_INFORMATION, name, UNCERTAINTY, "between passes", between, shown, "bit"))
    foreground = list(enumerate(channels))[0 if overlapping else 1 :]  # the background is what the others leave
    for n, name in foreground:
        kinds.append(MapKind(f"{PROBABILITY}-{n}", f"probability of {name}", PROBABILITY, name, 100, 100, "%", n))
    for n, name in enumerate(channels) if logits else ():
        key, title = f"{LOGIT}-{n}", f"logit of {name}"
        kinds.append(MapKind(key, title, LOGIT, name, LOGIT_STORED, LOGIT_SHOWN, "logit", n, low=-LOGIT_STORED))
    return tuple(kinds)


def largest_entropy(channels: int, overlapping: bool) -> float:
    """The largest entropy of a voxel in bits, of that many classes or regions."""
    return 1.0 if overlapping else math.log2(channels)


def entropy(probabilities: np.ndarray, overlapping: bool = False) -> np.ndarray:
    """Entropy in bits, float32, shape (i, j, k).

    Parameters
    ----------
    probabilities : ndarray, float, shape (channel, i, j, k). Of classes, which add up to 1, or of regions.
    overlapping : bool. Whether the channels are regions: then the mean of their binary entropies.
    """
    bits = np.zeros(probabilities.shape[1:], np.float32)
    for probability in probabilities:
        bits += _surprise(probability)
        if overlapping:
            bits += _surprise(1 - probability)
    if overlapping:
        bits /= np.float32(len(probabilities))
    return np.clip(bits, 0, np.float32(largest_entropy(len(probabilities), overlapping)), out=bits)


class PassUncertainty:
    """Sums the entropies of passes that are added one after another.

    Parameters
    ----------
    overlapping : bool. Whether the channels are regions.
    """

    def __init__(self, overlapping: bool) -> None:
        self._overlapping, self._sum = overlapping, np.zeros((), np.float32)
        self.passes = 0

    def add(self, probabilities: np.ndarray) -> None:
        """Add a pass: its probabilities, float32, shape (channel, i, j, k)."""
        self._sum = self._sum + entropy(probabilities, self._overlapping)
        self.passes += 1

    def of_mean(self, mean: np.ndarray, probabilities: np.ndarray, logits: np.ndarray | None = None) -> PredictionMaps:
        """The maps of all passes.

        Parameters
        ----------
        mean : ndarray, float32, shape (channel, i, j, k). Mean of the probabilities of the passes.
        probabilities : ndarray, of the same shape. Those of which the label map is made.
        logits : ndarray, of the same shape, optional. Those of the probabilities.
        """
        if self.passes == 1:
            return PredictionMaps(probabilities, self._sum, None, 1, logits)
        total = entropy(mean, self._overlapping)
        return PredictionMaps(probabilities, total, np.maximum(total - self._sum / self.passes, 0), self.passes, logits)


def _surprise(probability: np.ndarray) -> np.ndarray:
    """-p log2(p), and 0 where p is 0."""
    bits = np.zeros(probability.shape, np.float32)
    np.log2(probability, out=bits, where=probability > 0)
    bits *= -probability
    return bits
