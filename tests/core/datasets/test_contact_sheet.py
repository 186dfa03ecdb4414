"""Contact sheets: every picture has its cell; what is missing is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.datasets.contact_sheet import CELL, write_contact_sheet
from core.datasets.thumbnails import write_thumbnail
from core.errors import DatasetError


def test_every_picture_has_a_cell_of_its_own(tmp_path: Path) -> None:
    pictures = []
    for number in range(5):
        file = tmp_path / f"{number}.png"
        write_thumbnail(file, np.full((192, 388, 3), 50 * number + 40, np.uint8))
        pictures.append((f"case {number} " + "with a long name " * number, file))
    assert write_contact_sheet(tmp_path / "sheet.png", pictures) == 5
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (3 * CELL[0], 2 * CELL[1])
        for number in range(5):
            middle = ((number % 3) * CELL[0] + CELL[0] // 2, (number // 3) * CELL[1] + CELL[1] // 2)
            assert sheet.getpixel(middle) == (50 * number + 40,) * 3


def test_missing_picture_and_no_picture_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected pictures"):
        write_contact_sheet(tmp_path / "sheet.png", [])
    with pytest.raises(DatasetError, match="cannot be made"):
        write_contact_sheet(tmp_path / "sheet.png", [("a", tmp_path / "a.png")])
