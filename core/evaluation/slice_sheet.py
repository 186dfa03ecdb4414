"""A contact sheet of a case: slices of the image with reference, prediction and errors, as one page (PNG, PDF).

All slices have the same scale, window and section of the volume. The page is A4, upright, at 200 dots per inch.
Pictures are in radiological convention (the patient's right is on the left); where the orientation is unknown nothing
is mirrored, and the letters are question marks.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import ConfigError
from core.evaluation.compared_subject import ComparedSubject
from core.evaluation.error_map import ERROR_KINDS, error_map
from core.evaluation.surfaces import bounding_box
from core.imaging.display import Channel, channels, upright_slices
from core.imaging.overlay import overlay_classes
from core.labels import IGNORE_INDEX
from core.types import Plane

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

PAGE, DPI = (1654, 2339), 200  # pixels
MARGIN, GAP, STRIP_GAP = 60, 4, 16  # pixels: around the page, between panels, between strips
MAX_SLICES = 60
LETTERS_FROM = 90  # smallest height of a panel with letters, pixels
OPACITY, CORRECT_OPACITY, ERROR_OPACITY = 0.5, 0.18, 0.85
CORRECT_COLOUR = "#ffffff"  # of labelled voxels, faint below the errors
PAPER, INK, FAINT, ON_IMAGE = "#ffffff", "#1c1f26", "#5b616e", "#e6e8ec"
# Axis that slices are cut along, axes across and up, and the letters at the left, right, top and bottom.
PLANES: dict[Plane, tuple[int, tuple[int, int], str]] = {
    "axial": (2, (0, 1), "RLAP"),
    "coronal": (1, (0, 2), "RLSI"),
    "sagittal": (0, (1, 2), "APSI"),
}


@dataclass(frozen=True)
class SheetOptions:
    """What a sheet shows.

    Attributes
    ----------
    plane : str. "axial", "coronal" or "sagittal".
    slices : int. Number of slices, 1 to :data:`MAX_SLICES`, evenly spaced over those with a label.
    channel : int. Modality.

    Raises
    ------
    ConfigError
        If the number of slices is out of range.
    """

    plane: Plane = "axial"
    slices: int = 12
    channel: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.slices <= MAX_SLICES:
            raise ConfigError(f"slices: expected 1 to {MAX_SLICES} on a contact sheet, got {self.slices}")


@dataclass(frozen=True)
class SheetCaption:
    """Text of a sheet.

    Attributes
    ----------
    case, model, data : str. Names.
    scores : str. Scores of the case; empty for none.
    modality : str. Name of the modality that is shown.
    """

    case: str
    model: str
    data: str
    scores: str
    modality: str


def slice_sheet(compared: ComparedSubject, caption: SheetCaption, options: SheetOptions) -> Image:
    """Render a sheet.

    Parameters
    ----------
    compared : ComparedSubject. The case; without a reference there are panels of the image and of the prediction.
    caption : SheetCaption. Text at the top.
    options : SheetOptions. What is shown.
    """
    from PIL import Image, ImageDraw

    page = Image.new("RGB", PAGE, PAPER)
    draw = ImageDraw.Draw(page)
    panels = _Panels(compared, options)
    top = _write_caption(draw, caption, panels)
    bottom = PAGE[1] - MARGIN - _legend_height(panels)
    placed = panels.placed(PAGE[0] - 2 * MARGIN, bottom - top - STRIP_GAP)
    for number, place in enumerate(placed.places):
        for column, picture in enumerate(panels.strip(panels.chosen[number], placed)):
            x = MARGIN + place[0] + column * (placed.width + GAP)
            page.paste(picture, (x, top + place[1]))
            first = f"{panels.chosen[number] + 1}" if column == 0 else ""
            _write_letters(draw, (x, top + place[1]), placed, panels.letters, first)
    _write_legend(draw, panels, placed, bottom)
    return page


def encode_sheet(sheet: Image, ending: str, title: str) -> bytes:
    """A sheet as the content of a file.

    Parameters
    ----------
    ending : str. ".png" or ".pdf".
    title : str. Title of the document.
    """
    content = io.BytesIO()
    if ending == ".pdf":
        sheet.save(content, format="PDF", resolution=DPI, title=title, quality=95, subsampling=0)
    else:
        sheet.save(content, format="PNG", dpi=(DPI, DPI))
    return content.getvalue()


@dataclass(frozen=True)
class _Placed:
    """Size of a panel in pixels, pixels per mm, and the corner of each strip."""

    width: int
    height: int
    per_mm: float
    places: list[tuple[int, int]]


class _Panels:
    """The panels of a case: one strip per slice."""

    def __init__(self, compared: ComparedSubject, options: SheetOptions) -> None:
        self.compared, geometry = compared, compared.loaded.geometry
        self.axis, self.axes, letters = PLANES[options.plane]
        self.plane, self.oriented = options.plane, geometry.oriented
        self.letters = letters if geometry.oriented else "????"
        self.image = compared.loaded.image[options.channel]
        (self.channel,) = channels(self.image[None], [""])
        self.maps = [] if compared.truth is None else [compared.truth]
        self.maps += [compared.prediction]
        self.titles = ["image", "prediction"]
        if compared.truth is not None:
            self.titles = ["reference", "prediction", "errors"]
            self.errors = error_map(compared.truth, compared.prediction)
        labelled = np.logical_or.reduce([(m > 0) & (m != IGNORE_INDEX) for m in self.maps])
        self.box = _content_box(self.image, self.channel, labelled)
        self.chosen = _chosen_slices(labelled, self.axis, options.slices)
        self.spacing_mm = [geometry.spacing_mm[axis] for axis in self.axes]

    def placed(self, width: int, height: int) -> _Placed:
        """The largest panels with which all strips have room."""
        size_mm = [
            (self.box[a].stop - self.box[a].start) * mm for a, mm in zip(self.axes, self.spacing_mm, strict=True)
        ]
        count, panels = len(self.chosen), len(self.titles)
        best: tuple[float, int] = (0.0, 1)
        for columns in range(1, count + 1):
            lines = math.ceil(count / columns)
            across = (width - (columns - 1) * STRIP_GAP) / columns - (panels - 1) * GAP
            up = (height - (lines - 1) * STRIP_GAP) / lines
            best = max(best, (min(across / panels / size_mm[0], up / size_mm[1]), -columns))
        per_mm, columns = best[0], abs(best[1])
        w, h = (max(1, math.floor(side * per_mm)) for side in size_mm)
        strip = panels * w + (panels - 1) * GAP + STRIP_GAP
        return _Placed(w, h, per_mm, [(n % columns * strip, n // columns * (h + STRIP_GAP)) for n in range(count)])

    def strip(self, number: int, placed: _Placed) -> list[Image]:
        """The panels of a slice."""
        from PIL import Image

        low, high = self.channel.window
        grey = np.clip((self._cut(self.image, number) - low) / max(high - low, 1e-30), 0, 1) * 255
        size = placed.width, placed.height
        resized = Image.fromarray(grey.round().astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
        plain = np.asarray(resized, np.float32)[..., None].repeat(3, axis=2)
        colours = [c.colour for c in self.compared.labels.classes]
        pictures = [] if self.compared.truth is not None else [plain]
        for indices in self.maps:
            pictures.append(overlay_classes(plain, self._resized(indices, number, size), colours, OPACITY))
        if self.compared.truth is not None:
            truth = self._resized(self.compared.truth, number, size)
            faint = overlay_classes(plain, truth, [CORRECT_COLOUR] * len(colours), CORRECT_OPACITY)
            kinds = [CORRECT_COLOUR, *(kind.colour for kind in ERROR_KINDS)]
            pictures.append(overlay_classes(faint, self._resized(self.errors, number, size), kinds, ERROR_OPACITY))
        return [Image.fromarray(p.round().clip(0, 255).astype(np.uint8)) for p in pictures]

    def _cut(self, volume: np.ndarray, number: int) -> np.ndarray:
        """A slice of the section, rows from top to bottom."""
        index: list[Any] = list(self.box)
        index[self.axis] = number
        return upright_slices(volume[tuple(index)], self.oriented)

    def _resized(self, volume: np.ndarray, number: int, size: tuple[int, int]) -> np.ndarray:
        from PIL import Image

        picture = Image.fromarray(self._cut(volume, number).astype(np.uint8))
        return np.asarray(picture.resize(size, Image.Resampling.NEAREST))


def _content_box(image: np.ndarray, channel: Channel, labelled: np.ndarray) -> list[slice]:
    """The box of the voxels unlike the background or labelled, with a margin of 4 %; the volume without any."""
    content = (image != channel.background) | labelled
    if not content.any():
        return [slice(0, n) for n in image.shape]
    box = []
    for side, n in zip(bounding_box(content), image.shape, strict=True):
        margin = round(0.04 * (side.stop - side.start)) + 1
        box.append(slice(max(0, side.start - margin), min(n, side.stop + margin)))
    return box


def _chosen_slices(labelled: np.ndarray, axis: int, count: int) -> list[int]:
    """Numbers of evenly spaced slices with a label, or of any slices where there is no label."""
    others = tuple(a for a in range(3) if a != axis)
    possible = np.flatnonzero(labelled.any(axis=others))
    if not possible.size:
        possible = np.arange(labelled.shape[axis])
    steps = np.linspace(0, possible.size - 1, min(count, possible.size)).round().astype(int)
    return [int(n) for n in possible[np.unique(steps)]]


def _font(size: int, text: str = "") -> Any:
    """A font; one of the system for text that the font of Pillow has no glyphs for."""
    from PIL import ImageFont

    if any(ord(character) > 255 for character in text):
        for name in ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "Arial Unicode.ttf", "arialuni.ttf", "arial.ttf"):
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def _write_caption(draw: ImageDraw, caption: SheetCaption, panels: _Panels) -> int:
    """Write the text at the top; returns the y of what follows."""
    low, high = panels.channel.window
    side = "radiological: the patient's right is on the left" if panels.oriented else "orientation unknown"
    if panels.oriented and panels.plane == "sagittal":
        side = "anterior is on the left"
    lines = [
        (f"{caption.case}", 40, INK),
        (f"Model {caption.model}, data {caption.data}", 25, INK),
        (caption.scores, 25, INK),
        (f"{caption.modality}, window {low:.4g} to {high:.4g}; {panels.plane} slices, {side}", 21, FAINT),
        (f"From left to right: {', '.join(panels.titles)}. Numbers count slices from 1.", 21, FAINT),
    ]
    y = MARGIN
    for text, size, colour in lines:
        if text:
            draw.text((MARGIN, y), _fitting(text, size, PAGE[0] - 2 * MARGIN), fill=colour, font=_font(size, text))
            y += round(1.4 * size)
    return y + STRIP_GAP


def _fitting(text: str, size: int, width: int) -> str:
    """The text, cut at its end until it is no wider than ``width`` pixels."""
    font, shown = _font(size, text), text
    while len(shown) > 1 and font.getlength(shown) > width:
        shown = f"{shown[:-2].rstrip()}…" if shown.endswith("…") else f"{shown[:-1]}…"
    return shown


def _write_letters(draw: ImageDraw, corner: tuple[int, int], placed: _Placed, letters: str, number: str) -> None:
    """Write the letters of the patient's sides at the edges of a panel, and the number of its slice in a corner."""
    x, y = corner
    size = min(22, max(12, placed.height // 12))
    style: dict[str, Any] = {"fill": ON_IMAGE, "font": _font(size), "stroke_width": 2, "stroke_fill": "#000000"}
    if number:
        draw.text((x + 4, y + 3), number, anchor="la", **style)
    if placed.height < LETTERS_FROM or placed.width < LETTERS_FROM:
        return
    w, h = placed.width, placed.height
    places = ((4, h // 2, "lm"), (w - 4, h // 2, "rm"), (w // 2, 3, "ma"), (w // 2, h - 3, "md"))
    for letter, (dx, dy, anchor) in zip(letters, places, strict=True):
        draw.text((x + dx, y + dy), letter, anchor=anchor, **style)


def _legend(panels: _Panels) -> list[tuple[str, str]]:
    """Names and colours of classes, and of errors where there are any panels of them."""
    marks = [(c.name, c.colour) for c in panels.compared.labels.foreground]
    ignore = panels.compared.labels.ignore
    marks += [(f"{ignore.name} (left out)", ignore.colour)] if ignore is not None else []
    return marks + [(kind.name, kind.colour) for kind in ERROR_KINDS if "errors" in panels.titles]


def _legend_lines(panels: _Panels) -> list[list[tuple[str, str, int]]]:
    """The legend in lines: name, colour and x of each mark."""
    lines: list[list[tuple[str, str, int]]] = [[]]
    x = MARGIN
    for name, colour in _legend(panels):
        wide = 30 + round(_font(22, name).getlength(name)) + 34
        if x + wide > PAGE[0] - MARGIN and lines[-1]:
            lines.append([])
            x = MARGIN
        lines[-1].append((name, colour, x))
        x += wide
    return lines


def _legend_height(panels: _Panels) -> int:
    return 36 * (len(_legend_lines(panels)) + 1)


def _write_legend(draw: ImageDraw, panels: _Panels, placed: _Placed, y: int) -> None:
    """Draw the colours with their names, and a scale bar."""
    for line in _legend_lines(panels):
        for name, colour, left in line:
            draw.rectangle((left, y + 4, left + 20, y + 24), fill=colour)
            draw.text((left + 30, y + 14), name, fill=INK, anchor="lm", font=_font(22, name))
        y += 36
    length_mm = _round_length(0.6 * placed.width / placed.per_mm)
    wide = length_mm * placed.per_mm
    draw.line((MARGIN, y + 14, MARGIN + wide, y + 14), fill=INK, width=4)
    for x in (MARGIN, MARGIN + wide):
        draw.line((x, y + 6, x, y + 22), fill=INK, width=2)
    note = f"{length_mm:g} mm. For research and teaching, not for diagnosis."
    draw.text((MARGIN + wide + 14, y + 14), note, fill=FAINT, anchor="lm", font=_font(21))


def _round_length(length: float) -> float:
    """The largest of 1, 2, 5, 10, ... that is not above a length."""
    power = 10.0 ** math.floor(math.log10(length))
    digits: Sequence[int] = (5, 2, 1)
    return power * next(digit for digit in digits if digit <= length / power + 1e-9)
