"""Contact sheet of a data set: the thumbnails of all subjects with their ids in one picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from core.errors import DatasetError

SHEET = "contact-sheet.png"  # its name beside the thumbnails
CELL = (300, 190)  # pixels of a thumbnail and its id
TITLE_HEIGHT = 22  # pixels
MAX_COLUMNS = 8
MAX_PICTURES = 2000  # on one sheet
BACKGROUND, TEXT = "#101217", "#e6e8ec"


def write_contact_sheet(path: Path, pictures: Sequence[tuple[str, Path]]) -> int:
    """Write a contact sheet as PNG; returns the number of pictures on it.

    Parameters
    ----------
    path : Path. File to write.
    pictures : sequence of (str, Path). Ids and thumbnails; at most :data:`MAX_PICTURES` are taken.

    Raises
    ------
    DatasetError
        If there is no picture, one cannot be read, or the sheet cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    pictures = pictures[:MAX_PICTURES]
    if not pictures:
        raise DatasetError(f"{path}: expected pictures for a contact sheet, got none; mend the errors first")
    columns = min(MAX_COLUMNS, math.ceil(math.sqrt(len(pictures))))
    rows = math.ceil(len(pictures) / columns)
    width, height = CELL
    sheet = Image.new("RGB", (columns * width, rows * height), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    try:
        for number, (id, file) in enumerate(pictures):
            x, y = number % columns * width, number // columns * height
            with Image.open(file) as picture:
                picture.thumbnail((width - 8, height - TITLE_HEIGHT - 4))
                sheet.paste(picture, (x + (width - picture.width) // 2, y + TITLE_HEIGHT))
            draw.text((x + 6, y + 3), _fitting(id, width - 12, font.getlength), fill=TEXT, font=font)
        sheet.save(path, format="PNG")
    except OSError as error:
        raise DatasetError(
            f"{path}: the contact sheet cannot be made: {error.strerror or error}; choose another place"
        ) from error
    return len(pictures)


def _fitting(text: str, width: int, length_of: Callable[[str], float]) -> str:
    """The text, shortened in its middle until it is no wider than ``width`` pixels."""
    shown = text
    while length_of(shown) > width and len(shown) > 3:
        kept = (len(shown) - 2) // 2
        shown = f"{text[:kept]}…{text[-kept:]}"
    return shown
