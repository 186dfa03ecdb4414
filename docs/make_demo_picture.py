"""Draws images/demo-subject.png, a demo subject in three planes: ``python docs/make_demo_picture.py``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.datasets import load_subject, open_dataset
from core.datasets.synthetic.demo import make_demo

PICTURE = Path(__file__).with_name("images") / "demo-subject.png"
ZOOM, GAP, HEAD = 2, 12, 26
INK, PAPER = (200, 204, 212), (14, 16, 20)


def planes(volume: np.ndarray, at: list[int]) -> list[np.ndarray]:
    """Axial, coronal and sagittal slice through a voxel, up (or the nose) on top; shape (height, width, ...)."""
    i, j, k = at
    return [np.swapaxes(s, 0, 1)[::-1] for s in (volume[:, :, k], volume[:, j], volume[i])]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = open_dataset(make_demo(Path(folder) / "demo", subjects=1))
        subject = load_subject(dataset, dataset.ids[0])
    assert subject.label is not None
    brain = np.argwhere(subject.label)
    box = tuple(slice(a - 4, b + 5) for a, b in zip(brain.min(0), brain.max(0), strict=True))
    label = subject.label[box]
    at = [round(n * part) for n, part in zip(label.shape, (0.42, 0.47, 0.55), strict=True)]
    colours = [tuple(int(c.colour[n : n + 2], 16) for n in (1, 3, 5)) for c in dataset.labels.classes]
    rows: list[tuple[str, np.ndarray]] = []
    for name, image in zip(dataset.modalities, subject.image, strict=True):
        top = np.percentile(image[subject.label > 0], 99.7)
        rows.append((f"{name} (synthetic)", np.repeat((255 * np.clip(image[box] / top, 0, 1))[..., None], 3, 3)))
    rows.append(("labels: CSF blue, GM green, WM yellow", np.array([PAPER, *colours[1:]])[label]))

    drawn = [[Image.fromarray(s.astype(np.uint8)) for s in planes(volume, at)] for _, volume in rows]
    drawn = [[s.resize((s.width * ZOOM, s.height * ZOOM), Image.Resampling.NEAREST) for s in row] for row in drawn]
    widths, height = [s.width for s in drawn[0]], max(s.height for s in drawn[0])
    page = Image.new("RGB", (sum(widths) + 4 * GAP, len(rows) * (height + HEAD) + GAP), PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for r, ((title, _), row) in enumerate(zip(rows, drawn, strict=True)):
        top, left = r * (height + HEAD), GAP
        pen.text((left, top + 7), title, INK, font)
        for s in row:
            page.paste(s, (left, top + HEAD + (height - s.height) // 2))
            left += s.width + GAP
    PICTURE.parent.mkdir(exist_ok=True)
    page.quantize(128, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
