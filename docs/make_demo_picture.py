"""Renders pictures of the demo subject: ``python docs/make_demo_picture.py``.

``images/demo-subject.png`` has its images and labels in three planes, ``images/segmented-brain.png`` its segmentation
by the ready-made model.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.datasets import load_subject, open_dataset
from core.datasets.synthetic.demo import make_demo
from core.imaging.overlay import overlay_classes
from core.imaging.volume import read_label
from core.paths import demo_example_folder
from core.runs.example import SEGMENTATION

PICTURE = Path(__file__).with_name("images") / "demo-subject.png"
SEGMENTED = PICTURE.with_name("segmented-brain.png")
OPACITY = 0.5
ZOOM = 2
GAP, TITLE_HEIGHT = 12, 26  # pixels
TEXT_COLOUR, BACKGROUND = (200, 204, 212), (14, 16, 20)


def slices_through(volume: np.ndarray, voxel: list[int]) -> list[np.ndarray]:
    """Axial, coronal and sagittal slice, superior (axial: anterior) on top; shape (height, width, ...)."""
    i, j, k = voxel
    return [np.swapaxes(s, 0, 1)[::-1] for s in (volume[:, :, k], volume[:, j], volume[i])]


def main() -> None:
    """Write both pictures."""
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

    _write(PICTURE, rows, voxel)
    segmentation = dataset.labels.to_index(read_label(demo_example_folder() / SEGMENTATION).data[0])[box]
    grey, index = rows[0][1], [c.colour for c in dataset.labels.classes]
    planes = [
        [overlay_classes(g.astype(np.uint8), s, index, OPACITY) if coloured else g for coloured in (False, True)]
        for g, s in zip(slices_through(grey, voxel), slices_through(segmentation, voxel), strict=True)
    ]
    tallest = max(plane[0].shape[0] for plane in planes)
    columns = [np.concatenate([_padded(picture, tallest) for picture in plane]) for plane in planes]
    picture = _zoomed(np.concatenate(columns, axis=1))
    picture.quantize(128, dither=Image.Dither.NONE).save(SEGMENTED, optimize=True)


def _padded(picture: np.ndarray, height: int) -> np.ndarray:
    """A slice in the middle of a black one of a height, with a margin; shape (height, width, 3)."""
    above = (height - picture.shape[0]) // 2
    return np.pad(picture, ((above, height - picture.shape[0] - above), (4, 4), (0, 0)))


def _write(path: Path, rows: list[tuple[str, np.ndarray]], voxel: list[int]) -> None:
    """Write a picture with a title and three planes per row."""
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
    path.parent.mkdir(exist_ok=True)
    page.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def _zoomed(plane: np.ndarray) -> Image.Image:
    image = Image.fromarray(plane.astype(np.uint8))
    return image.resize((image.width * ZOOM, image.height * ZOOM), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()
