"""Renders images/demo-subject.png, a demo subject in three planes: ``python docs/make_demo_picture.py``."""

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
ZOOM = 2
GAP, TITLE_HEIGHT = 12, 26  # pixels
TEXT_COLOUR, BACKGROUND = (200, 204, 212), (14, 16, 20)


def slices_through(volume: np.ndarray, voxel: list[int]) -> list[np.ndarray]:
    """Axial, coronal and sagittal slice, superior (axial: anterior) on top; shape (height, width, ...)."""
    i, j, k = voxel
    return [np.swapaxes(s, 0, 1)[::-1] for s in (volume[:, :, k], volume[:, j], volume[i])]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        dataset = open_dataset(make_demo(Path(folder) / "demo", subjects=1))
        subject = load_subject(dataset, dataset.ids[0])
    assert subject.label is not None
    brain = np.argwhere(subject.label)
    box = tuple(slice(a - 4, b + 5) for a, b in zip(brain.min(0), brain.max(0), strict=True))
    label = subject.label[box]
    voxel = [round(n * share) for n, share in zip(label.shape, (0.42, 0.47, 0.55), strict=True)]
    colours = [tuple(int(c.colour[n : n + 2], 16) for n in (1, 3, 5)) for c in dataset.labels.classes]
    rows: list[tuple[str, np.ndarray]] = []  # title and RGB volume
    for name, image in zip(dataset.modalities, subject.image, strict=True):
        white = np.percentile(image[subject.label > 0], 99.7)
        rows.append((f"{name} (synthetic)", np.repeat((255 * np.clip(image[box] / white, 0, 1))[..., None], 3, 3)))
    rows.append(("labels: CSF blue, GM green, WM yellow", np.array([BACKGROUND, *colours[1:]])[label]))

    images = [[_zoomed(s) for s in slices_through(volume, voxel)] for _, volume in rows]
    widths, height = [image.width for image in images[0]], max(image.height for image in images[0])
    page = Image.new("RGB", (sum(widths) + 4 * GAP, len(rows) * (height + TITLE_HEIGHT) + GAP), BACKGROUND)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for number, ((title, _), row) in enumerate(zip(rows, images, strict=True)):
        top, left = number * (height + TITLE_HEIGHT), GAP
        draw.text((left, top + 7), title, TEXT_COLOUR, font)
        for image in row:
            page.paste(image, (left, top + TITLE_HEIGHT + (height - image.height) // 2))
            left += image.width + GAP
    PICTURE.parent.mkdir(exist_ok=True)
    page.quantize(128, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


def _zoomed(plane: np.ndarray) -> Image.Image:
    image = Image.fromarray(plane.astype(np.uint8))
    return image.resize((image.width * ZOOM, image.height * ZOOM), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()
