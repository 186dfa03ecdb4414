"""T1 and T2 intensities of a six-month-old infant for a given anatomy.

At six months grey and white matter look nearly alike: local contrast separates them and changes with the region, while
their histograms over the whole brain overlap. The model follows its causes: white matter matures from the centre and
the back outwards (mature: bright on T1, dark on T2), receive fields and tissue vary slowly over the head, and thin CSF
in sulci hardly differs from the cortex around it. Three parameters per image are fitted, so that every subject has the
published histogram overlaps.

Source of the noise model: Gudbjartsson and Patz, Magn. Reson. Med. 34, 1995 (Rician).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise

import numpy as np
from scipy import ndimage

from core.datasets.synthetic.anatomy import CSF, GM, SUBJECT_SPREAD, WM, Anatomy, smooth_noise

BINS = 64
MAX_FITTED_VOXELS = 200_000  # random voxels on which overlaps are measured during the fit
MEAN_INTENSITY = 500  # of grey matter in the files; air is 0 and every brain voxel at least 1
POINT_SPREAD = 0.6  # standard deviation of the scanner's blur, in voxels
# Standard deviations relative to the intensity of grey matter:
NOISE = 0.022  # of each of the two channels whose magnitude is the image
GRAIN = 0.020  # of the texture of the tissue, correlated over about 1 mm
REGION = 0.075  # of the slow variation of the tissue, correlated over about 12 mm


@dataclass(frozen=True)
class Weighting:
    """Contrast of one modality, relative to the intensity of grey matter.

    Attributes
    ----------
    csf : float. Difference of pure CSF.
    myelin : float. Change of white matter per standard deviation of maturity.
    gm_wm, csf_gm, csf_wm : float. Histogram overlaps published for the iSEG-2017 training set.
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


def histogram_overlap(first: np.ndarray, second: np.ndarray, low: float, high: float) -> float:
    """Overlap of two normalised histograms with 64 common bins from ``low`` to ``high``: 0 (disjoint) to 1 (equal)."""
    a, b = (np.histogram(values, BINS, (low, high))[0] / max(values.size, 1) for values in (first, second))
    return float(np.minimum(a, b).sum())


