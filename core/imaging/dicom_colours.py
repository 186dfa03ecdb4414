"""Colours of DICOM segments: CIELab values of 16 bits, as sRGB.

The white point is D65, as in pixelmed and highdicom, which most writers follow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

WHITE_XYZ = np.array([0.95047, 1.0, 1.08883])
XYZ_TO_RGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
LARGEST = 65535.0  # of a stored component


def segment_colour(stored: Any) -> str:
    """``#rrggbb`` of a Recommended Display CIELab Value; empty if there is none."""
    if stored is None or len(stored) != 3:
        return ""
    lightness, a, b = (float(v) for v in stored)
    lightness, a, b = lightness * 100 / LARGEST, a * 255 / LARGEST - 128, b * 255 / LARGEST - 128
    y = (lightness + 16) / 116
    ratios = np.array([y + a / 500, y, y - b / 200])
    linear = np.where(ratios > 6 / 29, ratios**3, 3 * (6 / 29) ** 2 * (ratios - 4 / 29)) * WHITE_XYZ
    rgb = np.clip(XYZ_TO_RGB @ linear, 0, 1)
    encoded = np.where(rgb > 0.0031308, 1.055 * rgb ** (1 / 2.4) - 0.055, 12.92 * rgb)
    return "#" + "".join(f"{round(float(v) * 255):02x}" for v in encoded)
