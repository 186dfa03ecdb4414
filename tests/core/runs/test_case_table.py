"""The table of cases as CSV: every measure of every class, undefined and infinite ones too."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np

from core.csv_text import csv_table
from core.evaluation.metrics import SubjectScore, score_subject
from core.runs.case_table import HEADER, case_table_csv
from core.runs.predictions import Prediction


def kept(id: str, score: SubjectScore | None, stale: str = "") -> Prediction:
    return Prediction(id, Path("x.nii.gz"), score, 4, 40, stale, 0.0)


def score() -> SubjectScore:
    """Class one off by a voxel, class two missed, class three in neither."""
    truth, prediction = np.zeros((6, 6, 6), np.uint8), np.zeros((6, 6, 6), np.uint8)
    truth[1:4, 1:4, 1:4], prediction[1:4, 1:4, 2:5] = 1, 1
    truth[5, 5, 5] = 2
    return score_subject(truth, prediction, (1, 1, 1.5), ("background", "one", "two", "three"))


def test_every_class_and_the_mean_has_a_line_in_full_precision() -> None:
    found = score()
    cases = {"a": kept("a", found, "with an earlier checkpoint of this run"), "b": kept("b", None)}
    rows = list(csv.DictReader(io.StringIO(case_table_csv(cases, ["a", "b", "c"]))))
    assert set(rows[0]) == set(HEADER) and "HD95 (mm)" in HEADER and "Volume of the reference (ml)" in HEADER
    assert [(r["Case"], r["Class"]) for r in rows] == [
        ("a", "all classes"), ("a", "one"), ("a", "two"), ("a", "three"), ("b", ""), ("c", "")
    ]  # fmt: skip
    whole, one, two, three, unlabelled, missing = rows
    assert float(whole["Dice"]) == found.mean_dice and whole["Missed"] == "two"
    assert float(one["Dice"]) == found.dice["one"] == 2 / 3 and float(one["HD95 (mm)"]) == found.hd95_mm["one"]
    assert float(one["Surface Dice, 0.5 mm"]) == found.surface_dice["one"]["0.5"]
    assert float(one["Volume of the reference (ml)"]) == 27 * 0.0015 and one["Missed"] == "no"
    assert two["HD95 (mm)"] == "inf" and two["Missed"] == "yes" and float(two["Volume difference (%)"]) == -100
    assert three["Dice"] == three["HD95 (mm)"] == "" and math.isnan(found.dice["three"])
    assert whole["State"] == "scored; made with an earlier checkpoint of this run"
    assert unlabelled["State"] == "no reference" and missing["State"] == "not segmented"


def test_text_that_a_spreadsheet_would_evaluate_is_made_harmless() -> None:
    assert csv_table(["a"], [["=1+1"], ["-x"], [-1.5], [math.nan], [None]]) == 'a\n\'=1+1\n\'-x\n-1.5\n""\n""\n'


def test_every_text_is_one_cell_that_is_no_formula() -> None:
    texts = [
        "a\rb",
        "a\r\nb",
        'x, "y"',
        " =1+1",
        "\n=1",
        "＝1+1",
        "Grüße",
        b"Gr\xfcn".decode("utf-8", "surrogateescape"),
    ]
    table = csv_table(["text", "number"], [(text, 1.5) for text in texts])
    found = list(csv.reader(io.StringIO(table.encode().decode(), newline="")))[1:]
    assert [row[1] for row in found] == ["1.5"] * len(texts), "no text breaks its line"
    assert [row[0] for row in found] == [
        "a\nb", "a\nb", 'x, "y"', "' =1+1", "'\n=1", "'＝1+1", "Grüße", "Gr?n"
    ]  # fmt: skip
