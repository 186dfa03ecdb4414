"""Colours from a label description file of itk-snap, or a colour table, beside the data."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.datasets import open_dataset
from core.datasets.layouts.colour_files import find_colours
from tests.support.volume_files import make_decathlon

ITK_SNAP = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0    0        1  1  1    "Label 1"
    2     0  255  127     0.25  0  1    "a longer name"
"""
TABLE = """\
#No. Label Name:                            R   G   B   A

0   Unknown                                 0   0   0   0
1   Left-Thing*                             255 0   0   0
2   Right Thing                             0   255 127 0
"""
SLICER = "# Color table file x.txt\n# 3 values\n0 Black 0 0 0 0\n1 one 255 0 0 255\n2 two 0 255 127 255\n"


@pytest.mark.parametrize(
    ("name", "text"), [("labels.txt", ITK_SNAP), ("x.label", ITK_SNAP), ("LUT.txt", TABLE), ("y.ctbl", SLICER)]
)
@pytest.mark.parametrize("folder", [".", "labelsTr"])
def test_colours_of_the_file_are_those_of_the_classes(tmp_path: Path, name: str, text: str, folder: str) -> None:
    make_decathlon(tmp_path)
    (tmp_path / folder / name).write_text(text, "utf-8")
    assert [c.colour for c in open_dataset(tmp_path).labels.foreground] == ["#ff0000", "#00ff7f"]


@pytest.mark.parametrize(
    "text", ["", "notes on 2 cases\n", "1 2 3 4 5\n2 3 4 5 6\n", ITK_SNAP + "and a remark\n", '1 999 0 0 1 1 1 "x"\n']
)
def test_other_text_files_are_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "notes.txt").write_text(text, "utf-8")
    assert find_colours(tmp_path, (0, 1, 2)) == {}
    (tmp_path / "zz.txt").write_text(ITK_SNAP, "utf-8")
    assert find_colours(tmp_path, (0, 2)) == {2: "#00ff7f"}


def test_folder_without_files(tmp_path: Path) -> None:
    assert find_colours(tmp_path / "nowhere", (0, 1)) == {}
