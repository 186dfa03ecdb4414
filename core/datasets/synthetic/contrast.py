"""T1 and T2 intensities of a six-month-old for a given anatomy, as hard to tell apart as in the published real data.

At six months grey and white matter look nearly alike: what separates them is local and changes with the region, while
over the whole brain their histograms overlap. That is built in here as it arises in life: white matter matures from the
centre and the back outwards (bright on T1, dark on T2 where it is mature), receive fields and tissue vary slowly over
the head, and thin CSF in sulci hardly differs from the cortex around it. Three amounts per image are then solved for,
so that every subject has the published histogram overlaps.

Source of the noise model: Gudbjartsson and Patz, Magn. Reson. Med. 34, 1995 (Rician).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import ndimage

from core.datasets.synthetic.anatomy import CSF, GM, SUBJECT_SPREAD, WM, Anatomy, smooth_noise

BINS = 64
SAMPLE = 200_000
"""Voxels on which overlaps are measured while solving."""

MEAN_INTENSITY = 500
"""Intensity of grey matter in the files; air is 0 and every brain voxel at least 1."""

POINT_SPREAD = 0.6
"""Standard deviation of the scanner's blur, in voxels."""

NOISE = 0.022
"""Of each of the two channels whose magnitude is taken, relative to grey matter; so are the two below."""

GRAIN = 0.020
"""Texture of the tissue, correlated over about 1 mm."""

REGION = 0.075
"""Slow variation of the tissue over the head, correlated over about 12 mm."""


@dataclass(frozen=True)
class Weighting:
    """One modality, intensities relative to grey matter.

    Attributes
    ----------
    csf : how much darker or brighter pure CSF is.
    myelin : change of white matter per standard deviation of maturity.
    gm_wm, csf_gm, csf_wm : published histogram overlaps of the real iSEG-2017 training set.
    """

    csf: float
    myelin: float
    gm_wm: float
    csf_gm: float
    csf_wm: float


WEIGHTINGS = {
    "T1": Weighting(csf=-0.42, myelin=0.055, gm_wm=0.70, csf_gm=0.36, csf_wm=0.27),
    "T2": Weighting(csf=0.55, myelin=-0.070, gm_wm=0.90, csf_gm=0.36, csf_wm=0.35),
}


def overlap(first: np.ndarray, second: np.ndarray, low: float, high: float) -> float:
    """Sum over 64 common bins from ``low`` to ``high`` of the smaller of two normalised histograms: 0 (apart) to 1."""
    a, b = (np.histogram(values, BINS, (low, high))[0] / max(values.size, 1) for values in (first, second))
    return float(np.minimum(a, b).sum())