def simulate_images(anatomy: Anatomy, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """T1 and T2 image of a subject: int16, shape of ``anatomy.brain``, 0 outside of the brain and at least 1 inside."""
    brain, tissue = anatomy.brain, anatomy.tissue

    def field(sigma: float) -> np.ndarray:
        return smooth_noise(rng, brain.shape, sigma)[brain]

    def blurred(values: np.ndarray, sigma: float, outside: float) -> np.ndarray:
        whole = np.full(brain.shape, outside, np.float32)
        whole[brain] = values
        return ndimage.gaussian_filter(whole, sigma)[brain]

    sample = rng.permutation(tissue.size)[:MAX_FITTED_VOXELS]
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
        acquisition = _Acquisition(
            solid=1 + REGION * region + GRAIN * grain,
            white=white,
            mature=mature,
            csf=csf,
            thickness=thickness,
            gain=np.exp(0.05 * shared_bias + 0.03 * own_bias),
            noise=NOISE * rng.standard_normal((2, tissue.size), dtype=np.float32),
            csf_difference=weighting.csf,
        )
        parameters = _fit_published_overlaps(acquisition.at(sample), tissue[sample], weighting, rng)
        image = np.zeros(brain.shape, np.int16)
        image[brain] = np.clip(np.rint(MEAN_INTENSITY * acquisition.image(*parameters)), 1, np.iinfo(np.int16).max)
        images[name] = image
    return images


@dataclass(frozen=True)
class _Acquisition:
    """Inputs of one image except its three fitted parameters; arrays have one value per voxel in the last axis."""

    solid: np.ndarray
    white: np.ndarray
    mature: np.ndarray
    csf: np.ndarray
    thickness: np.ndarray
    gain: np.ndarray
    noise: np.ndarray
    csf_difference: float

    def at(self, voxels: np.ndarray) -> _Acquisition:
        """The acquisition of some voxels."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "csf_difference"}
        return replace(self, **{name: array[..., voxels] for name, array in arrays.items()})

    def image(self, white_difference: float, hidden_thickness: float, myelin: float) -> np.ndarray:
        """Intensities relative to grey matter, shape (n,).

        Parameters
        ----------
        white_difference : float. White minus grey matter.
        hidden_thickness : float. Thickness of CSF at which it begins to differ from the cortex.
        myelin : float. Change of white matter per standard deviation of maturity.
        """
        visible = np.clip((self.thickness - np.float32(hidden_thickness)) / np.float32(0.6), 0, 1)
        signal = self.solid + np.float32(white_difference) * self.white + np.float32(myelin) * self.mature
        signal += np.float32(self.csf_difference) * self.csf * (np.float32(0.3) + np.float32(0.7) * visible)
        return np.hypot(signal * self.gain + self.noise[0], self.noise[1])


def _fit_published_overlaps(
    acquisition: _Acquisition, tissue: np.ndarray, weighting: Weighting, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Parameters of :meth:`_Acquisition.image` that give the published overlaps, varied by SUBJECT_SPREAD.

    Myelin has its full effect unless white matter would then vary too much to overlap with grey matter as published.
    """
    gm_wm = weighting.gm_wm + SUBJECT_SPREAD * rng.standard_normal()
    csf_both = weighting.csf_gm + weighting.csf_wm + 2 * SUBJECT_SPREAD * rng.standard_normal()
    order = np.argsort(tissue, kind="stable")  # a tissue is then a slice, which is faster to take than a mask
    acquisition = acquisition.at(order)
    bounds = np.searchsorted(tissue[order], (CSF, GM, WM, WM + 1))

    def overlaps(pairs: tuple[tuple[int, int], ...], white_difference: float, hidden_thickness: float) -> float:
        """Sum of the histogram overlaps of pairs of tissues."""
        values = acquisition.image(white_difference, hidden_thickness, myelin)
        low, high = values.min(), values.max()
        of_tissue = [values[start:stop] for start, stop in pairwise(bounds)]
        return sum(histogram_overlap(of_tissue[first], of_tissue[second], low, high) for first, second in pairs)

    def overlap_gm_wm(hidden_thickness: float, white_difference: float) -> float:
        return overlaps(((GM, WM),), white_difference, hidden_thickness)

    def overlap_csf(white_difference: float, hidden_thickness: float) -> float:
        return overlaps(((CSF, GM), (CSF, WM)), white_difference, hidden_thickness)

    white_difference, hidden_thickness, myelin = 0.03, 0.4, weighting.myelin
    for _ in range(4):
        while abs(myelin) > 0.01 and all(
            overlap_gm_wm(hidden_thickness, x) < gm_wm for x in np.linspace(-0.05, 0.1, 7)
        ):
            myelin *= 0.85
        white_difference = _find_falling_crossing(gm_wm, partial(overlap_gm_wm, hidden_thickness), -0.05, 0.25)
        hidden_thickness = _find_rising_crossing(csf_both, partial(overlap_csf, white_difference), -0.6, 1.0)
    return white_difference, hidden_thickness, myelin


def _find_falling_crossing(target: float, function: Callable[[float], float], low: float, high: float) -> float:
    """Argument past the maximum of a function where it falls to the target; the maximum where it never does.

    The function is sampled at 13 points and interpolated linearly.
    """
    points = np.linspace(low, high, 13)
    values = [function(float(x)) for x in points]
    peak = int(np.argmax(values))
    for n in range(peak, len(points) - 1):
        if values[n] >= target > values[n + 1]:
            fraction = (values[n] - target) / (values[n] - values[n + 1])
            return float(points[n] + fraction * (points[n + 1] - points[n]))
    return float(points[peak])


def _find_rising_crossing(target: float, function: Callable[[float], float], low: float, high: float) -> float:
    """Argument where a rising function reaches the target, by bisection."""
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < target else (low, middle)
    return (low + high) / 2