def paint(anatomy: Anatomy, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """T1 and T2 of a subject: int16, shape of ``anatomy.brain``, 0 outside the brain and at least 1 inside."""
    brain, tissue = anatomy.brain, anatomy.tissue

    def field(sigma: float) -> np.ndarray:
        return smooth_noise(rng, brain.shape, sigma)[brain]

    def blurred(values: np.ndarray, sigma: float, outside: float) -> np.ndarray:
        whole = np.full(brain.shape, outside, np.float32)
        whole[brain] = values
        return ndimage.gaussian_filter(whole, sigma)[brain]

    sample = rng.permutation(tissue.size)[:SAMPLE]
    csf = blurred(anatomy.fraction[CSF], POINT_SPREAD, 1.0)
    white = blurred(anatomy.fraction[WM], POINT_SPREAD, 0.0)
    thickness = blurred(anatomy.fraction[CSF], 1.2, 0.7) + 0.12 * field(2.5)
    maturity = anatomy.myelin + 0.12 * field(8.0)
    maturity = (maturity - maturity[tissue == WM].mean()) / maturity[tissue == WM].std()
    mature = blurred(anatomy.fraction[WM] * maturity, POINT_SPREAD, 0.0)
    shared_bias = field(25.0)
    images = {}
    for name, weighting in WEIGHTINGS.items():
        own_bias, region, grain = field(20.0), field(12.0), field(1.2)
        gain = np.exp(0.05 * shared_bias + 0.03 * own_bias)
        solid = 1 + REGION * region + GRAIN * grain
        noise = NOISE * rng.standard_normal((2, tissue.size), dtype=np.float32)
        acquisition = _Acquisition(solid, white, mature, csf, thickness, weighting.csf, gain, noise)
        whole_brain = acquisition.image(*_solve(acquisition.at(sample), tissue[sample], weighting, rng))
        image = np.zeros(brain.shape, np.int16)
        image[brain] = np.clip(np.rint(MEAN_INTENSITY * whole_brain), 1, np.iinfo(np.int16).max)
        images[name] = image
    return images


@dataclass(frozen=True)
class _Acquisition:
    """Everything about one image but the three amounts that are solved for; arrays are per voxel."""

    solid: np.ndarray
    white: np.ndarray
    mature: np.ndarray
    csf: np.ndarray
    thickness: np.ndarray
    csf_difference: float
    gain: np.ndarray
    noise: np.ndarray

    def at(self, voxels: np.ndarray) -> _Acquisition:
        solid, white, mature, csf = (a[voxels] for a in (self.solid, self.white, self.mature, self.csf))
        thickness, gain, noise = self.thickness[voxels], self.gain[voxels], self.noise[:, voxels]
        return _Acquisition(solid, white, mature, csf, thickness, self.csf_difference, gain, noise)

    def image(self, white_difference: float, hidden: float, myelin: float) -> np.ndarray:
        """Intensities relative to grey matter, shape (n,).

        ``white_difference``: white minus grey matter; ``hidden``: how thick CSF must be before it begins to stand out;
        ``myelin``: change of white matter per standard deviation of maturity.
        """
        plain = np.clip((self.thickness - np.float32(hidden)) / np.float32(0.6), 0, 1)
        signal = self.solid + np.float32(white_difference) * self.white + np.float32(myelin) * self.mature
        signal += np.float32(self.csf_difference) * self.csf * (np.float32(0.3) + np.float32(0.7) * plain)
        return np.hypot(signal * self.gain + self.noise[0], self.noise[1])


def _solve(
    acquisition: _Acquisition, tissue: np.ndarray, weighting: Weighting, rng: np.random.Generator
) -> tuple[float, float, float]:
    """White-grey difference, hidden thickness and effect of myelin that give the published overlaps, give or take.

    Myelin has its full effect unless white matter would then vary too much to overlap with grey matter as published.
    """
    gm_wm = weighting.gm_wm + SUBJECT_SPREAD * rng.standard_normal()
    with_csf = weighting.csf_gm + weighting.csf_wm + 2 * SUBJECT_SPREAD * rng.standard_normal()
    here = [tissue == t for t in (CSF, GM, WM)]

    def between(first: int, second: int, white_difference: float, hidden: float) -> float:
        values = acquisition.image(white_difference, hidden, myelin)
        return overlap(values[here[first]], values[here[second]], values.min(), values.max())

    def grey_white(hidden: float, white_difference: float) -> float:
        return between(GM, WM, white_difference, hidden)

    def csf_others(white_difference: float, hidden: float) -> float:
        return between(CSF, GM, white_difference, hidden) + between(CSF, WM, white_difference, hidden)

    white_difference, hidden, myelin = 0.03, 0.4, weighting.myelin
    for _ in range(4):
        while abs(myelin) > 0.01 and max(grey_white(hidden, x) for x in np.linspace(-0.05, 0.1, 7)) < gm_wm:
            myelin *= 0.85
        white_difference = _falls_to(gm_wm, partial(grey_white, hidden), -0.05, 0.25)
        hidden = _rises_to(with_csf, partial(csf_others, white_difference), -0.6, 1.0)
    return white_difference, hidden, myelin


def _falls_to(target: float, measure: Callable[[float], float], low: float, high: float) -> float:
    """Where a measure, past its peak, falls to the target (the peak itself where it never reaches the target)."""
    at = np.linspace(low, high, 13)
    values = [measure(float(x)) for x in at]
    peak = int(np.argmax(values))
    for n in range(peak, len(at) - 1):
        if values[n] >= target > values[n + 1]:
            return float(at[n] + (values[n] - target) / (values[n] - values[n + 1]) * (at[n + 1] - at[n]))
    return float(at[peak])


def _rises_to(target: float, measure: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising measure reaches the target, by bisection."""
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if measure(middle) < target else (low, middle)
    return (low + high) / 2
